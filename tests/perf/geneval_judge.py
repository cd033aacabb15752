"""How many pictures a second GenEval's official detector looks at, at the published sizes with random weights, in batches and one by one.

Run: ``python tests/perf/geneval_judge.py [--pictures 8] [--side 384] [--device cpu]``. Weights do not change the detector's time. Colours,
which are read of few objects in a third of the prompts, are not timed.
"""

import argparse
import statistics
import time

import numpy as np
import torch
from PIL import Image
from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation, SwinConfig

from jfeval.benchmarks.scorers.mask2former import CLASSES, Mask2FormerDetector, pixels


def detector(device, batch_size):
    """Build the published sizes: Swin-S, 100 queries, 80 classes, nine layers."""
    stages = ["stage1", "stage2", "stage3", "stage4"]
    swin = SwinConfig(embed_dim=96, depths=[2, 2, 18, 2], num_heads=[3, 6, 12, 24], window_size=7, drop_path_rate=0.0, out_features=stages)
    torch.manual_seed(0)
    model = Mask2FormerForUniversalSegmentation(Mask2FormerConfig(backbone_config=swin, num_labels=CLASSES, num_queries=100))
    return Mask2FormerDetector(model, {}, device=device, batch_size=batch_size)


def seconds(work, repeats):
    """Return the median time of some repeats, after one that is not counted."""
    work()
    taken = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=8)
    parser.add_argument("--side", type=int, default=384)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    asked = parser.parse_args()
    rng = np.random.default_rng(0)
    pictures = [Image.fromarray(rng.integers(0, 256, (asked.side, asked.side, 3), dtype=np.uint8)) for _ in range(asked.pictures)]
    print(f"{asked.device}, {torch.get_num_threads()} threads, {asked.pictures} pictures of {asked.side}x{asked.side}")
    print(f"preprocessing alone: {asked.pictures / seconds(lambda: [pixels(one) for one in pictures], asked.repeats):.2f} pictures/s")
    alone = 0.0
    for size in (1, 2, 4, 8):
        judge = detector(asked.device, size)
        rate = asked.pictures / seconds(lambda judge=judge: judge.detect(pictures), asked.repeats)
        alone = alone or rate
        print(f"detector, batches of {size}: {rate:.3f} pictures/s, {rate / alone:.2f} of one at a time")


if __name__ == "__main__":
    main()
