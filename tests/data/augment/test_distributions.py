"""Transforms draw independently of each other, and the two backends draw from the same distribution.

Images hold their own coordinates, so that shift, flips and hole can be read from the pixels that come out.
"""

from collections.abc import Callable
from functools import cache
from itertools import combinations, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from composing import composed
from numpy.typing import NDArray
from scipy.stats import chi2_contingency

from cifar_exp.data.augment.backend import choose
from cifar_exp.data.augment.pipeline import Augmentation
from cifar_exp.data.batches import TrainingBatches
from cifar_exp.data.dataset import Split

SIZE, BATCH, BATCHES = 24, 100, 200  # 20,000 images
# The seeds are fixed. Of about 120 p-values an option, the smallest is near 1e-2 for independent draws.
INDEPENDENT, DEPENDENT = 1e-5, 1e-7
MARK, HOLE, OTHER_HOLE = 77, 255, 254
OPTIONS = sorted(path.stem for path in (Path(__file__).resolve().parents[3] / "conf" / "augment").glob("*.yaml"))
TRANSFORMS = {option: composed(f"augment={option}").augment.transforms for option in OPTIONS}


def cutout(fill: int, p: float) -> dict[str, Any]:
    sides = {"num_holes_range": [1, 1], "hole_height_range": [4, 4], "hole_width_range": [4, 4]}
    return {"_target_": "albumentations.CoarseDropout", **sides, "fill": fill, "p": p}


FLIPS = [{"_target_": f"albumentations.{name}Flip", "p": 0.5} for name in ("Horizontal", "Vertical")]
PIPELINES = {
    # The colours of a policy hide the coordinates.
    **{option: nodes for option, nodes in TRANSFORMS.items() if nodes and "policy" not in nodes},
    "nested": {
        "sequence": {"_target_": "albumentations.Sequential", "transforms": FLIPS, "p": 1.0},
        "one": {
            "_target_": "albumentations.OneOf",
            "transforms": [cutout(HOLE, 0.5), cutout(OTHER_HOLE, 0.5)],
            "p": 0.7,
        },
    },
}


def augmentation(name: str) -> Augmentation:
    nodes = {key: dict(node) for key, node in PIPELINES[name].items()}
    for key, node in nodes.items():
        node |= {"height": SIZE, "width": SIZE} if key == "crop" else {"fill": HOLE} if key == "cutout" else {}
    return Augmentation(nodes, (100.0,) * 3, (SIZE, SIZE, 3))


def coordinates(count: int) -> NDArray[np.uint8]:
    """(count, SIZE, SIZE, 3): row, column and a mark."""
    row, column = np.mgrid[0:SIZE, 0:SIZE]
    return np.repeat(np.stack([row, column, np.full_like(row, MARK)], 2).astype(np.uint8)[None], count, axis=0)


def by_albumentations(name: str, batches: int = BATCHES) -> NDArray[np.uint8]:
    """(batches, BATCH, H, W, C): consecutive batches of an epoch."""
    split = Split(coordinates(BATCH), np.zeros(BATCH, np.int64), np.array([""] * BATCH))
    maker = TrainingBatches(split, augmentation(name), BATCH, seed=3)
    return np.stack([maker.images(1, batch, np.arange(BATCH)) for batch in range(batches)])


def by_device(name: str) -> NDArray[np.uint8]:
    pipeline = choose("device", augmentation(name), torch.device("cpu"), 0).device_augmentation
    assert pipeline is not None
    made = pipeline(torch.from_numpy(coordinates(BATCH * BATCHES)), [(BATCH, seed) for seed in range(BATCHES)])
    return made.numpy().reshape(BATCHES, BATCH, SIZE, SIZE, 3)


def draws(images: NDArray[np.uint8]) -> dict[str, NDArray[np.int64]]:
    """(batches, BATCH) categories of every draw that shows in the pixels; -1 where an image has no hole."""
    values = images.reshape(-1, SIZE, SIZE, 3)
    last = SIZE - 2
    # A pixel with two neighbours that neither the hole nor the padding covers.
    spots = np.array([(i, j) for s in ((5, 17), (0, last)) for i in s for j in s])
    row, column = spots.T
    seen = np.logical_and.reduce([values[:, row + i, column + j, 2] == MARK for i, j in ((0, 0), (1, 0), (0, 1))])
    assert seen.any(axis=1).all()
    image, spot = np.arange(len(values)), seen.argmax(axis=1)
    here = values[image, row[spot], column[spot]].astype(np.int64)
    upside_down = values[image, row[spot] + 1, column[spot], 0] < here[:, 0]
    mirrored = values[image, row[spot], column[spot] + 1, 1] < here[:, 1]
    hole = values[..., 0] >= OTHER_HOLE
    there = hole.any(axis=(1, 2))
    found = {
        "down": here[:, 0] - np.where(upside_down, SIZE - 1 - row[spot], row[spot]),
        "right": here[:, 1] - np.where(mirrored, SIZE - 1 - column[spot], column[spot]),
        "upside down": upside_down,
        "mirrored": mirrored,
        "hole": there,
        "colour": values[..., 0].max(axis=(1, 2)),
        "top": hole.any(axis=2).argmax(axis=1),
        "left": hole.any(axis=1).argmax(axis=1),
    }
    numbered = {name: np.unique(drawn, return_inverse=True)[1] for name, drawn in found.items()}
    for name in ("colour", "top", "left"):
        numbered[name] = np.where(there, numbered[name], -1)
    return {name: drawn.reshape(-1, BATCH) for name, drawn in numbered.items() if np.ptp(drawn) > 0}


def p_value(one: NDArray[np.int64], other: NDArray[np.int64]) -> float:
    """That two categories of the same images are independent (chi-square), where both have a value."""
    both = (one >= 0) & (other >= 0)
    one, other = one[both], other[both]
    kinds = other.max() + 1
    table = np.bincount(one * kinds + other, minlength=(one.max() + 1) * kinds).reshape(-1, kinds)
    table = table[:, table.any(axis=0)][table.any(axis=1)]
    return 1.0 if 1 in table.shape else float(chi2_contingency(table, correction=False).pvalue)


def smallest_p_value(found: dict[str, NDArray[np.int64]]) -> float:
    """Over all pairs of draws: of the same image, of images k and k + 1, 2k, 2k + 1 of a batch, of its first image."""
    k = np.arange(1, BATCH // 2)
    same = [p_value(found[one], found[other]) for one, other in combinations(found, 2)]
    across = [
        p_value(found[one][:, k], found[other][:, later])
        for one, other in product(found, repeat=2)
        for later in (k + 1, 2 * k, 2 * k + 1)
    ]
    first = [
        p_value(*(np.where(draw >= 0, 2 * draw > found[name].max(), -1) for name, draw in pair))
        for pair in combinations([(name, draw[:, 0]) for name, draw in found.items()], 2)
    ]
    return min(same + across + first)


@pytest.fixture(scope="module")
def found() -> Callable[[str], dict[str, NDArray[np.int64]]]:
    """The draws of a pipeline by Albumentations, made once."""
    return cache(lambda name: draws(by_albumentations(name)))


@pytest.mark.parametrize("name", PIPELINES)
def test_draws_are_independent(found, name):
    assert smallest_p_value(found(name)) > INDEPENDENT


@pytest.mark.parametrize(("name", "batches"), [("crop_flip_cutout", 20), ("published", BATCHES), ("nested", 20)])
def test_a_shared_stream_is_detected(monkeypatch, name, batches):
    """One seed for all transforms, as ``Compose.set_random_seed`` gives it."""
    monkeypatch.setattr("cifar_exp.data.augment.pipeline.derived_seed", lambda seed, _place: seed)
    assert smallest_p_value(draws(by_albumentations(name, batches))) < DEPENDENT


def test_two_flips_coincide_as_often_as_independent_ones(found):
    both = found("nested")
    exactly_one = (both["mirrored"] != both["upside down"]).mean()
    assert abs(exactly_one - 0.5) < 4 * (0.25 / (BATCH * BATCHES)) ** 0.5


@pytest.mark.parametrize("name", [option for option in OPTIONS if option in PIPELINES])
def test_the_device_draws_from_the_same_distribution(found, name):
    one, other = found(name), draws(by_device(name))
    assert one.keys() == other.keys()
    assert smallest_p_value(other) > INDEPENDENT
    backend = np.repeat([0, 1], BATCH * BATCHES)
    for first, second in [*combinations(one, 2), *((name, name) for name in one)]:
        drawn = [
            np.where((side[first] < 0) | (side[second] < 0), -1, side[first] * 100 + side[second]).ravel()
            for side in (one, other)
        ]
        assert p_value(backend, np.concatenate(drawn)) > INDEPENDENT, (first, second)
