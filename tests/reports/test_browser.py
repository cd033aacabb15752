"""Opens the report in a real browser: the gallery is drawn, filters and keys work, nothing is asked for, nothing is complained of."""

import importlib.util
import json
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from jfeval.reports.build import write_report
from jfeval.schema import Judgement
from jfeval.shards import Shard

_SPEC = importlib.util.spec_from_file_location("jfeval_test_browser", Path(__file__).with_name("browser.py"))
chromium = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(chromium)

pytestmark = pytest.mark.skipif(chromium.find() is None, reason="no Chromium: none on PATH, and JFEVAL_CHROMIUM is not set")

SET = "(() => {{ const s = document.getElementById('{name}'); s.value = '{value}'; s.dispatchEvent(new Event('{event}')); }})()"
CARDS = "document.querySelectorAll('.sample').length"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    opened = chromium.Browser(chromium.find(), tmp_path_factory.mktemp("profile"))
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def address(full_store, store_builder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    other = store_builder(folder / "other", prompts=2, seed=7, model="<b>bold</b>")
    return write_report([full_store, other], folder / "report.html").as_uri()


@pytest.fixture(scope="module")
def pairs(store_builder, tmp_path_factory):
    """Write a report of two models on the same prompts, one of them with a tree of questions, and of another benchmark."""
    folder = tmp_path_factory.mktemp("pairs")
    one = store_builder(folder / "runs" / "one", prompts=2)
    two = store_builder(folder / "runs" / "two", prompts=2, model="other")
    scores = [
        replace(s, values={**s.values, "correct": 1.0 - s.values["correct"] if s.sample_id == "00003" else s.values["correct"]})
        for s in two.scores()
    ]
    two.write_results("official", scores, two.metrics())
    tree = store_builder(folder / "runs" / "tree", prompts=1, benchmark="dpg")
    rows = [{"id": i, "question": f"Is it {i}?", "category": "entity", "parents": [i - 1] if i > 1 else []} for i in (1, 2, 3)]
    first, *rest = tree.samples()
    tree.write_samples([replace(first, reference={"questions": [*rows, {"id": 9, "question": "Alone?", "parents": [9]}]}), *rest])
    with Shard(tree.path, "0first") as shard:
        seen = Judgement(sample_id=first.id, observations=({"answers": ["yes", "no", "yes", "no"]},))
        shard.add_judgements(tree.record().judge_fingerprint, [(seen, 0.0)])
    return write_report([one, two, tree], folder / "report.html")


@pytest.fixture
def shown(browser, address):
    """Open the report at a view and return the browser; afterwards nothing may have been complained of or asked for."""
    opened = []

    def show(view="", page=address, **options):
        browser.open(page + view, **options)
        browser.wait(CARDS + " > 0")
        opened.append(page)
        return browser

    yield show
    assert browser.complaints() == []
    assert [url.partition("#")[0] for url in browser.requests()] == opened[-1:]


def test_gallery_is_drawn(shown):
    page = shown()
    assert page.run(CARDS) == 24
    assert page.run("document.querySelectorAll('.sample img').length") == 96
    assert page.run("[...document.images].every((i) => i.alt && i.loading === 'lazy')")
    page.run("document.querySelector('.cards').scrollIntoView({ behavior: 'instant' })")
    page.wait("[...document.querySelectorAll('.sample img')].slice(0, 8).every((i) => i.complete && i.naturalWidth === 64)")
    assert page.run("getComputedStyle(document.querySelector('.sample img')).imageRendering") == "pixelated"
    assert page.run("document.querySelectorAll('b').length") == 0


def test_address_sets_the_filters(shown, full_store):
    page = shown("#task=counting&show=any-wrong")
    wrong = {s.sample_id for s in full_store.scores() if s.task == "counting" and s.values["correct"] == 0}
    assert page.run(CARDS) == len(wrong) > 0
    assert page.run(
        "[...document.querySelectorAll('.sample')].every((c) => c.dataset.task === 'counting' && c.dataset.good < c.dataset.done)"
    )
    assert page.run("document.querySelector('.found-count').textContent") == f"{len(wrong)} of 60 samples"


def test_filters_search_and_pages_work_and_write_the_address(shown):
    page = shown()
    page.run(SET.format(name="gallery-task", value="position", event="change"))
    assert page.run(CARDS) == 10
    assert page.run("location.hash") == "#task=position"
    page.run(SET.format(name="gallery-search", value="no such words", event="input"))
    page.wait(CARDS + " === 0")
    assert "No sample fits" in page.run("document.querySelector('.empty').textContent")
    page = shown("#page=3")
    assert page.run(CARDS) == 12
    assert page.run("[...document.querySelectorAll('.pager span')].every((s) => s.textContent === 'page 3 of 3')")
    page.run("[...document.querySelectorAll('.pager button')].find((b) => b.textContent === 'Previous').click()")
    assert page.run(CARDS) == 24


def test_the_other_run_can_be_chosen(shown):
    page = shown("#run=2")
    assert page.run(CARDS) == 12
    assert "<b>bold</b>" in page.run("document.getElementById('gallery-run').selectedOptions[0].textContent")


def test_picture_opens_and_turns_by_keyboard(shown):
    page = shown()
    page.run("document.querySelector('.frame').focus()")
    page.press("Enter", 13)
    page.wait("document.querySelector('dialog').open")
    words = "document.querySelector('dialog .sample-meta').textContent"
    assert "picture 1 of 4" in page.run(words)
    assert page.run("document.querySelectorAll('dialog .overlay .edge').length") >= 1
    page.press("ArrowRight", 39)
    page.wait(words + ".includes('picture 2 of 4')")
    assert page.run("location.hash").endswith(".2")
    page.press("Escape", 27)
    page.wait("!document.querySelector('dialog').open")


def test_boxes_appear_when_asked_for(shown):
    seen = "Number(getComputedStyle(document.querySelector('.sample .overlay')).opacity)"
    assert shown().run(seen) == 0
    assert shown("#boxes=1").run(seen) == 1


def test_leaderboard_sorts_by_pointer_and_by_keyboard(shown):
    page = shown()
    names = "[...document.querySelectorAll('table.sortable tbody tr')].map((r) => Number(r.cells[1].dataset.value))"
    page.run("document.querySelectorAll('table.sortable .sort')[1].click()")
    falling = page.run(names)
    page.run("document.querySelectorAll('table.sortable .sort')[1].focus()")
    page.press("Enter", 13)
    page.wait("document.querySelector('table.sortable th[aria-sort=ascending]') !== null")
    assert page.run(names) == falling[::-1] == sorted(falling)


def test_leaderboard_is_filtered_and_its_columns_are_chosen(shown, pairs):
    page = shown(page=pairs.as_uri())
    shown_rows = "[...document.querySelectorAll('table.board tbody tr')].filter((r) => r.checkVisibility())"
    rows = shown_rows + ".map((r) => r.cells[0].querySelector('bdi').textContent)"
    assert page.run(rows).count("janusflow-shapes") == 3  # in the overview and in two tables
    page.run(SET.format(name="board-filter", value="OTHER", event="input"))
    page.wait("document.querySelector('.board-count').textContent !== ''")
    assert set(page.run(rows)) == {"other"}
    counted = "[...t.tHead.rows].map((r) => [...r.cells].filter((c) => !c.hidden).length)"
    heads = f"[...document.querySelectorAll('table.board')].map((t) => {counted})"
    before = page.run(heads)
    assert before[0] == [2, 3]  # model, and two benchmarks under one heading
    box = "document.querySelectorAll('.chooser')[0].querySelectorAll('input')"
    page.run("document.querySelectorAll('.chooser')[0].querySelector('summary').focus()")
    page.press("Enter", 13)
    page.wait("document.querySelectorAll('.chooser')[0].open")
    page.press("Tab", 9)
    page.press("Tab", 9)
    page.press("Tab", 9)
    assert page.run(f"document.activeElement === {box}[0]")
    page.press(" ", 32)
    page.wait(f"!{box}[0].checked")
    assert page.run(heads) == [[2, 2], *before[1:]]
    assert page.run("document.querySelector('.groups th').colSpan") == 1
    page.press("Escape", 27)
    page.wait("!document.querySelectorAll('.chooser')[0].open")


def test_two_models_stand_side_by_side_and_where_they_differ(shown, pairs):
    page = shown("#run=2&beside=3", page=pairs.as_uri())
    names = "[...document.querySelectorAll('.sample')[0].querySelectorAll('.side-name')].map((n) => n.textContent)"
    assert len(set(page.run(names))) == 2
    assert page.run("document.querySelectorAll('.sample')[0].querySelectorAll('img').length") == 8
    page.run(SET.format(name="gallery-show", value="differ", event="change"))
    page.wait(CARDS + " === 1")
    assert page.run("location.hash") == "#run=2&beside=3&show=differ"
    page.run("document.querySelector('.frame').click()")
    page.wait("document.querySelectorAll('dialog .stage').length === 2")
    assert page.run("document.querySelectorAll('dialog .finding').length") == 2
    link = page.run("document.querySelector('dialog .full a').getAttribute('href')")
    assert (pairs.parent / link).read_bytes().startswith(b"\x89PNG")
    page.run("document.querySelector('dialog').close()")
    page.run(SET.format(name="gallery-beside", value="-1", event="change"))
    page.wait(CARDS + " === 12")  # without the other run nothing can differ


def test_a_prompts_questions_are_a_tree(shown, pairs):
    page = shown("#run=1&open=00000.1", page=pairs.as_uri())
    page.wait("document.querySelector('dialog .tree') !== null")
    read = "[q.textContent, q.closest('ul').matches('ul ul'), q.classList.contains('moot')]"
    found = page.run(f"[...document.querySelectorAll('.question')].map((q) => {read})")
    texts = [text for text, *_ in found]
    assert texts[0].startswith("yes Is it 1?")
    assert texts[1].startswith("no Is it 2?")
    assert texts[2].startswith("yes Is it 3?")
    assert "not counted" in texts[2]
    assert [nested for _, nested, _ in found] == [False, True, True, False]
    assert [moot for *_, moot in found] == [False, False, True, True]  # what rests on itself is never confirmed


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("wide", [800, 1280, 1920])
def test_nothing_runs_off_the_page_and_text_can_be_read(shown, pairs, wide, dark):
    page = shown("#run=2&beside=3&open=00003.1", page=pairs.as_uri(), size=(wide, 900), dark=dark)
    assert page.run("document.documentElement.scrollWidth") <= wide
    page.run("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    assert page.run("document.documentElement.scrollWidth") <= wide
    assert json.loads(page.run(f"JSON.stringify(({CONTRAST})())")) == []


def test_gallery_is_in_the_dumped_page(full_store, tmp_path):
    address = write_report([full_store], tmp_path / "r.html").as_uri() + "#task=counting&show=any-wrong"
    flags = [flag for flag in chromium.FLAGS if "pipe" not in flag]
    command = [chromium.find(), *flags, f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", address]
    page = subprocess.run(command, capture_output=True, timeout=240, check=True, text=True).stdout
    assert page.count('data-task="counting"') > 0
    assert 'data-task="position"' not in page


CONTRAST = """() => {
  const numbers = (c) => (c.match(/[\\d.]+/g) || []).map(Number);
  const light = ([r, g, b]) => {
    const part = (v) => (v / 255 <= 0.03928 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4);
    return 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
  };
  const behind = (node) => {
    for (let n = node; n; n = n.parentElement) {
      const c = numbers(getComputedStyle(n).backgroundColor);
      if (c.length === 3 || c[3] === 1) return c.slice(0, 3);
    }
    return [255, 255, 255];
  };
  const poor = new Set();
  for (const node of document.querySelectorAll("body *")) {
    const own = [...node.childNodes].some((c) => c.nodeType === 3 && c.textContent.trim());
    if (!own || !node.checkVisibility() || node.closest(".overlay, .skip, script, :disabled")) continue;
    const style = getComputedStyle(node);
    const ink = numbers(node instanceof SVGElement ? style.fill : style.color).slice(0, 3);
    const [a, b] = [light(ink), light(behind(node))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) poor.add(`${node.tagName} .${node.getAttribute("class")} ${ratio.toFixed(2)}`);
  }
  return [...poor];
}"""
