"""Pictures of another size than a judge reads: one costs its own sample, a model that draws no other is refused before it draws."""

import pytest

from jfeval.benchmarks.scene_sets import SceneFeatures
from jfeval.errors import BadRequest, UserError
from jfeval.registry import load_benchmark
from jfeval.store import Store


def judge_of(stubs, *, many, **more):
    """Return a judge that reads 8x8 pixels, of one sample at a time or of several."""

    class Sized(stubs.BrightJudge):
        image_size = 8
        if many:

            def observe_many(self, work):
                return [self.observe(sample, images) for sample, images in work]

    return Sized(**more)


@pytest.mark.parametrize("many", [False, True])
def test_a_picture_of_another_size_fails_its_sample_and_no_other(stubs, tmp_path, many):
    class Uneven(stubs.Painter):
        def generate(self, jobs):
            odd = [(job.prompt, job.index) == ("picture 5 of 0", 1) for job in jobs]
            return [image.resize((16, 8)) if one else image for one, image in zip(odd, super().generate(jobs), strict=True)]

    bench = stubs.Bright(judge=judge_of(stubs, many=many))
    store = stubs.run_and_score(tmp_path / "run", bench=bench, model=Uneven())
    errors = {key: judgement.error for key, judgement in store.judgements().items() if judgement.error}
    assert errors == {"0-5": "ValueError: image 2 of 2: the judge reads 8x8 pixels, not 16x8; resize it"}
    counts = store.record().counts
    assert (counts.finished, counts.failed) == (23, 1)
    assert len(store.scores()) == 46


@pytest.mark.parametrize("many", [False, True])
def test_a_request_that_a_judge_refuses_costs_its_sample_and_what_is_wrong_with_the_judge_the_run(stubs, tmp_path, many):
    judge = judge_of(stubs, many=many)
    observe, wrong = judge.observe, BadRequest("too dark to see")

    def refuse_one(sample, images):
        if sample.id == "0-5":
            raise wrong
        return observe(sample, images)

    judge.observe = refuse_one
    store = stubs.run_and_score(tmp_path / "run", bench=stubs.Bright(judge=judge))
    assert {key: one.error for key, one in store.judgements().items() if one.error} == {"0-5": "BadRequest: too dark to see"}
    wrong = UserError("the lamp has gone")
    with pytest.raises(UserError, match="the lamp has gone"):
        stubs.run_and_score(tmp_path / "other", bench=stubs.Bright(judge=judge))


def sized_painter(stubs, side, calls):
    painter = stubs.Painter(calls=calls)
    painter.image_size = side
    return painter


def test_a_model_that_draws_another_size_is_refused_before_it_draws(stubs, tmp_path):
    bench, calls = stubs.Bright(judge=judge_of(stubs, many=False)), []
    with pytest.raises(
        UserError, match=r"painter draws 16x16 pixels, and the judge photometer of bright \(shapes\) reads 8x8; give a model"
    ):
        stubs.run_and_score(tmp_path / "run", bench=bench, model=sized_painter(stubs, 16, calls))
    assert calls == []
    assert not Store(tmp_path / "run").exists()
    for side in (0, 8):
        assert stubs.run_and_score(tmp_path / f"run{side}", bench=bench, model=sized_painter(stubs, side, calls)).record().counts.complete
    any_size = stubs.run_and_score(tmp_path / "any", model=sized_painter(stubs, 16, calls))
    assert any_size.record().counts.complete


@pytest.mark.parametrize(
    ("name", "edition", "words"),
    [
        ("geneval", "shapes", "reads 64x64; give --edition official or shapes-small, or a model that draws 64x64"),
        ("geneval", "shapes-small", "reads 48x48; give --edition official or shapes, or a model that draws 48x48"),
        ("dpg", "shapes", "reads 64x64; give --edition official, or a model that draws 64x64"),
    ],
)
def test_the_judges_of_the_synthetic_world_say_which_size_they_read(stubs, tmp_path, name, edition, words):
    bench, calls = load_benchmark(name), []
    with pytest.raises(UserError, match=f"painter draws 384x384 pixels, and the judge .* {words}"):
        stubs.run_and_score(tmp_path / "run", bench=bench, model=sized_painter(stubs, 384, calls), benchmark=name, edition=edition, limit=6)
    assert calls == []


def test_the_judge_of_sets_says_it_too():
    assert SceneFeatures().image_size == 64
