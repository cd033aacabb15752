"""Tiny random models of the real classes, saved as their published checkpoints are."""

import io
import json

import numpy as np
import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

WORDS = "USER : ASSISTANT what color is the star circle ? yes no red blue green how many are there a photo of left right"
SPECIAL = ["<pad>", "<s>", "</s>", "<unk>", "<image>"]
DECODER = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
"""Sizes and token ids of every tiny language model."""


def tokenizer(*, begins=False, **special):
    """A tokenizer of whole words, which may put the beginning of sequence before a text."""
    vocabulary = {word: i for i, word in enumerate([*SPECIAL, *special.values(), *WORDS.split()])}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()])
    if begins:
        words.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=words,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        extra_special_tokens={"image_token": "<image>", **special},
    )


@pytest.fixture(scope="session")
def png():
    """Make encoded pictures of noise."""

    def make(seed, size=(40, 30)):
        stream = io.BytesIO()
        Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), np.uint8)).save(stream, "PNG")
        return stream.getvalue()

    return make


@pytest.fixture(scope="session")
def llava(tmp_path_factory):
    """A LLaVA of some thousand parameters, in the form of llava-1.5-7b-hf."""
    from transformers import (
        CLIPImageProcessorPil,
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
    )

    folder = tmp_path_factory.mktemp("llava")
    words = tokenizer()
    vision = CLIPVisionConfig(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2, image_size=16, patch_size=8)
    text = LlamaConfig(vocab_size=len(words), **DECODER)
    config = LlavaConfig(vision_config=vision, text_config=text, image_token_index=words.convert_tokens_to_ids("<image>"))
    torch.manual_seed(0)
    LlavaForConditionalGeneration(config).save_pretrained(folder)
    images = CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16})
    template = (
        "{% for message in messages %}{{ message['role'].upper() + ' : ' }}{% for part in message['content'] %}"
        "{% if part['type'] == 'image' %}{{ '<image> ' }}{% else %}{{ part['text'] + ' ' }}{% endif %}{% endfor %}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'ASSISTANT :' }}{% endif %}"
    )
    LlavaProcessor(
        images,
        words,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=template,
    ).save_pretrained(folder)
    assert json.loads((folder / "config.json").read_text())["model_type"] == "llava"
    return folder


@pytest.fixture(scope="session")
def qwen2_vl(tmp_path_factory):
    """A Qwen2-VL of some thousand parameters, in the form of Qwen2-VL-2B-Instruct: patches in any number, positions in three dimensions."""
    pytest.importorskip("torchvision", reason="Qwen2-VL's processor reads videos too, with torchvision")
    from transformers import (
        Qwen2VLConfig,
        Qwen2VLForConditionalGeneration,
        Qwen2VLImageProcessorPil,
        Qwen2VLProcessor,
        Qwen2VLVideoProcessor,
    )

    folder = tmp_path_factory.mktemp("qwen2_vl")
    names = {"image_token": "<|image_pad|>", "video_token": "<|video_pad|>"}
    marks = {"begin_image": "<|vision_start|>", "end_image": "<|vision_end|>", "begin_turn": "<|im_start|>", "end_turn": "<|im_end|>"}
    words = tokenizer(**names, **marks)
    ids = {name: words.convert_tokens_to_ids(token) for name, token in {**names, **marks}.items()}
    config = Qwen2VLConfig(
        text_config={**DECODER, "vocab_size": len(words), "rope_parameters": {"rope_type": "default", "mrope_section": [2, 3, 3]}},
        vision_config={"depth": 2, "embed_dim": 32, "hidden_size": 32, "num_heads": 2, "mlp_ratio": 2, "patch_size": 4},
        image_token_id=ids["image_token"],
        video_token_id=ids["video_token"],
        vision_start_token_id=ids["begin_image"],
        vision_end_token_id=ids["end_image"],
    )
    torch.manual_seed(0)
    Qwen2VLForConditionalGeneration(config).save_pretrained(folder)
    sizes = {"patch_size": 4, "merge_size": 2, "size": {"shortest_edge": 64, "longest_edge": 4096}}
    template = (
        "{% for message in messages %}{% if loop.first and message['role'] != 'system' %}"
        "{{ '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}{% endif %}"
        "{{ '<|im_start|>' + message['role'] + '\n' }}{% for part in message['content'] %}{% if part['type'] == 'image' %}"
        "{{ '<|vision_start|><|image_pad|><|vision_end|>' }}{% else %}{{ part['text'] }}{% endif %}{% endfor %}"
        "{{ '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    )
    Qwen2VLProcessor(Qwen2VLImageProcessorPil(**sizes), words, Qwen2VLVideoProcessor(**sizes), chat_template=template).save_pretrained(
        folder
    )
    assert json.loads((folder / "config.json").read_text())["model_type"] == "qwen2_vl"
    return folder


def clip_text(kind="CLIPTextModel", **sizes):
    """A CLIP text encoder of the test vocabulary."""
    import transformers

    words = tokenizer()
    config = transformers.CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=32,
        intermediate_size=37,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=16,
        bos_token_id=1,
        eos_token_id=2,
        **sizes,
    )
    return getattr(transformers, kind)(config).eval()


def clip_words():
    """The tokenizer as pipelines call it: padded to 16."""
    words = tokenizer()
    words.model_max_length = 16
    return words


def vae(channels):
    """A VAE that halves the picture once."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(16, 32),
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=channels,
        norm_num_groups=8,
        sample_size=32,
        use_quant_conv=channels == 4,
        use_post_quant_conv=channels == 4,
        shift_factor=0.1 if channels != 4 else None,
    )


def unet(**sizes):
    """A UNet of two blocks for latents of 16x16."""
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        block_out_channels=(16, 32),
        layers_per_block=1,
        sample_size=16,
        in_channels=4,
        out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=8,
        **sizes,
    )


def stable_diffusion():
    """Stable Diffusion 1.5's form, with a safety checker's place in its index."""
    from diffusers import DDIMScheduler, StableDiffusionPipeline

    return StableDiffusionPipeline(
        vae=vae(4),
        text_encoder=clip_text(),
        tokenizer=clip_words(),
        unet=unet(cross_attention_dim=32, attention_head_dim=4),
        scheduler=DDIMScheduler(clip_sample=False, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def sdxl():
    """SDXL's form: two text encoders, a time and size embedding, and a scheduler that adds noise."""
    from diffusers import EulerAncestralDiscreteScheduler, StableDiffusionXLPipeline

    return StableDiffusionXLPipeline(
        vae=vae(4),
        text_encoder=clip_text(projection_dim=32),
        text_encoder_2=clip_text("CLIPTextModelWithProjection", projection_dim=32),
        tokenizer=clip_words(),
        tokenizer_2=clip_words(),
        unet=unet(
            cross_attention_dim=64,
            attention_head_dim=(2, 4),
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            transformer_layers_per_block=(1, 1),
            projection_class_embeddings_input_dim=80,
        ),
        scheduler=EulerAncestralDiscreteScheduler(),
        add_watermarker=False,
    )


def flux():
    """Flux's form: a T5 and a CLIP encoder, a transformer over packed latents, rectified flow."""
    from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel
    from transformers import T5Config, T5EncoderModel

    words = clip_words()
    t5 = T5Config(vocab_size=len(words), d_model=32, d_kv=8, d_ff=37, num_layers=2, num_heads=4)
    return FluxPipeline(
        vae=vae(1),
        text_encoder=clip_text(projection_dim=32),
        text_encoder_2=T5EncoderModel(t5).eval(),
        tokenizer=words,
        tokenizer_2=clip_words(),
        transformer=FluxTransformer2DModel(
            patch_size=1,
            in_channels=4,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=32,
            pooled_projection_dim=32,
            axes_dims_rope=(4, 4, 8),
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(),
    )


@pytest.fixture(scope="session", params=[stable_diffusion, sdxl, flux], ids=lambda make: make.__name__)
def pipeline_folder(request, tmp_path_factory):
    """A random pipeline of a real class, saved."""
    folder = tmp_path_factory.mktemp(request.param.__name__)
    torch.manual_seed(0)
    request.param().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def janus(tmp_path_factory):
    """A Janus of 2x2 image tokens, in the form of transformers' converted checkpoints: template and tokenizer both write the beginning."""
    from transformers import (
        JanusConfig,
        JanusForConditionalGeneration,
        JanusImageProcessorPil,
        JanusProcessor,
        JanusVisionConfig,
        LlamaConfig,
    )
    from transformers.models.janus.configuration_janus import JanusVQVAEConfig

    folder = tmp_path_factory.mktemp("janus")
    words = tokenizer(begins=True, boi_token="<begin_of_image>", eoi_token="<end_of_image>")
    config = JanusConfig(
        text_config=LlamaConfig(vocab_size=len(words), **DECODER),
        vision_config=JanusVisionConfig(
            hidden_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=16, patch_size=8, projection_dim=32, num_image_tokens=4
        ),
        vq_config=JanusVQVAEConfig(
            embed_dim=8,
            num_embeddings=24,
            latent_channels=32,
            base_channels=32,
            channel_multiplier=(1, 1),
            num_res_blocks=1,
            num_patches=2,
            projection_dim=32,
            image_token_embed_dim=32,
        ),
        image_token_id=words.convert_tokens_to_ids("<image>"),
    )
    torch.manual_seed(0)
    model = JanusForConditionalGeneration(config)
    model.generation_config.update(pad_token_id=0, bos_token_id=1, eos_token_id=2)
    model.save_pretrained(folder)
    template = (
        "<s> {% for message in messages %}{{ message['role'].upper() + ' : ' }}{% for part in message['content'] %}"
        "{% if part['type'] == 'image' %}{{ '<image> ' }}{% else %}{{ part['text'] + ' ' }}{% endif %}{% endfor %}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'ASSISTANT : ' }}{% endif %}"
    )
    JanusProcessor(
        JanusImageProcessorPil(size={"height": 16, "width": 16}, min_size=4), words, chat_template=template, num_image_tokens=4
    ).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def by_hand():
    """One option's loss, token by token, without padding, the last token being the end named."""

    @torch.no_grad()
    def loss(model, request, option, end):
        inputs = model._inputs([request])
        total = 0.0
        for token in [*model.tokenizer.encode(option, add_special_tokens=False), model.tokenizer.convert_tokens_to_ids(end)]:
            logits = model.model(**inputs).logits[0, -1]
            total -= float(logits.log_softmax(-1)[token])
            for name, value in (("input_ids", token), ("attention_mask", 1), ("mm_token_type_ids", 0)):
                if name in inputs:
                    inputs[name] = torch.cat([inputs[name], torch.tensor([[value]])], dim=1)
        return total

    return loss
