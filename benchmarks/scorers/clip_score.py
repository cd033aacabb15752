"""CLIP score: 100 times the cosine between a picture and its prompt in CLIP's features. Prefix, resizing and backbone are named with it.

======================  ==============================================================================================
``plain`` (default)     the prompt as it stands; picture: shorter side to the network's by bicubic, centre crop
``gigagan``             "A photo depicts " before the prompt; picture: centre crop, Lanczos to 256, then as ``plain``
======================  ==============================================================================================

JanusFlow prints 100 x cosine with ViT-L/14 and states neither prefix nor resizing. Texts are cut to the network's 77 tokens, the end token
kept. Other things of the name: Hessel et al. print 2.5 x max(cosine, 0), torchmetrics max(100 x cosine, 0), GigaGAN's script the cosine.

Source: arXiv 2411.07975v2, table 6 (backbone, scale); mingukkang/GigaGAN @ b2d371642f37, evaluation/evaluation.py, compute_clip_score
(prefix put in as tokens, cut, end token forced).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

import numpy as np

from jfeval.benchmarks.scorers import clip_folder
from jfeval.benchmarks.scorers.image_recipes import GIGAGAN_SIDE, square
from jfeval.errors import unknown
from jfeval.schema import JsonObject

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

Form: TypeAlias = Literal["plain", "gigagan"]
FORMS: tuple[Form, ...] = get_args(Form)
PREFIXES: dict[Form, str] = {"plain": "", "gigagan": "A photo depicts "}


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
        self._config, self._network = clip_folder.described(folder)
        self._model, self._tokenizer = clip_folder.load(folder, device)

    def identity(self) -> JsonObject:
        """Return what can change a score."""
        side = self._config["vision_config"]["image_size"]
        return {
            **self._network,
            "image_size": side,
            "form": self.form,
            "prefix": PREFIXES[self.form],
            "resize": f"bicubic to {side}" if self.form == "plain" else f"Lanczos to 256, bicubic to {side}",
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
        most = self._config["text_config"]["max_position_embeddings"]
        rows = []
        for prompt in prompts:
            row = [start, *prefix, *self._words(prompt)][: most - 1]
            rows.append([*row, *[end] * (most - len(row))])
        return torch.tensor(rows)

    def pixels(self, image: "Image") -> np.ndarray:
        """Return what the network reads: float32 ``(3, S, S)``, normalised."""
        picture = square(image.convert("RGB"), GIGAGAN_SIDE) if self.form == "gigagan" else image
        return clip_folder.pixels(picture, self._config["vision_config"]["image_size"])

    def _words(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"]) if text else []
