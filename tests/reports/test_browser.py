"""Pages in a real browser: no errors, no requests, and working controls.

Driven by Playwright, with the Chromium that the system has (Debian: ``apt-get install chromium``).
"""

from pathlib import Path

import numpy as np
import pytest
from browser_pages import PHONE, WIDE, beyond_the_edge, printed
from composing import TINY, composed
from report_runs import PREDICTIONS, WRONG, write_run

from cifar_exp.reports.run_page import page as run_report
from cifar_exp.runner import run

HOSTILE = ("<script>alert(1)</script>", "</script><img src=x onerror=alert(2)>", "\"quoted\" & 'odd'")


@pytest.fixture(scope="module")
def pages_folder(tmp_path_factory) -> Path:
    """Pages of a real run, of one written by hand, of one with hostile names, of a running and of a failed one."""
    folder = tmp_path_factory.mktemp("pages")
    run(composed(*TINY, "report=true"), folder / "real")
    write_run(folder / "by hand")
    write_run(folder / "hostile", classes=HOSTILE, name="<i>name</i>")
    write_run(folder / "running", state="running")
    write_run(folder / "failed", state="failed")
    for name in ("by hand", "hostile", "failed"):
        (folder / name / "report.html").write_text(run_report.run_page(folder / name))
    (folder / "running" / "report.html").write_text(run_report.run_page(folder / "running", at_work=True))
    return folder


@pytest.fixture
def opened(open_page, pages_folder):
    """Opens the page of a run."""
    return lambda name, *arguments, **options: open_page(pages_folder / name / "report.html", *arguments, **options)


def _middle(tab, selector, x=0.5, y=0.5):
    place = tab.locator(selector)
    place.scroll_into_view_if_needed()
    tab.wait_for_selector(f"{selector} svg")
    box = place.bounding_box()
    return box["x"] + x * box["width"], box["y"] + y * box["height"]


def _tooltip(tab, chart, text):
    """The text of the chart's tooltip, on one line, once it contains `text`."""
    tooltip = tab.locator(f"#chart-{chart} .canvas > div").filter(has_text=text)
    tooltip.wait_for()
    return " ".join(tooltip.inner_text().split())


def _cards(tab):
    return [int(card.get_attribute("data-index")) for card in tab.locator("#gallery-images .card").all()]


@pytest.mark.parametrize(("viewport", "theme"), [(WIDE, "light"), (PHONE, "dark")], ids=["wide", "phone"])
@pytest.mark.parametrize("name", ["real", "by hand", "hostile", "running", "failed"])
def test_a_page_opens_quietly_and_fits(opened, name, viewport, theme):
    tab = opened(name, viewport, color_scheme=theme)
    height = tab.evaluate("document.documentElement.scrollHeight")
    for top in range(0, height, viewport["height"]):
        tab.evaluate(f"window.scrollTo(0, {top})")
    for figure in tab.locator("figure.chart").all():
        figure.scroll_into_view_if_needed()
        figure.locator("svg").first.wait_for()
    assert tab.evaluate("document.documentElement.scrollWidth") == viewport["width"]  # nothing sticks out
    ground = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, ground[4:-1].split(","))) > 382) == (theme == "light")


def test_hostile_names_are_shown_as_they_are(opened):
    tab = opened("hostile")
    assert tab.locator("h1").text_content() == "<i>name</i>"
    options = tab.locator("#gallery-label option").all_text_contents()
    assert options == ["any class", *HOSTILE]
    tab.mouse.move(*_middle(tab, "#chart-confusion .canvas", 0.4, 0.2))
    text = _tooltip(tab, "confusion", "images:")
    assert HOSTILE[0] in text or HOSTILE[1] in text
    assert tab.locator("main script, img[src=x]").count() == 0


def test_pointing_at_a_curve_shows_its_values(opened):
    tab = opened("by hand")
    tab.mouse.move(*_middle(tab, "#chart-accuracy .canvas", 0.55, 0.4))
    text = _tooltip(tab, "accuracy", "epoch 2")
    assert "train 80.00%" in text and "validation 80.00%" in text  # noqa: PT018


def test_a_series_can_be_switched_off_and_on_by_keyboard(opened):
    tab = opened("by hand")
    button = tab.locator("#chart-loss .toggle", has_text="validation")
    button.scroll_into_view_if_needed()
    shown = """((model) => !model.isSeriesFiltered(model.getSeriesByName('validation')[0]))(
        page.charts.get('loss').getModel())"""
    assert tab.evaluate(shown)
    button.focus()
    tab.keyboard.press("Space")
    assert button.get_attribute("aria-pressed") == "false"
    assert not tab.evaluate(shown)
    tab.keyboard.press("Enter")
    assert button.get_attribute("aria-pressed") == "true"
    assert tab.evaluate(shown)


def test_zooming_in_can_be_taken_back(opened):
    tab = opened("by hand")
    x, y = _middle(tab, "#chart-learning_rate .canvas", 0.5, 0.4)
    reset = tab.locator("#chart-learning_rate .reset")
    tab.mouse.move(x, y)
    tab.keyboard.down("Control")
    tab.mouse.wheel(0, -400)
    tab.keyboard.up("Control")
    reset.wait_for()
    extent = "page.charts.get('learning_rate').getModel().getComponent('xAxis', 0).axis.scale.getExtent()"
    low, high = tab.evaluate(extent)
    assert (low, high) != (1, 15)
    reset.click()
    assert tab.evaluate(extent) == [1, 15]
    reset.wait_for(state="hidden")


def test_a_chart_has_its_numbers_as_a_table(opened):
    tab = opened("by hand")
    details = tab.locator("#chart-loss details.data")
    details.locator("summary").click()
    details.locator("tr").first.wait_for()  # the page makes the table when it hears of the click
    rows = [row.inner_text().split("\t") for row in details.locator("tr").all()]
    assert rows == [
        ["epoch", "train", "validation", "test"],
        ["1", "1.5", "1", "–"],  # noqa: RUF001
        ["2", "1", "0.5", "–"],  # noqa: RUF001
        ["3", "0.2", "0.75", "0.7"],
    ]
    label = tab.locator("#chart-loss .canvas").get_attribute("aria-label")
    assert "train from 1.5 in epoch 1 to 0.2 in epoch 3" in label


def test_a_table_is_sorted(opened):
    tab = opened("by hand")
    table = tab.locator("#table-per_class")

    def column(number):
        return [cell.inner_text() for cell in table.locator(f"tbody td:nth-child({number})").all()]

    assert column(1) == ["dog", "cat", "ship"]  # hardest first
    assert table.locator("th").nth(3).get_attribute("aria-sort") == "ascending"
    table.locator("th button", has_text="class").click()
    assert column(1) == ["cat", "dog", "ship"]
    table.locator("th button", has_text="images").focus()
    tab.keyboard.press("Enter")
    assert column(2) == ["8", "6", "6"]
    tab.keyboard.press("Enter")  # the focus stayed where it was
    assert column(2) == ["6", "6", "8"]


@pytest.mark.parametrize("viewport", [WIDE, PHONE], ids=["wide", "phone"])
def test_a_cell_of_the_confusion_matrix_shows_its_images(opened, viewport):
    tab = opened("by hand", viewport)
    assert _cards(tab) == WRONG

    def click(column, row):
        _middle(tab, "#chart-confusion .canvas")
        at = tab.evaluate(f"page.charts.get('confusion').convertToPixel({{ seriesIndex: 0 }}, [{column}, {row}])")
        tab.locator("#chart-confusion .canvas").click(position={"x": at[0], "y": at[1]})
        return sorted(_cards(tab))

    assert click(2, 1) == [12, 13]  # dogs predicted as ships
    assert tab.evaluate("document.activeElement.id") == "gallery-title"
    assert tab.locator("#gallery-title").is_visible()
    assert tab.locator("#gallery-label").input_value() == "1"
    assert tab.locator("#gallery-prediction").input_value() == "2"
    assert click(2, 2) == [int(index) for index in np.flatnonzero(PREDICTIONS == 2) if index > 13]  # correct ships
    assert click(3, 1) == list(range(8, 14))  # the total of the dogs
    tab.locator("#gallery-reset").click()
    assert _cards(tab) == WRONG


def test_the_list_of_mistakes_leads_to_their_images_without_a_pointer(opened):
    tab = opened("by hand")
    link = tab.locator("#table-confusions tbody a", has_text="cat")
    link.focus()
    tab.keyboard.press("Enter")
    tab.wait_for_function("document.querySelectorAll('#gallery-images .card').length === 1")
    assert _cards(tab) == [7]


def test_the_gallery_is_filtered_and_sorted_and_the_config_reduced_to_differences(opened):
    tab = opened("by hand")
    tab.locator("#gallery-sort").select_option("unconfident")
    assert _cards(tab) == WRONG[::-1]
    tab.locator("#gallery-label").select_option(label="dog")
    assert _cards(tab) == [13, 12]
    tab.locator("#gallery-high").fill("0.8")  # confidences are 0.95, 0.7 and 0.6
    assert _cards(tab) == [13]
    tab.locator("#gallery-low").fill("0.75")
    assert tab.get_by_text("No image on this page matches the filters.").is_visible()
    tab.locator("#gallery-reset").click()
    tab.locator("#gallery-kind").select_option("right")
    assert len(_cards(tab)) == 17
    tab.locator("#gallery-kind").select_option("all")
    tab.locator("#gallery-sort").select_option("index")
    assert _cards(tab) == list(range(20))
    assert tab.locator("#config .leaf.same").first.is_visible()
    tab.locator("#only-changed").check()
    assert tab.locator("#config .leaf.same:visible").count() == 0
    assert tab.locator("#config .leaf.changed:visible").count() > 0


def test_an_image_opens_and_closes_by_keyboard(opened):
    tab = opened("by hand")
    card = tab.locator(".card").first
    card.focus()
    tab.keyboard.press("Enter")
    dialog = tab.locator("#image-dialog")
    for text in ("dog, predicted as ship", "Confidence 95.00", "test/dog/12.png"):
        assert text in dialog.inner_text()
    assert dialog.locator("dl.top dt").all_inner_texts() == ["ship", "cat", "dog (label)"]
    assert dialog.locator("dl.top dd").all_inner_texts() == ["95.00%", "3.33%", "1.67%"]
    assert "ship\n95%\ncat\n3%\ndog\n2%\nlabel dog" in card.inner_text()
    tab.keyboard.press("ArrowRight")
    assert "test/dog/13.png" in dialog.inner_text()
    tab.keyboard.press("Escape")
    assert dialog.is_hidden()
    card.click()
    dialog.get_by_text("Show Grad-CAM maps").click()
    assert tab.evaluate("document.activeElement.id") == "attention-title"


def test_the_slider_blends_from_the_image_to_the_map(opened):
    tab = opened("by hand")
    heats = tab.locator("#gradcam .heat")
    # The first image has three maps: for its true class, layer1 has no positive evidence.
    assert heats.count() == 3
    assert "no positive evidence" in tab.locator("#gradcam").inner_text()
    slider = tab.locator("#blend")
    for value, opacity in (("0", 0), ("100", 1), ("30", 0.3)):
        slider.fill(value)
        assert float(heats.first.evaluate("image => getComputedStyle(image).opacity")) == pytest.approx(opacity)
    assert tab.locator("#gradcam .numbers").first.inner_text().split() == ["drop", "0.10", "control", "0.20"]
    tab.locator("#gradcam .strip button").nth(2).click()
    assert tab.locator("#gradcam h3").inner_text() == "cat, predicted as dog with 60%"
    assert heats.count() == 4
    assert float(heats.first.evaluate("image => getComputedStyle(image).opacity")) == pytest.approx(0.3)


def test_the_theme_can_be_chosen_and_charts_follow(opened):
    tab = opened("by hand", color_scheme="light")
    tab.locator("#chart-accuracy").scroll_into_view_if_needed()
    tab.wait_for_selector("#chart-accuracy svg")
    line = "page.charts.get('accuracy').getOption().series[0].lineStyle.color"
    assert tab.evaluate(line) == "#0072B2"
    tab.locator("#chart-accuracy .toggle", has_text="test").click()
    tab.locator("#theme").click()  # light
    tab.locator("#theme").click()  # dark
    assert tab.evaluate(line) == "#56B4E9"
    assert tab.evaluate("page.charts.get('accuracy').getOption().legend[0].selected.test") is False
    assert tab.locator("#theme").get_attribute("aria-label") == "Theme: dark"


def test_a_page_prints_on_white_with_every_chart(opened):
    tab = opened("by hand", color_scheme="dark")
    assert tab.pdf().startswith(b"%PDF")
    assert tab.locator("figure.chart svg").count() >= 5  # those below the screen as well
    for paper in (688, 710):  # A4 and US Letter within the margins
        printed(tab, paper)
        assert beyond_the_edge(tab) == []
    tab.evaluate("dispatchEvent(new Event('afterprint'))")
    assert tab.evaluate("document.documentElement.dataset.theme ?? 'auto'") == "auto"


def test_without_scripts_the_words_are_there(chromium, pages_folder):
    context = chromium.new_context(java_script_enabled=False)
    tab = context.new_page()
    tab.goto((pages_folder / "by hand" / "report.html").as_uri())
    assert tab.get_by_text("85.00%").first.is_visible()
    assert tab.get_by_text("Confusion matrix of 3 classes: 17 of 20 test images on the diagonal.").is_visible()
    assert tab.get_by_text("Charts, galleries and sorting need JavaScript").is_visible()
    context.close()


def test_all_controls_have_accessible_names(opened):
    tab = opened("by hand")
    for figure in tab.locator("figure.chart").all():
        figure.scroll_into_view_if_needed()
    assert tab.evaluate("[...document.querySelectorAll('img')].filter((image) => !image.alt).length") == 0
    unnamed = """[...document.querySelectorAll('button, select, input, a')].map((one) => [one.outerHTML,
        one.textContent.trim() || one.getAttribute('aria-label') || one.labels?.length || one.querySelector('[alt]')])
        .filter(([, name]) => !name)"""
    assert tab.evaluate(unnamed) == []
    ids = tab.evaluate("[...document.querySelectorAll('[id]')].map((one) => one.id)")
    assert len(ids) == len(set(ids))
