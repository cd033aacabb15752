"""Checks of recorded tensors and strings of the authors' JanusFlow code against this implementation.

Every size, seed, salt, number of steps and padding id comes from the recorded data. The functions called are those that runs use; only
tokenising is passed over, since recordings hold token ids, and resizing images where they hold pixels. A recorded field that is not
compared, and one to compare that is not recorded, fail.
"""

import json
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors import safe_open
from torch import Tensor

from jfeval.golden import GoldenResult, GoldenSuite, Tally, has_any
from jfeval.models.janusflow.cache import KeyValueCache
from jfeval.models.janusflow.checkpoint import assign, read_tensors, restore_buffers
from jfeval.models.janusflow.config import JanusFlowConfig
from jfeval.models.janusflow.decoding import Decoding
from jfeval.models.janusflow.model import JanusFlow, PromptBatch
from jfeval.models.janusflow.names import published_shapes, to_internal
from jfeval.models.janusflow.processing import ImageProcessor, Message, format_prompt
from jfeval.models.janusflow.questions import ImageTable
from jfeval.models.janusflow.reader import Coded, Reader, gathered
from jfeval.models.janusflow.sampling import sample
from jfeval.models.janusflow.settings import SamplerSettings

TENSOR_TOLERANCE = 2e-4
PIXEL_TOLERANCE = 1e-5
GENERATION, UNDERSTANDING = "generation.safetensors", "understanding.safetensors"
PREPROCESSING, PROMPTS = "preprocessing.safetensors", "prompts.json"
SHAPES = "state_dict_shapes.json"
_FILL_STD = np.float32(0.02)
_DRAWN = ("prompt_ids", "z0", "velocities", "trajectory")
_READ = ("input_ids", "attention_mask", "images_seq_mask", "images_emb_mask", "logits", "greedy_tokens")
_WITH_PIXELS = ("pixel_values", "und_features", "inputs_embeds")
"""A set holds all of these, or none: then its pixels are drawn from a seed."""


def read_recording(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Read a safetensors file with its header."""
    with safe_open(path, framework="pt") as file:
        return dict(file.metadata() or {}), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping


def recipe_weights(shapes: Mapping[str, list[int]], salt: str) -> dict[str, Tensor]:
    """Fill tensors by the recording's recipe: normal values of deviation 0.02 seeded by name, norm weights around 1."""
    out = {}
    for name, shape in shapes.items():
        rng = np.random.default_rng(zlib.crc32(f"{salt}:{name}".encode()))
        values = rng.standard_normal(shape, dtype=np.float32) * _FILL_STD
        out[name] = torch.from_numpy(values + 1 if len(shape) == 1 and name.endswith("weight") else values)
    return out


def load_recorded_model(folder: Path) -> JanusFlow:
    """Build the recorded model: its stored weights, or weights by the recipe.

    Raises:
        ValueError: Neither weights nor the recipe's salt are there.
    """
    if (folder / "model.safetensors").is_file():
        published = read_tensors(folder)
    else:
        headers = [read_recording(folder / name)[0] for name in (GENERATION, UNDERSTANDING) if (folder / name).is_file()]
        salts = [header["weights_salt"] for header in headers if "weights_salt" in header]
        if not salts:
            raise ValueError("neither model.safetensors nor a weights_salt to fill the weights by")
        published = recipe_weights(json.loads((folder / SHAPES).read_text(encoding="utf-8")), salts[0])
    with torch.device("meta"):
        model = JanusFlow(JanusFlowConfig.from_file(folder))
    expected = published_shapes(model)
    found = {name: list(tensor.shape) for name, tensor in published.items()}
    if differing := _differing(expected, found):
        raise ValueError(f"tensor names or shapes differ: {differing}")
    assign(model, to_internal(published))
    restore_buffers(model)
    return model.eval()


def _differing(a: Mapping[str, list[int]], b: Mapping[str, list[int]], show: int = 3) -> str:
    """Describe where two listings of names and shapes differ; empty where they agree."""
    wrong = [f"{name}: {a.get(name)} and {b.get(name)}" for name in sorted({*a, *b}) if a.get(name) != b.get(name)]
    return "; ".join(wrong[:show]) + (f" and {len(wrong) - show} more" if len(wrong) > show else "")


@torch.no_grad()
def check_generation(folder: Path) -> GoldenResult:
    """Compare both velocities and the state at every Euler step."""
    header, recorded = read_recording(folder / GENERATION)
    tally = Tally()
    tally.fields(GENERATION, recorded, _DRAWN)
    model = load_recorded_model(folder)
    z0, pad_id = recorded["z0"], int(header["pad_id"])
    settings = SamplerSettings(num_steps=int(header["steps"]), guidance_scale=float(header["cfg_weight"]))
    prompt = PromptBatch.from_lists([recorded["prompt_ids"].tolist()[:-1]] * len(z0), pad_id=pad_id)
    velocities: list[Tensor] = []
    states: list[Tensor] = []

    def keep(_step: int, t: float, z: Tensor, pair: tuple[Tensor, Tensor | None]) -> None:
        conditional, unconditional = pair
        if unconditional is None:  # guidance 1 skips these rows; the recording has them
            without = prompt.unconditional(pad_id)
            before = states[-1] if states else z0
            unconditional, _ = model.velocity(before, before.new_full((len(z),), t), without, cache=model.encode_prompt(without))
        velocities.append(torch.stack([conditional, unconditional]))
        states.append(z)

    sample(model, prompt, z0, settings, pad_id=pad_id, on_step=keep)
    tally.close("velocities", recorded["velocities"], torch.stack(velocities), TENSOR_TOLERANCE)
    tally.close("trajectory", recorded["trajectory"], torch.stack(states), TENSOR_TOLERANCE)
    return tally.result(settings.num_steps * len(z0), numeric=True)


@torch.no_grad()
def check_understanding(folder: Path) -> GoldenResult:
    """Compare features, embeddings, logits and greedy tokens.

    `ImageTable` embeds the images, and a `Reader` embeds, reads and continues the sequences. Runs do this by `Understanding`, which is a
    `Reader` that turns texts and images into such sequences. Logits are those of one pass over whole sequences; the tokens are continued
    as answers are: a pass over all but each sequence's last token, one over that token, and one for each new token.
    """
    header, recorded = read_recording(folder / UNDERSTANDING)
    tally = Tally()
    stored = not recorded.keys().isdisjoint(_WITH_PIXELS)
    tally.fields(UNDERSTANDING, recorded, (*_READ, *_WITH_PIXELS) if stored else _READ)
    model = load_recorded_model(folder)
    ids, valid = recorded["input_ids"], recorded["attention_mask"].bool()
    pixels = recorded.get("pixel_values")
    if pixels is None:
        pixels = _recipe_pixels(int(header["pixel_seed"]), ids.shape, recorded["images_emb_mask"].shape[:2], model.config)
    images = ImageTable(model, ImageProcessor(image_size=model.config.vision.image_size))
    codes = _codes(recorded, pixels, images)
    reader = Reader(model, pad_id=0)
    batch = PromptBatch(ids=codes, valid=valid, positions=(valid.cumsum(dim=1) - 1).clamp(min=0))
    features = model.vision_und_enc_model(pixels.flatten(0, 1))
    found = {
        "und_features": features,
        "inputs_embeds": reader.embed(batch, images),
        "logits": model.logits(reader.forward(batch, images, KeyValueCache())[:, -recorded["logits"].shape[1] :]),
    }
    for name in sorted(set(found) & set(recorded)):
        tally.close(name, recorded[name], found[name].reshape(recorded[name].shape), TENSOR_TOLERANCE)
    expected = recorded["greedy_tokens"].tolist()
    requests = [
        Coded(codes=row[kept].tolist(), first_needed=int(kept.sum()) - 1, shared_by=("", (number,)))
        for number, (row, kept) in enumerate(zip(codes, valid, strict=True))
    ]
    limits = [len(tokens) for tokens in expected]
    tokens = gathered(reader.continued(requests, images, limits=limits, rules=[Decoding()] * len(requests), stop_id=None), len(requests))
    for number, (row, other) in enumerate(zip(expected, tokens, strict=True), start=1):
        tally.equal(f"greedy_tokens, row {number}", row, other)
    return tally.result(len(ids), numeric=True)


def _codes(recorded: Mapping[str, Tensor], pixels: Tensor, images: ImageTable) -> Tensor:
    """Write recorded sequences (B, T) as `Coded` does: at a place of an image, -1 - its row in the table of image embeddings."""
    shown = recorded["images_emb_mask"]
    per_image = shown.shape[-1]
    numbers = torch.tensor([[images.add_pixels(image) for image in row] for row in pixels])
    rows = numbers[..., None] * per_image + torch.arange(per_image)
    codes = recorded["input_ids"].clone()
    codes[recorded["images_seq_mask"]] = -1 - rows[shown]
    return codes


def _recipe_pixels(seed: int, ids_shape: Iterable[int], images: tuple[int, ...], config: JanusFlowConfig) -> Tensor:
    """Draw the pixels of a recording that stores only their seed: the generator first drew the ids, then the pixels."""
    generator = torch.Generator().manual_seed(seed)
    torch.randint(0, config.language.vocab_size, tuple(ids_shape), generator=generator)
    return torch.randn(*images, 3, config.vision.image_size, config.vision.image_size, generator=generator)


def _header_colour(text: str) -> tuple[float, float, float]:
    """Read a mean or deviation: one number, or three separated by commas with or without brackets."""
    values = [float(part) for part in text.strip("[]() ").split(",")]
    first, second, third = values if len(values) == 3 else values * 3
    return first, second, third


def check_preprocessing(folder: Path) -> GoldenResult:
    """Compare the pixels that the image processor makes of recorded images."""
    header, recorded = read_recording(folder / PREPROCESSING)
    processor = ImageProcessor(
        image_size=int(header["image_size"]),
        min_size=int(header["min_size"]),
        mean=_header_colour(header["mean"]),
        std=_header_colour(header["std"]),
    )
    tally = Tally()
    names = sorted({name.removeprefix(start) for start in ("image_", "pixel_values_") for name in recorded if name.startswith(start)})
    tally.fields(PREPROCESSING, recorded, [start + name for name in names for start in ("image_", "pixel_values_")])
    complete = [name for name in names if {f"image_{name}", f"pixel_values_{name}"} <= set(recorded)]
    for name in complete:
        found = processor(Image.fromarray(recorded[f"image_{name}"].numpy()))
        tally.close(f"image_{name}", recorded[f"pixel_values_{name}"], found, PIXEL_TOLERANCE)
    return tally.result(len(complete), numeric=True)


def check_prompts(folder: Path) -> GoldenResult:
    """Compare the prompt strings of recorded conversations."""
    rows = json.loads((folder / PROMPTS).read_text(encoding="utf-8"))
    tally = Tally()
    for number, row in enumerate(rows, start=1):
        what = f"conversation {number}"
        tally.fields(what, row, ("format", "system", "messages", "prompt"))
        for message in row["messages"]:
            tally.fields(f"{what}, message", message, ("role", "content"))
        messages = [Message(message["role"], message["content"]) for message in row["messages"]]
        tally.equal(what, row["prompt"], format_prompt(messages, system=row["system"], template=row["format"]))
    return tally.result(len(rows), numeric=False)


def _full_size_stems(folder: Path) -> list[str]:
    ends = ("_config.json", f"_{SHAPES}")
    return sorted({f.name.removesuffix(end) for f in folder.glob("janusflow*.json") for end in ends if f.name.endswith(end)})


def check_tensor_list(folder: Path) -> GoldenResult:
    """Compare every tensor name and shape of a model with the list of a checkpoint; no weights are needed."""
    pairs = [(folder / f"{stem}_config.json", folder / f"{stem}_{SHAPES}") for stem in _full_size_stems(folder)]
    if (folder / SHAPES).is_file():
        pairs.append((folder / "config.json", folder / SHAPES))
    cases, notes, wrong = 0, [], 0
    for config, listing in pairs:
        expected = {name: [int(n) for n in shape] for name, shape in json.loads(listing.read_text(encoding="utf-8")).items()}
        with torch.device("meta"):
            found = published_shapes(JanusFlow(JanusFlowConfig.from_file(config)))
        cases += len(expected)
        wrong += sum(expected.get(name) != found.get(name) for name in {*expected, *found})
        notes.append(_differing(expected, found))
    return GoldenResult(cases=cases, mismatches=wrong, note=" ".join(filter(None, notes)))


SUITES: tuple[GoldenSuite, ...] = (
    GoldenSuite(
        name="janusflow/tensors",
        recognise=lambda folder: bool(_full_size_stems(folder)) or (folder / SHAPES).is_file(),
        check=check_tensor_list,
    ),
    GoldenSuite(name="janusflow/generation", recognise=has_any(GENERATION), check=check_generation),
    GoldenSuite(name="janusflow/understanding", recognise=has_any(UNDERSTANDING), check=check_understanding),
    GoldenSuite(name="janusflow/preprocessing", recognise=has_any(PREPROCESSING), check=check_preprocessing),
    GoldenSuite(name="janusflow/prompts", recognise=has_any(PROMPTS), check=check_prompts),
)
"""Recognised by file name; ``prompts.json`` is JanusFlow's, other families record prompts as JSON Lines."""
