"""Schedules against their published formulas, and the plan against what a run uses."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from composing import composed

from cifar_exp.config.schema import ExperimentConfig
from cifar_exp.errors import RequestError
from cifar_exp.training.optimizer import build_optimizer, read_momentum
from cifar_exp.training.schedule import build_scheduler, measure_use, planned_learning_rates

EPOCHS, STEPS_PER_EPOCH = 20, 391  # 50,000 images in batches of 128


def trace(config: ExperimentConfig, total_steps: int, per_epoch: int) -> tuple[np.ndarray, np.ndarray]:
    """Learning rate and momentum of each step, moved on as the config says, without any training."""
    model = torch.nn.Linear(1, 1)
    optimizer = build_optimizer(config.optimizer, model, config.max_lr)
    scheduler = build_scheduler(config.scheduler, optimizer, max_lr=config.max_lr, total_steps=total_steps)
    rates, momenta = [], []
    for step in range(1, total_steps + 1):
        rates.append(optimizer.param_groups[0]["lr"])
        momenta.append(read_momentum(optimizer))
        optimizer.step()
        if step < total_steps and (config.scheduler.interval == "step" or step % per_epoch == 0):
            scheduler.step()
    return np.array(rates), np.array(momenta)


def one_cycle_formula(step: int, *, total: int, max_lr: float) -> float:
    """Cosine up over a quarter of the steps from max_lr / 10, then down to max_lr / 10 / 10,000."""
    low, end, top = max_lr / 10, max_lr / 10 / 1e4, 0.25 * total - 1
    if step <= top:
        return max_lr + (low - max_lr) * (1 + math.cos(math.pi * step / top)) / 2
    return end + (max_lr - end) * (1 + math.cos(math.pi * (step - top) / (total - 1 - top))) / 2


def test_the_published_run_uses_20_of_7820_planned_steps():
    config = composed("experiment=published")
    assert (config.epochs, config.batch_size) == (EPOCHS, 128)
    rates, _ = trace(config, EPOCHS * STEPS_PER_EPOCH, STEPS_PER_EPOCH)
    assert rates.min() == pytest.approx(0.005, abs=1e-12)
    assert 0.005 < rates.max() < 0.00502
    assert rates[-1] == rates.max()
    by_formula = [one_cycle_formula(e, total=7820, max_lr=0.05) for e in range(EPOCHS)]
    np.testing.assert_allclose(rates[::STEPS_PER_EPOCH], by_formula, rtol=1e-9)
    planned = planned_learning_rates(config.scheduler, max_lr=0.05, total_steps=7820)
    use = measure_use("epoch", planned, rates, EPOCHS)
    assert (use.used, use.planned, use.complete) == (20, 7820, False)
    assert str(use) == (
        "incomplete: 20 of 7,820 planned steps used; the learning rate peaked at 0.0050105 instead of the planned 0.05"
    )


def test_onecycle_advances_the_one_cycle_policy_per_step():
    config = composed("experiment=onecycle")
    rates, momenta = trace(config, EPOCHS * STEPS_PER_EPOCH, STEPS_PER_EPOCH)
    np.testing.assert_allclose(
        rates, [one_cycle_formula(s, total=7820, max_lr=0.05) for s in range(7820)], rtol=1e-6, atol=1e-9
    )
    assert rates.max() == pytest.approx(0.05)
    assert rates.argmax() / 7820 == pytest.approx(0.25, abs=0.001)
    assert rates[-1] < 1e-5
    assert (momenta[0], momenta.min()) == (0.95, pytest.approx(0.85))
    use = measure_use("step", planned_learning_rates(config.scheduler, max_lr=0.05, total_steps=7820), rates, 20)
    assert use.complete


def test_onecycle_differs_from_published_in_the_interval_alone():
    published, onecycle = composed("experiment=published"), composed("experiment=onecycle")
    assert (onecycle.scheduler.interval, published.scheduler.interval) == ("step", "epoch")
    assert replace(onecycle.scheduler, interval="epoch") == published.scheduler
    for node in ("data", "augment", "model", "optimizer"):
        assert getattr(onecycle, node) == getattr(published, node)
    assert published.data.validation_fraction == 0
    assert published.evaluate_test_each_epoch


@pytest.mark.parametrize("scheduler", ["one_cycle", "cosine", "multistep", "constant"])
def test_every_schedule_peaks_at_max_lr_and_is_never_below_zero(scheduler):
    node = composed(f"scheduler={scheduler}", "max_lr=0.3").scheduler
    for total in (2, 3, 10, 997):
        rates = planned_learning_rates(node, max_lr=0.3, total_steps=total)
        assert rates.shape == (total,)
        assert rates.max() <= 0.3 + 1e-12
        assert rates.min() >= 0
    assert rates.max() == pytest.approx(0.3, rel=1e-3)


def test_one_cycle_of_few_steps():
    node = composed().scheduler
    for pct_start, total in itertools.product([0.0, 0.1, 0.25, 0.5, 1.0], range(2, 11)):
        rates = planned_learning_rates(replace(node, pct_start=pct_start), max_lr=0.1, total_steps=total)
        assert np.isfinite(rates).all()
        assert rates.max() <= 0.1 + 1e-12


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (
            ["cosine", "scheduler.warmup_fraction=0.1"],
            [*np.arange(1, 11) / 10, *0.5 * (1 + np.cos(np.pi * np.arange(90) / 90))],
        ),
        (["multistep", "scheduler.milestones=[0.5,0.8]", "scheduler.gamma=0.1"], [1] * 5 + [0.1] * 3 + [0.01] * 2),
        (["constant"], [1] * 5),
        (["constant", "scheduler.warmup_fraction=0.4"], [0.5, 1, 1, 1, 1]),
    ],
)
def test_schedules_by_hand(overrides, expected):
    config = composed(f"scheduler={overrides[0]}", *overrides[1:])
    rates = planned_learning_rates(config.scheduler, max_lr=1.0, total_steps=len(expected))
    np.testing.assert_allclose(rates, expected)


def test_one_cycle_of_a_single_step_is_refused():
    config = composed()
    with pytest.raises(RequestError, match="at least 2 steps"):
        planned_learning_rates(config.scheduler, max_lr=0.1, total_steps=1)


@pytest.mark.parametrize("total", [1, 2, 100, 391])
def test_triangle_is_straight_between_its_corners(total):
    config = composed("scheduler=triangle", "max_lr=2")
    rates, momenta = trace(config, total, total)
    corners = [0, math.floor(0.23 * total), total]
    expected = (
        np.interp(np.arange(total), corners, [0.4, 2.0, 0.14]) if corners[1] else 2 - 1.86 * np.arange(total) / total
    )
    np.testing.assert_allclose(rates, expected, rtol=1e-12)
    assert set(momenta) == {0.9}


def test_triangle_can_start_at_its_peak_and_end_at_zero():
    config = composed("experiment=speedrun")
    rates, _ = trace(config, 400, 50)
    np.testing.assert_allclose(rates, config.max_lr * (1 - np.arange(400) / 400), rtol=1e-12)


@pytest.mark.parametrize("scheduler", ["one_cycle", "cosine", "multistep", "triangle", "constant"])
def test_a_schedule_keeps_the_ratio_of_the_groups_learning_rates(scheduler):
    config = composed(f"scheduler={scheduler}", "optimizer.bias_lr_factor=64")
    optimizer = build_optimizer(config.optimizer, torch.nn.Linear(2, 2), config.max_lr)
    moving = build_scheduler(config.scheduler, optimizer, max_lr=config.max_lr, total_steps=20)
    for step in range(20):
        weights, biases = (group["lr"] for group in optimizer.param_groups)
        assert biases == pytest.approx(64 * weights)
        optimizer.step()
        if step < 19:
            moving.step()
