"""Names of runs that tell them apart."""

import re
from collections.abc import Mapping, Sequence

from jfeval.reports.text import flatten, one_line
from jfeval.schema import RunRecord

MAX_DIFFERENCES = 6
"""Most settings named for one run; the recipe names all."""

_SHORT = 24
_HASH, _DIGITS = re.compile("[0-9a-f]{32,64}"), 8


def model_words(record: RunRecord) -> str:
    """Name a run's model by its title, and say that it was not shown the images where it was not."""
    return f"{record.shown}, images withheld" if withheld(record) else record.shown


def withheld(record: RunRecord) -> bool:
    """Tell whether a run asked its questions without their images."""
    return record.data_identity.get("images_withheld") is True


def run_names(records: Sequence[RunRecord]) -> list[str]:
    """Name runs by model and seed, then by the settings in which those of one benchmark and name differ, then by folder."""
    bare = [f"{one_line(model_words(record), 80)}, seed {record.seed}" for record in records]
    kinds = [(record.benchmark, record.edition, name) for record, name in zip(records, bare, strict=True)]
    names = []
    for record, name, kind in zip(records, bare, kinds, strict=True):
        alike = [other for other, own in zip(records, kinds, strict=True) if own == kind]
        if len(alike) > 1:
            words = difference_words(record, differences(alike))
            twins = [other for other in alike if difference_words(other, differences(alike)) == words]
            parts = [words, one_line(record.name, 60) if len(twins) > 1 else ""]
            name = ", ".join(part for part in (name, *parts) if part)
        names.append(name)
    return names


def differences(records: Sequence[RunRecord]) -> tuple[str, ...]:
    """Return the dotted keys of the model's identity in which runs of one title differ; of values, hashes and short ones only.

    Between models of different titles the titles say it.
    """
    flats = [(record.shown, _values(record)) for record in records]
    keys = dict.fromkeys(key for _, flat in flats for key in flat)
    short = [key for key in keys if all(len(flat.get(key, "")) <= _SHORT for _, flat in flats)]
    models = {model for model, _ in flats}
    return tuple(key for key in short if any(len({flat.get(key) for own, flat in flats if own == m}) > 1 for m in models))[:MAX_DIFFERENCES]


def difference_words(record: RunRecord, keys: Sequence[str]) -> str:
    """Say a run's values of the keys in which it differs from others."""
    flat = _values(record)
    return ", ".join(f"{key.rpartition('.')[2]} {flat[key]}" for key in keys if key in flat)


def _values(record: RunRecord) -> dict[str, str]:
    """Return a model's identity by dotted keys; hashes come last, by their first digits."""
    flat = flatten(tree(record.identities.get("model")))
    hashes = {key: value[:_DIGITS] for key, value in flat.items() if _HASH.fullmatch(value)}
    return {key: value for key, value in flat.items() if key not in hashes} | hashes


def tree(value: object) -> Mapping[str, object]:
    """Return an identity as a mapping, whatever it is."""
    return value if isinstance(value, Mapping) else {"identity": value}
