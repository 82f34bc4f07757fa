"""Significance of differences: two networks on the same images, several tests at once, a few seeds."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr, ndtri, stdtrit  # scipy.stats has more convenient ones, and takes 0.5 s to import

CONFIDENCE = 0.95
SIGNIFICANCE = 0.05
LARGEST = 1e100  # larger numbers are ignored: their differences and squares overflow


@dataclass(frozen=True)
class PairedCounts:
    """Two networks on the same images, as counts of images."""

    both_correct: int
    only_a: int
    only_b: int
    both_wrong: int

    @property
    def n(self) -> int:
        """All images."""
        return self.both_correct + self.only_a + self.only_b + self.both_wrong

    @property
    def right(self) -> tuple[int, int]:
        """Images that A gets right, and images that B gets right."""
        return self.both_correct + self.only_a, self.both_correct + self.only_b

    @property
    def accuracy_difference(self) -> float:
        """Accuracy of B minus that of A."""
        return (self.only_b - self.only_a) / self.n


def paired(correct_a: NDArray[np.bool_], correct_b: NDArray[np.bool_]) -> PairedCounts:
    """Count the images by which of two networks is right; both arrays are (N,) in the same order."""
    a, b = correct_a, correct_b
    return PairedCounts(*(int(images.sum()) for images in (a & b, a & ~b, ~a & b, ~a & ~b)))


def mcnemar_exact(counts: PairedCounts) -> float:
    """Two-sided p-value of McNemar's exact test that both networks have the same accuracy.

    The test uses only the discordant images, which exactly one network gets right. If the accuracies are equal, each is
    A's or B's with probability 1/2 (McNemar 1947, doi:10.1007/BF02295996; exact form: Fagerland, Lydersen & Laake 2013,
    doi:10.1186/1471-2288-13-91).
    """
    fewer, discordant = min(counts.only_a, counts.only_b), counts.only_a + counts.only_b
    # Twice the smaller tail of the binomial distribution; more than 1 if both counts are equal.
    return min(2 * float(bdtr(fewer, discordant, 0.5)), 1.0)


def difference_interval(counts: PairedCounts) -> tuple[float, float]:
    """95% confidence interval of the accuracy difference B - A of two networks on the same images.

    Newcombe's square-and-add interval combines the Wilson intervals of the two accuracies and the correlation of
    the mistakes (Newcombe 1998, doi:10.1002/(SICI)1097-0258(19981130)17:22<2635, method 10). Its coverage is correct
    for few discordant images too, and it never leaves [-1, 1].
    """
    n, (right_a, right_b) = counts.n, counts.right
    a, b = right_a / n, right_b / n
    (low_a, high_a), (low_b, high_b) = wilson_interval(right_a, n), wilson_interval(right_b, n)
    # The phi coefficient of the 2x2 table with Newcombe's continuity correction; 0 for an empty margin.
    product = float(counts.both_correct * counts.both_wrong - counts.only_a * counts.only_b)
    product = max(product - n / 2, 0.0) if product > 0 else product
    margins = right_a * (n - right_a) * right_b * (n - right_b)
    correlation = product / math.sqrt(margins) if margins else 0.0

    def half(x: float, y: float) -> float:
        return math.sqrt(max(x**2 - 2 * correlation * x * y + y**2, 0.0))

    difference = counts.accuracy_difference
    return difference - half(b - low_b, high_a - a), difference + half(high_b - b, a - low_a)


def wilson_interval(right: int, n: int) -> tuple[float, float]:
    """Wilson's 95% score interval of an accuracy (Wilson 1927, doi:10.1080/01621459.1927.10502953)."""
    z = float(ndtri((1 + CONFIDENCE) / 2))
    share = right / n
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    # Rounding would move the ends away from 0 and 1.
    return (0.0 if right == 0 else centre - half), (1.0 if right == n else centre + half)


def independent_difference_interval(right_a: int, n_a: int, right_b: int, n_b: int) -> tuple[float, float]:
    """95% confidence interval of the accuracy difference A - B on two independent sets of images.

    Newcombe's hybrid score interval (Newcombe 1998, Statistics in Medicine 17:873-890, method 10).
    """
    a, b = right_a / n_a, right_b / n_b
    (low_a, high_a), (low_b, high_b) = wilson_interval(right_a, n_a), wilson_interval(right_b, n_b)
    return a - b - math.hypot(a - low_a, high_b - b), a - b + math.hypot(high_a - a, b - low_b)


def holm(p_values: Sequence[float], comparisons: int | None = None) -> list[float]:
    """Adjust p-values so that the probability of any false positive is at most the significance level.

    Holm's step-down method (Holm 1979, Scandinavian Journal of Statistics 6:65-70): the smallest p-value is multiplied
    by the number of comparisons, the next by one fewer, and so on; the results never decrease. Not all
    ``comparisons`` need be reported: the others count as larger, which makes no adjusted p-value smaller.
    """
    p = np.asarray(p_values, dtype=np.float64)
    factors = (len(p) if comparisons is None else comparisons) - np.arange(len(p))
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * factors), 1.0)
    return [float(value) for value in adjusted]


def p_in_words(p: float) -> str:
    """Format a p-value, rounded."""
    if p < 0.001:
        return "p < 0.001"
    if abs(p - SIGNIFICANCE) < 0.0005:  # two places would not show on which side it lies
        return f"p = {p:.4f}"
    return f"p = {p:.3f}" if p < 0.1 else f"p = {p:.2f}"


def t_interval(
    mean: NDArray[np.float64], std: NDArray[np.float64], n: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """95% confidence intervals of means by Student's t; NaN for fewer than two values, or values without spread.

    The arrays are (groups,); ``std`` has n - 1 in the denominator, ``n`` counts independent values.
    """
    enough = (n >= 2) & (std > 0)
    quantile = np.full(len(n), np.nan)
    quantile[enough] = stdtrit(n[enough] - 1, (1 + CONFIDENCE) / 2)
    half = quantile * std / np.sqrt(n)
    return mean - half, mean + half
