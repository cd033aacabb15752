"""Every size of a JanusFlow model, read from and written to the published ``config.json`` form."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Self

from jfeval.errors import UserError, unknown
from jfeval.models.janusflow.reading import ANY, T, naming, read_object, read_setting, refuse_others

SIGLIP_SIZES: dict[str, dict[str, float]] = {
    "siglip_base_patch16_224": {"image_size": 224, "patch_size": 16, "width": 768, "layers": 12, "heads": 12, "mlp_ratio": 4},
    "siglip_large_patch16_256": {"image_size": 256, "patch_size": 16, "width": 1024, "layers": 24, "heads": 16, "mlp_ratio": 4},
    "siglip_large_patch16_384": {"image_size": 384, "patch_size": 16, "width": 1024, "layers": 24, "heads": 16, "mlp_ratio": 4},
    "siglip_so400m_patch14_384": {"image_size": 384, "patch_size": 14, "width": 1152, "layers": 27, "heads": 16, "mlp_ratio": 3.7362},
}
"""Published SigLIP sizes by the name a ``config.json`` uses. Source: the SigLIP model cards; Zhai et al., arXiv 2303.15343."""


_ENCODER, _DECODER = "vision_gen_enc_config", "vision_gen_dec_config"


def _check_types(owner: object) -> None:
    """Refuse values of another type, and sizes that no model can have."""
    where = type(owner).__name__.removesuffix("Config").lower()
    for f in fields(owner):  # pyright: ignore[reportArgumentType]
        read_setting(vars(owner), f.name, f.default, where, least=ANY if f.name == "select_layer" else 1)


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
        _check_types(self)
        if self.hidden_size % self.num_attention_heads:
            raise UserError(f"language hidden_size {self.hidden_size} is no multiple of num_attention_heads {self.num_attention_heads}")
        if self.num_attention_heads % self.num_key_value_heads:
            raise UserError(
                f"language num_attention_heads {self.num_attention_heads} is no multiple of num_key_value_heads {self.num_key_value_heads}"
            )

    @classmethod
    def from_published(cls, values: Mapping[str, Any]) -> Self:
        """Read the settings of a Llama-form model, as ``language_config`` and transformers write them.

        Raises:
            UserError: A size is none, or a setting asks for what this model does not have: biases, scaled rotary positions, heads of
                another width.
        """
        where = "the language model"
        refuse_others(values, {"attention_bias": False, "mlp_bias": False}, where)
        for key in ("rope_scaling", "rope_parameters"):
            scaling = values.get(key) or {}
            kind = scaling.get("rope_type", scaling.get("type", "default")) if isinstance(scaling, Mapping) else scaling
            if kind != "default":
                raise UserError(f"{where} scales its rotary positions ({key} = {scaling}); JanusFlow has plain ones")
        rope = values.get("rope_parameters") or {}
        sizes = {**values, **({"rope_theta": rope["rope_theta"]} if "rope_theta" in rope else {})}  # where newer transformers write it
        if sizes.get("num_key_value_heads") is None:
            sizes["num_key_value_heads"] = sizes.get("num_attention_heads", cls.num_attention_heads)
        config = cls(**_known(cls, sizes))
        refuse_others(values, {"head_dim": config.hidden_size // config.num_attention_heads}, where)
        return config


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
        _check_types(self)
        if self.width % self.heads:
            raise UserError(f"vision width {self.width} is no multiple of heads {self.heads}")
        if self.depth < 1:
            raise UserError(f"select_layer {self.select_layer} keeps none of the {self.layers} vision blocks")
        refuse_others(vars(self), {"select_feature": "same"}, "vision")

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
        _check_types(self)


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
            UserError: A section is missing, a setting is of another type or asks for what this model does not do, or encoder and decoder
                contradict each other.
        """
        sections = ("language_config", "vision_und_enc_config", _ENCODER, _DECODER)
        missing = [name for name in sections if not isinstance(data.get(name), Mapping)]
        if missing:
            raise UserError(f"this is no JanusFlow config.json: it lacks {', '.join(missing)}")
        params = {name: data[name].get("params", {}) for name in sections[1:]}
        if strange := [name for name, found in params.items() if not isinstance(found, Mapping)]:
            raise UserError(f"{strange[0]} params must be an object, not {params[strange[0]]!r}")
        language = LanguageConfig.from_published(data["language_config"])
        flow = _flow_from_published(params[_ENCODER], params[_DECODER], language.hidden_size)
        return cls(language=language, vision=VisionConfig.from_published(params["vision_und_enc_config"]), flow=flow)

    @classmethod
    def from_file(cls, path: Path) -> Self:
        """Read ``config.json`` from a file or from the folder that holds it.

        Raises:
            UserError: There is none, or it is damaged; see `from_published`. Names the file.
        """
        path = path / "config.json" if path.is_dir() else path
        if not path.is_file():
            raise UserError(f"no config.json at {path}; a JanusFlow checkpoint is a folder with config.json and weights")
        data = read_object(path)
        with naming(path):
            return cls.from_published(data)

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


def _flow_from_published(encoder: Mapping[str, Any], decoder: Mapping[str, Any], hidden: int) -> FlowConfig:
    """Join the two published sections into one, checking that they belong together and ask for nothing else."""
    refuse_others(encoder, {"padding": 0}, _ENCODER)
    for params, where in ((encoder, _ENCODER), (decoder, _DECODER)):
        refuse_others(params, {"use_mid_block": True, "elementwise_affine": True}, where)

    def both(key: str, default: T, of_decoder: str = "") -> tuple[T, T]:
        return read_setting(encoder, key, default, _ENCODER), read_setting(decoder, of_decoder or key, default, _DECODER)

    patch = read_setting(encoder, "stride", FlowConfig.patch, _ENCODER)
    widths = _width(encoder, _ENCODER), _width(decoder, _DECODER)
    inner = both("hidden_size", hidden)
    channels = both("input_channels", FlowConfig.latent_channels, "out_channels")
    eps, bias = both("norm_eps", FlowConfig.norm_eps), both("use_bias", FlowConfig.bias)
    blocks = both("layers_in_middle", FlowConfig.encoder_blocks)
    pairs: dict[str, tuple[object, object]] = {
        "width": widths,
        "decoder in_channels": (widths[0], read_setting(decoder, "in_channels", widths[1], _DECODER)),
        "latent channels": channels,
        "encoder hidden_size": (hidden, inner[0]),
        "decoder hidden_size": (hidden, inner[1]),
        "kernel and stride": (read_setting(encoder, "kernel_size", patch, _ENCODER), patch),
        "stride and upsampling": (patch, 2 ** read_setting(decoder, "upsamples", 1, _DECODER, least=0)),
        "norm_eps": eps,
        "use_bias": bias,
    }
    for name, (a, b) in pairs.items():
        if a != b:
            raise UserError(f"the generation encoder and decoder of this config.json do not fit together: {name} are {a} and {b}")
    return FlowConfig(
        latent_channels=channels[0],
        width=widths[0],
        patch=patch,
        encoder_blocks=blocks[0],
        decoder_blocks=blocks[1],
        norm_eps=eps[0],
        bias=bias[0],
    )


def _width(params: Mapping[str, Any], where: str) -> int:
    """Read the one width of an encoder's or decoder's blocks."""
    widths = params.get("block_out_channels", [FlowConfig.width])
    if not isinstance(widths, list) or len(widths) != 1:
        raise UserError(f"{where} block_out_channels must be a list of one width, not {widths!r}")
    return read_setting({"block_out_channels": widths[0]}, "block_out_channels", FlowConfig.width, where)
