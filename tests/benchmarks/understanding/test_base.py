from typing import ClassVar

import pytest

from jfeval.benchmarks.understanding.base import Settings, Understanding, answer_text
from jfeval.benchmarks.understanding.numbers import Namer, answer_counts, answer_kinds
from jfeval.benchmarks.understanding.protocols import Prompt
from jfeval.errors import UserError
from jfeval.schema import Judgement, Sample, Score, TextRequest


class Bench(Understanding[tuple[str, str]]):
    """Rows are an image's name and a question."""

    name = "bench"
    protocols = ("llava", "lmms-eval")
    prompts = ("paper", "bare")
    data_forms = "a file (`get it`)"
    drawn: ClassVar[list[int]] = []

    @staticmethod
    def draw(seed):
        Bench.drawn.append(seed)
        return [("cat", f"{seed} one?"), ("dog", "two?"), ("cat", "three?"), ("owl", "four?"), ("dog", "five?")]

    def read(self, folder):
        return [("file", line) for line in (folder / "rows.txt").read_text().splitlines()]

    def sample(self, row, edition):
        image, question = row
        request = Prompt(text=question).request((image.encode(),))
        return Sample(id=question, task=edition, request=request, reference={}, cluster=image)

    def content(self, row):
        return list(row)


def test_the_prompt_is_the_setting_or_the_editions_own():
    assert (Bench().prompt_of("official"), Bench().prompt_of("shapes")) == ("paper", "bare")
    assert Bench(Settings(prompt="paper")).prompt_of("shapes") == "paper"
    with pytest.raises(UserError, match="unknown prompt of bench 'llava'"):
        Bench(Settings(prompt="llava"))


def test_a_prompt_becomes_a_request_with_its_images():
    prompt = Prompt(text="Why?", separator="", max_new_tokens=5)
    assert prompt.request((b"a",)) == TextRequest(question="Why?", images=(b"a",), separator="", max_new_tokens=5)
    assert (prompt.marked, Prompt(text="Why?").marked) == ("<image>Why?", "<image>\nWhy?")


def test_questions_about_one_image_stand_together_and_keep_their_order():
    samples = Bench().samples("shapes", seed=11)
    assert [sample.id for sample in samples] == ["11 one?", "three?", "two?", "five?", "four?"]
    assert [sample.request.images for sample in samples] == [(b"cat",), (b"cat",), (b"dog",), (b"dog",), (b"owl",)]


def test_a_seed_is_drawn_once_however_many_ask(monkeypatch):
    monkeypatch.setattr(Bench, "drawn", [])
    for _ in range(2):
        Bench().samples("shapes", seed=12)
        Bench(Settings(images="withheld")).data_identity("shapes", seed=12)
    assert Bench.drawn == [12]


def test_withheld_images_change_the_request_and_the_identity_and_nothing_else():
    shown, blind = Bench(), Bench(Settings(images="withheld"))
    pairs = zip(shown.samples("shapes", seed=0), blind.samples("shapes", seed=0), strict=True)
    for one, other in pairs:
        assert other.request.images == ()
        assert (one.id, one.request.question, one.cluster) == (other.id, other.request.question, other.cluster)
    first, second = shown.data_identity("shapes", seed=0), blind.data_identity("shapes", seed=0)
    assert second == {**first, "images_withheld": True}
    with pytest.raises(UserError, match="unknown way with images 'hidden'"):
        Settings(images="hidden")


def test_what_is_missing_or_unknown_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert Bench().data_folder(tmp_path) == tmp_path
    with pytest.raises(UserError, match=r"`jfeval data fetch bench`, or .*--data FOLDER\. It holds a file \(`get it`\)\."):
        Bench().data_folder(None)
    with pytest.raises(UserError, match="none is no folder"):
        Bench().data_folder(tmp_path / "none")
    (tmp_path / "data" / "official" / "bench").mkdir(parents=True)
    (tmp_path / "data" / "official" / "bench" / "rows.txt").write_text("fetched?")
    assert [sample.id for sample in Bench().samples("official", seed=0)] == ["fetched?"]
    assert Bench().data_identity("official", seed=0)["revision"] == "unpinned"
    with pytest.raises(UserError, match="did you mean 'lmms-eval'"):
        Bench().check_protocol("lmms_eval")
    with pytest.raises(UserError, match="unknown edition of bench"):
        Bench().samples("shape", seed=0)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("observations", [(), ({"text": 1},), ({"text": "a"}, {"text": "b"}), ({},)])
def test_anything_but_one_answer_is_refused(observations):
    sample = Sample(id="s", task="", request=TextRequest(question="?"), reference={})
    assert answer_text(sample, Judgement(sample_id="s", observations=({"text": ""},))) == ""
    with pytest.raises(UserError, match="sample s: expected one stored answer"):
        answer_text(sample, Judgement(sample_id="s", observations=observations))


def test_an_answer_is_of_one_kind_and_counted_once():
    assert answer_kinds(" \n", ambiguous=True) == {"empty": 1.0, "refused": 0.0, "ambiguous": 0.0}
    assert answer_kinds("I can't process this file.", ambiguous=True) == {"empty": 0.0, "refused": 1.0, "ambiguous": 0.0}
    assert answer_kinds("perhaps", ambiguous=True) == {"empty": 0.0, "refused": 0.0, "ambiguous": 1.0}
    kinds = {"a": "", "b": "perhaps", "c": "yes", "d": "no"}
    scores = [
        Score(sample_id=key, task=split, cluster=key, values=answer_kinds(text, ambiguous=text == "perhaps"))
        for key, text in kinds.items()
        for split in ("random", "popular")
    ]
    found = {m.name: m for m in answer_counts(scores, Namer("llava"))}
    assert {name: (m.value, m.n) for name, m in found.items()} == {"empty": (0.25, 4), "refused": (0.0, 4), "ambiguous": (0.25, 4)}
    assert found["empty"].detail.endswith("1 of 4 answers.")
