"""The time left, against a computation by hand; the estimate before training, which must change nothing."""

import logging

import numpy as np
import pytest
from composing import composed

from cifar_exp.data.augment.pipeline import LowResolution
from cifar_exp.data.dataset import Split, Splits
from cifar_exp.training import progress
from cifar_exp.training.progress import RunClock


def split(images: int) -> Split:
    return Split(np.zeros((images, 32, 32, 3), np.uint8), np.zeros(images, np.int64), np.array(["x"] * images))


def test_time_left_of_all_epochs(monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    times = iter([0.0, 100.0, 103.0, 111.0, 130.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(times))
    clock = RunClock(np.array([90.0, 90.0]), np.array([10.0, 30.0]))
    clock.update(1, 0.1)
    clock.update(1, 0.2)  # at 100 s, 18 of 220 are done
    assert clock.seconds_left is None
    clock.update(1, 0.3)  # 9 more in 3 s
    assert clock.seconds_left == pytest.approx((220 - 27) / 3)
    clock.update(1, 0.5)  # 27 in 11 s
    assert clock.seconds_left == pytest.approx((220 - 45) * 11 / 27)
    clock.update(2, 1.0)  # with the evaluation after the first epoch: 172 in 30 s
    assert clock.seconds_left == pytest.approx(30 * 30 / 172)
    assert [record.getMessage() for record in caplog.records] == ["About 71 s left for 2 epochs."]


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("evaluate_test_each_epoch=false", 2 * 800 * 0.25 + 2 * 800 + 4 * 100 / 3 + 300 / 3),
        ("evaluate_test_each_epoch=true", 2 * 800 * 0.25 + 2 * 800 + 4 * 100 / 3 + 4 * 300 / 3),
    ],
)
def test_work_of_a_run(override, expected):
    config = composed("data=cifar10", "epochs=4", override)
    splits = Splits(split(800), split(100), split(300))
    assert RunClock.for_run(config, splits, LowResolution(16, 0.5, epochs=4)).work == pytest.approx(expected)


def test_the_log_of_a_long_run_names_shorter_ways(monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    times = iter([0.0, 1.0, 10_001.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(times))
    splits = Splits(split(8000), None, split(1))
    clock = RunClock.for_run(composed("data=cifar10", "epochs=1"), splits, None)
    for fraction in (0.0, 0.25, 0.5):
        clock.update(1, fraction)
    (line,) = caplog.messages
    assert line.endswith("Shorter: experiment=speedrun, data.limit_train=5000 or a faster device.")
