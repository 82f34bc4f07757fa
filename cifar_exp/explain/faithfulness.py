"""Tests a layer's Grad-CAM maps: the effect of hiding what they mark, against what the maps of other images mark.

The control has the shape, the area and the usual place of a map. Scattered random pixels are no such control: their
holes disturb a network more than a connected one.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cifar_exp.compute.seeding import derived_seed, generators_kept
from cifar_exp.data.split import spread_evenly, stratified_choice
from cifar_exp.explain.gradcam import CamMap, Explainer, control_rows
from cifar_exp.explain.layers import LayerMap
from cifar_exp.explain.verdict import verdict

FEWEST_IMAGES = 20  # with fewer, a bootstrap interval is too narrow
RESAMPLES = 2000
_PASSES = 10  # what an image costs a layer, in forward passes of one image: its map, its own places, the controls
_LEAST_SAMPLE = 30
_MOST_SANITY_IMAGES = 50
_EFFECT_COLUMNS = ("attended_drop", "control_drop", "difference", "ci_low", "ci_high")
_QUANTILES = (0.025, 0.975)


@dataclass(frozen=True)
class Effect:
    """What hiding the attended pixels does, against hiding those that other images' maps mark."""

    attended_drop: float  # mean fall in the class's probability
    control_drop: float  # the same for the control
    low: float  # lower end of the 95% paired bootstrap interval of the difference
    high: float  # its upper end

    @property
    def difference(self) -> float:
        """Mean of attended less control; positive if the maps' own places matter more."""
        return self.attended_drop - self.control_drop


@dataclass(frozen=True)
class Faithfulness:
    """A layer's maps, tested for one target."""

    layer: LayerMap
    target: str  # ``predicted``: all sampled images; ``true``: the misclassified ones among them
    n: int  # images
    infill: str
    effect: Effect | None = None  # None with fewer than ``FEWEST_IMAGES``
    # Mean rank correlation of the maps with those of the network whose last block is re-initialized; None if it was
    # not measured.
    correlation: float | None = None

    @property
    def verdict(self) -> str | None:
        """One of three verdicts, by the interval; None if it was not measured."""
        return None if self.effect is None else verdict(self.effect.low, self.effect.high)


@dataclass(frozen=True)
class Explanation:
    """The maps of the shown images, and the test of each layer on a random sample."""

    indices: NDArray[np.int64]  # positions of the shown images in the test split
    maps: Sequence[CamMap]  # for each shown image, layer and target
    tests: Sequence[Faithfulness]  # for each target and layer; empty if the config leaves the test out

    @property
    def read_first(self) -> str | None:
        """The layer with the highest faithfulness for the predicted class; without a test, the deepest one."""
        differences = {
            test.layer.name: test.effect.difference for test in self.tests if test.target == "predicted" and test.effect
        }
        if not differences:
            return self.maps[-1].layer.name if self.maps else None
        return max(differences, key=lambda name: differences[name])


def measure(
    explainer: Explainer,
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    predictions: NDArray[np.int64],
    layers: Sequence[LayerMap],
    seed: int,
) -> list[Faithfulness]:
    """Test each layer's maps on images (N, H, W, C), for the predicted class and, of mistakes, for the true one."""
    scrambled = copy_reinitialized(explainer, derived_seed(seed, "re-initialized"))
    tests = []
    for target, rows in (("predicted", np.arange(len(images))), ("true", np.flatnonzero(labels != predictions))):
        classes = (predictions if target == "predicted" else labels)[rows]
        for layer in layers:
            test = Faithfulness(layer, target, len(rows), explainer.infill)
            if len(rows) >= FEWEST_IMAGES:
                maps = explainer.maps(images[rows], classes, layer.name)
                test = replace(
                    test,
                    effect=measure_effect(explainer, images[rows], classes, maps.attended, seed),
                    correlation=_correlation(scrambled, images[rows], classes, layer, maps.coarse),
                )
            tests.append(test)
    return tests


def limit_sample_size(count: int, test_images: int, layers: int) -> int:
    """Limit ``count`` images, so that testing costs no more than evaluating the test split; at least 30 remain."""
    return min(count, max(test_images // (_PASSES * layers), _LEAST_SAMPLE), test_images)


def sample(labels: NDArray[np.int64], predictions: NDArray[np.int64], count: int, seed: int) -> NDArray[np.int64]:
    """Draw the positions of random images, stratified over the classes and over right and wrong predictions."""
    strata = 2 * labels + (labels != predictions)
    return stratified_choice(strata, count, derived_seed(seed, "faithfulness"))


def measure_effect(
    explainer: Explainer,
    images: NDArray[np.uint8],
    classes: NDArray[np.int64],
    attended: NDArray[np.bool_],
    seed: int,
) -> Effect:
    """Measure what hiding these pixels does, against hiding those of other images.

    ``attended`` (N, H, W) are the pixels that each image's map marks; the probability of ``classes`` (N,) counts.
    """
    before = explainer.probabilities(images, classes)
    own = before - explainer.probabilities(images, classes, attended)
    controls = control_rows(len(images), derived_seed(seed, "faithfulness controls"))
    others = before - np.mean([explainer.probabilities(images, classes, attended[rows]) for rows in controls], axis=0)
    low, high = bootstrap_interval(own - others, derived_seed(seed, "faithfulness bootstrap"))
    return Effect(float(own.mean()), float(others.mean()), low, high)


def bootstrap_interval(differences: NDArray[np.float64], seed: int) -> tuple[float, float]:
    """95% percentile bootstrap interval of the mean of paired differences (N,)."""
    draws = np.random.default_rng(seed).integers(len(differences), size=(RESAMPLES, len(differences)))
    low, high = np.quantile(differences[draws].mean(axis=1), _QUANTILES)
    return float(low), float(high)


def copy_reinitialized(explainer: Explainer, seed: int) -> Explainer | None:
    """Copy the network with its last block and its head as untrained (Adebayo et al. 2018, arXiv 1810.03292).

    These are the last two of the network's direct children that have parameters. None if no module in them has
    ``reset_parameters``.
    """
    scrambled = copy.deepcopy(explainer.model)
    children = [child for child in scrambled.children() if any(True for _ in child.parameters())]
    modules = [module for child in children[-2:] for module in child.modules()]
    reset = [function for module in modules if callable(function := getattr(module, "reset_parameters", None))]
    with generators_kept(explainer.compute.device, seed=seed):
        for function in reset:
            function()
    return replace(explainer, model=scrambled) if reset else None


def _correlation(
    scrambled: Explainer | None,
    images: NDArray[np.uint8],
    classes: NDArray[np.int64],
    layer: LayerMap,
    maps: NDArray[np.float32],
) -> float | None:
    """Mean rank correlation of the maps, (N, h, w) before the ReLU, with those of the re-initialized network."""
    if scrambled is None:
        return None
    some = spread_evenly(len(images), min(_MOST_SANITY_IMAGES, len(images) // 4))
    others = scrambled.maps(images[some], classes[some], layer.name).coarse
    return rank_correlation(maps[some].reshape(len(some), -1), others.reshape(len(some), -1))


def rank_correlation(maps: NDArray[np.float32], others: NDArray[np.float32]) -> float | None:
    """Mean of Spearman's correlation over the rows of (N, pixels) that are not constant; None if all are."""
    varied = (np.ptp(maps, axis=1) > 0) & (np.ptp(others, axis=1) > 0)
    if not varied.any():
        return None
    from scipy.stats import rankdata  # takes half a second to import

    ranks, other_ranks = (rankdata(rows[varied], axis=1) for rows in (maps, others))
    ranks -= ranks.mean(axis=1, keepdims=True)
    other_ranks -= other_ranks.mean(axis=1, keepdims=True)
    covariance = (ranks * other_ranks).sum(axis=1)
    return float((covariance / np.sqrt((ranks**2).sum(axis=1) * (other_ranks**2).sum(axis=1))).mean())


def faithfulness_rows(tests: Sequence[Faithfulness]) -> list[Mapping[str, Any]]:
    """Make the rows of ``faithfulness.csv``."""
    return [
        {
            **{name: getattr(test.effect, name.removeprefix("ci_"), None) for name in _EFFECT_COLUMNS},
            "layer": test.layer.name,
            "target": test.target,
            "map_height": test.layer.height,
            "map_width": test.layer.width,
            "n": test.n,
            "infill": test.infill,
            "verdict": test.verdict,
            "rank_correlation_reinitialized": test.correlation,
        }
        for test in tests
    ]
