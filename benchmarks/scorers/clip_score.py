"""CLIP score: 100 times the cosine between a picture and its prompt in CLIP's features. Prefix, resizing and backbone are named with it.

======================  ==============================================================================================
``plain`` (default)     the prompt as it stands; picture: shorter side to the network's by bicubic, centre crop
``gigagan``             "A photo depicts " before the prompt; picture: centre crop, Lanczos to 256, then as ``plain``
======================  ==============================================================================================

JanusFlow prints 100 x cosine with ViT-L/14 and states neither prefix nor resizing. Texts are cut to the network's 77 tokens, the end token
kept. Other things of the name: Hessel et al. print 2.5 x max(cosine, 0), torchmetrics max(100 x cosine, 0), GigaGAN's script the cosine.

Source: arXiv 2411.07975v2, table 6 (backbone, scale); mingukkang/GigaGAN @ b2d371642f37, evaluation/evaluation.py, compute_clip_score
(prefix put in as tokens, cut, end token forced); openai/CLIP (resizing, mean and deviation).
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import numpy as np

from jfeval.benchmarks.scorers.image_recipes import GIGAGAN_SIDE, square
from jfeval.errors import UserError, unknown
from jfeval.schema import JsonObject

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

Form: TypeAlias = Literal["plain", "gigagan"]
FORMS: tuple[Form, ...] = get_args(Form)
PREFIXES: dict[Form, str] = {"plain": "", "gigagan": "A photo depicts "}
PUBLISHED = "openai/clip-vit-large-patch14"
"""The paper's backbone on the Hugging Face hub, in transformers' form."""

_MEAN = (0.48145466, 0.4578275, 0.40821073)
_STD = (0.26862954, 0.26130258, 0.27577711)
"""Source: openai/CLIP, clip/clip.py, _transform."""
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_SIZES = {(768, 12, 32): "ViT-B/32", (768, 12, 16): "ViT-B/16", (1024, 24, 14): "ViT-L/14"}
"""Width, layers and patch of the vision transformers that papers name."""


class ClipScore:
    """Compares pictures with prompts.

    Args:
        folder: A CLIP in transformers' form: config.json, weights, tokenizer.
        form: One of `FORMS`.
        device: Where it runs.

    Raises:
        UserError: The form is unknown, or the folder holds no whole CLIP.
    """

    def __init__(self, folder: Path, form: str = "plain", *, device: str = "cpu") -> None:
        if form not in FORMS:
            raise unknown("form of the CLIP score", form, FORMS)
        self.form: Form = form  # pyright: ignore[reportAttributeAccessIssue]
        self.device = device
        self._digest = _weights(folder)
        self._model, self._tokenizer = _load(folder)
        self._model = self._model.to(device).eval()

    def identity(self) -> JsonObject:
        """Return what can change a score."""
        vision, text = self._model.config.vision_config, self._model.config.text_config
        sizes = vision.hidden_size, vision.num_hidden_layers, vision.patch_size
        return {
            "backbone": _SIZES.get(sizes, f"width {sizes[0]}, {sizes[1]} layers, patch {sizes[2]}"),
            "image_size": vision.image_size,
            "activation": str(text.hidden_act),
            "weights_sha256": self._digest,
            "form": self.form,
            "prefix": PREFIXES[self.form],
            "resize": f"bicubic to {vision.image_size}" if self.form == "plain" else f"Lanczos to 256, bicubic to {vision.image_size}",
        }

    def scores(self, images: "Sequence[Image]", prompts: Sequence[str]) -> list[float]:
        """Return 100 times the cosine of each picture with its prompt."""
        import torch

        if len(images) != len(prompts):
            raise ValueError(f"{len(images)} pictures cannot be compared with {len(prompts)} prompts")
        with torch.inference_mode():
            pixels = torch.stack([torch.from_numpy(self.pixels(image)) for image in images]).to(self.device)
            seen = self._model.visual_projection(self._model.vision_model(pixel_values=pixels).pooler_output)
            read = self._model.text_projection(self._model.text_model(input_ids=self.tokens(prompts).to(self.device)).pooler_output)
            cosines = torch.nn.functional.cosine_similarity(seen, read)
        return [100 * float(cosine) for cosine in cosines.float().cpu()]

    def tokens(self, prompts: Sequence[str]) -> "Tensor":
        """Return token ids ``(B, 77)``: start, prefix, text, end; a text that is too long loses its tail, never the end token."""
        import torch

        start, end = self._tokenizer.bos_token_id, self._tokenizer.eos_token_id
        prefix = self._words(PREFIXES[self.form])
        most = self._model.config.text_config.max_position_embeddings
        rows = []
        for prompt in prompts:
            row = [start, *prefix, *self._words(prompt)][: most - 1]
            rows.append([*row, *[end] * (most - len(row))])
        return torch.tensor(rows)

    def pixels(self, image: "Image") -> np.ndarray:
        """Return what the network reads: float32 ``(3, S, S)``, normalised."""
        from PIL import Image as Pictures

        side = self._model.config.vision_config.image_size
        picture = image.convert("RGB")
        if self.form == "gigagan":
            picture = square(picture, GIGAGAN_SIDE)
        short = min(picture.size)
        width, height = (side if edge == short else int(side * edge / short) for edge in picture.size)
        picture = picture.resize((width, height), Pictures.Resampling.BICUBIC)
        left, top = round((width - side) / 2), round((height - side) / 2)
        values = np.asarray(picture.crop((left, top, left + side, top + side)), dtype=np.float32) / np.float32(255)
        return ((values - np.array(_MEAN, np.float32)) / np.array(_STD, np.float32)).transpose(2, 0, 1).copy()

    def _words(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"]) if text else []


def _weights(folder: Path) -> str:
    """Return the sha256 of the folder's weights.

    Raises:
        UserError: It is no folder with a CLIP.
    """
    path = next((folder / name for name in _WEIGHTS if (folder / name).is_file()), None)
    try:
        kind = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type")
    except (OSError, ValueError, AttributeError):
        kind = None
    if path is None or kind != "clip":
        raise UserError(
            f"{folder} holds no CLIP in transformers' form (config.json of model_type clip, and {' or '.join(_WEIGHTS)}); the paper's is "
            f"{PUBLISHED} on the Hugging Face hub, about 1.7 GB: `jfeval data fetch {PUBLISHED.partition('/')[2]}`"
        )
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _load(folder: Path) -> tuple[Any, Any]:
    """Load network and tokenizer; tensors that are missing or do not fit are refused, pickles are not run."""
    from transformers import CLIPModel, CLIPTokenizer

    from jfeval.benchmarks.scorers.loading import quietly

    try:
        with quietly():
            model, report = CLIPModel.from_pretrained(folder, local_files_only=True, output_loading_info=True, weights_only=True)
            tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(f"the CLIP in {folder} cannot be loaded: {str(error)[:300]}") from error
    missing = sorted(str(name) for name in report["missing_keys"])
    if missing or report["mismatched_keys"]:
        names = ", ".join([*missing, *(str(one) for one in report["mismatched_keys"])][:3])
        raise UserError(f"the CLIP in {folder} is not whole: {names} missing or of another size")
    return model, tokenizer
