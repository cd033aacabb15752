import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jfeval.errors import UserError
from jfeval.models.adapters.majority import Settings, load
from jfeval.schema import TextRequest

SCENES = [
    [("Is there a red star?", "yes"), ("What color is the star?", "red")],
    [("Is there a red star?", "no"), ("What color is the star?", "blue")],
    [("Is there a red star?", "no"), ("What color is the ring?", "green")],
    [("What color is the star?", "blue"), ("How many rings are there?", "two")],
]


@pytest.fixture
def model(tmp_path):
    (tmp_path / "scenes").mkdir()
    rows = [{"questions": [{"question": q, "answer": a, "kind": "any"} for q, a in scene]} for scene in SCENES]
    for i, part in enumerate((rows[:2], rows[2:])):
        pq.write_table(pa.Table.from_pylist(part), tmp_path / "scenes" / f"train-0000{i}-of-00002.parquet")
    return load(Settings(data=tmp_path))


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("Is there a red star?", "no"),
        ("Is there a red star? Please answer red or blue.", "no"),
        ("What color is the star?\nAnswer the question using a single word or phrase.", "blue"),
        ("How many stars are there?", "two"),
        ("What color is the heart?", "blue"),  # the question about the star is the nearer one, having the more frequent words
        ("Xyz", "blue"),  # no word is known: blue and no, twice each over all, go by spelling
    ],
)
def test_the_most_frequent_answer_to_the_nearest_question(model, question, answer):
    assert model.answer([TextRequest(question=question), TextRequest(question=question, images=(b"a picture",))]) == [answer] * 2


def test_it_says_what_it_counted(model):
    found = model.identity()
    assert found["model"] == "majority-answer"
    assert len(found["answers"]) == 64


def test_no_data_says_how_to_make_it(tmp_path):
    with pytest.raises(UserError, match="--set data=FOLDER"):
        load(Settings())
    with pytest.raises(UserError, match="jfeval data make shapes"):
        load(Settings(data=tmp_path))
    (tmp_path / "scenes").mkdir()
    empty = pa.table({"questions": pa.array([[]], pa.list_(pa.struct({"question": pa.string(), "answer": pa.string()})))})
    pq.write_table(empty, tmp_path / "scenes" / "train-00000-of-00001.parquet")
    with pytest.raises(UserError, match="without questions"):
        load(Settings(data=tmp_path))
