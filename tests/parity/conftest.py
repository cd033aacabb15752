"""Recorded sets, copied and altered by one value."""

import json

import numpy as np
import pytest


def altered(value):
    if isinstance(value, bool | np.bool_):
        return not value
    return value + 1 if isinstance(value, int | float | np.number) else "Q" if value is None else f"{value}~"


def alter(file, *path):
    """Change one recorded value of a file: of JSON by its keys, of JSON Lines by row and keys, of arrays by name, the middle one."""
    if file.suffix in {".npz", ".safetensors"}:
        return alter_array(file, *path)
    text, lines = file.read_text(encoding="utf-8"), file.suffix == ".jsonl"
    data = [json.loads(line) for line in text.splitlines()] if lines else json.loads(text)
    place = data
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = altered(place[path[-1]])
    return file.write_text("".join(json.dumps(one) + "\n" for one in data) if lines else json.dumps(data), encoding="utf-8")


def alter_array(file, name):
    if file.suffix == ".npz":
        with np.load(file) as archive:
            arrays = {key: archive[key] for key in archive.files}
        arrays[name].flat[arrays[name].size // 2] = altered(arrays[name].flat[arrays[name].size // 2])
        np.savez(file, **arrays)
        return
    from safetensors import safe_open
    from safetensors.numpy import save_file

    with safe_open(file, framework="np") as opened:
        header, arrays = opened.metadata(), {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118 - not a mapping
    arrays[name].flat[arrays[name].size // 2] = altered(arrays[name].flat[arrays[name].size // 2])
    save_file(arrays, file, metadata=header)


@pytest.fixture(scope="session", name="alter")
def alter_fixture():
    return alter
