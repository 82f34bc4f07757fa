"""The curve of a range test: its smoothing, its end and the learning rate that it suggests."""

import math

import numpy as np
import pandas as pd
import pytest
from range_tests import curve_of, noisy

from cifar_exp.run_dir import tables
from cifar_exp.training.lr_curve import neighbours, read_curve


def test_smoothing_is_pandas_adjusted_exponential_mean():
    losses = noisy(2.3, 60, spread=0.5)
    expected = pd.Series(losses).ewm(alpha=0.1, adjust=True).mean()
    np.testing.assert_allclose(curve_of(losses).smoothed, expected, rtol=1e-12)


def test_the_suggestion_on_a_straight_descent_is_where_theory_puts_it():
    # Flat at 4 for 10 steps, then 0.01 a step down to 2, then away. An exponential mean with weight 0.9 follows a
    # straight line 0.9 / 0.1 = 9 steps behind: lowest 2.09 at step 210, half of the fall at 4 - 1.91 / 2 = 3.045.
    losses = [4.0] * 10 + [4 - 0.01 * n for n in range(1, 201)] + [9.0] * 5
    curve = curve_of(losses)
    found = curve.suggest()
    assert curve.smoothed[209] == pytest.approx(2.09, abs=1e-6)
    assert found.lowest == curve.learning_rates[209]
    step = 10 + math.ceil((4 - 3.045) / 0.01 + 9)
    assert found.max_lr == pytest.approx(curve.learning_rates[step - 1], rel=0.05)  # two digits
    assert "Half of the loss's fall from 4 to 2.09" in found.reason
    assert found.cautions == ()


@pytest.mark.parametrize(
    ("losses", "reason"),
    [
        ([math.nan], "is nan at the first step"),
        ([*noisy(2.3, 3), math.inf], "diverged at once"),
        ([2.3, *(2.3 * 2.0**n for n in range(1, 12))], "diverged at once"),
        (noisy(2.3, 100), "did not fall at any learning rate from 1e-05 to 10"),
        ([*noisy(2.3, 60), 4, 9, 30], "did not fall"),
    ],
)
def test_a_curve_without_a_valley_has_no_suggestion_and_says_why(losses, reason):
    found = curve_of(losses).suggest()
    assert found.max_lr is None
    assert reason in found.reason


def test_a_loss_that_falls_to_the_end_is_a_caution():
    found = curve_of([*noisy(2.3, 50), *np.linspace(2.3, 1, 50)]).suggest()
    assert found.max_lr is not None
    assert "--max-lr" in found.cautions[0]


def test_a_loss_that_falls_from_the_start_is_a_caution():
    found = curve_of([*np.linspace(2.3, 0.5, 15), *np.linspace(0.5, 0.3, 50), 2, 3, 4, 5]).suggest()
    assert "--min-lr" in found.cautions[0]


def test_the_test_ends_where_half_of_the_fall_is_lost_and_not_by_noise():
    assert not any(curve_of(noisy(2.3, n, seed=n)).diverged for n in range(11, 100))
    fallen = [*noisy(2.3, 30), *np.linspace(2.3, 1.3, 60)]
    lowest = min(curve_of(fallen).smoothed)
    for risen in range(1, 40):
        curve = curve_of([*fallen, *[2.6] * risen])
        assert curve.diverged == (curve.smoothed[-1] - lowest > (curve.start - lowest) / 2)
    assert curve.diverged
    assert curve_of([*fallen, math.nan]).diverged


def test_a_divergence_that_comes_at_the_end_keeps_the_suggestion():
    losses = [*noisy(2.3, 30), *np.linspace(2.3, 1.3, 60)]
    assert curve_of([*losses, math.inf]).suggest().max_lr is not None


def test_curves_are_read_back_and_damaged_ones_refused(tmp_path):
    curve, path = curve_of([*noisy(2.3, 40), 5.0, math.nan]), tmp_path / "lr_find.csv"
    tables.write_table(path, tables.LR_FIND_COLUMNS, curve.rows())
    again = read_curve(path)
    np.testing.assert_array_equal(again.losses, curve.losses)
    np.testing.assert_array_equal(again.smoothed, curve.smoothed)
    assert again.learning_rates == curve.learning_rates
    for text in (
        "step,loss\n1,2\n",
        "step,learning_rate,loss,smoothed_loss\n",
        "step,learning_rate,loss,smoothed_loss\n1,",
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match="it has"):
            read_curve(path)


def test_neighbours_are_a_third_and_three_times_the_suggestion():
    assert neighbours(0.1).tolist() == [0.033, 0.1, 0.3]
