"""Questions about one image, asked together, against the same questions one by one; same weights, same machine, same run.

Run: python tests/perf/understanding.py [--questions 18] [--language-layers 2] [--vision-layers 2] [--device cpu] [--dtype float32]

Published widths, random weights, reduced depth unless asked otherwise. The baseline computes every question alone and whole, with a
key-value cache, as the published script does: image, system prompt and question anew each time. The bound is the ratio of the tokens
that pass through the language model, which counts neither the understanding encoder nor what batches save. Answers are compared.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import replace

import torch
from PIL import Image
from transformers import PreTrainedTokenizerFast

from jfeval.models.janusflow.config import FlowConfig, JanusFlowConfig
from jfeval.models.janusflow.model import JanusFlow
from jfeval.models.janusflow.processing import ImageProcessor, Processor
from jfeval.models.janusflow.understanding import Question, Understanding
from jfeval.models.training.tokenizer import BOS, EOS, PAD, TokenizerSettings, build_tokenizer

THINGS = ("person", "bicycle", "car", "dog", "cat", "chair", "table", "bottle", "book", "clock", "vase", "cup", "fork", "knife", "spoon")


def questions(count: int, image: Image.Image, new_tokens: int) -> list[Question]:
    """Ask about one thing after another, with POPE's words around it."""
    asked = [f"Is there a {THINGS[i % len(THINGS)]} in the image? Answer the question using a single word or phrase." for i in range(count)]
    return [Question(text=text, images=(image,), max_new_tokens=new_tokens) for text in asked]


def words(texts: list[str]) -> PreTrainedTokenizerFast:
    """Make a tokenizer with a token for every word, as a large vocabulary has."""
    built = build_tokenizer(texts * 9, TokenizerSettings(size=400))
    return PreTrainedTokenizerFast(tokenizer_object=built, bos_token=BOS, eos_token=EOS, pad_token=PAD)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--questions", type=int, default=18)
    parser.add_argument("--new-tokens", type=int, default=2, help="Tokens per answer: a word and the end.")
    parser.add_argument("--language-layers", type=int, default=2)
    parser.add_argument("--vision-layers", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    options = parser.parse_args()
    config = JanusFlowConfig(flow=FlowConfig(encoder_blocks=1, decoder_blocks=1, width=64))
    config = replace(
        config,
        language=replace(config.language, num_hidden_layers=options.language_layers),
        vision=replace(config.vision, model_name="siglip_reduced", layers=options.vision_layers),
    )
    torch.manual_seed(0)
    with torch.device(options.device):
        model = JanusFlow(config).to(getattr(torch, options.dtype)).eval()
    image = Image.effect_noise((640, 480), 80).convert("RGB")
    asked = questions(options.questions, image, options.new_tokens)
    processor = Processor(
        words([question.text for question in asked]),
        ImageProcessor(image_size=config.vision.image_size),
        tokens_per_image=config.vision.tokens,
    )
    processor.end_id = -1  # random weights never end by themselves; every answer has the same number of tokens
    together, alone = Understanding(model, processor), Understanding(model, processor, share=False)
    alone.answer(asked[:1])  # warms up

    def timed(run: Callable[[], list[list[int]]]) -> tuple[tuple[float, float], list[list[int]]]:
        wall, cpu = time.perf_counter(), time.process_time()
        answers = run()
        if options.device != "cpu":
            torch.cuda.synchronize()
        return (time.perf_counter() - wall, time.process_time() - cpu), answers

    times: dict[str, list[tuple[float, float]]] = {"one by one": [], "together": []}
    differ = 0
    for _ in range(options.repeats):
        slow, expected = timed(lambda: [alone.answer_tokens([question])[0] for question in asked])
        fast, found = timed(lambda: together.answer_tokens(asked))
        times["one by one"].append(slow)
        times["together"].append(fast)
        differ += sum(a != b for a, b in zip(expected, found, strict=True))
    tokens = [len(processor.encode(f"User: \n{q.text}\n\nAssistant:")) + config.vision.tokens + 2 for q in asked]
    tail = len(processor.encode_more(f"{asked[0].text.removeprefix('Is there a ')}\n\nAssistant:"))
    bound = (sum(tokens) + len(asked)) / (tokens[0] - tail + len(asked) * (tail + 1))
    print(f"{options.device}, {options.dtype}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    print(f"{config.language.num_hidden_layers} language and {config.vision.layers} vision blocks at the published widths")
    print(f"{len(asked)} questions of {tokens[0]} tokens about one image, {options.new_tokens} new tokens each")
    medians = {name: [statistics.median(column) for column in zip(*pairs, strict=True)] for name, pairs in times.items()}
    for name, (wall, cpu) in medians.items():
        print(f"{name:<11} {wall:8.2f} s wall {cpu:8.2f} s CPU")
    ratios = [slow / fast for slow, fast in zip(medians["one by one"], medians["together"], strict=True)]
    print(f"ratio       {ratios[0]:8.2f}        {ratios[1]:8.2f}        (language-model tokens: {bound:.2f})")
    print(f"answers that differ: {differ} of {len(asked) * options.repeats}")


if __name__ == "__main__":
    main()
