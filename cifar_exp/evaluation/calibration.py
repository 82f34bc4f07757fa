"""Calibration: whether confidence (of the predicted class) matches accuracy, and the temperature that corrects it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from cifar_exp.evaluation.statistics import wilson_interval

BINS = 15
_FEWEST_IMAGES = 20  # in a bin
_RESAMPLES = 4_000
_Z = 1.959964  # 97.5% quantile of the normal distribution
_TEMPERATURES = (0.05, 20.0)  # range of the search
_TINY = float(np.finfo(np.float32).tiny)  # the logarithm of a smaller probability is taken of this


@dataclass(frozen=True)
class CalibrationError:
    """The expected calibration error of a split, and what chance can do to it."""

    ece: float  # expected calibration error of the predicted class, in [0, 1]
    low: float  # 95% interval of the error without the part that chance adds (see ``calibration_error``)
    high: float
    by_chance: float  # the largest ECE (95% quantile) that a perfectly calibrated network shows on so many images
    excess: float  # mean confidence minus accuracy; positive means overconfident
    excess_low: float  # its 95% interval
    excess_high: float

    @property
    def verdict(self) -> str:
        """``calibrated`` if chance explains the ECE, else ``overconfident``, ``underconfident`` or ``mixed``."""
        if self.ece <= self.by_chance:
            return "calibrated"
        if self.excess_low > 0:
            return "overconfident"
        return "underconfident" if self.excess_high < 0 else "mixed"


def equal_mass_bins(confidences: NDArray[np.float64]) -> NDArray[np.int64]:
    """Assign each image to a bin, (N,), by quantiles of the confidence.

    Equal confidences share a bin, no bin is empty, and a small split has fewer bins, of at least 20 images.
    """
    bins = min(BINS, max(len(confidences) // _FEWEST_IMAGES, 1))
    edges = np.percentile(confidences, np.linspace(0, 100, bins + 1)[1:-1])
    return np.unique(np.searchsorted(edges, confidences), return_inverse=True)[1].astype(np.int64)


def calibration_rows(confidences: NDArray[np.float64], correct: NDArray[np.bool_]) -> list[Mapping[str, Any]]:
    """Rows of ``calibration.csv``: the reliability diagram, with Wilson's 95% interval of each accuracy."""
    bins = equal_mass_bins(confidences)
    rows: list[Mapping[str, Any]] = []
    for number in range(int(bins.max()) + 1):
        inside, right = confidences[bins == number], int(correct[bins == number].sum())
        low, high = wilson_interval(right, len(inside))
        rows.append(
            {
                "bin": number + 1,
                "images": len(inside),
                "lowest_confidence": float(inside.min()),
                "highest_confidence": float(inside.max()),
                "mean_confidence": float(inside.mean()),
                "accuracy": right / len(inside),
                "accuracy_low": low,
                "accuracy_high": high,
            }
        )
    return rows


def expected_calibration_error(confidences: NDArray[np.float64], correct: NDArray[np.bool_]) -> float:
    """Mean over the images of |accuracy - mean confidence| of their bin (Naeini et al. 2015, Guo et al. 2017)."""
    return float(np.abs(np.bincount(equal_mass_bins(confidences), confidences - correct)).sum()) / len(confidences)


def calibration_error(confidences: NDArray[np.float64], correct: NDArray[np.bool_]) -> CalibrationError:
    """Compute the ECE with its interval.

    Chance biases an ECE upwards: even a perfectly calibrated network has one above 0. ``by_chance`` simulates such
    networks, in which every image is right with the probability of its confidence (consistency resampling, Broecker &
    Smith 2007, doi:10.1175/WAF993.1). The interval is that of the ECE minus its bias, which a bootstrap estimates; it
    begins at 0 if chance explains the ECE. Both resample the mean difference of each bin, assumed to be normal.
    """
    n, bins = len(confidences), equal_mass_bins(confidences)
    difference = confidences - correct
    sums, images = np.bincount(bins, difference), np.bincount(bins)
    ece = float(np.abs(sums).sum()) / n
    spread = np.sqrt(np.maximum(np.bincount(bins, difference**2) - sums**2 / images, 0))
    ideal_spread = np.sqrt(np.bincount(bins, confidences * (1 - confidences)))
    noise = np.random.default_rng(0).standard_normal((_RESAMPLES, len(images)))
    by_chance = float(np.quantile(np.abs(noise * ideal_spread).sum(axis=1) / n, 0.95))
    resampled = float(np.abs(sums + noise * spread).sum(axis=1).mean()) / n
    half_of_ece = _Z * float(np.sqrt((spread**2).sum())) / n
    half = _Z * float(difference.std()) / math.sqrt(n)
    excess = float(difference.mean())
    return CalibrationError(
        ece=ece,
        low=0.0 if ece <= by_chance else max(2 * ece - resampled - half_of_ece, 0.0),
        high=max(2 * ece - resampled, 0.0) + half_of_ece,
        by_chance=by_chance,
        excess=excess,
        excess_low=excess - half,
        excess_high=excess + half,
    )


def brier_score(probabilities: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """Mean squared distance between probabilities and one-hot labels, summed over classes; in [0, 2] (Brier 1950)."""
    p = probabilities.astype(np.float64)
    return float((p**2).sum(axis=1).mean() - 2 * p[np.arange(len(p)), labels].mean() + 1)


def fit_temperature(probabilities: NDArray[np.float32], labels: NDArray[np.int64]) -> float | None:
    """Fit the temperature with the lowest cross-entropy on held-out images (Guo et al. 2017, arXiv 1706.04599).

    The cross-entropy is convex in the inverse temperature, so it is lowest where its slope is 0.

    Returns:
        None if the best one lies outside [0.05, 20], as it does if all images are right, or a probability is NaN.
    """
    from scipy.optimize import brentq  # the run page, which imports this module, does not need it

    if not np.isfinite(probabilities).all():
        return None
    log_p = np.log(np.maximum(probabilities, _TINY, dtype=np.float64))
    of_labels = log_p[np.arange(len(labels)), labels]

    def slope(inverse: float) -> float:
        return float(((softmax(inverse * log_p, axis=1) * log_p).sum(axis=1) - of_labels).mean())

    low, high = 1 / _TEMPERATURES[1], 1 / _TEMPERATURES[0]
    return 1 / float(brentq(slope, low, high, xtol=1e-12)) if slope(low) < 0 < slope(high) else None


def apply_temperature(probabilities: NDArray[np.float32], temperature: float) -> NDArray[np.float64]:
    """Divide the logits by a temperature; returns (N, C) probabilities."""
    return softmax(np.log(np.maximum(probabilities, _TINY, dtype=np.float64)) / temperature, axis=1)


def calibration_scores(
    probabilities: NDArray[np.float32], labels: NDArray[np.int64], temperature: float | None
) -> dict[str, float | None]:
    """Compute the columns of ``summary.csv`` about calibration.

    ``temperature`` was fitted on the validation split; None if there is no such split.
    """

    def ece(p: NDArray[Any]) -> float:
        return expected_calibration_error(p.max(axis=1).astype(np.float64), p.argmax(axis=1) == labels)

    return {
        "ece": ece(probabilities),
        "brier": brier_score(probabilities, labels),
        "temperature": temperature,
        "ece_calibrated": None if temperature is None else ece(apply_temperature(probabilities, temperature)),
    }
