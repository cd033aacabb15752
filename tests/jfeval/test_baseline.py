"""A run with its text-only baseline: two run folders, one table, one report; and one run under several protocols in that report."""

import pytest
from click.testing import CliRunner
from PIL import Image

from jfeval import registry
from jfeval.baseline import is_text_only, text_only_of, without_images
from jfeval.benchmarks.understanding.base import Understanding, answer_text
from jfeval.benchmarks.understanding.numbers import Namer
from jfeval.benchmarks.understanding.protocols import Prompt
from jfeval.cli import main
from jfeval.errors import UserError
from jfeval.schema import Sample, Score
from jfeval.settings import RunSettings
from jfeval.stats import clustered_mean
from jfeval.store import Store


class Cats(Understanding[int]):
    """Is there a cat? There always is."""

    name = "cats"
    editions = ("shapes",)
    protocols = ("strict", "kind")

    @staticmethod
    def draw(seed):
        return range(8)

    def read(self, folder):
        return []

    def sample(self, row, edition):
        request = Prompt(text=f"Is there a cat in picture {row}? <b>").request((_picture(row),))
        return Sample(id=f"cat{row}", task="cats", request=request, reference={"row": row}, cluster=f"{row}")

    def content(self, row):
        return row

    def score(self, sample, judgement, *, protocol):
        text = answer_text(sample, judgement)
        correct = text == "yes" or (protocol == "kind" and sample.reference["row"] == 3)
        return [Score(sample_id=sample.id, task="cats", cluster=sample.cluster, values={"correct": float(correct)}, labels={"said": text})]

    def aggregate(self, scores, *, protocol):
        found = clustered_mean([score.values["correct"] for score in scores], [score.cluster for score in scores])
        return [Namer(protocol, headline="accuracy")("accuracy", found, "Cats found.", chance=0.5)]


def _picture(row):
    import io

    buffer = io.BytesIO()
    Image.new("RGB", (4, 4), (row, 0, 0)).save(buffer, format="PNG")
    return buffer.getvalue()


@pytest.fixture
def cats(registered, monkeypatch):
    monkeypatch.setitem(registry._TABLES, "benchmark", {**registry._TABLES["benchmark"], "cats": f"{__name__}:Cats"})
    real = registry.import_module
    monkeypatch.setattr(registry, "import_module", lambda name: __import__("sys").modules[__name__] if name == __name__ else real(name))


def invoke(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_chance_and_the_baseline_stand_beside_the_score_in_table_and_report(cats, tmp_path):
    done = invoke("run", "--benchmark", "cats", "--model", "painter", "--out", tmp_path / "run", "--with-text-only")
    assert done.exit_code == 0, done.output
    assert "accuracy 1.000 [0.63, 1.00]\nbeside accuracy: chance=0.500 text_only=0.000 [0.00, 0.37]\n" in done.stdout
    run, blind = Store.open(tmp_path / "run"), Store.open(tmp_path / "run-text-only")
    assert [len(sample.request.images) for sample in run.samples()] == [1] * 8
    assert [len(sample.request.images) for sample in blind.samples()] == [0] * 8
    assert (is_text_only(run), is_text_only(blind), text_only_of(run).path.name) == (False, True, "run-text-only")
    assert run.record().fingerprint != blind.record().fingerprint
    page = (tmp_path / "run" / "report.html").read_text()
    for words in ("painter, images withheld", "guessing", "chance, computed from the rows"):
        assert words in page, words
    assert "Protocols side by side" not in page

    again = invoke("score", tmp_path / "run", "--protocol", "all")
    assert again.exit_code == 0, again.output
    assert "verdicts: 0 of 8 answers change between protocols" in again.stdout
    assert blind.protocols() == ["kind", "strict"]
    page = (tmp_path / "run" / "report.html").read_text()
    assert "Protocols side by side: cats, shapes edition: painter" in page
    assert "1 of 8 answers change their verdict between protocols" in page  # the baseline's "no" about picture 3
    assert "Is there a cat in picture 3? &lt;b&gt;" in page


def test_a_baseline_of_other_weights_is_not_shown(cats, stubs, tmp_path):
    both = ("--benchmark", "cats", "--model", "painter", "--out", tmp_path / "run")
    assert invoke("run", *both, "--with-text-only", "--no-report").exit_code == 0
    assert invoke("run", *both, "--overwrite", "--set", "num_steps=7", "--no-report").exit_code == 0
    assert text_only_of(Store.open(tmp_path / "run")) is None


def test_what_has_no_images_has_no_baseline(cats, tmp_path):
    refused = invoke("run", "--benchmark", "bright", "--model", "painter", "--out", tmp_path / "run", "--with-text-only")
    assert (refused.exit_code, "bright asks no questions about images" in refused.stderr) == (2, True)
    assert not (tmp_path / "run").exists()
    with pytest.raises(UserError, match="withholds the images itself"):
        without_images(RunSettings(benchmark="cats", benchmark_settings={"images": "withheld"}))
