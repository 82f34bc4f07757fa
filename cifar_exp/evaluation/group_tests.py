"""Tests of whether one setting is better than another, by the accuracies of several seeds of each.

The formulas use ``scipy.special``, which is faster to import; tests check them against ``scipy.stats`` and statsmodels.
"""

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import nctdtr, stdtr, stdtrit

from cifar_exp.evaluation.statistics import CONFIDENCE, SIGNIFICANCE

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
    p_value = 2 * float(stdtr(df, -abs(difference) / error))
    return Welch(difference, difference - half, difference + half, p_value)


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
