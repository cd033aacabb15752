"""The official data sets that `jfeval data fetch` knows, with what is known of each: address, revision, hashes, licence.

What was never seen here is ``unpinned``. Sources of what is pinned: POPE's and GenEval's files were hashed at the stated revisions; the
tables' md5 stand in VLMEvalKit @ e8e78f05, dataset/image_mcq.py, DATASET_MD5; lmms-lab/POPE's revision is the newest that the hub listed;
Inception's size and sha256 are what projects that use the file record.
"""

import json
from functools import cache
from pathlib import Path

from jfeval.errors import unknown
from jfeval.fetching.lock import DataSet, parse_data_set

_FILE = Path(__file__).with_name("data_sets.json")


@cache
def data_sets() -> dict[str, DataSet]:
    """Return every known data set by name."""
    listed = json.loads(_FILE.read_text(encoding="utf-8"))
    return {name: parse_data_set({"name": name, **values}, where=f"{_FILE.name}, {name}") for name, values in listed.items()}


def data_set(name: str) -> DataSet:
    """Return a data set.

    Raises:
        UserError: None has this name.
    """
    if name not in data_sets():
        raise unknown("data set", name, data_sets())
    return data_sets()[name]
