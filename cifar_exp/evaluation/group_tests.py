"""Tests of whether one setting is better than another, by the accuracies of several seeds of each.

The formulas use ``scipy.special``, which is faster to import; tests check them against ``scipy.stats`` and statsmodels.
"""

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.special import nctdtr, ndtr, stdtr, stdtrit

from cifar_exp.evaluation.statistics import CONFIDENCE, SIGNIFICANCE, holm

ENOUGH_SEEDS = 3  # per group, for a verdict
POWER = 0.8
RELEVANT_DIFFERENCE = 0.005  # half a percentage point of accuracy
MOST_SEEDS = 100  # per group, of a plan


@dataclass(frozen=True)
class Welch:
    """Two groups compared by Welch's t test."""

    difference: float  # mean of B minus mean of A
    low: float  # lower end of its 95% confidence interval
    high: float  # upper end
    p_value: float  # two-sided
    statistic: float  # Welch's t
    df: float  # its degrees of freedom


def welch(a: Sequence[float], b: Sequence[float]) -> Welch | None:
    """Compare the means of two groups that may differ in spread and size (Welch 1947, doi:10.1093/biomet/34.1-2.28).

    None if a group has fewer than two values, or neither group has any spread.
    """
    if min(len(a), len(b)) < 2 or np.ptp(a) == 0 == np.ptp(b):
        return None
    spread = float(np.std(a, ddof=1)), float(np.std(b, ddof=1))
    error, df = _standard_error(spread, (len(a), len(b)))
    difference = float(np.mean(b)) - float(np.mean(a))
    half = error * float(stdtrit(df, (1 + CONFIDENCE) / 2))
    statistic = difference / error
    p_value = 2 * float(stdtr(df, -abs(statistic)))
    return Welch(difference, difference - half, difference + half, p_value, statistic, df)


def corrected(tests: Sequence[Welch], chosen_of: int | None) -> list[float]:
    """p-values of the comparisons with one baseline group, such that any of them is false at most 5% of the time.

    Holm's correction assumes a baseline that was chosen without these results. ``chosen_of`` is the number of groups
    from which the best was chosen, or None: then each p-value is at least that of Games and Howell (1976,
    doi:10.3102/10769986001002113), which holds for the largest difference of any two groups.
    """
    adjusted = holm([test.p_value for test in tests])
    if chosen_of is None or chosen_of < 3:
        return adjusted
    return [
        max(p, studentized_range_tail(abs(test.statistic) * math.sqrt(2), chosen_of, test.df))
        for p, test in zip(adjusted, tests, strict=True)
    ]


def single_level(comparisons: int, chosen_of: int | None, df: float) -> float:
    """The p-value of a single test, with these degrees of freedom, below which ``corrected`` finds a difference."""
    level = SIGNIFICANCE / comparisons
    return level if chosen_of is None or chosen_of < 3 else min(level, _games_howell_level(chosen_of, round(df, 1)))


@lru_cache
def _games_howell_level(groups: int, df: float) -> float:
    low, high = 0.0, 100.0
    for _ in range(30):  # bisection
        middle = (low + high) / 2
        is_low = studentized_range_tail(middle * math.sqrt(2), groups, df) > SIGNIFICANCE
        low, high = (middle, high) if is_low else (low, middle)
    return 2 * float(stdtr(df, -high))


def studentized_range_tail(q: float, groups: int, df: float) -> float:
    """Probability that the range of so many normal means, divided by their standard error, exceeds ``q``.

    SciPy's ``studentized_range`` takes 30 ms a value; this one takes 1 ms.
    """
    # Integral over the logarithm of the standard deviation, by the trapezoidal rule.
    x = np.linspace(-16 / df - 6 / math.sqrt(df), 6 / math.sqrt(df), 120)[:, None]
    weights = np.exp(df * (x - np.expm1(2 * x) / 2))
    z = np.linspace(-8, 8, 100)
    within = (ndtr(z) - ndtr(z - q * np.exp(x))) ** (groups - 1)
    density = groups * np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi) * (z[1] - z[0])
    return max(1 - float((weights * within @ density[:, None]).sum() / weights.sum()), 0.0)


def probability_better(a: Sequence[float], b: Sequence[float]) -> float:
    """Fraction of the pairs (one value of A, one of B) in which A is larger; ties count half.

    This is U / (n_a n_b) of Mann and Whitney (1947, doi:10.1214/aoms/1177730491).
    """
    return float(np.mean(np.sign(np.subtract.outer(a, b)))) / 2 + 0.5


def power(difference: float, spread: tuple[float, float], n: tuple[int, int], level: float = SIGNIFICANCE) -> float:
    """Probability that Welch's two-sided test finds a true difference.

    ``spread`` has the standard deviations, not both 0; ``n`` the number of values in each group, at least two.
    """
    error, df = _standard_error(spread, n)
    critical, shift = float(stdtrit(df, 1 - level / 2)), abs(difference) / error
    within = float(nctdtr(df, shift, critical))
    beyond = float(nctdtr(df, shift, -critical))
    # SciPy returns NaN for tails that are too small for a float.
    return 1 - (0.0 if math.isnan(within) else within) + (0.0 if math.isnan(beyond) else beyond)


def detectable_difference(spread: tuple[float, float], n: tuple[int, int], level: float = SIGNIFICANCE) -> float:
    """The smallest true difference that Welch's test finds with probability ``POWER``; see ``power``."""
    error, df = _standard_error(spread, n)
    low, high = 0.0, error * (2 * float(stdtrit(df, 1 - level / 2)) + 10)
    for _ in range(40):  # bisection
        middle = (low + high) / 2
        low, high = (low, middle) if power(middle, spread, n, level) >= POWER else (middle, high)
    return high


def seeds_needed(difference: float, spread: tuple[float, float], level: float = SIGNIFICANCE) -> int | None:
    """The least number of seeds in each group with which Welch's test finds a difference with probability ``POWER``.

    At least ``ENOUGH_SEEDS``; None if more than ``MOST_SEEDS`` are needed.
    """

    def is_enough(n: int) -> bool:
        return power(difference, spread, (n, n), level) >= POWER

    if not difference or not is_enough(MOST_SEEDS):
        return None
    return ENOUGH_SEEDS + bisect_left(range(ENOUGH_SEEDS, MOST_SEEDS), True, key=is_enough)


def _standard_error(spread: tuple[float, float], n: tuple[int, int]) -> tuple[float, float]:
    """Standard error of the difference of two means, and its degrees of freedom after Welch and Satterthwaite."""
    a, b = (one**2 / count for one, count in zip(spread, n, strict=True))
    return math.sqrt(a + b), (a + b) ** 2 / (a**2 / (n[0] - 1) + b**2 / (n[1] - 1))
