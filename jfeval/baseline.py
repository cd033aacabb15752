"""The text-only baseline of a run: the same model asked the same questions without their images, in a run folder of its own beside it."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from jfeval.errors import UserError
from jfeval.store import Store

if TYPE_CHECKING:
    from jfeval.settings import RunSettings

SUFFIX = "-text-only"
_SETTING, _WITHHELD, _MARK = "images", "withheld", "images_withheld"


def without_images(settings: "RunSettings") -> "RunSettings":
    """Return the settings of a run's text-only baseline.

    Raises:
        UserError: The benchmark asks nothing about images, or the run withholds them itself.
    """
    if _SETTING not in settings.benchmark_settings:
        raise UserError(f"{settings.benchmark} asks no questions about images, so there is no text-only baseline")
    if settings.benchmark_settings[_SETTING] == _WITHHELD:
        raise UserError("this run withholds the images itself; leave out --with-text-only")
    folder = settings.folder
    return replace(
        settings, benchmark_settings={**settings.benchmark_settings, _SETTING: _WITHHELD}, out=folder.with_name(folder.name + SUFFIX)
    )


def is_text_only(store: Store) -> bool:
    """Tell whether a run withheld the images."""
    return store.record().data_identity.get(_MARK) is True


def text_only_of(store: Store) -> Store | None:
    """Find a run's text-only baseline beside it: the same model, questions and seed; None where there is none."""
    path: Path = store.path.resolve()
    beside = Store(path.with_name(path.name + SUFFIX))
    if not beside.exists():
        return None
    one, other = store.record(), beside.record()
    same = (one.model_identity, one.benchmark, one.edition, one.seed) == (other.model_identity, other.benchmark, other.edition, other.seed)
    return beside if same and other.data_identity == {**one.data_identity, _MARK: True} else None
