"""mPLUG's golden set: states, logits and answers of modelscope's network on small random weights."""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from jfeval.errors import UserError
from jfeval.golden import GoldenResult, GoldenSuite, Tally, has_any

_TOLERANCE = 1e-4
_SHOWN_CHANNELS = 32
_LOGITS = re.compile(r"decoder_logits_(?P<prefix>\d+(?:_\d+)*)_(?P<case>\d+)")
"""Its name carries the prefix's ids, then the case."""


def check_mplug(folder: Path) -> GoldenResult:
    """Rebuild the weights, answer every question and compare each stage with the recording."""
    import torch

    from jfeval.benchmarks.scorers.beam import search

    record, arrays = _record(folder / "tiny.json"), _arrays(folder / "tiny.npz")
    judge = rebuild(record)
    model, tally = judge.model, Tally()
    tally.fields("tiny.npz", arrays, [name for i in range(len(record["questions"])) for name in _names(i, arrays)])
    ids, mask = judge.tokenize(record["questions"])
    for i in range(len(record["questions"])):
        tally.equal(f"case {i}, input_ids", arrays[f"input_ids{i}"][0].tolist(), ids[i].tolist())
        tally.equal(f"case {i}, attention_mask", arrays[f"attention_mask{i}"][0].tolist(), mask[i].tolist())
        with torch.inference_mode():
            pixels, seen = torch.from_numpy(arrays[f"pixels{i}"]), mask[i : i + 1]
            image = model.encode_image(pixels)
            text = model.encode_text(ids[i : i + 1], seen)
            fused_image, fused_text = model.fuse(image, text, seen)
            memory = model.remember(fused_image, fused_text, seen)
            found = {
                f"visual{i}": model.visual_encoder.visual(pixels)[..., :_SHOWN_CHANNELS],
                f"image_embeds{i}": image,
                f"text{i}": text,
                f"fused_image{i}": fused_image,
                f"fused_text{i}": fused_text,
            }
            prefixes = _prefixes(i, arrays)
            found |= {name: model.next_logits(torch.tensor([[prefix]]), memory)[:, 0] for name, prefix in prefixes.items()}
            (answer,) = search(
                lambda rows, begun, memory=memory: model.next_logits(begun, memory.of(rows))[:, :, -1], 1, judge.beam, judge.device
            )
        for name, tensor in found.items():
            tally.close(f"case {i}, {name}", arrays[name], tensor.numpy(), _TOLERANCE)
        if not prefixes:
            tally.differ(f"case {i}: no decoder logits are recorded")
        tally.equal(f"case {i}, beam_ids", arrays[f"beam_ids{i}"].tolist(), answer.ids)
        tally.close(f"case {i}, beam_score", arrays[f"beam_score{i}"], answer.score, _TOLERANCE)
    return tally.result(len(record["questions"]), numeric=True)


def rebuild(record: dict[str, Any]) -> Any:  # noqa: ANN401  a MplugJudge, whose module imports torch
    """Draw the recorded weights and build the judge around them."""
    import torch

    from jfeval.benchmarks.scorers.beam import BeamSettings
    from jfeval.benchmarks.scorers.mplug import Mplug
    from jfeval.benchmarks.scorers.mplug_judge import MplugJudge, load_weights, read_config

    settings = {**record["config"], **record["config_bert"]}
    rng = np.random.Generator(np.random.PCG64(record["weight_seed"]))
    state = {}
    for name, shape, spread, offset in record["weights"]:
        drawn = rng.standard_normal(shape or (1,), dtype=np.float32) * np.float32(spread) + np.float32(offset)
        state[name] = torch.from_numpy(drawn.reshape(shape))
    model = Mplug(read_config(settings, where="tiny.json"))
    load_weights(model, state)
    beam = BeamSettings(beams=settings["beam_size"], least=settings["min_length"], most=settings["max_length"])
    return MplugJudge(model, record["vocab"], beam)


SUITES: tuple[GoldenSuite, ...] = (GoldenSuite(name="mplug", recognise=has_any("tiny.npz", "tiny.json"), check=check_mplug),)


def _names(case: int, recorded: Iterable[str]) -> list[str]:
    stages = (
        "pixels",
        "input_ids",
        "attention_mask",
        "visual",
        "image_embeds",
        "text",
        "fused_image",
        "fused_text",
        "beam_ids",
        "beam_score",
    )
    return [*(f"{name}{case}" for name in stages), *_prefixes(case, recorded)]


def _prefixes(case: int, recorded: Iterable[str]) -> dict[str, list[int]]:
    """Return the names of a case's decoder logits, with the ids of the words before them."""
    matches = [found for name in recorded if (found := _LOGITS.fullmatch(name)) and found["case"] == str(case)]
    return {found.string: [int(word) for word in found["prefix"].split("_")] for found in matches}


def _record(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise UserError(f"{path.name} is missing beside its partner")
    return json.loads(path.read_text(encoding="utf-8"))


def _arrays(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise UserError(f"{path.name} is missing beside its partner")
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}
