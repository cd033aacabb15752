"""How many questions a second DPG-Bench's official judge answers at the published sizes: all about a picture together, and one by one.

Run: ``python tests/perf/dpg_judge.py [--questions 14] [--words 2] [--repeats 1] [--device cuda]``; about four minutes on two cores.
The weights are random, which does not change the time. The baseline asks our own judge one question at a time, so the picture is encoded
anew for each, as the published script does. A dense prompt has about 14 questions; an answer is a word and its end.
Answers are compared.
"""

import argparse
import statistics
import time

import torch
from PIL import Image

from jfeval.benchmarks.scorers.beam import BeamSettings
from jfeval.benchmarks.scorers.mplug import Mplug, MplugConfig
from jfeval.benchmarks.scorers.mplug_judge import MplugJudge

# ViT-L/14 at 504 pixels, widths of BERT-base, 6 layers of text, 6 of fusion, 12 of the decoder. Source: table of models, mPLUG README.
# The stride is in none of the sources seen; the smaller, the more each question costs.
PUBLISHED = MplugConfig(
    image_res=504,
    clip_vision_patch_size=14,
    clip_vision_width=1024,
    clip_vision_layers=24,
    vocab_size=30522,
    hidden_size=768,
    num_hidden_layers=12,
    num_attention_heads=12,
    intermediate_size=3072,
    max_position_embeddings=512,
    type_vocab_size=2,
    layer_norm_eps=1e-12,
    text_encoder_layers=6,
    text_decode_layers=12,
    fusion_layers=6,
    stride_layer=3,
)


def vocabulary() -> list[str]:
    """Return as many words as BERT has, with its marks where it has them."""
    words = [f"w{index}" for index in range(PUBLISHED.vocab_size)]
    for index, mark in ((0, "[PAD]"), (100, "[UNK]"), (101, "[CLS]"), (102, "[SEP]"), (103, "[MASK]")):
        words[index] = mark
    return words


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--questions", type=int, default=14)
    parser.add_argument("--words", type=int, default=2, help="of an answer, its end among them")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.manual_seed(0)
    judge = MplugJudge(Mplug(PUBLISHED), vocabulary(), BeamSettings(most=options.words), device=options.device)
    picture = Image.effect_noise((512, 512), 80).convert("RGB")
    asked = [" ".join(f"w{200 + 12 * row + place}" for place in range(12)) for row in range(options.questions)]
    size = sum(parameter.numel() for parameter in judge.model.parameters())
    print(f"{size / 1e6:.0f} million parameters, {len(asked)} questions, float32 on {options.device}, {torch.get_num_threads()} threads")
    judge.answer(picture, asked[:1])
    ways = {"one by one": lambda: [judge.answer(picture, [one])[0] for one in asked], "together": lambda: judge.answer(picture, asked)}
    taken: dict[str, list[float]] = {way: [] for way in ways}
    answers = {}
    for _ in range(options.repeats):
        for way, work in ways.items():
            started = time.perf_counter()
            answers[way] = work()
            taken[way].append(time.perf_counter() - started)
    seconds = {way: statistics.median(times) for way, times in taken.items()}
    for way, value in seconds.items():
        print(f"{way:10}  {value:7.1f} s   {len(asked) / value:5.2f} questions a second")
    differ = sum(one != other for one, other in zip(*answers.values(), strict=True))
    print(f"{seconds['one by one'] / seconds['together']:.1f} times; {differ} answers differ")


if __name__ == "__main__":
    main()
