"""Whether a difference means anything: two networks on the same images, several tests at once, a few seeds."""

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
class Paired:
    """How two networks did on the same images, counted in images."""

    both_correct: int
    only_a: int
    only_b: int
    both_wrong: int

    @property
    def n(self) -> int:
        """All images."""
        return self.both_correct + self.only_a + self.only_b + self.both_wrong

    @property
    def accuracy_difference(self) -> float:
        """Accuracy of B less that of A."""
        return (self.only_b - self.only_a) / self.n


def paired(correct_a: NDArray[np.bool_], correct_b: NDArray[np.bool_]) -> Paired:
    """Count how two networks did, from whether each got each image right; both (N,) in the same order."""
    return Paired(
        both_correct=int((correct_a & correct_b).sum()),
        only_a=int((correct_a & ~correct_b).sum()),
        only_b=int((~correct_a & correct_b).sum()),
        both_wrong=int((~correct_a & ~correct_b).sum()),
    )


def mcnemar_exact(counts: Paired) -> float:
    """Two-sided p-value of McNemar's exact test that both networks are right equally often.

    Only the images that exactly one of the two gets right say anything; were the networks equally good, each of
    these would be A's or B's like the toss of a coin (McNemar 1947, doi:10.1007/BF02295996; the exact binomial
    form as in Fagerland, Lydersen & Laake 2013, doi:10.1186/1471-2288-13-91).
    """
    fewer, discordant = min(counts.only_a, counts.only_b), counts.only_a + counts.only_b
    # Twice the smaller tail of the binomial distribution; where both are equal that is more than 1.
    return min(2 * float(bdtr(fewer, discordant, 0.5)), 1.0)


def difference_interval(counts: Paired) -> tuple[float, float]:
    """95% confidence interval of the accuracy difference B - A of two networks on the same images.

    Newcombe's square-and-add interval: the Wilson intervals of the two accuracies, put together with the
    correlation of the two networks' mistakes (Newcombe 1998, doi:10.1002/(SICI)1097-0258(19981130)17:22<2635,
    method 10). Unlike the textbook interval from the standard error, it keeps its promise for few or no
    discordant images and never leaves [-1, 1].
    """
    n = counts.n
    right_a, right_b = counts.both_correct + counts.only_a, counts.both_correct + counts.only_b
    a, b = right_a / n, right_b / n
    low_a, high_a = wilson_interval(right_a, n)
    low_b, high_b = wilson_interval(right_b, n)
    correlation = _correlation(counts)
    below, above = b - low_b, high_a - a
    down = math.sqrt(max(below**2 - 2 * correlation * below * above + above**2, 0.0))
    above, below = high_b - b, a - low_a
    up = math.sqrt(max(above**2 - 2 * correlation * above * below + below**2, 0.0))
    return counts.accuracy_difference - down, counts.accuracy_difference + up


def wilson_interval(right: int, n: int) -> tuple[float, float]:
    """Wilson's 95% score interval of an accuracy (Wilson 1927, doi:10.1080/01621459.1927.10502953)."""
    z = float(ndtri((1 + CONFIDENCE) / 2))
    share = right / n
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    # Exactly 0 and 1 at the ends, where rounding would leave a little more or less.
    return (0.0 if right == 0 else centre - half), (1.0 if right == n else centre + half)


def independent_difference_interval(right_a: int, n_a: int, right_b: int, n_b: int) -> tuple[float, float]:
    """95% confidence interval of the accuracy difference A - B on two independent sets of images.

    Newcombe's hybrid score interval (Newcombe 1998, Statistics in Medicine 17:873-890, method 10).
    """
    a, b = right_a / n_a, right_b / n_b
    (low_a, high_a), (low_b, high_b) = wilson_interval(right_a, n_a), wilson_interval(right_b, n_b)
    return a - b - math.hypot(a - low_a, high_b - b), a - b + math.hypot(high_a - a, b - low_b)


def _correlation(counts: Paired) -> float:
    """The phi coefficient of the 2x2 table with Newcombe's continuity correction; 0 for an empty margin."""
    right_a, right_b = counts.both_correct + counts.only_a, counts.both_correct + counts.only_b
    margins = right_a * (counts.n - right_a) * right_b * (counts.n - right_b)
    product = float(counts.both_correct * counts.both_wrong - counts.only_a * counts.only_b)
    if product > 0:
        product = max(product - counts.n / 2, 0.0)
    return product / math.sqrt(margins) if margins else 0.0


def holm(p_values: Sequence[float], comparisons: int | None = None) -> list[float]:
    """Adjust p-values so that the chance of even one false alarm among them stays at the significance level.

    Holm's step-down method (Holm 1979, Scandinavian Journal of Statistics 6:65-70): the smallest is multiplied by
    the number of comparisons, the next by one fewer, and none may become smaller than the one before it.

    ``comparisons`` is their number if not all are reported. The others count as larger than all reported ones, which
    makes no adjusted p-value smaller.
    """
    p = np.asarray(p_values, dtype=np.float64)
    factors = (len(p) if comparisons is None else comparisons) - np.arange(len(p))
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * factors), 1.0)
    return [float(value) for value in adjusted]


def p_in_words(p: float) -> str:
    """A p-value with as many places as it deserves."""
    if p < 0.001:
        return "p < 0.001"
    if abs(p - SIGNIFICANCE) < 0.0005:  # rounded further, it would no longer show on which side it lies
        return f"p = {p:.4f}"
    return f"p = {p:.3f}" if p < 0.1 else f"p = {p:.2f}"


def t_interval(
    mean: NDArray[np.float64], std: NDArray[np.float64], n: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """95% confidence intervals of means by Student's t; NaN where there are fewer than two values, or no spread.

    The arrays are (groups,); ``std`` has n - 1 in the denominator, ``n`` counts independent values.
    """
    enough = (n >= 2) & (std > 0)  # equal values say nothing about how far others would lie
    quantile = np.full(len(n), np.nan)
    quantile[enough] = stdtrit(n[enough] - 1, (1 + CONFIDENCE) / 2)
    half = quantile * std / np.sqrt(n)
    return mean - half, mean + half
