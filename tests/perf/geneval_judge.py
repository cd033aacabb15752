"""How many pictures a second GenEval's official detector looks at, at the published sizes with random weights, in batches and one by one.

Run: ``python tests/perf/geneval_judge.py [--pictures 32] [--batches 1,4,16] [--side 384] [--device cuda]``. Without options it takes few
pictures on a CPU, about two minutes on two cores, and many on an accelerator. Weights do not change the detector's time. Colours, which are
read of few objects in a third of the prompts, are not timed.
"""

import argparse
import statistics
import time

import numpy as np
import torch
from PIL import Image
from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation, SwinConfig

from jfeval.benchmarks.scorers.mask2former import CLASSES, Mask2FormerDetector, pixels

USUAL = {"cpu": (4, "1,4", 1), "cuda": (32, "1,4,16", 3)}
"""Pictures, batch sizes and repeats on a kind of device."""


def detector(device):
    """Build the published sizes: Swin-S, 100 queries, 80 classes, nine layers."""
    stages = ["stage1", "stage2", "stage3", "stage4"]
    swin = SwinConfig(embed_dim=96, depths=[2, 2, 18, 2], num_heads=[3, 6, 12, 24], window_size=7, drop_path_rate=0.0, out_features=stages)
    torch.manual_seed(0)
    model = Mask2FormerForUniversalSegmentation(Mask2FormerConfig(backbone_config=swin, num_labels=CLASSES, num_queries=100))
    return Mask2FormerDetector(model, {}, device=device)


def seconds(work, repeats):
    """Return the median time of some repeats."""
    taken = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int)
    parser.add_argument("--batches", help="sizes with commas between; the first is what the others are compared with")
    parser.add_argument("--side", type=int, default=384)
    parser.add_argument("--repeats", type=int)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    asked = parser.parse_args()
    usual = USUAL["cpu" if asked.device == "cpu" else "cuda"]
    count, repeats = asked.pictures or usual[0], asked.repeats or usual[2]
    sizes = [int(size) for size in (asked.batches or usual[1]).split(",")]
    rng = np.random.default_rng(0)
    pictures = [Image.fromarray(rng.integers(0, 256, (asked.side, asked.side, 3), dtype=np.uint8)) for _ in range(count)]
    print(f"{asked.device}, {torch.get_num_threads()} threads, {count} pictures of {asked.side}x{asked.side}")
    print(f"preprocessing alone: {count / seconds(lambda: [pixels(one) for one in pictures], repeats):.2f} pictures/s", flush=True)
    judge, first = detector(asked.device), 0.0
    for size in sizes:
        judge.batch_size = size
        judge.detect(pictures[:size])  # not counted: what a device prepares for a new shape
        rate = count / seconds(lambda: judge.detect(pictures), repeats)
        first = first or rate
        print(f"detector, batches of {size}: {rate:.3f} pictures/s, {rate / first:.2f} of batches of {sizes[0]}", flush=True)


if __name__ == "__main__":
    main()
