import pytest
import torch

from jfeval.models.janusflow.decoding import Decoding
from jfeval.models.janusflow.model import PromptBatch
from jfeval.models.janusflow.processing import ImageProcessor
from jfeval.models.janusflow.questions import ImageTable
from jfeval.models.janusflow.reader import Coded, Reader, gathered

PAD = 0


def prompts(*lengths):
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(1, 50, (n,), generator=generator).tolist() for n in lengths]


@pytest.fixture
def images(model):
    return ImageTable(model, ImageProcessor(image_size=model.config.vision.image_size))


def continued(model, images, rows, limit, stop_id=None):
    reader = Reader(model, pad_id=PAD, share=False)
    requests = [Coded(codes=ids, first_needed=len(ids) - 1, shared_by=("", ())) for ids in rows]
    options = {"limits": [limit] * len(rows), "rules": [Decoding()] * len(rows), "stop_id": stop_id}
    return gathered(reader.continued(requests, images, **options), len(rows))


def test_rows_padded_left_equal_single_rows(model, images):
    rows = prompts(4, 7)
    together = continued(model, images, rows, 5)
    for ids, expected in zip(rows, together, strict=True):
        assert continued(model, images, [ids], 5) == [expected]


def test_a_row_stops_at_the_end_token(model, images):
    (free,) = continued(model, images, prompts(4), 6)
    stop = free[2]
    assert continued(model, images, prompts(4), 6, stop) == [free[: free.index(stop)]]


@torch.no_grad()
def test_runs_embed_images_as_training_does(model, images):
    n = model.config.vision.tokens + 1
    pixels = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    assert [images.add_pixels(one) for one in (*pixels[:2], pixels[0])] == [0, 1, 0]
    codes = torch.tensor([[1, *range(-1 - n, -1 - 2 * n, -1), 5], [2, 3, *range(-1, -1 - n, -1)]])
    batch = PromptBatch(ids=codes, valid=torch.ones_like(codes, dtype=torch.bool), positions=torch.arange(n + 2).expand(2, -1))
    trained = model.embed_conversation(codes, codes < 0, pixels[[1, 0], None])
    torch.testing.assert_close(Reader(model, pad_id=PAD).embed(batch, images), trained)
