"""Holds the tables of docs/models.md against the code and the printed numbers they speak of."""

import csv
import re
from importlib.resources import files
from pathlib import Path

import pytest

from jfeval.registry import MODELS, check_name, model_settings, split_place
from jfeval.reports.paper import printed_as, printed_models

PAGE = (Path(__file__).parents[2] / "docs" / "models.md").read_text("utf-8")
COLUMNS = {
    "POPE": ("pope", "paper"),
    "MMBench dev": ("mmbench", "dev"),
    "SEED image": ("seed", "image"),
    "GQA": ("gqa", "accuracy"),
    "GenEval": ("geneval", "overall"),
    "DPG-Bench": ("dpg", "overall"),
    "MJHQ FID-30k": ("mjhq", "fid_30k"),
}


def table(first):
    """The rows of the table whose first heading is `first`, heading by heading."""
    lines = PAGE[PAGE.index(f"\n| {first} |") + 1 :].split("\n\n")[0].splitlines()
    heading, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines if not line.startswith("|--"))
    return [dict(zip(heading, row, strict=True)) for row in rows]


def test_every_model_is_listed():
    named = {re.sub(r"[`:].*", "", row["`--model`"].strip("`")) for row in table("`--model`")}
    assert named == set(MODELS)


def test_printed_numbers_are_those_of_the_table():
    with (files("jfeval.reports") / "paper_results.csv").open() as file:
        known = list(csv.DictReader(file))
    printed = table("printed")
    assert len(printed) > 10
    for row in printed:
        for column, key in COLUMNS.items():
            found = [one["value"] for one in known if (one["model"], one["benchmark"], one["metric"]) == (row["printed"], *key)]
            assert row[column] == (found[0] if found else ""), (row["printed"], column)


def test_every_printed_model_is_in_the_table_and_every_hub_id_stands_beside_its_numbers():
    assert {row["printed"] for row in table("printed")} == {one for one in printed_models() if not one.startswith("TorchUMM")}
    places = [re.match(r"`\w+:([\w.-]+/[\w.-]+)", row["`--model` and settings"]) for row in table("system")]
    names = {found[1]: printed_as(found[1]) for found in places if found}
    assert len(names) > 10
    assert all(names.values()), names


@pytest.mark.parametrize("row", table("system"), ids=lambda row: row["system"])
def test_the_commands_are_of_models_and_settings_that_exist(row):
    for command in row["`--model` and settings"].split("`, `"):
        model, *words = command.strip("`").split()
        name, place = split_place(model)
        check_name("model", name)
        assert words[::2] == ["--set"] * (len(words) // 2)
        commit = [word.replace("=COMMIT", "=" + "0" * 40) for word in words[1::2]]
        model_settings(name, place, commit)
    assert row["weights in bfloat16"]
    assert row["licence of the weights"]
