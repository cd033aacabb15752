"""Scores the controls of GenEval (shapes) after the embedded VAE's encoder and decoder.

True renders say what the benchmark could reach if drawing were perfect; the others say that a passage through the VAE mends nothing.
Run: python docs/scripts/vae_through_oracle.py [seed ...]
"""

import sys

import numpy as np
import torch
from PIL import Image

from jfeval.benchmarks.geneval_rows import parse_row
from jfeval.benchmarks.geneval_rules import Thresholds, judge_image, read_observation
from jfeval.benchmarks.shapes.controls import control_scores
from jfeval.benchmarks.shapes.oracle import observation
from jfeval.benchmarks.shapes.rows import Row, geneval_rows
from jfeval.models.janusflow.vae import VAE_FOLDER, load_vae
from jfeval.models.shapes import WEIGHTS
from jfeval.models.training.vae import reconstruct


def main() -> None:
    vae = load_vae(WEIGHTS / VAE_FOLDER)

    def correct(row: Row, image: Image.Image) -> bool:
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 127.5 - 1
        after = Image.fromarray(reconstruct(vae, pixels)[0].permute(1, 2, 0).numpy())
        seen = read_observation(observation(after), where="reconstruction")
        return judge_image(parse_row(row.metadata, where="row"), seen, Thresholds()).correct

    for seed in [int(argument) for argument in sys.argv[1:]] or [0]:
        for control, scores in control_scores(geneval_rows(seed), correct, seed=seed).items():
            print(f"seed {seed} {control:9s}" + "  ".join(f"{task} {value:.3f}" for task, value in scores.items()))


if __name__ == "__main__":
    main()
