"""How well a picture fits its prompt in a contrastive encoder of the synthetic world: both towers of a small SigLIP.

This is not CLIP, and no independent judge: the encoder was trained on captions of this world, a JanusFlow trained here reads through a
copy of it, and training may align to it. So the number is named for what it is, and no verdict of an ablation may rest on it.

Source: Zhai et al. 2023, "Sigmoid Loss for Language Image Pre-Training"; the recipe's part ``contrastive`` trains one.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from jfeval.errors import UserError
from jfeval.schema import JsonObject

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

SIMILARITY = "contrastive_similarity"
EMBEDDED = Path(__file__).with_name("contrastive_weights")
"""Where the encoder lies that comes with the package."""
_FILES = ("config.json", "model.safetensors", "tokenizer.json")


class ContrastiveEncoder:
    """Compares pictures with prompts.

    Args:
        folder: A SigLIP in transformers' form with its tokenizer, as ``jfeval export OUT/contrastive`` writes it.

    Raises:
        UserError: The folder holds no whole SigLIP.
    """

    def __init__(self, folder: Path) -> None:
        import torch
        from transformers import PreTrainedTokenizerFast, SiglipModel

        from jfeval.benchmarks.scorers.loading import load_quietly

        missing = [name for name in _FILES if not (folder / name).is_file()]
        if missing:
            raise UserError(
                f"{folder} holds no contrastive encoder: {', '.join(missing)} missing; `jfeval export OUT/contrastive --out {folder}` "
                "writes one of a trained recipe"
            )
        try:
            model, found = load_quietly(SiglipModel, folder, local_files_only=True, use_safetensors=True, dtype=torch.float32)
            self._tokenizer = PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError, RuntimeError) as error:
            raise UserError(f"the contrastive encoder in {folder} cannot be loaded: {str(error)[:300]}") from error
        lost = sorted(map(str, [*found["missing_keys"], *found["mismatched_keys"]]))
        if lost:
            raise UserError(f"the contrastive encoder in {folder} is not whole: {len(lost)} tensors missing or misfit, first {lost[0]}")
        self._model = model.eval()
        self._side: int = model.config.vision_config.image_size
        self._length: int = model.config.text_config.max_position_embeddings
        self._digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()

    def identity(self) -> JsonObject:
        """Return what can change a score, and what the weights have seen."""
        return {"network": "siglip", "weights_sha256": self._digest, "text_tokens": self._length, "trained_on": "captions of this world"}

    def scores(self, images: "Sequence[Image]", prompts: Sequence[str]) -> list[float]:
        """Return 100 times the cosine of each picture with its prompt.

        Raises:
            UserError: A picture is of another size than the encoder reads.
        """
        import torch

        for image in images:
            if image.size != (self._side, self._side):
                raise UserError(f"the encoder reads images of {self._side}x{self._side} pixels, not {image.width}x{image.height}")
        pixels = np.stack([np.asarray(image.convert("RGB"), dtype=np.float32) for image in images]).transpose(0, 3, 1, 2) / 127.5 - 1
        with torch.inference_mode():
            seen = self._model.vision_model(pixel_values=torch.from_numpy(pixels)).pooler_output
            read = self._model.text_model(input_ids=self.tokens(prompts)).pooler_output
            return [100 * float(cosine) for cosine in torch.nn.functional.cosine_similarity(seen, read)]

    def tokens(self, prompts: Sequence[str]) -> "Tensor":
        """Return token ids ``(B, T)``: text, end, padding; a text that is too long loses its tail, never the end token."""
        import torch

        end, pad = self._tokenizer.eos_token_id, self._tokenizer.pad_token_id
        rows = [[*self._tokenizer.encode(text, add_special_tokens=False)[: self._length - 1], end] for text in prompts]
        return torch.tensor([[*row, *[pad] * (self._length - len(row))] for row in rows])


def load_encoder(folder: Path | None) -> ContrastiveEncoder | None:
    """Load the encoder of a folder, else the one that comes with the package; None where no such is there.

    Raises:
        UserError: The folder holds no whole encoder.
    """
    if folder is None and not EMBEDDED.is_dir():
        return None
    return ContrastiveEncoder(folder or EMBEDDED)
