"""DPG-Bench's judge: mPLUG's answers to all questions about a picture, the picture encoded once and the questions in batches.

Source: modelscope 1.40.2, preprocessors/multi_modal.py, MPlugPreprocessor (question lower-cased and cut to 25 tokens, picture squashed to
the network's size by bicubic), models/multi_modal/mplug_for_all_tasks.py (decoding), mplug/modeling_mplug.py, from_pretrained (file names,
prefixes); TencentQQGYLab/ELLA @ 3c228f1dc6c4, dpg_bench/compute_dpg_bench.py (float32).
Differs: from_pretrained passes over tensors that do not fit; here a checkpoint that is not whole is refused.
"""

import dataclasses
import hashlib
import json
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from jfeval.benchmarks.dpg_rows import parse_reference
from jfeval.benchmarks.scorers.beam import BeamSettings, search
from jfeval.benchmarks.scorers.mplug import Mplug, MplugConfig
from jfeval.benchmarks.scorers.mplug_place import CHECKPOINT, default_folder
from jfeval.errors import UserError
from jfeval.schema import Json, JsonObject, Sample

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_TOKENS = 25
QUESTIONS_PER_BATCH = 32
_MEAN = (0.48145466, 0.4578275, 0.40821073)
_STD = (0.26862954, 0.26130258, 0.27577711)
"""Of CLIP. Source: as above, MPlugPreprocessor.patch_resize_transform."""
_MARKS = ("[SEP]", "[CLS]", "[PAD]")
_TWINS = ("visual_encoder_m.", "visn_fc_m.", "visn_layer_norm_m.", "text_encoder_m.", "fusion_encoder_m.", "text_decoder_m.")
_UNUSED = (
    *("visual_encoder.ln_final.", "visual_encoder.transformer.", "visual_encoder.token_embedding."),
    *("visual_encoder.logit_scale", "visual_encoder.text_projection", "visual_encoder.positional_embedding", "visual_encoder.visual.proj"),
    *("text_encoder.embeddings.position_ids", "text_decoder.bert.embeddings.position_ids", "text_decoder.cls.predictions.decoder.bias"),
)
"""In the published file, and not used for answers: CLIP's text half, buffers, and the second name of a shared bias."""


class MplugJudge:
    """Answers yes-no questions about pictures.

    Args:
        model: The network with its weights.
        tokens: Words by id.
        beam: How answers are searched for.
        digest: sha256 of the weights file.
        device: Where the network runs.
    """

    name = "mplug"

    def __init__(self, model: Mplug, tokens: Sequence[str], beam: BeamSettings, *, digest: str = "", device: str = "cpu") -> None:
        from transformers import BertTokenizer

        self.model = model.to(device).eval()
        self.beam = beam
        self.device = torch.device(device)
        self.digest = digest
        # a word that stands there twice has its last id, as in a vocabulary file that is read line by line
        self.tokenizer = BertTokenizer(vocab={token: index for index, token in enumerate(tokens)})

    def identity(self) -> JsonObject:
        """Return what can change an answer."""
        sizes: JsonObject = dict(dataclasses.asdict(self.model.config))
        beam: JsonObject = dict(dataclasses.asdict(self.beam))
        return {"judge": self.name, "weights_sha256": self.digest, "sizes": sizes, "beam": beam, "dtype": str(self.model.dtype)}

    def observe(self, sample: Sample, images: "Sequence[Image]") -> tuple[JsonObject, ...]:
        """Answer all of the sample's questions about each picture."""
        questions = [question.text for question in parse_reference(sample.reference, where=f"sample {sample.id}")]
        observations: list[JsonObject] = []
        for image in images:
            answers: list[Json] = list(self.answer(image, questions))
            observations.append({"answers": answers})
        return tuple(observations)

    @torch.inference_mode()
    def answer(self, image: "Image", questions: Sequence[str]) -> list[str]:
        """Answer questions about one picture, as the decoded text without marks."""
        seen = self.model.encode_image(self.pixels(image).to(self.device, self.model.dtype))
        answers: list[str] = []
        for start in range(0, len(questions), QUESTIONS_PER_BATCH):
            ids, mask = self.tokenize(questions[start : start + QUESTIONS_PER_BATCH])
            answers += self._answer_batch(seen, ids.to(self.device), mask.to(self.device))
        return answers

    def _answer_batch(self, seen: Tensor, ids: Tensor, mask: Tensor) -> list[str]:
        model = self.model
        image, text = model.fuse(seen.expand(len(ids), -1, -1), model.encode_text(ids, mask), mask)
        memory = model.remember(image, text, mask)
        found = search(lambda rows, begun: model.next_logits(begun, memory.of(rows))[:, :, -1], len(ids), self.beam, self.device)
        return [self._decode(answer.ids) for answer in found]

    def _decode(self, ids: list[int]) -> str:
        text = str(self.tokenizer.decode(ids))
        for mark in _MARKS:
            text = text.replace(mark, "")
        return text.strip()

    def tokenize(self, questions: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Return ids and mask ``(Q, 25)`` of lower-cased questions."""
        lowered = [question.lower() for question in questions]
        made = self.tokenizer(lowered, padding="max_length", truncation=True, max_length=MAX_TOKENS, return_tensors="pt")
        return made["input_ids"], made["attention_mask"]  # pyright: ignore[reportReturnType]

    def pixels(self, image: "Image") -> Tensor:
        """Squash a picture to the network's square and normalise it: float32 ``(1, 3, R, R)``."""
        from PIL import Image as Pictures

        side = self.model.config.image_res
        small = np.asarray(image.convert("RGB").resize((side, side), Pictures.Resampling.BICUBIC), dtype=np.float32) / 255
        normal = (small - np.array(_MEAN, np.float32)) / np.array(_STD, np.float32)
        return torch.from_numpy(normal.transpose(2, 0, 1)[None].copy())


def load_judge(folder: Path | None, *, device: str | None = None) -> MplugJudge:
    """Load the published checkpoint from a folder; without one from where `default_folder` says, if something is there.

    Raises:
        UserError: No folder is given or found, a file is missing or malformed, or tensors are missing, unknown or of another size.
    """
    if folder is None and default_folder().is_dir():
        folder = default_folder()
    if folder is None:
        raise UserError(
            f"dpg's official judge needs the checkpoint {CHECKPOINT} of modelscope.cn in {default_folder()}, or in a folder that "
            "--set-benchmark judge=FOLDER names. "
            "To evaluate a model without it: `jfeval run --benchmark dpg --edition shapes`"
        )
    settings = {**_yaml(folder / "config.yaml"), **_json(folder / "config_bert.json")}
    config = read_config(settings, where=str(folder))
    tokens = _text(folder / "vocab.txt").removesuffix("\n").split("\n")
    weights = folder / "pytorch_model.bin"
    model = Mplug(config)
    load_weights(model, _state(weights))
    beam = BeamSettings(
        beams=int(settings.get("beam_size", BeamSettings.beams)),
        least=int(settings.get("min_length", BeamSettings.least)),
        most=int(settings.get("max_length", BeamSettings.most)),
    )
    with weights.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return MplugJudge(model, tokens, beam, digest=digest, device=device or ("cuda" if torch.cuda.is_available() else "cpu"))


def read_config(settings: Mapping[str, Any], *, where: str) -> MplugConfig:
    """Take the network's sizes from the published settings.

    Raises:
        UserError: A size is missing or not a number.
    """
    names = [field.name for field in dataclasses.fields(MplugConfig)]
    wrong = [name for name in names if isinstance(settings.get(name), bool) or not isinstance(settings.get(name), int | float)]
    if wrong:
        raise UserError(f"{where}: config.yaml and config_bert.json state no number for {', '.join(wrong)}")
    return MplugConfig(**{name: settings[name] for name in names})


def load_weights(model: Mplug, state: Mapping[str, Tensor]) -> None:
    """Load tensors by the published names; every one that the model has must be there.

    Raises:
        UserError: Names are missing or unknown, or sizes differ; the first few are listed.
    """
    named = {name.replace("model.", ""): tensor for name, tensor in state.items()}
    used = {name: tensor for name, tensor in named.items() if not name.startswith((*_TWINS, *_UNUSED))}
    own = model.state_dict()
    missing, unknown = sorted(own.keys() - used.keys()), sorted(used.keys() - own.keys())
    sized = sorted(name for name in own.keys() & used.keys() if own[name].shape != used[name].shape)
    for what, names in (("are missing", missing), ("are unknown", unknown), ("have another size", sized)):
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            raise UserError(f"{len(names)} tensors of mPLUG {what}: {', '.join(names[:3])}{more}; take the files of {CHECKPOINT}")
    model.load_state_dict(used)


def _state(path: Path) -> Mapping[str, Tensor]:
    if not path.is_file():
        raise UserError(f"{path} is missing; take the files of {CHECKPOINT}")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise UserError(f"{path} does not hold tensors alone and is not loaded: {str(error)[:200]}") from error
    for wrapper in ("model", "module"):
        state = state[wrapper] if isinstance(state, dict) and isinstance(state.get(wrapper), dict) else state
    if not isinstance(state, dict) or not all(isinstance(tensor, Tensor) for tensor in state.values()):
        raise UserError(f"{path} does not hold tensors by name")
    return state


def _yaml(path: Path) -> dict[str, Any]:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    _text(path)
    try:
        found = OmegaConf.to_container(OmegaConf.load(path))
    except (OmegaConfBaseException, ValueError, OSError) as error:
        raise UserError(f"{path} is not YAML: {str(error)[:200]}") from error
    if not isinstance(found, dict):
        raise UserError(f"{path} must hold keys and values")
    return {str(key): value for key, value in found.items()}


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(_text(path))
    except ValueError as error:
        raise UserError(f"{path} is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise UserError(f"{path} must hold an object")
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{path} is missing; take the files of {CHECKPOINT}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read as UTF-8 text: {error}") from error
