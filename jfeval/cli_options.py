"""Options and checks that several commands share."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

FOLDER = click.Path(file_okay=False, path_type=Path)
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


def together(*options: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Apply several click options, the first one shown first."""

    def decorate(function: Callable[..., object]) -> Callable[..., object]:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


model_options = together(
    click.option("--guidance-scale", type=float, help="Weight of the prompt against no prompt."),
    click.option("--num-steps", type=int, help="Steps of the sampler."),
    click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="A setting of the model; see `jfeval describe MODEL`."),
)


def given(options: Mapping[str, object]) -> dict[str, Any]:
    """Return the options that were given."""
    return {key: value for key, value in options.items() if value is not None and value != ()}
