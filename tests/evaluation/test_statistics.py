"""The statistics of `compare` against published worked examples and against statsmodels."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from cifar_exp.compare.pairs import Pair
from cifar_exp.evaluation.statistics import (
    PairedCounts,
    difference_interval,
    holm,
    mcnemar_exact,
    p_in_words,
    paired,
    t_interval,
    wilson_interval,
)

counts = st.builds(PairedCounts, *[st.integers(0, 60)] * 4).filter(lambda table: table.n > 0)


@pytest.mark.parametrize(
    ("table", "p_value"),
    [
        # Two culture media for tuberculosis: Armitage & Berry 1994, p. 127, as worked out in StatsDirect's manual.
        (PairedCounts(20, 12, 2, 16), 0.0129),
        # Airway hyper-responsiveness: Fagerland, Lydersen & Laake 2013, doi:10.1186/1471-2288-13-91.
        (PairedCounts(1, 1, 7, 12), 0.0703),
        # Approval in January and April: aoki2.si.gunma-u.ac.jp/lecture/Hiritu/McNemar-test-r.html, R's binom.test.
        (PairedCounts(48, 28, 35, 53), 0.45),
    ],
)
def test_mcnemar_exact_of_published_examples(table, p_value):
    assert mcnemar_exact(table) == pytest.approx(p_value, abs=5e-5)


@settings(deadline=None)  # a busy machine is no failure
@given(counts)
def test_mcnemar_exact_is_statsmodels(table):
    reference = mcnemar([[table.both_correct, table.only_a], [table.only_b, table.both_wrong]], exact=True).pvalue
    assert mcnemar_exact(table) == pytest.approx(min(reference, 1.0), rel=1e-9)


@pytest.mark.parametrize(
    ("table", "low", "high"),
    [
        # Each is the published interval of p1 - p2; ours is of the accuracy of B less that of A, its mirror image.
        # Complete response before and after consolidation (Cavo et al. 2012) in Fagerland, Lydersen & Laake,
        # "Statistical Analysis of Contingency Tables" (2017), ch. 8, as tested in the R package contingencytables.
        (PairedCounts(59, 6, 16, 80), -0.1186, -0.0046),
        # Airway hyper-responsiveness, ibid.
        (PairedCounts(1, 1, 7, 12), -0.507, -0.026),
        # Newcombe 1998, table II, method 10: an empty cell.
        (PairedCounts(36, 12, 2, 0), 0.0569, 0.3404),
    ],
)
def test_interval_of_published_examples(table, low, high):
    digits = 5e-5 if len(str(low).split(".")[1]) == 4 else 5e-4
    assert difference_interval(table) == pytest.approx((-high, -low), abs=digits)


@settings(deadline=None)  # a busy machine is no failure
@given(counts)
def test_interval_holds_the_difference_and_mirrors(table):
    low, high = difference_interval(table)
    assert -1 - 1e-12 <= low <= table.accuracy_difference + 1e-12
    assert table.accuracy_difference - 1e-12 <= high <= 1 + 1e-12
    swapped = PairedCounts(table.both_correct, table.only_b, table.only_a, table.both_wrong)
    assert difference_interval(swapped) == pytest.approx((-high, -low), abs=1e-12)


@given(st.integers(1, 20_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_interval_is_scipys(counted):
    reference = stats.binomtest(*counted).proportion_ci(0.95, method="wilson")
    assert wilson_interval(*counted) == pytest.approx((reference.low, reference.high), abs=1e-12)


def test_interval_covers_what_it_promises():
    """Simulated: two networks right on 90% and 88% of 1,000 images, with correlated mistakes."""
    rng = np.random.default_rng(0)
    tables = rng.multinomial(1_000, [0.85, 0.05, 0.03, 0.07], size=1_000)
    intervals = [difference_interval(PairedCounts(*map(int, table))) for table in tables]
    covered = np.mean([low <= -0.02 <= high for low, high in intervals])
    assert 0.935 <= covered <= 0.97


def test_same_network_twice_is_no_difference():
    right = np.array([True, False, True, True])
    table = paired(right, right)
    assert table == PairedCounts(3, 0, 0, 1)
    assert mcnemar_exact(table) == 1.0
    low, high = difference_interval(table)
    assert low < 0 < high


def test_paired_counts_by_hand():
    a = np.array([True, True, True, False, False, False, False])
    b = np.array([True, True, False, True, True, True, False])
    table = paired(a, b)
    assert table == PairedCounts(both_correct=2, only_a=1, only_b=3, both_wrong=1)
    assert table.n == 7
    assert table.accuracy_difference == pytest.approx(2 / 7)


def test_holm_by_hand():
    # 0.005 x 4, 0.01 x 3, 0.03 x 2, 0.04 x 1 raised to 0.06: the procedure of Holm 1979 on four p-values.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_holm_of_nothing_and_of_one():
    assert holm([]) == []
    assert holm([0.04]) == [0.04]


def test_holm_of_a_part_is_no_smaller_than_of_the_whole():
    rng = np.random.default_rng(0)
    for _ in range(200):
        p = rng.uniform(size=8) ** 4
        whole = np.array(holm(list(p)))
        assert (np.array(holm(list(p[:3]), 8)) >= whole[:3] - 1e-12).all()


def false_alarms(runs: int, choice: str) -> float:
    """Simulated share of comparisons of equal networks with any verdict other than "within noise"."""
    rng = np.random.default_rng(runs)
    alarms, repetitions, images = 0, 400, 600
    for _ in range(repetitions):
        difficulty = rng.beta(6, 1, size=images)  # hard images are hard for every network
        right = rng.random((runs, images)) < difficulty
        best = int(right.sum(axis=1).argmax()) if choice != "validation" else int(rng.integers(runs))
        p = [mcnemar_exact(paired(right[best], right[other])) for other in range(runs) if other != best]
        comparisons = runs * (runs - 1) // 2 if choice == "all pairs" else runs - 1
        alarms += min(holm(p, comparisons)) < 0.05
    return alarms / repetitions


def test_equal_networks_seem_different_in_at_most_5_percent_of_comparisons():
    """With the best test accuracy as the baseline, a correction for the other runs alone is not enough."""
    assert false_alarms(20, "validation") <= 0.05
    assert false_alarms(20, "all pairs") <= 0.05
    assert false_alarms(20, "best test accuracy") > 0.1


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_holm_is_statsmodels(p_values):
    assert holm(p_values) == pytest.approx(list(multipletests(p_values, method="holm")[1]), abs=1e-12)


def test_t_interval_of_a_published_example():
    """Heat flow meter calibration, NIST e-handbook 1.3.5.2 (ZARR13.DAT): mean 9.261460, s 0.0227881, n 195."""
    low, high = t_interval(np.array([9.261460]), np.array([0.0227881]), np.array([195]))
    assert (low[0], high[0]) == pytest.approx((9.258242, 9.264679), abs=1e-6)


def test_t_interval_needs_two():
    low, high = t_interval(np.array([0.9, 0.9]), np.array([np.nan, 0.01]), np.array([1, 2]))
    assert np.isnan([low[0], high[0]]).all()
    expected = stats.t.interval(0.95, 1, loc=0.9, scale=0.01 / np.sqrt(2))
    assert (low[1], high[1]) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("p", "text"),
    [(0.0004, "p < 0.001"), (0.0031, "p = 0.003"), (0.0497, "p = 0.0497"), (0.0503, "p = 0.0503"), (1.0, "p = 1.00")],
)
def test_p_values_in_words(p, text):
    assert p_in_words(p) == text


@pytest.mark.parametrize(
    ("table", "p", "verdict"),
    [
        (PairedCounts(80, 2, 14, 4), 0.003, "better (p = 0.003)"),
        (PairedCounts(80, 14, 2, 4), 0.003, "worse (p = 0.003)"),
        (PairedCounts(80, 9, 7, 4), 0.8, "within noise (p = 0.80)"),
        (PairedCounts(80, 9, 7, 4), 0.05, "within noise (p = 0.0500)"),
    ],
)
def test_verdicts(table, p, verdict):
    assert Pair(0, table, p_value=0.001, p_value_corrected=p).verdict == verdict
