import pytest

from jfeval.benchmarks.understanding.numbers import Namer, answer_counts, answer_kinds
from jfeval.benchmarks.understanding.protocols import Prompt, Settings, Understanding, answer_text
from jfeval.errors import UserError
from jfeval.schema import Judgement, Sample, Score, TextRequest


class Bench(Understanding):
    name = "bench"
    protocols = ("llava", "lmms-eval")
    prompts = ("paper", "bare")
    data_forms = "a file (`get it`)"


def test_the_prompt_is_the_setting_or_the_editions_own():
    assert (Bench().prompt_of("official"), Bench().prompt_of("shapes")) == ("paper", "bare")
    assert Bench(Settings(prompt="paper")).prompt_of("shapes") == "paper"
    with pytest.raises(UserError, match="unknown prompt of bench 'llava'"):
        Bench(Settings(prompt="llava"))


def test_a_prompt_becomes_a_request_with_its_images():
    prompt = Prompt(text="Why?", separator="", max_new_tokens=5)
    assert prompt.request((b"a",)) == TextRequest(question="Why?", images=(b"a",), separator="", max_new_tokens=5)
    assert (prompt.marked, Prompt(text="Why?").marked) == ("<image>Why?", "<image>\nWhy?")


def test_what_is_missing_or_unknown_is_named(tmp_path):
    assert Bench().data_folder(tmp_path) == tmp_path
    with pytest.raises(UserError, match=r"needs --data FOLDER\. It holds a file \(`get it`\)\."):
        Bench().data_folder(None)
    with pytest.raises(UserError, match="none is none"):
        Bench().data_folder(tmp_path / "none")
    with pytest.raises(UserError, match="did you mean 'lmms-eval'"):
        Bench().check_protocol("lmms_eval")
    with pytest.raises(UserError, match="unknown edition of bench"):
        Bench().check_edition("shape")  # pyright: ignore[reportArgumentType]


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
