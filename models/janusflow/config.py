"""Every size of a JanusFlow model, read from and written to the published ``config.json`` form."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Self

from jfeval.errors import UserError, unknown

SIGLIP_SIZES: dict[str, dict[str, float]] = {
    "siglip_base_patch16_224": {"image_size": 224, "patch_size": 16, "width": 768, "layers": 12, "heads": 12, "mlp_ratio": 4},
    "siglip_large_patch16_256": {"image_size": 256, "patch_size": 16, "width": 1024, "layers": 24, "heads": 16, "mlp_ratio": 4},
    "siglip_large_patch16_384": {"image_size": 384, "patch_size": 16, "width": 1024, "layers": 24, "heads": 16, "mlp_ratio": 4},
    "siglip_so400m_patch14_384": {"image_size": 384, "patch_size": 14, "width": 1152, "layers": 27, "heads": 16, "mlp_ratio": 3.7362},
}
"""Published SigLIP sizes by the name a ``config.json`` uses. Source: the SigLIP model cards; Zhai et al., arXiv 2303.15343."""


def _check_positive(owner: object) -> None:
    """Refuse sizes that no model can have."""
    for f in fields(owner):  # pyright: ignore[reportArgumentType]
        value = getattr(owner, f.name)
        if isinstance(value, int) and not isinstance(value, bool) and f.name != "select_layer" and value < 1:
            raise UserError(f"{type(owner).__name__}.{f.name} must be at least 1, not {value}")


def _known(cls: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """Keep the keys that ``cls`` has; a published file carries more than a model needs (torch dtype, class names ...)."""
    names = {f.name for f in fields(cls)}
    return {key: value for key, value in values.items() if key in names}


@dataclass(frozen=True, kw_only=True)
class LanguageConfig:
    """The Llama-form language model."""

    hidden_size: int = 2048
    intermediate_size: int = 5632
    num_hidden_layers: int = 24
    num_attention_heads: int = 16
    num_key_value_heads: int = 16
    vocab_size: int = 102400
    max_position_embeddings: int = 16384
    rms_norm_eps: float = 1e-6
    rope_theta: float = 10000.0
    hidden_act: str = "silu"
    tie_word_embeddings: bool = False

    def __post_init__(self) -> None:
        _check_positive(self)
        if self.hidden_size % self.num_attention_heads:
            raise UserError(f"language hidden_size {self.hidden_size} is no multiple of num_attention_heads {self.num_attention_heads}")


@dataclass(frozen=True, kw_only=True)
class VisionConfig:
    """The understanding encoder, a SigLIP vision tower with exact GELU and no class token."""

    model_name: str = "siglip_large_patch16_384"
    image_size: int = 384
    patch_size: int = 16
    width: int = 1024
    layers: int = 24
    """Blocks of the tower as named; `depth` says how many are kept."""
    heads: int = 16
    mlp_ratio: float = 4.0
    select_layer: int = -1
    """-1 keeps every block, k > 0 the first k, -k all but the last k - 1."""
    select_feature: str = "same"

    def __post_init__(self) -> None:
        _check_positive(self)
        if self.width % self.heads:
            raise UserError(f"vision width {self.width} is no multiple of heads {self.heads}")
        if self.depth < 1:
            raise UserError(f"select_layer {self.select_layer} keeps none of the {self.layers} vision blocks")

    @classmethod
    def from_published(cls, params: Mapping[str, Any]) -> Self:
        """Read ``vision_und_enc_config.params``: a published size by name, or sizes stated in the same object."""
        name = str(params.get("model_name", "siglip_large_patch16_384"))
        named = SIGLIP_SIZES.get(name, {})
        missing = [key for key in ("image_size", "patch_size", "width", "layers", "heads") if key not in params and key not in named]
        if missing and not named:
            raise UserError(f"{unknown('vision model_name', name, SIGLIP_SIZES)}; or state {', '.join(missing)} beside it")
        return cls(**{"mlp_ratio": 4.0, **named, **_known(cls, params)})

    @property
    def depth(self) -> int:
        """Blocks that are kept."""
        kept = self.select_layer if self.select_layer > 0 else self.layers + self.select_layer + 1
        return min(self.layers, kept)

    @property
    def mlp_width(self) -> int:
        """Hidden width of the tower's MLPs."""
        return int(self.width * self.mlp_ratio)

    @property
    def grid(self) -> int:
        """Patches along one side."""
        return self.image_size // self.patch_size

    @property
    def tokens(self) -> int:
        """Patch tokens per image."""
        return self.grid**2


@dataclass(frozen=True, kw_only=True)
class FlowConfig:
    """The generation encoder and decoder around the language model.

    Source: paper section 3.1 and the published ``config.json`` (``ShallowUViTEncoder``, ``ShallowUViTDecoder``).
    """

    latent_channels: int = 4
    width: int = 768
    """Channels of the encoder's ConvNeXt blocks; the decoder's blocks have twice as many, the skip being concatenated."""
    patch: int = 2
    """Latent pixels per token along one side."""
    encoder_blocks: int = 2
    decoder_blocks: int = 2
    norm_eps: float = 1e-6
    bias: bool = True

    def __post_init__(self) -> None:
        _check_positive(self)


@dataclass(frozen=True, kw_only=True)
class JanusFlowConfig:
    """A whole model. The defaults are the published 1.3B checkpoint's sizes."""

    language: LanguageConfig = field(default_factory=LanguageConfig)
    vision: VisionConfig = field(default_factory=VisionConfig)
    flow: FlowConfig = field(default_factory=FlowConfig)

    @property
    def latent_size(self) -> int:
        """Side of the latent image: the generation tokens form the same grid as the understanding tokens.

        Source: paper section 3.1 (the grids are matched, which representation alignment needs).
        """
        return self.vision.grid * self.flow.patch

    @property
    def image_tokens(self) -> int:
        """Latent tokens per generated image."""
        return self.vision.grid**2

    @classmethod
    def from_published(cls, data: Mapping[str, Any]) -> Self:
        """Read the form of the published ``config.json``.

        Raises:
            UserError: A section is missing, or encoder and decoder contradict each other.
        """
        sections = ("language_config", "vision_und_enc_config", "vision_gen_enc_config", "vision_gen_dec_config")
        missing = [name for name in sections if not isinstance(data.get(name), Mapping)]
        if missing:
            raise UserError(f"this is no JanusFlow config.json: it lacks {', '.join(missing)}")
        encoder = dict(data["vision_gen_enc_config"].get("params", {}))
        decoder = dict(data["vision_gen_dec_config"].get("params", {}))
        language = LanguageConfig(**_known(LanguageConfig, flat_rope(data["language_config"])))
        flow = _flow_from_published(encoder, decoder, language.hidden_size)
        return cls(language=language, vision=VisionConfig.from_published(data["vision_und_enc_config"].get("params", {})), flow=flow)

    @classmethod
    def from_file(cls, path: Path) -> Self:
        """Read ``config.json`` from a file or from the folder that holds it."""
        path = path / "config.json" if path.is_dir() else path
        try:
            return cls.from_published(json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError as error:
            raise UserError(f"no config.json at {path}; a JanusFlow checkpoint is a folder with config.json and weights") from error
        except json.JSONDecodeError as error:
            raise UserError(f"{path} is not JSON: {error}") from error

    def to_published(self) -> dict[str, Any]:
        """Write the form of the published ``config.json``; `from_published` gives this configuration back."""
        f, hidden = self.flow, self.language.hidden_size
        shared = {
            "block_out_channels": [f.width],
            "dropout": 0.0,
            "elementwise_affine": True,
            "hidden_size": hidden,
            "norm_eps": f.norm_eps,
            "use_bias": f.bias,
            "use_mid_block": True,
        }
        encoder = {"input_channels": f.latent_channels, "kernel_size": f.patch, "stride": f.patch, "padding": 0}
        decoder = {"in_channels": f.width, "out_channels": f.latent_channels, "upsamples": f.patch.bit_length() - 1}
        vision = asdict(self.vision)
        return {
            "architectures": ["MultiModalityCausalLM"],
            "model_type": "multi_modality",
            "language_config": {"model_type": "llama", **asdict(self.language)},
            "vision_und_enc_config": {"cls": "CLIPVisionTower", "model_type": "vision_und_enc", "params": vision},
            "vision_gen_enc_config": {
                "cls": "ShallowUViTEncoder",
                "model_type": "vision_gen_enc",
                "params": {**shared, **encoder, "layers_in_middle": f.encoder_blocks},
            },
            "vision_gen_dec_config": {
                "cls": "ShallowUViTDecoder",
                "model_type": "vision_gen_dec",
                "params": {**shared, **decoder, "layers_in_middle": f.decoder_blocks},
            },
        }

    def with_vocab(self, vocab_size: int) -> Self:
        """Return this configuration with another vocabulary size."""
        return replace(self, language=replace(self.language, vocab_size=vocab_size))


def flat_rope(language: Mapping[str, Any]) -> dict[str, Any]:
    """Lift ``rope_parameters.rope_theta``, where newer transformers write it, to the published place."""
    rope = language.get("rope_parameters")
    return {**language, **({"rope_theta": rope["rope_theta"]} if isinstance(rope, Mapping) and "rope_theta" in rope else {})}


def _flow_from_published(encoder: Mapping[str, Any], decoder: Mapping[str, Any], hidden: int) -> FlowConfig:
    """Join the two published sections into one, checking that they belong together."""

    def width(params: Mapping[str, Any]) -> int:
        return int(params.get("block_out_channels", [FlowConfig.width])[0])

    def blocks(params: Mapping[str, Any]) -> int:
        return int(params.get("layers_in_middle", 2)) if params.get("use_mid_block", True) else 0

    patch = int(encoder.get("stride", 2))
    pairs = {
        "width": (width(encoder), width(decoder)),
        "decoder in_channels": (width(encoder), int(decoder.get("in_channels", width(decoder)))),
        "latent channels": (int(encoder.get("input_channels", 4)), int(decoder.get("out_channels", 4))),
        "encoder hidden_size": (hidden, int(encoder.get("hidden_size", hidden))),
        "decoder hidden_size": (hidden, int(decoder.get("hidden_size", hidden))),
        "kernel and stride": (int(encoder.get("kernel_size", patch)), patch),
        "stride and upsampling": (patch, 2 ** int(decoder.get("upsamples", 1))),
    }
    for name, (a, b) in pairs.items():
        if a != b:
            raise UserError(f"the generation encoder and decoder of this config.json do not fit together: {name} are {a} and {b}")
    return FlowConfig(
        latent_channels=pairs["latent channels"][0],
        width=pairs["width"][0],
        patch=patch,
        encoder_blocks=blocks(encoder),
        decoder_blocks=blocks(decoder),
        norm_eps=float(encoder.get("norm_eps", 1e-6)),
        bias=bool(encoder.get("use_bias", True)),
    )
