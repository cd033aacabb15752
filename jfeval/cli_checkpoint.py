"""The commands about checkpoints: look into one, take one in, give one out. Part of `jfeval.cli`; imports inside the commands."""

from pathlib import Path

import click

from jfeval.cli_options import FOLDER, together
from jfeval.errors import UserError

_DTYPE = click.option("--dtype", type=click.Choice(["float32", "bfloat16", "float16"]), help="Convert the weights.  [default: as stored]")
_REVISION = click.option("--revision", default="", metavar="COMMIT", help="Commit of a hub id, 40 hexadecimal digits.")
_SHOWN = 40


@click.group()
def checkpoint() -> None:
    """Inspect, import and export JanusFlow checkpoints.

    \b
    jfeval checkpoint inspect JanusFlow-1.3B
    jfeval checkpoint import JanusFlow-1.3B --vae sdxl-vae --out models/janusflow
    jfeval checkpoint export models/janusflow --out JanusFlow-mine
    """  # noqa: D301


@checkpoint.command("inspect")
@click.argument("source")
@_REVISION
@click.pass_context
def inspect_(ctx: click.Context, *, source: str, revision: str) -> None:
    """Say what a checkpoint holds, and what in it does not fit.

    SOURCE is a folder or a hub id OWNER/NAME. Only headers are read. Exit status 1 if anything is missing, unexpected or mis-shaped.

    \b
    jfeval checkpoint inspect JanusFlow-1.3B
    jfeval checkpoint inspect OWNER/NAME --revision COMMIT
    """  # noqa: D301
    from dataclasses import asdict

    from jfeval.console import clean
    from jfeval.models.hub import local_folder
    from jfeval.models.janusflow.folders import summarize

    found = summarize(local_folder(source, revision))
    for part, values in asdict(found.config).items():
        click.echo(clean(f"{part:<10} " + " ".join(f"{key}={value}" for key, value in values.items())))
    click.echo()
    for module, count in found.parameters.items():
        click.echo(clean(f"{module:<30} {count:>15,}"))
    click.echo(f"{'total':<30} {sum(found.parameters.values()):>15,}  of which {found.unused:,} in the unused attention-pool head")
    types = ", ".join(f"{count} {name}" for name, count in found.types.items())
    click.echo(clean(f"\n{sum(found.types.values())} tensors ({types}), {found.nbytes / 1e9:.2f} GB in {', '.join(found.files[:5])}"))
    for problem in found.problems[:_SHOWN]:
        click.echo(clean(problem))
    if len(found.problems) > _SHOWN:
        click.echo(f"... and {len(found.problems) - _SHOWN} more")
    click.echo(f"{len(found.problems)} problems" if found.problems else "no problems: every tensor has its place and its shape")
    ctx.exit(1 if found.problems else 0)


_PARTS = together(
    click.option("--language", type=FOLDER, help="Build from parts instead: folder of a Llama-form language model."),
    click.option("--vision", type=FOLDER, help="Build from parts instead: folder of a SigLIP model."),
    click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of what is new in a model built from parts."),
)


@checkpoint.command("import")
@click.argument("source", required=False)
@_REVISION
@click.option("--out", type=FOLDER, required=True, help="Folder to write.")
@click.option("--vae", metavar="FOLDER|ID", help="The VAE in diffusers form, copied beside the model so that the folder can draw.")
@click.option("--vae-revision", default="", metavar="COMMIT", help="Commit of the VAE's hub id.")
@_PARTS
@_DTYPE
def import_(
    *,
    source: str | None,
    revision: str,
    out: Path,
    vae: str | None,
    vae_revision: str,
    language: Path | None,
    vision: Path | None,
    seed: int,
    dtype: str | None,
) -> None:
    """Take a checkpoint into a local folder that `jfeval run --model janusflow --set path=FOLDER` reads.

    SOURCE is a folder or a hub id OWNER/NAME in the published form, safetensors or .bin; all tensors are checked on the way. Without
    SOURCE, a language model and an understanding encoder are joined to a model that is ready to be trained.

    \b
    jfeval checkpoint import JanusFlow-1.3B --vae sdxl-vae --out models/janusflow
    jfeval checkpoint import OWNER/NAME --revision COMMIT --out models/janusflow
    jfeval checkpoint import --language llm --vision siglip-large-patch16-384 --out models/untrained
    """  # noqa: D301
    from tempfile import TemporaryDirectory

    from jfeval.models.hub import local_folder
    from jfeval.models.janusflow.folders import DTYPES, with_special_tokens, write_folder
    from jfeval.models.janusflow.model import JanusFlow
    from jfeval.models.janusflow.parts import from_parts

    kind = DTYPES[dtype] if dtype else None
    vae_folder = local_folder(vae, vae_revision) if vae else None
    if source is not None and language is None and vision is None:
        folder = local_folder(source, revision)
        write_folder(JanusFlow.from_pretrained(folder, dtype=kind), out, texts=folder, vae=vae_folder)
    elif source is None and language is not None and vision is not None:
        model = from_parts(language, vision, seed=seed, dtype=kind)
        with TemporaryDirectory() as texts:
            write_folder(model, out, texts=with_special_tokens(language, Path(texts)), vae=vae_folder)
    else:
        raise click.UsageError("Give either SOURCE, or both --language and --vision.")
    click.echo(out)


@checkpoint.command("export")
@click.argument("source", type=FOLDER)
@click.option("--out", type=FOLDER, required=True, help="Folder to write.")
@click.option("--tokenizer", type=FOLDER, help="Folder of the tokenizer files, where SOURCE has none.")
@click.option("--shard-megabytes", type=click.FloatRange(min=1), default=5000.0, show_default=True, help="Largest weights file.")
@_DTYPE
def export(*, source: Path, out: Path, tokenizer: Path | None, shard_megabytes: float, dtype: str | None) -> None:
    """Write a model in the published form: names, packing and processor files of the published checkpoint, no VAE.

    \b
    jfeval checkpoint export models/janusflow --out JanusFlow-mine
    jfeval checkpoint export train/shapes/stage3 --tokenizer train/shapes/tokenizer/tokenizer --dtype bfloat16 --out JanusFlow-mine
    """  # noqa: D301
    from jfeval.models.janusflow.folders import DTYPES, write_folder
    from jfeval.models.janusflow.model import JanusFlow

    if not source.is_dir():
        raise UserError(f"{source} is no folder")
    model = JanusFlow.from_pretrained(source)
    kind = DTYPES[dtype] if dtype else None
    write_folder(model, out, texts=tokenizer or source, dtype=kind, shard_bytes=int(shard_megabytes * 1e6))
    click.echo(out)
