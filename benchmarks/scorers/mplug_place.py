"""Where mPLUG's published checkpoint is looked for; free of torch, so that it can be asked cheaply."""

from pathlib import Path

from jfeval.fetching.lock import fetched_folder

CHECKPOINT = "damo/mplug_visual-question-answering_coco_large_en"
"""Its name on modelscope.cn (now under iic)."""
FILES = ("config.yaml", "config_bert.json", "vocab.txt", "pytorch_model.bin")


def default_folder() -> Path:
    """Return the folder that is used where no other is named."""
    return fetched_folder("mplug")
