"""`jfeval serve`: a benchmark's judge as a service. Part of `jfeval.cli`; imports inside the command."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from jfeval.cli_options import FOLDER
from jfeval.schema import EDITIONS

if TYPE_CHECKING:
    from jfeval.schema import JsonObject


@click.command()
@click.argument("benchmark")
@click.option("--edition", type=click.Choice(EDITIONS), default="official", show_default=True, help="Whose judge.")
@click.option("--set-benchmark", "overrides", multiple=True, metavar="KEY=VALUE", help="A setting of the benchmark, such as its weights.")
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="Address to listen on; another machine can reach only others than this."
)
@click.option("--port", type=click.IntRange(0, 65535), default=8090, show_default=True, help="Port; 0 for any free one.")
@click.option("--batch", type=click.IntRange(1, 1024), default=16, show_default=True, help="Pictures judged together.")
@click.option("--wait", type=click.FloatRange(0, 60), default=0.02, show_default=True, help="Seconds that a picture waits for others.")
@click.option("--goldens", type=FOLDER, help="Recorded sets to reproduce before the first request, beside those that come along.")
@click.option("--check-only", is_flag=True, help="Verify, print what was found, and end.")
def serve(
    *,
    benchmark: str,
    edition: str,
    overrides: tuple[str, ...],
    host: str,
    port: int,
    batch: int,
    wait: float,
    goldens: Path | None,
    check_only: bool,
) -> None:
    """Judge pictures over HTTP: rows and images in, verdict, reason and soft score out. Benchmarks: geneval, geneval-heldout, dpg.

    Before it listens, recorded cases of the official scorer are reproduced, and the judge must see the same in a batch as alone.
    POST /judge takes {"items": [{"metadata": row, "image": base64}, ...]}; GET /health says who judges and what was verified.

    \b
    jfeval serve geneval
    jfeval serve geneval --edition shapes --port 9000
    jfeval serve dpg --set-benchmark judge=MPLUG_FOLDER --batch 4
    """  # noqa: D301
    from jfeval.registry import benchmark_settings, load_benchmark
    from jfeval.serving import Service, ServiceSettings
    from jfeval.serving_check import check
    from jfeval.serving_http import is_loopback
    from jfeval.serving_http import serve as bind

    checked = benchmark_settings(benchmark, {}, list(overrides))
    values = {} if checked is None else {key: value for key, value in vars(checked).items() if value is not None}
    loaded = load_benchmark(benchmark, **values)
    judge = loaded.judge(edition)  # pyright: ignore[reportArgumentType]  click checked it
    if judge is None:
        raise click.UsageError(f"{benchmark} has no judge: its outputs are scored as they are.")
    service: Service = Service(loaded, judge, ServiceSettings(batch=batch, wait=wait))
    lines = check(service, edition=edition, goldens=goldens)  # pyright: ignore[reportArgumentType]
    for line in lines:
        click.echo(line)
    facts: JsonObject = {"benchmark": benchmark, "edition": edition, "judge": judge.identity(), "verified": list(lines)}
    if check_only:
        return
    server = bind(service, facts, host=host, port=port)
    if not is_loopback(host):
        click.echo(f"listening on {host}: whoever reaches this address can have pictures judged; there is no password", err=True)
    click.echo(f"http://{server.server_address[0]}:{server.server_address[1]}/judge")
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        click.echo("stopped", err=True)
    finally:
        server.server_close()
        service.close()
