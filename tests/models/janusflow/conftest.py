import pytest
import torch

from jfeval.models.janusflow.config import FlowConfig, JanusFlowConfig, LanguageConfig, VisionConfig
from jfeval.models.janusflow.model import JanusFlow


@pytest.fixture(scope="session")
def config() -> JanusFlowConfig:
    return JanusFlowConfig(
        language=LanguageConfig(
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=3,
            num_attention_heads=2,
            num_key_value_heads=2,
            vocab_size=50,
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
