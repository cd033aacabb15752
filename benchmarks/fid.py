"""FID between two sets of images under a named recipe, with its error: MJHQ-30K, COCO or any other.

    python -m jfeval.benchmarks.fid GENERATED REFERENCE --weights weights-inception-2015-12-05-6726825d.pth --recipe gigagan

Each set is a folder or a ZIP archive; REFERENCE may also be a file of statistics that ``--save-statistics`` wrote. Features are made once
and kept (`jfeval.benchmarks.features`).
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from jfeval.benchmarks.features import FeatureSet, Network, in_archive, in_folder, read_features
from jfeval.benchmarks.fid_metrics import frechet_metrics, kernel_metric, label
from jfeval.benchmarks.reference import Reference, read_statistics, write_statistics
from jfeval.benchmarks.scorers.frechet_error import estimate_frechet
from jfeval.benchmarks.scorers.image_recipes import RECIPES
from jfeval.errors import UserError
from jfeval.schema import Metric

MOST_FOR_KERNEL = 5_000
"""Images of each side that the kernel distance reads, evenly spread: it compares all pairs."""


def compare(
    generated: Path,
    reference: Path,
    network: Network,
    *,
    recipe: str,
    cache: Path,
    expected: int | None = None,
    save_statistics: Path | None = None,
) -> list[Metric]:
    """Compare two sets of images.

    Args:
        generated: A model's images: a folder or a ZIP archive.
        reference: Images to compare with, which count as a sample, or an ``.npz`` file of their statistics, which count as given.
        network: Inception under the recipe.
        recipe: Its name, which becomes part of every metric's.
        cache: Folder for features.
        expected: How many generated images there must be; another number is refused.
        save_statistics: File for the statistics of the reference.

    Returns:
        ``fid_RECIPE`` with the number of images in its name, the same without bias, and the kernel distance where both sides are images.

    Raises:
        UserError: A set without images, a broken image, images of mixed size among the generated ones, another number than expected, or
            statistics of another recipe.
    """
    wanted = _reference(reference, network, cache)
    drawn = _features(generated, network, cache, one_size=True)
    if expected is not None and len(drawn.names) != expected:
        raise UserError(
            f"{generated} holds {len(drawn.names):,} images, and {expected:,} are expected; a part is not reported as the whole"
        )
    if save_statistics is not None:
        if wanted.features is None:
            raise UserError(f"{reference} holds statistics already; --save-statistics makes them of images")
        write_statistics(save_statistics, wanted.features, network.identity())
    name = f"fid{label(len(drawn.names))}_{recipe}"
    metrics = frechet_metrics(estimate_frechet(drawn.batches(), wanted.given), name=name, protocol=recipe)
    if wanted.features is None:
        return metrics
    kernel = kernel_metric(drawn.some(MOST_FOR_KERNEL), wanted.features.some(MOST_FOR_KERNEL), name=f"kid_{recipe}", protocol=recipe)
    return [*metrics, kernel]


def _reference(path: Path, network: Network, cache: Path) -> Reference:
    if path.suffix == ".npz":
        return Reference(moments=read_statistics(path, network.identity()))
    return Reference(features=_features(path, network, cache))


def _features(path: Path, network: Network, cache: Path, *, one_size: bool = False) -> FeatureSet:
    files = in_archive(path) if path.suffix == ".zip" else in_folder(path)
    return read_features(files, network, cache, one_size=one_size)


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare two folders from the command line; prints one line a metric."""
    import argparse

    from jfeval.benchmarks.scorers.inception import WEIGHTS, Inception

    parser = argparse.ArgumentParser(prog="python -m jfeval.benchmarks.fid", description="FID of two sets of images, with its error.")
    parser.add_argument("generated", type=Path)
    parser.add_argument("reference", type=Path)
    parser.add_argument("--weights", type=Path, required=True, help=f"{WEIGHTS} of torch-fidelity's release v0.2.0")
    parser.add_argument("--recipe", default=RECIPES[0], help=f"{', '.join(RECIPES)}; the default is the JanusFlow paper's")
    parser.add_argument("--cache", type=Path, default=Path("runs") / "features", help="folder for features")
    parser.add_argument("--save-statistics", type=Path, help="write the reference's statistics to this .npz file")
    parser.add_argument("--expected", type=int, help="refuse another number of generated images, for example 30000")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args(arguments)
    try:
        network = Inception(options.weights, options.recipe, device=options.device)
        metrics = compare(
            options.generated,
            options.reference,
            network,
            recipe=options.recipe,
            cache=options.cache,
            expected=options.expected,
            save_statistics=options.save_statistics,
        )
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    for metric in metrics:
        bounds = "-" if metric.ci_low is None or metric.ci_high is None else f"[{metric.ci_low:.4f}, {metric.ci_high:.4f}]"
        sys.stdout.write(f"{metric.name} {metric.value:.4f} {bounds} n={metric.n}  {metric.detail}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
