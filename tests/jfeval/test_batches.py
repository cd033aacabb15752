"""The embedded model, the same jobs in batches of other sizes: the same noise, and pixels that differ by rounding alone."""

import numpy as np

from jfeval.plan import image_jobs
from jfeval.registry import load_benchmark, load_model


def test_pixels_agree_across_batch_sizes_and_answers_are_counted_in_tokens():
    rows = list(enumerate(load_benchmark("geneval").samples("shapes", seed=0)))[::200][:2]
    model, jobs = load_model("janusflow-shapes", num_steps=4), image_jobs(rows, 0)

    def draw(size):
        pieces = [jobs[start : start + size] for start in range(0, len(jobs), size)]
        return np.stack([np.asarray(image, dtype=int) for piece in pieces for image in model.generate(piece)])

    together, alone = draw(8), draw(1)
    assert together.shape[0] == 8
    assert np.mean(np.abs(together - alone) <= 1) >= 0.999
    assert len({image.tobytes() for image in together}) == 8
    assert model.count_tokens("red circle") == len(model.pipeline.processor.tokenizer.tokenize("red circle"))
