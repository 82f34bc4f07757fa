"""The page of a running run, and the images kept for it."""

import logging

import numpy as np
import pytest
from composing import TINY, composed
from report_runs import LABELS, PREDICTIONS, WRONG, visible_text, write_run

from cifar_exp.errors import DivergedError
from cifar_exp.reports.run_page import live, page
from cifar_exp.reports.run_page.live import LivePage
from cifar_exp.run_dir import kept_images
from cifar_exp.runner import run


@pytest.fixture
def by_hand(tmp_path):
    return write_run(tmp_path / "run")


def test_kept_images_cover_every_kind_of_mistake():
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 10, 5_000)
    predictions = np.where(generator.random(5_000) < 0.5, labels, generator.integers(0, 10, 5_000))
    confidences = generator.random(5_000)
    index = kept_images.choose_images(labels, predictions, confidences, 400)
    assert len(index) == len(set(index.tolist())) == 400
    wrong = index[labels[index] != predictions[index]]
    every = np.flatnonzero(labels != predictions)
    best = every[np.argsort(-confidences[every])][:100]
    assert set(best) <= set(wrong)
    assert {(a, b) for a, b in zip(labels[wrong], predictions[wrong], strict=True)} == {
        (a, b) for a in range(10) for b in range(10) if a != b
    }
    right = index[labels[index] == predictions[index]]
    for label in range(10):
        of_class = np.flatnonzero((labels == label) & (predictions == label))
        assert set(right[labels[right] == label]) == set(of_class[np.argsort(confidences[of_class])][:6])


def test_few_images_are_all_kept(tmp_path):
    index = kept_images.choose_images(LABELS, PREDICTIONS, np.linspace(0.5, 0.9, len(LABELS)), 400)
    assert set(WRONG) <= set(index.tolist())
    nothing = kept_images.choose_images(LABELS, LABELS, np.full(len(LABELS), 0.5), 400)
    assert len(nothing) == 18  # six a class


@pytest.mark.parametrize("shape", [(32, 32, 3), (224, 224, 3), (1024, 512, 3), (28, 28, 1), (512, 4, 1)])
def test_a_page_stays_small_for_images_of_any_size(tmp_path, shape):
    pixels = np.random.default_rng(0).integers(0, 256, (3, *shape), dtype=np.uint8)
    small = kept_images.shrink(pixels, 48)
    assert max(small.shape[1:3]) == min(48, max(shape[:2]))
    assert small[0].size * kept_images.most_images(shape) <= 1_310_000 + small[0].size
    assert kept_images.most_images(shape) >= 100


def test_a_page_that_cannot_be_made_does_not_fail_the_run(tmp_path, monkeypatch, caplog):
    def broken(*_arguments, **_options):
        raise ZeroDivisionError("no page today")

    monkeypatch.setattr(page, "run_page", broken)
    monkeypatch.setattr(kept_images, "write_images", broken)
    caplog.set_level(logging.WARNING, "cifar_exp")
    summary = run(composed(*TINY, "epochs=1", "report=true"), tmp_path / "run")
    assert summary["state"] == "completed"
    assert "report.html could not be made (ZeroDivisionError: no page today)" in caplog.text
    log = (tmp_path / "run" / "run.log").read_text()
    assert "Traceback" in log
    assert "the images of report.html could not be kept" in log


def test_a_run_that_diverges_leaves_a_page(tmp_path):
    with pytest.raises(DivergedError):
        run(composed(*TINY, "report=true", "max_lr=1e30", "optimizer=sgd"), tmp_path / "run")
    text = visible_text((tmp_path / "run" / "report.html").read_text())
    assert "The run ended as diverged" in text
    assert 'http-equiv="refresh"' not in (tmp_path / "run" / "report.html").read_text()


def test_no_page_where_none_is_wanted(tmp_path):
    run(composed(*TINY, "epochs=1"), tmp_path / "run")  # TINY has report=false
    assert not (tmp_path / "run" / "report.html").exists()
    assert not (tmp_path / "run" / "report_images.npz").exists()
    assert (tmp_path / "run" / "schedule.csv").exists()


def test_a_directory_that_is_taken_keeps_its_page(by_hand):
    (by_hand / "report.html").write_text("its own")
    with pytest.raises(ValueError, match="already contains a run"):
        run(composed(*TINY, "report=true"), by_hand)
    assert (by_hand / "report.html").read_text() == "its own"


def test_a_page_is_written_at_most_every_thirty_seconds(tmp_path, monkeypatch):
    path = write_run(tmp_path / "run", state="running")
    clock = [100.0]
    written = []
    monkeypatch.setattr(live.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(page, "run_page", lambda *_a, **_o: written.append(clock[0]) or "page")
    with LivePage(path, wanted=True) as shown:
        for now in (100.0, 110.0, 129.9, 130.0, 140.0, 161.0):
            clock[0] = now
            shown.update()
    assert written == [100.0, 130.0, 161.0, 161.0]  # the last at the end, whatever the time
