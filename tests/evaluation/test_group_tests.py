"""The verdict about settings against SciPy, statsmodels, published examples, and simulated seeds."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestIndPower
from statsmodels.stats.weightstats import CompareMeans, DescrStatsW

from cifar_exp.evaluation.group_tests import (
    MOST_SEEDS,
    POWER,
    corrected,
    detectable_difference,
    power,
    probability_better,
    seeds_needed,
    single_level,
    studentized_range_tail,
    welch,
)

# Accuracies of networks on 10,000 images.
accuracies = st.lists(st.integers(0, 10_000).map(lambda right: right / 10_000), min_size=2, max_size=12)


@pytest.mark.filterwarnings("ignore:Precision loss")  # SciPy says so of equal values
@settings(deadline=None, max_examples=40)
@given(accuracies, accuracies)
def test_welch_is_scipys_and_statsmodels(a, b):
    if np.ptp(a) == 0 == np.ptp(b):
        assert welch(a, b) is None
        return
    found = welch(a, b)
    reference = stats.ttest_ind(b, a, equal_var=False)
    interval = reference.confidence_interval(0.95)
    assert found.p_value == pytest.approx(reference.pvalue, rel=1e-9, abs=1e-300)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high), rel=1e-9, abs=1e-12)
    means = CompareMeans(DescrStatsW(b), DescrStatsW(a))
    assert found.p_value == pytest.approx(means.ttest_ind(usevar="unequal")[1], rel=1e-6, abs=1e-300)
    assert (found.low, found.high) == pytest.approx(means.tconfint_diff(usevar="unequal"), rel=1e-9, abs=1e-12)


def test_welch_of_a_published_example():
    """Extra sleep with two drugs (Student 1908), as R's t.test of `sleep` prints it."""
    first = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
    second = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]
    found = welch(second, first)
    assert found.p_value == pytest.approx(0.07939, abs=5e-6)
    assert (found.low, found.high) == pytest.approx((-3.3654832, 0.2054832), abs=5e-8)


@settings(deadline=None, max_examples=40)
@given(accuracies, accuracies)
def test_probability_better_is_mann_whitneys_u(a, b):
    expected = stats.mannwhitneyu(a, b, method="asymptotic", use_continuity=False).statistic / (len(a) * len(b))
    assert probability_better(a, b) == pytest.approx(expected)


@pytest.mark.parametrize("n", [3, 5, 10, 40])
@pytest.mark.parametrize("level", [0.05, 0.05 / 66])
def test_power_is_statsmodels_where_the_spreads_are_equal(n, level):
    """With equal spread and size, Welch's degrees of freedom are those of Student's test."""
    for effect in (0.1, 0.5, 1.0):
        expected = TTestIndPower().power(effect, n, level)
        assert power(0.002 * effect, (0.002, 0.002), (n, n), level) == pytest.approx(expected, abs=1e-9)
    found = detectable_difference((0.002, 0.002), (n, n), level)
    reached = TTestIndPower().power(found / 0.002, n, level)
    if np.isnan(reached):  # SciPy's lower tail is too small for a float
        reached = TTestIndPower().power(found / 0.002, n, level / 2, alternative="larger")
    assert reached == pytest.approx(POWER, abs=1e-6)


@pytest.mark.parametrize("effect", [0.5, 0.8, 1.5, 3.0])
def test_seeds_needed_are_statsmodels(effect):
    expected = int(np.ceil(TTestIndPower().solve_power(effect, None, 0.05, POWER)))
    assert seeds_needed(0.002 * effect, (0.002, 0.002)) == expected
    assert seeds_needed(0.002 * 0.3, (0.002, 0.002)) is None  # 176, more than MOST_SEEDS


@pytest.mark.parametrize("level", [0.05, 1e-6])
@pytest.mark.parametrize("spread", [(0.0, 0.002), (0.002, 0.002), (1e-9, 0.3)])
def test_a_plan_is_the_least_that_is_enough(spread, level):
    for difference in (1e-4, 0.005, 0.3):
        n = seeds_needed(difference, spread, level)
        if n is None:
            assert power(difference, spread, (MOST_SEEDS, MOST_SEEDS), level) < POWER
        else:
            assert power(difference, spread, (n, n), level) >= POWER
            assert n == 3 or power(difference, spread, (n - 1, n - 1), level) < POWER
    found = detectable_difference(spread, (3, 4), level)
    assert power(found, spread, (3, 4), level) == pytest.approx(POWER, abs=1e-6)
    assert seeds_needed(0.0, spread, level) is None


@pytest.mark.parametrize("groups", [2, 3, 12, 100])
@pytest.mark.parametrize("df", [2.0, 4.4, 18.0, 2e4])
def test_the_studentized_range_is_scipys(groups, df):
    for q in (0.0, 1.0, 3.6, 9.0, 40.0):
        assert studentized_range_tail(q, groups, df) == pytest.approx(
            stats.studentized_range.sf(q, groups, df), abs=1e-6
        )


def test_a_chosen_baseline_is_corrected_by_holm_and_games_howell():
    groups = np.random.default_rng(0).normal(0.9, 0.01, (8, 5))
    tests = [welch(groups[0], other) for other in groups[1:]]
    by_holm = multipletests([test.p_value for test in tests], method="holm")[1]
    assert corrected(tests, None) == corrected(tests, 2) == pytest.approx(list(by_holm))
    t, df = (np.array([getattr(test, name) for test in tests]) for name in ("statistic", "df"))
    by_games_howell = stats.studentized_range.sf(np.abs(t) * np.sqrt(2), 8, df)
    assert corrected(tests, 8) == pytest.approx(list(np.maximum(by_holm, by_games_howell)), abs=1e-6)
    level = single_level(1, 8, 18.0)
    critical = stats.t.isf(level / 2, 18) * np.sqrt(2)
    assert stats.studentized_range.sf(critical, 8, 18) == pytest.approx(0.05, abs=1e-6)
    assert single_level(7, None, 18.0) == single_level(7, 2, 18.0) == pytest.approx(0.05 / 7)


def draws(rng, n, difference, count=600):
    """Test accuracies of two settings with n seeds each: binomial over 10,000 images, seed noise of 0.2 points."""
    a, b = (rng.normal(mean, 0.002, (count, n)) for mean in (0.94, 0.94 + difference))
    return [welch(*pair) for pair in zip(rng.binomial(10_000, a) / 1e4, rng.binomial(10_000, b) / 1e4, strict=True)]


@pytest.mark.parametrize(("n", "least_power"), [(3, 0.47), (5, 0.85), (10, 0.99)])
def test_verdicts_are_seldom_false_and_intervals_cover(n, least_power):
    """The small version of benchmarks/group_tests.py; three standard errors of 600 draws are 2.7 points."""
    rng = np.random.default_rng(n)
    equal, other = draws(rng, n, 0.0), draws(rng, n, 0.0075)
    assert np.mean([one.p_value < 0.05 for one in equal]) <= 0.05 + 0.027
    assert np.mean([one.low <= 0 <= one.high for one in equal]) >= 0.95 - 0.027
    assert np.mean([one.low <= 0.0075 <= one.high for one in other]) >= 0.95 - 0.027
    assert np.mean([one.p_value < 0.05 for one in other]) >= least_power
