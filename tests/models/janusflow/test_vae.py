import pytest
import torch

from jfeval.errors import UserError
from jfeval.models.janusflow.vae import VAE_FOLDER, load_vae
from jfeval.models.shapes import WEIGHTS


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_vae_comes_in_the_asked_type_and_without_words(dtype, caplog):
    vae = load_vae(WEIGHTS / VAE_FOLDER, dtype)
    assert {parameter.dtype for parameter in vae.parameters()} == {dtype}
    assert not vae.training
    assert caplog.records == []


def test_a_missing_vae_says_what_to_name(tmp_path):
    with pytest.raises(UserError, match=r"no VAE in .*: name its folder with vae="):
        load_vae(tmp_path)
