"""The palette by arithmetic: contrast of every pair of ink and ground, and what is left of differences for colour-blind eyes."""

import itertools
import re

import pytest

from jfeval.reports.html import static

STYLE = static("report.css", "gallery.css")
GROUNDS = ("paper", "surface", "sunken", "accent-soft")
INKS = [
    *itertools.product(("ink", "muted", "accent"), GROUNDS),
    *itertools.product(("right", "wrong"), ("paper", "surface", "sunken", "accent-soft")),
    ("warn-ink", "warn"),
]
"""Text on its ground."""
SHAPES = [
    *itertools.product((*(f"s{i}" for i in range(6)), "bar-total", "line-strong", "wrong", "accent"), ("surface",)),
    *itertools.product(("line-strong", "accent"), ("paper",)),
]
"""Lines, marks and edges that carry meaning, on their ground."""
EYES = {
    "protan": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    "deutan": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881)),
    "tritan": ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.303900)),
}
"""What is left of linear RGB. Source: Machado, Oliveira and Fernandes, IEEE TVCG 15 (2009), severity 1.0."""


def palette(theme):
    light, dark = re.findall(r":root \{(.*?)\}", STYLE, re.S)
    found = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", light))
    return found if theme == "light" else found | dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", dark))


def linear(color):
    parts = (int(color[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return tuple(v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in parts)


def contrast(a, b):
    """Source: WCAG 2.2, relative luminance and contrast ratio."""
    one, two = sorted((sum(w * v for w, v in zip((0.2126, 0.7152, 0.0722), linear(c), strict=True)) for c in (a, b)), reverse=True)
    return (one + 0.05) / (two + 0.05)


def lab(rgb):
    rows = ((0.4124, 0.3576, 0.1805), (0.2126, 0.7152, 0.0722), (0.0193, 0.1192, 0.9505))
    white = (0.9505, 1.0, 1.089)
    xyz = [sum(w * min(max(v, 0.0), 1.0) for w, v in zip(row, rgb, strict=True)) / n for row, n in zip(rows, white, strict=True)]
    x, y, z = (v ** (1 / 3) if v > 216 / 24389 else (24389 / 27 * v + 16) / 116 for v in xyz)
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


def apart(a, b, eye):
    """Return the distance of two colours in CIELAB as an eye sees them; 2 is about the least that is seen side by side."""
    seen = [lab([sum(w * v for w, v in zip(row, linear(c), strict=True)) for row in EYES[eye]]) for c in (a, b)]
    return sum((x - y) ** 2 for x, y in zip(*seen, strict=True)) ** 0.5


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_and_shapes_stand_out(theme):
    colors = palette(theme)
    assert not [(*pair, round(c, 2)) for pair in INKS if (c := contrast(*(colors[name] for name in pair))) < 4.5]
    assert not [(*pair, round(c, 2)) for pair in SHAPES if (c := contrast(*(colors[name] for name in pair))) < 3]


def test_every_colour_of_the_style_is_in_the_palette():
    outside = re.sub(r":root \{.*?\}", "", STYLE, flags=re.S)
    assert set(re.findall(r"#[0-9a-f]{3,8}\b", outside)) <= {"#000", "#fff"}  # boxes over pictures, and paper


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("eye", EYES)
def test_colour_blind_eyes_tell_series_apart(theme, eye):
    """Marks differ in shape as well, and verdicts in sign and word: colour is never all there is."""
    colors = palette(theme)
    assert apart(colors["right"], colors["wrong"], eye) > 20
    for a, b in itertools.combinations([f"s{i}" for i in range(3)], 2):
        assert apart(colors[a], colors[b], eye) > 12, (a, b)
    for a, b in itertools.combinations([f"s{i}" for i in range(6)], 2):
        assert apart(colors[a], colors[b], eye) > 6, (a, b)
