"""Pages of unfinished, damaged and hostile runs."""

import os
from pathlib import Path

import numpy as np
import pytest
from report_runs import embedded, visible_text, write_run

from cifar_exp.cli import main
from cifar_exp.reports.run_page import page
from cifar_exp.run_dir import kept_images
from cifar_exp.safe_io import atomic


@pytest.fixture
def by_hand(tmp_path):
    return write_run(tmp_path / "run")


def test_hostile_names_stay_text(tmp_path):
    names = ("<script>alert(1)</script>", "</script><img src=x onerror=alert(2)>", "\"quoted\" & 'odd'")
    html = page.run_page(write_run(tmp_path / "<b>run", classes=names, name="<i>name</i>"))
    assert "<script>alert" not in html
    assert "<img src=x" not in html
    assert "<i>name" not in html
    assert "<processor>" not in html
    assert "&lt;i&gt;name&lt;/i&gt;" in html
    assert embedded(html)["data"]["classes"] == list(names)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "there is no such run"),
        (lambda path: path.write_text("x"), "is a file, not a run directory"),
        (lambda path: path.mkdir(), "not a run directory: it has no status.json and no config_resolved.yaml"),
    ],
)
def test_a_path_without_a_run_is_refused(tmp_path, capsys, make, message):
    make(tmp_path / "nothing")
    assert main.main(["report", str(tmp_path / "nothing")]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("state", ["failed", "diverged", "interrupted"])
def test_the_page_of_a_run_that_did_not_complete(tmp_path, state):
    path = write_run(tmp_path / "run", state=state)
    (path / "run.log").write_text("line 1\nValueError: <b>\n")
    text = visible_text(page.run_page(path))
    assert f"The run ended as {state}" in text
    assert "the disk &lt;/script&gt; is full" in text
    assert "ValueError: &lt;b&gt;" in text
    assert "Validation accuracy" in text  # the last that was measured
    assert ("cifar-exp resume" in text) == (state == "interrupted")
    assert "cifar-exp reproduce" not in text


def test_a_killed_run_is_interrupted(tmp_path):
    path = write_run(tmp_path / "run", state="running")
    assert 'http-equiv="refresh"' not in page.run_page(path)
    assert "The run ended as interrupted" in page.run_page(path)
    at_work = page.run_page(path, at_work=True)
    assert '<meta http-equiv="refresh" content="30">' in at_work
    assert "3 of 3 epochs" in at_work


def test_a_run_without_hydras_folder_or_any_table_has_a_page(tmp_path):
    path = tmp_path / "run"
    path.mkdir()
    atomic.write_json(path / "status.json", {"state": "failed", "error": "no data"})
    assert "no data" in page.run_page(path)


@pytest.mark.parametrize(
    "name",
    [
        "metrics.csv", "steps.csv", "schedule.csv", "predictions.csv", "per_class.csv", "confusion.csv", "gradcam.csv",
        "calibration.csv", "label_issues.csv", "probabilities.npz",
        "summary.csv", "status.json", "environment.json", "config_resolved.yaml", "report_images.npz",
        ".hydra/overrides.yaml",
    ],
)  # fmt: skip
def test_damaged_records_cost_their_part_of_the_page_only(by_hand, name):
    for content in (b"", b"label,x\n<b>,1\n", b'{"state": [1], "a": "${oc.env:HOME}"}', b"\x00\xff garbage"):
        (by_hand / name).write_bytes(content)
        html = page.run_page(by_hand)
        assert "<b>" not in html[html.index("<main") : html.index("</main>")]
        assert os.environ["HOME"] not in html
    assert name in visible_text(html) or not name.endswith(".csv")


@pytest.mark.parametrize(
    ("name", "column"),
    [("metrics.csv", 1), ("predictions.csv", 0), ("confusion.csv", 1), ("gradcam.csv", 0), ("gradcam.csv", 5),
     ("summary.csv", 8), ("summary.csv", 13), ("per_class.csv", 4), ("steps.csv", 0)],
)  # fmt: skip
def test_odd_cells_do_not_stop_the_page(by_hand, name, column):
    lines = (by_hand / name).read_text().splitlines()
    cells = lines[1].split(",")
    for cell in ("text", "inf", "99999999999999999999"):
        cells[column] = cell
        (by_hand / name).write_text("\n".join([lines[0], ",".join(cells), *lines[2:]]) + "\n")
        assert page.run_page(by_hand)


def test_a_link_out_of_the_run_directory_is_not_followed(by_hand, tmp_path):
    secret = tmp_path / "secret.txt"
    secret.write_text("epoch,train_loss,train_accuracy,val_loss,val_accuracy\nhunter2,1,1,1,1\n")
    for name in ("metrics.csv", "run.log", "config_resolved.yaml"):
        (by_hand / name).unlink(missing_ok=True)
        (by_hand / name).symlink_to(secret)
    assert "hunter2" not in page.run_page(by_hand)
    assert "metrics.csv: cannot be read: it leads out of the run directory" in page.run_page(by_hand)
    (by_hand / "report.html").symlink_to(secret)
    assert main.main(["report", str(by_hand)]) == 0
    assert "hunter2" in secret.read_text()


def test_pickles_in_a_run_directory_stay_closed(by_hand):
    touched = by_hand / "touched"

    class Bomb:
        def __reduce__(self):
            return (Path.touch, (touched,))

    names = ("index", "image", "explained", "explained_image", "layers", "heat")
    np.savez(by_hand / "report_images.npz", **{name: np.array([Bomb()], dtype=object) for name in names})
    assert "report_images.npz: cannot be read" in page.run_page(by_hand)
    assert not touched.exists()


def test_images_of_other_positions_are_left_out(by_hand):
    pixels = np.zeros((30, 8, 8, 3), np.uint8)
    heat = np.ones((1, 1, 2, 8, 8), np.float32)
    kept_images.write_images(by_hand / "report_images.npz", pixels, np.array([3, 25]), np.array([25]), ["layer1"], heat)
    data = embedded(page.run_page(by_hand))["data"]
    assert [one["index"] for one in data["gallery"]["images"]] == [3]
    assert data["explained"] is None
