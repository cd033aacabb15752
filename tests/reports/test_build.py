import json
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jfeval.errors import UserError
from jfeval.reports import html
from jfeval.reports.build import render_report, write_report
from jfeval.reports.html import island, policy, static
from jfeval.reports.samples import slowest_table
from jfeval.reports.tables import group_runs, leaderboard_table, task_table
from jfeval.schema import Counts, ImageRequest, Sample
from jfeval.store import Store

STATIC = Path(html.__file__).with_name("static")
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(1)> \"'&amp; {{ 7*7 }} \u2028 \u202e \x00\x1b[31m </title></style>-->"


class Page(HTMLParser):
    """Collects what a browser would act on."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.cells, self.scripts = [], [], [], []
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, *pair) for pair in attrs]
        self._inside = tag
        if tag == "script":
            self.scripts.append("")
        value = dict(attrs).get("data-value")
        if value is not None:
            self.cells.append(float(value))

    def handle_data(self, data):
        if self._inside == "script":
            self.scripts[-1] += data

    def handle_endtag(self, tag):
        self._inside = ""

    @property
    def gallery(self):
        return json.loads(self.scripts[0])


@pytest.fixture(scope="module")
def page(full_store):
    return render_report([full_store])


def test_nothing_is_asked_of_the_network(page):
    found = Page(page)
    loading = [
        (t, k, v)
        for t, k, v in found.attributes
        if k in ("src", "href", "srcset", "data", "action", "poster", "style") or k.startswith("on")
    ]
    assert loading == [("a", "href", v) for _, _, v in loading]
    assert all(v.startswith("#") for _, _, v in loading)
    without_svg_names = re.sub(r"http://www\.w3\.org/2000/svg", "", page)
    assert not re.search(r"https?:|//[a-z0-9.-]+\.[a-z]{2,}|@import|url\(|fetch\(|XMLHttp|import\(|WebSocket|sendBeacon", without_svg_names)
    images = found.gallery["images"]
    assert len(images) > 100
    assert all(image.startswith("data:image/webp;base64,") for image in images)


def test_policy_allows_only_the_two_inlined_blocks(page):
    found = Page(page)
    (content,) = [v for _, k, v in found.attributes if k == "content" and "default-src" in v]
    style = re.search(r"<style>(.*?)</style>", page, re.S).group(1)
    assert content == policy(style, found.scripts[1])
    assert content.startswith("default-src 'none'; img-src data:;")
    assert "unsafe" not in content


def test_bytes_depend_on_the_runs_alone(make_store, tmp_path):
    stores = [make_store(prompts=2, seed=seed) for seed in range(3)]
    one = write_report(stores, tmp_path / "one.html").read_bytes()
    two = write_report(stores[::-1], tmp_path / "two.html").read_bytes()
    assert one == two
    copies = [Store(shutil.copytree(store.path, tmp_path / "copies" / store.path.name)) for store in stores]
    assert write_report(copies, tmp_path / "copies" / "three.html").read_bytes() == one


def test_page_has_the_numbers_of_the_tables(full_store, page):
    (group,) = group_runs([full_store])
    tables = [leaderboard_table(group), task_table(full_store), slowest_table([full_store])]
    drawn = [
        c.value
        for t in tables
        for row in t.rows
        for k, c in zip(t.columns, row, strict=True)
        if k.kind != "text" and not k.aside and c.value is not None
    ]
    assert Page(page).cells == drawn
    for metric in full_store.metrics():
        assert (
            f'<span class="value">{metric.value:.3f}</span> <span class="interval">[{metric.ci_low:.3f}, {metric.ci_high:.3f}]</span>'
            in page
        )
    overall = next(m for m in full_store.metrics() if m.headline)
    assert f'<p class="headline-value">{overall.value:.3f}</p>' in page


def test_gallery_has_every_sample_with_its_verdicts(full_store, page):
    found = Page(page).gallery
    (asked,), (run,) = found["sets"], found["runs"]
    scores, judgements = {(s.sample_id, s.index): s for s in full_store.scores()}, full_store.judgements()
    assert [s["id"] for s in asked["samples"]] == [s.id for s in full_store.samples()]
    for sample, result in zip(asked["samples"], run["results"], strict=True):
        assert len(result["images"]) == 4
        for i, image in enumerate(result["images"]):
            score = scores[sample["id"], i]
            assert (image["verdict"]["value"], image["verdict"].get("reason", "")) == (score.values["correct"], score.reason)
            assert len(image["boxes"]) == sum(map(len, judgements[sample["id"]].observations[i]["detections"].values()))


def test_words_of_the_edition_and_recipe_are_on_the_page(page):
    assert "shapes: an embedded synthetic world, not comparable with published GenEval numbers" in page
    for words in ("recipe.guidance_scale", "5f1c" * 16, "packages.torch", "git.commit", "seconds.generate", "prompts.failed"):
        assert words in page


def test_whole_run_has_no_banner(page):
    assert 'class="banner ' not in page
    assert "Not a full run" not in page


@pytest.mark.parametrize(
    ("options", "mark"),
    [
        ({"limit": 20, "counts": Counts(available=384, asked=20, finished=20, failed=0)}, "limited: 20 of 384"),
        ({"finished": 5}, "partial: 5 of 12 finished"),
        ({"failed": 2}, "failed: 2 of 12"),
    ],
)
def test_run_that_is_not_whole_is_marked_everywhere(make_store, options, mark):
    page = render_report([make_store(prompts=2, **options)])
    assert f'<p class="banner-title">Not a full run: {mark}</p>' in page
    row = page[page.index('id="leaderboard"') : page.index('id="benchmarks"')]
    assert f'<span class="mark">{mark}</span>' in row
    summary = page[page.index('class="headline"') : page.index("<dl")]
    assert mark in summary
    assert Page(page).gallery["runs"][0]["mark"] == mark


def test_many_incomplete_runs_share_one_banner(make_store):
    page = render_report([make_store(prompts=1, seed=seed, finished=3) for seed in range(4)])
    assert "4 runs are not full runs" in page
    assert page.count('role="alert"') == 1


@pytest.fixture(scope="module")
def small_store(store_builder, tmp_path_factory):
    return store_builder(tmp_path_factory.mktemp("small") / "run", prompts=1)


def hostile(store, text):
    """Put a text into every place of a run that others write."""
    first, *rest = store.samples()
    request = ImageRequest(prompt=text)
    store.write_samples([Sample(id=first.id, task=text or "t", request=request, reference={"a": text}, cluster="c"), *rest])
    reason = text.encode("utf-8", "replace").decode()
    store.write_results("official", [replace(score, reason=reason) for score in store.scores()], store.metrics())
    identity = {"recipe": {text: text}}
    store.write_record(replace(store.record(), model=text, provenance={"note": text, text: "x"}, model_identity=identity))
    return store


def test_hostile_text_is_inert(make_store, page):
    drawn = render_report([hostile(make_store(prompts=1), HOSTILE)])
    plain, found = Page(page), Page(drawn)
    assert set(found.tags) <= set(plain.tags) | {"path"}
    assert found.tags.count("script") == 2
    assert not [a for a in found.attributes if a[1].startswith("on")]
    assert not re.search("[\x00-\x08\x0b-\x1f\u202e]", drawn)
    assert "{{ 7*7 }}" in drawn
    assert found.gallery["sets"][0]["samples"][0]["prompt"].startswith("</script><script>alert(1)")


@settings(max_examples=15, deadline=None)
@given(text=st.text(st.sampled_from(list("<>\"'&/{}%!-= script\u2028\x00\x1b\ud800`\\\n")), max_size=60))
def test_any_text_leaves_the_page_as_it_is(small_store, text):
    found = Page(render_report([hostile(small_store, text)]))
    assert found.tags.count("script") == 2
    assert not {"img", "iframe", "object", "form", "embed", "base"} & set(found.tags)
    assert not [a for a in found.attributes if a[1].startswith("on") or a[1] == "style"]
    assert len(found.gallery["sets"][0]["samples"]) == 6


@given(st.recursive(st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8))
def test_island_is_safe_and_lossless(value):
    text = str(island(value))
    assert text.isascii()
    assert not set("<>&") & set(text)
    assert json.loads(text) == value


def test_own_script_and_style_cannot_end_their_element():
    scripts, styles = (sorted(path.name for path in STATIC.glob(f"*.{kind}")) for kind in ("js", "css"))
    assert scripts
    assert styles
    assert "</style" not in static(*styles).lower()
    script = static(*scripts)
    assert "</script" not in script.lower()
    for sink in ("innerHTML", "outerHTML", "insertAdjacent", "document.write", "eval(", "Function("):
        assert sink not in script


def test_no_run_and_no_folder_are_said_plainly(full_store, tmp_path):
    with pytest.raises(UserError, match="no run to report on"):
        write_report([], tmp_path / "r.html")
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="cannot write the report"):
        write_report([full_store], tmp_path / "file" / "r.html")


def test_missing_picture_is_counted_not_fatal(make_store):
    store = make_store(prompts=1)
    shas = {sha for output in store.outputs().values() for sha in output.images}
    store.image_path(sorted(shas)[0]).unlink()
    page = render_report([store])
    assert "1 pictures are missing" in page
    assert len(Page(page).gallery["images"]) == len(shas) - 1


def test_pictures_stay_within_the_budget(make_store):
    store = make_store(prompts=2)
    budget = 20_000
    images = Page(render_report([store], budget=budget)).gallery["images"]
    assert images
    assert sum(map(len, images)) <= budget
