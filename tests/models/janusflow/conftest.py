import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from transformers import PreTrainedTokenizerFast

from jfeval.models.janusflow.config import FlowConfig, JanusFlowConfig, LanguageConfig, VisionConfig
from jfeval.models.janusflow.model import JanusFlow
from jfeval.models.janusflow.processing import ImageProcessor, Processor
from jfeval.models.training.tokenizer import BOS, EOS, PAD, TokenizerSettings, build_tokenizer

VOCABULARY = 300


@pytest.fixture(scope="session")
def config() -> JanusFlowConfig:
    return JanusFlowConfig(
        language=LanguageConfig(
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=3,
            num_attention_heads=2,
            num_key_value_heads=2,
            vocab_size=VOCABULARY,
            max_position_embeddings=512,
        ),
        vision=VisionConfig(model_name="tiny", image_size=16, patch_size=4, width=16, layers=2, heads=2),
        flow=FlowConfig(width=16),
    )


@pytest.fixture(scope="session")
def model(config: JanusFlowConfig) -> JanusFlow:
    """A random model in which every part matters: nothing is left at an initial zero."""
    torch.manual_seed(0)
    built = JanusFlow(config)
    with torch.no_grad():
        for parameter in built.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return built.eval()


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerFast:
    """Bytes, a few words and the special tokens."""
    words = ["what is this", "a red circle", "yes no"] * 9
    built = build_tokenizer(words, TokenizerSettings(size=VOCABULARY - 10))
    return PreTrainedTokenizerFast(tokenizer_object=built, bos_token=BOS, eos_token=EOS, pad_token=PAD)


@pytest.fixture
def processor(tokenizer: PreTrainedTokenizerFast, config: JanusFlowConfig) -> Processor:
    return Processor(tokenizer, ImageProcessor(image_size=config.vision.image_size), tokens_per_image=config.vision.tokens)


@pytest.fixture
def vae(tmp_path):
    """The folder of a small VAE that fits the model, with attention as the SDXL VAE has it."""
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2, "block_out_channels": (8, 8)}
    AutoencoderKL(latent_channels=4, norm_num_groups=4, sample_size=16, **blocks).save_pretrained(tmp_path / "vae")
    return tmp_path / "vae"
