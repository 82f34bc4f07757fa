"""What all pages share: everything inline, everything escaped, colours as in the figures."""

import base64
import hashlib
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from jinja2 import ChoiceLoader, DictLoader
from PIL import Image

import cifar_exp.reports.html
from cifar_exp.reports.figures import style
from cifar_exp.reports.html import formats, page
from cifar_exp.reports.html.page import as_json_types, image_uri, json_text
from cifar_exp.reports.html.parts import Column, Line, Table, lines

FOLDER = Path(cifar_exp.reports.html.__file__).parent
HOSTILE = ("</script><script>alert(1)</script>", "<!-- <script>", "'\"&\u2028", "]]>", "{{ 7 * 7 }}")


@pytest.fixture
def tiny_page(monkeypatch):
    """Renders a page of one chart and one table whose texts are given."""
    template = (
        '{% extends "base.html" %}{% import "parts.html" as parts with context %}'
        "{% block content %}<h1>{{ title }}</h1>"
        '{{ parts.chart("one", title) }}{{ parts.table("rows", title) }}{{ parts.command(title) }}{% endblock %}'
    )
    environment = page._environment()
    monkeypatch.setattr(environment, "loader", ChoiceLoader([environment.loader, DictLoader({"tiny.html": template})]))
    text_of = page._text
    monkeypatch.setattr(page, "_text", lambda name: "" if name == "templates/tiny.css" else text_of(name))

    def render(text, **options):
        chart = lines([Line(text, [(1, 0.5)], "train")], text, x_name=text, y_name=text)
        table = Table([Column(text)], [[text]])
        return page.render(
            "tiny", title=text, charts={"one": chart}, tables={"rows": table}, data={text: text}, **options
        )

    return render


class _Scripts(HTMLParser):
    """Collects what a browser would take for scripts, and every tag."""

    def __init__(self, html):
        super().__init__()
        self.scripts, self.tags, self.policy, self.links = [], [], "", []
        self._inside = False
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.tags.append((tag, attributes))
        self.links += [attributes[name] for name in ("src", "href") if name in attributes]
        if attributes.get("http-equiv") == "Content-Security-Policy":
            self.policy = attributes["content"]
        self._inside = tag == "script"
        if self._inside:
            self.scripts.append((attributes, ""))

    def handle_endtag(self, tag):
        self._inside = False

    def handle_data(self, data):
        if self._inside:
            attributes, text = self.scripts[-1]
            self.scripts[-1] = attributes, text + data


@pytest.mark.parametrize("text", HOSTILE)
def test_no_text_becomes_markup_or_script(tiny_page, text):
    calm, hostile = _Scripts(tiny_page("calm")), _Scripts(tiny_page(text))
    assert [tag for tag, _ in hostile.tags] == [tag for tag, _ in calm.tags]
    data = json.loads(hostile.scripts[0][1])
    assert data["data"] == {text: text}
    assert data["charts"]["one"]["data"]["lines"][0]["name"] == text
    assert data["tables"]["rows"]["rows"] == [[text]]


def test_only_the_pages_own_scripts_may_run_and_nothing_may_be_loaded(tiny_page):
    parsed = _Scripts(tiny_page("calm"))
    assert "default-src 'none'" in parsed.policy
    assert "img-src data:" in parsed.policy
    executed = [text for attributes, text in parsed.scripts if attributes.get("type") != "application/json"]
    allowed = re.findall(r"'sha256-([^']+)'", parsed.policy)
    assert [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in executed] == allowed
    assert len(executed) == 5  # the chart library and four of our own
    assert "'unsafe-inline'" not in parsed.policy.split("script-src")[1].split(";")[0]
    assert all(link.startswith(("#", "data:")) for link in parsed.links)


def test_style_sheets_load_nothing():
    for sheet in (FOLDER / "templates").glob("*.css"):
        assert not re.search(r"url\(|@import|https?:", sheet.read_text())


def test_a_page_refreshes_itself_only_where_it_was_asked_to(tiny_page):
    assert 'http-equiv="refresh"' not in tiny_page("calm")
    assert '<meta http-equiv="refresh" content="30">' in tiny_page("calm", refresh_seconds=30)


def test_a_file_name_that_is_no_text_makes_a_page(tiny_page):
    assert tiny_page("caf\udce9").encode()


def test_the_vendored_library_is_the_one_that_its_readme_names():
    digest = hashlib.sha256((FOLDER / "vendor" / "echarts.min.js").read_bytes()).hexdigest()
    assert digest in (FOLDER / "vendor" / "README.md").read_text()
    assert "Apache License" in (FOLDER / "vendor" / "LICENSE").read_text()
    assert "Apache ECharts" in (FOLDER / "vendor" / "NOTICE").read_text()


def test_colours_are_those_of_the_figures():
    light = (FOLDER / "templates" / "base.css").read_text().split("@media")[0]
    tokens = dict(re.findall(r"--([\w-]+): (#[0-9A-Fa-f]{6})", light))
    for name in ("train", "validation", "test", "right", "wrong", "gray"):
        assert tokens[name] == getattr(style, name.upper())
    assert sorted(tokens[f"series-{number}"] for number in range(7)) == sorted(style.PALETTE)


def test_both_ways_to_the_dark_theme_give_the_same_colours():
    sheet = (FOLDER / "templates" / "base.css").read_text()
    by_system = sheet.split(':root:not([data-theme="light"]) {')[1].split("}")[0]
    by_choice = sheet.split(':root[data-theme="dark"] {')[1].split("}")[0]
    assert by_system.split() == by_choice.split()
    light = sheet.split(":root {")[1].split("}")[0]
    assert set(re.findall(r"--[\w-]+(?=:)", light)) == set(re.findall(r"--[\w-]+(?=:)", by_choice))


def _luminance(colour):
    """WCAG 2.2's relative luminance of `#rrggbb`."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("theme", [":root {", ':root[data-theme="dark"] {'])
def test_text_stands_out_from_its_ground(theme):
    block = (FOLDER / "templates" / "base.css").read_text().split(theme)[1].split("}")[0]
    tokens = dict(re.findall(r"--([\w-]+): (#[0-9A-Fa-f]{6})", block))
    pairs = [(text, ground) for text in ("text", "quiet", "accent") for ground in ("ground", "surface", "sunken")]
    pairs += [(f"{kind}-text", f"{kind}-ground") for kind in ("good", "bad", "note")]
    pairs += [(f"{kind}-text", "sunken") for kind in ("good", "bad")]
    for text, ground in pairs:
        dark, bright = sorted((_luminance(tokens[text]), _luminance(tokens[ground])))
        assert (bright + 0.05) / (dark + 0.05) >= 4.5, (text, ground)  # WCAG's level AA


def test_json_knows_no_infinity():
    assert json_text({"a": [float("nan"), float("inf"), np.float32(0.5), np.int64(3), np.array([1, 2])]}) == (
        '{"a":[null,null,0.5,3,[1,2]]}'
    )
    assert as_json_types(Path("x")) == "x"


def test_an_embedded_image_has_its_pixels():
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    assert np.array_equal(_decoded(image_uri(pixels)), pixels)
    assert np.array_equal(_decoded(image_uri(pixels[:, :, :1])), pixels[:, :, 0])
    palette = np.stack([np.arange(256), 255 - np.arange(256), np.full(256, 7)], axis=1).astype(np.uint8)
    assert np.array_equal(_decoded(image_uri(pixels[:, :, 0], palette)), palette[pixels[:, :, 0]])


def _decoded(uri):
    start = "data:image/png;base64,"
    assert uri.startswith(start)
    image = Image.open(io.BytesIO(base64.b64decode(uri[len(start) :])))
    return np.asarray(image.convert("RGB") if image.mode == "P" else image)


def test_numbers_read_the_same_in_text_and_in_charts(tiny_page, open_page, tmp_path):
    (tmp_path / "page.html").write_text(tiny_page("calm"))
    tab = open_page(tmp_path / "page.html")
    values = [0.0, 0.5, 0.12345, 0.9999, 1.0, -0.0123, 3.14159, 12.5, 59.99, 61.0, 1234.6, 98765.4, 1e6]
    for kind in ("percent", "number", "seconds", "loss", "points"):
        numbers = values if kind == "points" else [abs(value) for value in values]
        shown = tab.evaluate(f"{numbers}.map((value) => page.format(value, '{kind}'))")
        assert shown == [formats.FILTERS[kind](value) for value in numbers]
