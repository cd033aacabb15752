"""Peak memory of loading and saving a checkpoint in the published form, as a multiple of its weights.

Run: python tests/perf/checkpoint_memory.py [--language-layers 24] [--vision-layers 24] [--form safetensors|shards|bin] [--dtype bfloat16]

Writes a random checkpoint of the published widths (at the default depth: all of the published size, 4.1 GB) into a temporary folder, then
loads it in a process of its own and saves it again in another. The peak is the process's largest resident memory, mapped file pages
included; what Python and its libraries take before the model is named is given beside it. Ends in error where loading takes 1.3 times the
weights or more, or where a saved tensor differs in any bit. Needs twice the checkpoint's size on disk.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from jfeval.models.janusflow.config import JanusFlowConfig
from jfeval.models.janusflow.model import JanusFlow
from jfeval.models.janusflow.names import published_shapes

LIMIT = 1.3
SHARD = 1_000_000_000


def write(folder: Path, config: JanusFlowConfig, dtype: torch.dtype, form: str) -> tuple[int, int]:
    """Write random tensors under the published names; return their number and their bytes."""
    with torch.device("meta"):
        shapes = published_shapes(JanusFlow(config))
    (folder / "config.json").write_text(json.dumps(config.to_published()))
    generator = torch.Generator().manual_seed(0)
    shards: list[dict[str, torch.Tensor]] = [{}]
    total, files = 0, 0

    def flush() -> None:
        nonlocal files
        files += 1
        if form == "bin":
            torch.save(shards[-1], folder / f"pytorch_model-{files:05d}.bin")
        else:
            save_file(shards[-1], folder / ("model.safetensors" if form == "safetensors" else f"model-{files:05d}.safetensors"))
        shards[-1] = {}

    for name, shape in shapes.items():
        tensor = torch.empty(shape, dtype=dtype).normal_(std=0.02, generator=generator)
        if form != "safetensors" and sum(t.nbytes for t in shards[-1].values()) + tensor.nbytes > SHARD:
            flush()
        shards[-1][name] = tensor
        total += tensor.nbytes
    flush()
    return len(shapes), total


def peak() -> int:
    """Return this process's largest resident memory so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measure(task: str, source: Path, out: Path) -> None:
    """Load, and for `save` also save; print what it took as JSON. A process of its own, whose parent has held no weights either."""
    before, started = peak(), time.perf_counter()
    model = JanusFlow.from_pretrained(source)
    if task == "save":
        model.save_pretrained(out, format="published")
    print(json.dumps({"before": before, "peak": peak(), "seconds": time.perf_counter() - started}))


def differing(source: Path, out: Path) -> list[str]:
    """Compare saved tensors with the written ones, bit by bit, one at a time."""
    places: dict[str, Path] = {}
    for file in [*source.glob("*.safetensors"), *source.glob("*.bin")]:
        if file.suffix == ".bin":
            places |= dict.fromkeys(torch.load(file, weights_only=True, mmap=True), file)
        else:
            with safe_open(file, "pt") as handle:
                places |= dict.fromkeys(handle.keys(), file)
    wrong = []
    with safe_open(out / "model.safetensors", "pt") as saved:
        if set(saved.keys()) != set(places):
            wrong.append("the names differ")
        for name, file in places.items():
            if file.suffix == ".bin":
                tensor = torch.load(file, weights_only=True, mmap=True)[name]
            else:
                with safe_open(file, "pt") as handle:
                    tensor = handle.get_tensor(name)
            other = saved.get_tensor(name)
            if other.dtype != tensor.dtype or not torch.equal(other.view(torch.uint8), tensor.view(torch.uint8)):
                wrong.append(name)
    return wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--language-layers", type=int, default=24)
    parser.add_argument("--vision-layers", type=int, default=24)
    parser.add_argument("--form", choices=["safetensors", "shards", "bin"], default="safetensors")
    parser.add_argument("--dtype", choices=["bfloat16", "float16", "float32"], default="bfloat16")
    parser.add_argument("--folder", type=Path, help="Where to put the temporary folder.")
    parser.add_argument("--task", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.task is None:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            sys.exit(supervise(Path(folder), sys.argv[1:], options))
    task, source, out = options.task[0], Path(options.task[1]), Path(options.task[2])
    if task != "write":
        measure(task, source, out)
        return
    config = JanusFlowConfig()
    language = replace(config.language, num_hidden_layers=options.language_layers)
    full = options.vision_layers == config.vision.layers
    vision = config.vision if full else replace(config.vision, layers=options.vision_layers, model_name="siglip_reduced")
    count, size = write(source, replace(config, language=language, vision=vision), getattr(torch, options.dtype), options.form)
    print(json.dumps({"count": count, "size": size}))


def supervise(folder: Path, arguments: list[str], options: argparse.Namespace) -> int:
    """Have the checkpoint written, loaded and saved, each in a process of its own; print the figures and return the exit status."""
    source, out = folder / "source", folder / "out"
    source.mkdir()

    def run(task: str) -> dict[str, float]:
        command = [sys.executable, __file__, *arguments, "--task", task, str(source), str(out)]
        return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)

    written, ratios = run("write"), {}
    size = written["size"]
    print(f"{written['count']} tensors, {size / 1e9:.3f} GB, {options.dtype}, {options.form}; torch {torch.__version__}")
    for task in ("load", "save"):
        found = run(task)
        ratios[task] = (found["peak"] - found["before"]) / size
        took = f"{found['seconds']:.1f} s, peak {found['peak'] / 1e9:.3f} GB, of which {found['before'] / 1e9:.3f} GB before the model"
        print(f"{task}: {took}: {ratios[task]:.3f} x the weights, {found['peak'] / size:.3f} x with the libraries", flush=True)
    wrong = differing(source, out)
    print(f"saved tensors that differ: {', '.join(wrong[:5]) or 'none'}")
    return 1 if wrong or ratios["load"] >= LIMIT else 0


if __name__ == "__main__":
    main()
