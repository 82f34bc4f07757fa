"""The page of a comparison: its content against runs made by hand, and its behaviour in a browser."""

import itertools
import re
from functools import partial
from pathlib import Path
from urllib.parse import unquote

import pytest
import report_runs
from browser_pages import PHONE, WIDE, beyond_the_edge, printed
from compare_runs import make_run, write_predictions

from cifar_exp.cli.commands import run_command

main = partial(run_command, "compare")

HOSTILE = "<script>alert(1)</script>"
SETTINGS = [(lr, epochs, seed) for lr in (0.01, 0.1) for epochs in (2, 4) for seed in (0, 1)]


def sweep(folder: Path, **more: object) -> Path:
    """Eight runs over two numbers and a seed; run i of eight gets 8 + i of 16 images right. One failed beside them."""
    for number, (max_lr, epochs, seed) in enumerate(SETTINGS):
        correct = "1" * (8 + number) + "0" * (8 - number)
        make_run(folder / str(number), correct, max_lr=max_lr, epochs=epochs, seed=seed, **more)
        if number % 2 == 0:
            (folder / str(number) / "report.html").write_text("a page")
    make_run(folder / "failed", state="failed", error=f"RuntimeError: {HOSTILE}", **more)
    return folder


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """A folder with the pages of a plain comparison and of one whose names and settings are hostile."""
    folder = tmp_path_factory.mktemp("compared")
    sweep(folder / "runs")
    main([str(folder / "runs"), "--out", str(folder / "plain")])
    hostile = folder / "hostile runs"
    for number, name in enumerate((HOSTILE, "<img src=x onerror=alert(2)>", "javascript:alert(3)", "\"odd\" & 'so'")):
        run = make_run(
            hostile / name.replace("/", "\N{FRACTION SLASH}"), "1" * (4 + number) + "0" * (4 - number), model__name=name
        )
        lines = (run / "predictions.csv").read_text().replace("cat", name.replace('"', "'")).replace("dog", "</script>")
        (run / "predictions.csv").write_text(lines)
        (run / "report.html").write_text("a page")
    main([str(hostile), "--out", str(folder / "hostile")])
    return folder


def embedded(page: Path):
    return report_runs.embedded(page.read_text())


def table_of(page, name="runs"):
    """The rows of a table as mappings, links as their values."""
    table = embedded(page)["tables"][name]
    labels = [column["label"] for column in table["columns"]]
    plain = [[cell["value"] if isinstance(cell, dict) else cell for cell in row] for row in table["rows"]]
    return [dict(zip(labels, row, strict=True)) for row in plain], dict(zip(labels, table["columns"], strict=True))


def test_the_table_holds_every_run(compared):
    rows, columns = table_of(compared / "plain" / "comparison.html")
    assert [row["run"] for row in rows] == [str(number) for number in range(7, -1, -1)] + ["failed"]
    assert [row["test_accuracy"] for row in rows] == [(8 + n) / 16 for n in range(7, -1, -1)] + [None]
    assert [(row["max_lr"], row["epochs"], row["seed"]) for row in rows[:8]] == SETTINGS[::-1]
    assert rows[0]["these two networks"] == "baseline"
    assert rows[-1]["these two networks"] == f"failed: RuntimeError: {HOSTILE}"
    assert {name for name, column in columns.items() if column["constant"]} >= {"model._target_", "data.name"}
    assert not any(columns[name]["constant"] or columns[name]["hidden"] for name in ("max_lr", "epochs", "seed"))


def test_runs_link_to_their_own_pages(compared):
    for name in ("plain", "hostile"):
        page = compared / name / "comparison.html"
        links = [row[0] for row in embedded(page)["tables"]["runs"]["rows"] if isinstance(row[0], dict)]
        assert len(links) == 4
        for link in links:
            assert link["href"].startswith("../")
            assert (page.parent / unquote(link["href"])).read_text() == "a page"


def test_curves_and_maps_hold_the_runs_measurements(compared):
    page = embedded(compared / "plain" / "comparison.html")
    curves = page["data"]["curves"]
    assert curves["rows"] == list(range(8))
    assert curves["loss"] == [[[1.0, 1.0], [2.0, 0.5]]] * 8
    assert curves["accuracy"] == [[[1.0, 0.5], [2.0, 0.5]]] * 8
    assert len(set(curves["groups"])) == 4
    # The mean of seeds 0 and 1 at each of (epochs, max_lr); differing keys stand in the order of the config.
    data = page["charts"]["map_0"]["data"]
    assert (data["keys"], data["levels"]) == (["config.epochs", "config.max_lr"], [[2, 4], [0.01, 0.1]])
    assert data["values"] == [[8.5 / 16, 12.5 / 16], [10.5 / 16, 14.5 / 16]]
    lines = page["charts"]["settings"]["data"]
    assert [axis["name"] for axis in lines["axes"]] == ["epochs", "max_lr", "val_accuracy"]
    assert {tuple(one["values"]) for one in lines["rows"]} == {
        (str(epochs), str(lr), (8 + number) / 16) for number, (lr, epochs, _) in enumerate(SETTINGS)
    }


def test_verdicts_in_words(tmp_path, monkeypatch):
    """Eight images that only the other run gets right, none only the baseline: p = 2/2^8 (McNemar's exact test)."""
    monkeypatch.chdir(tmp_path)
    make_run(tmp_path / "base", "1" * 12 + "0" * 8)
    make_run(tmp_path / "better", "1" * 20, max_lr=0.2)
    make_run(tmp_path / "gone", "1" * 20, max_lr=0.3)
    (tmp_path / "gone" / "predictions.csv").unlink()
    main([".", "--baseline", "base"])
    html = Path("outputs/comparison/comparison.html").read_text()
    text = re.sub(r"\s+", " ", html[html.index("<main") : html.index("</main>")])
    assert "Single networks: 1 of 1 runs is better than max_lr 0.1" in text
    assert "max_lr 0.2 is 40.00 points better than the baseline (p = 0.008)" in text
    assert "Of 20 test images, 8 only this run gets right and 0 only the baseline." in text
    assert "max_lr 0.3 cannot be compared: no predictions.csv." in text
    assert "<code>cifar-exp compare . --baseline base</code>" in text


def test_damaged_runs_still_have_a_page(tmp_path):
    damages = (
        lambda run: (run / "metrics.csv").unlink(),
        lambda run: (run / "metrics.csv").write_text("epoch,train_loss\n1,x\n"),
        lambda run: (run / "metrics.csv").write_bytes(b"\xff\x00epoch"),
        lambda run: (run / "metrics.csv").write_text(""),
        lambda run: (run / "predictions.csv").unlink(),
        lambda run: write_predictions(run, [False] * 4),
        lambda run: (run / "summary.csv").unlink(),
        lambda run: (run / "status.json").write_text("{"),
    )
    for number, damage in enumerate(damages):
        damage(make_run(tmp_path / "runs" / str(number), seed=number))
    main([str(tmp_path / "runs"), "--out", str(tmp_path / "out")])
    rows, _ = table_of(tmp_path / "out" / "comparison.html")
    assert sorted(row["run"] for row in rows) == [str(number) for number in range(len(damages))]


# --- in a browser --------------------------------------------------------------------------------------
@pytest.fixture
def opened(open_page, compared):
    """Opens the page of a comparison."""

    def open_comparison(name="plain", *arguments, **options):
        return open_page(compared / name / "comparison.html", *arguments, **options)

    return open_comparison


def names(tab, table="runs"):
    return [cell.lstrip("★ ") for cell in tab.locator(f"#table-{table} tbody tr td:first-child").all_inner_texts()]


def heads(tab):
    return [text.rstrip(" ↕↑↓\n") for text in tab.locator("#table-runs thead th").all_inner_texts()]


def buttons(tab, chart):
    runs = {f"epochs {epochs}, max_lr {lr}, seed {seed}": str(i) for i, (lr, epochs, seed) in enumerate(SETTINGS)}
    return [runs[text] for text in tab.locator(f"#chart-{chart} .toggle").all_inner_texts()]


def drawn(tab, name):
    chart = tab.locator(f"#chart-{name} .canvas")
    chart.scroll_into_view_if_needed()
    chart.locator("svg").wait_for()
    return chart


@pytest.mark.parametrize("name", ["plain", "hostile"])
@pytest.mark.parametrize(("viewport", "theme"), [(WIDE, "light"), (PHONE, "dark")], ids=["wide", "phone"])
def test_a_page_opens_quietly_and_fits(opened, name, viewport, theme):
    tab = opened(name, viewport, color_scheme=theme)
    for figure in tab.locator("figure.chart").all():
        figure.scroll_into_view_if_needed()
        figure.locator("svg").first.wait_for()
    assert tab.evaluate("document.documentElement.scrollWidth") == viewport["width"]  # nothing sticks out
    assert tab.locator("script:not(body > script)").count() == 0
    assert tab.locator("img:not([alt])").count() == 0


@pytest.mark.parametrize(("name", "viewport"), [("plain", WIDE), ("hostile", PHONE), ("many", WIDE)])
def test_nothing_is_clipped_in_print(opened, compared, name, viewport):
    """On A4 and US Letter within margins of 14 mm; `many` has twelve settings that differ and long names."""
    if name == "many" and not (compared / name).exists():
        for number in range(3):
            keys = {f"augment__a_rather_long_key_{key}": f"value_{number}_{key}" for key in range(12)}
            make_run(compared / "runs of many" / ("a long name " * 5 + str(number)), "1110"[number:] + "1", **keys)
        main([str(compared / "runs of many"), "--out", str(compared / name)])
    tab = opened(name, viewport)
    for paper in (688, 710):
        printed(tab, paper)
        assert beyond_the_edge(tab) == []
        for chart in tab.locator(".canvas").all():
            around, drawn = chart.bounding_box(), chart.locator("svg").bounding_box()
            assert abs(around["width"] - drawn["width"]) < 2
            assert drawn["height"] <= around["height"] + 2, "the next element would overprint it"
    cells = tab.locator("#table-runs tbody tr").first.locator("td")
    boxes = [cell.bounding_box() for cell in cells.all()]
    assert all(one["x"] + one["width"] <= other["x"] + 1 for one, other in itertools.pairwise(boxes))
    assert tab.pdf().startswith(b"%PDF")


@pytest.mark.parametrize(("table", "column"), [("runs", "val_accuracy"), ("groups", "mean val_accuracy")])
def test_accuracies_are_visible_on_a_phone_without_scrolling(opened, table, column):
    tab = opened("plain", PHONE)
    box = tab.locator(f"#table-{table} thead th", has_text=column).first.bounding_box()
    assert box["x"] > 0
    assert box["x"] + box["width"] <= PHONE["width"]


def test_the_curves_follow_sorting_and_filtering(opened):
    tab = opened()
    assert names(tab)[:3] == ["7", "6", "5"]
    assert buttons(tab, "accuracy") == list("76543210")
    tab.locator("#table-runs thead").get_by_role("button", name="seed").click()
    assert names(tab)[:4] == ["6", "4", "2", "0"]  # texts rise first, equals keep their order
    assert buttons(tab, "loss")[:4] == ["6", "4", "2", "0"]
    tab.get_by_role("searchbox", name="Filter Runs").fill("93.75")
    assert names(tab) == ["7"]
    assert tab.locator("#table-runs .count").inner_text() == "1 of 9 rows"
    assert buttons(tab, "accuracy") == ["7"]
    tab.get_by_role("searchbox", name="Filter Runs").fill("failed")
    assert names(tab) == ["failed"]
    assert tab.locator("#curve-note").inner_text() == "None of the runs in the table has curves here."
    tab.get_by_role("searchbox", name="Filter Runs").fill("")
    tab.select_option("#curve-count", "5")
    assert buttons(tab, "accuracy") == ["6", "4", "2", "0", "7"]


def test_columns_can_be_hidden_and_equal_ones_shown(opened):
    tab = opened()
    assert "max_lr" in heads(tab)
    assert "data" not in heads(tab)
    assert "model._target_" not in heads(tab)
    tab.get_by_label("Only differences").uncheck()
    assert "model._target_" in heads(tab)
    tab.get_by_label("Only differences").check()
    assert "model._target_" not in heads(tab)
    tab.locator("#table-runs summary", has_text="Columns").click()
    tab.locator("#table-runs").get_by_label("max_lr", exact=True).uncheck()
    assert "max_lr" not in heads(tab)


def test_a_cell_of_the_heat_map_selects_its_runs(opened):
    tab = opened()
    chart = drawn(tab, "map_0")
    chart.get_by_text("90.62%").click(force=True)  # (14 + 15) / 2 of 16
    assert tab.locator("#selection").inner_text().startswith("Only the 2 runs with epochs 4 and max_lr 0.1.")
    assert names(tab) == ["7", "6"]
    assert buttons(tab, "accuracy") == ["7", "6"]
    tab.get_by_role("button", name="Show all runs").click()
    assert len(names(tab)) == 9
    assert tab.locator("#selection").is_hidden()


def test_an_axis_selects_runs(opened):
    tab = opened()
    chart = drawn(tab, "settings")
    axis = chart.get_by_text("val_accuracy").bounding_box()
    box, x = chart.bounding_box(), axis["x"] + axis["width"] / 2
    tab.mouse.move(x, box["y"] + 41)
    tab.mouse.down()
    tab.mouse.move(x, box["y"] + 80, steps=5)
    tab.mouse.move(x, box["y"] + 0.45 * box["height"], steps=5)
    tab.mouse.up()
    tab.locator("#selection").wait_for()
    kept = names(tab)
    assert kept == ["7", "6", "5", "4"][: len(kept)]
    assert 1 <= len(kept) < 8
    tab.get_by_role("button", name="Show all runs").click()
    assert len(names(tab)) == 9


def test_hovering_shows_values_and_differences_and_buttons_toggle(opened):
    tab = opened()
    chart = drawn(tab, "accuracy")
    box = chart.bounding_box()
    tab.mouse.move(box["x"] + box["width"] - 25, box["y"] + 100)
    tooltip = chart.locator("> div").filter(has_text="50.00")
    tooltip.wait_for()
    assert "epochs 4, max_lr 0.1, seed 1" in tooltip.inner_text()
    button = tab.locator("#chart-accuracy .toggle").first
    button.click()
    assert button.get_attribute("aria-pressed") == "false"
    assert tab.evaluate("page.charts.get('accuracy').getOption().legend[0].selected")[button.inner_text()] is False
    chart = drawn(tab, "differences")
    tab.evaluate("page.charts.get('differences').dispatchAction({type: 'showTip', seriesIndex: 0, dataIndex: 0})")
    tooltip = chart.locator("> div").filter(has_text="95% interval")
    tooltip.wait_for()
    assert "−6.25 points" in " ".join(tooltip.inner_text().split())  # noqa: RUF001 - run 6: one of 16 images fewer
    assert names(tab, "pairs")[:2] == ["epochs 4, max_lr 0.1, seed 0", "epochs 2, max_lr 0.1, seed 1"]
