"""What the batched transforms draw is distributed as what Albumentations draws; what is not is told apart."""

from typing import Any

import albumentations
import numpy as np
import pytest
import torch
from scipy.stats import chi2_contingency
from test_augment_device import one_by_one, parameters_of

from cifar_exp.data.augment.device_transforms import HorizontalFlip, RandomCrop, Transform
from cifar_exp.data.augment.from_albumentations import translate

# Both samples are drawn with fixed seeds, so these tests always end in the same way. If the distributions are the same,
# a p-value is below 1e-3 for one seed in a thousand; of the wrong ones below, each falls under 1e-6.
DRAWS, SAME, DIFFERENT = 4000, 1e-3, 1e-6


def p_value(one: list[Any], other: list[Any]) -> float:
    """Of the hypothesis that two samples of categories come from one distribution (chi-square)."""
    kinds = sorted({*one, *other})
    table = np.array([[sample.count(kind) for kind in kinds] for sample in (one, other)])
    rare = table.sum(axis=0) < 10  # expected counts under 5 are pooled
    table = np.column_stack([table[:, ~rare], table[:, rare].sum(axis=1)]) if rare.any() else table
    table = table[:, table.sum(axis=0) > 0]
    return 1.0 if table.shape[1] == 1 else float(chi2_contingency(table, correction=False).pvalue)


def batched(step: Transform, size: tuple[int, int]) -> dict[str, torch.Tensor]:
    drawn = step.draw(DRAWS, size, np.random.default_rng(1))
    return {name: torch.from_numpy(values) for name, values in drawn.items()}


def singly(transform: Any, step: Transform, size: tuple[int, int]) -> dict[str, torch.Tensor]:
    return parameters_of(step, one_by_one(transform, np.zeros((DRAWS, *size, 3), np.uint8), 2)[1])


def places(parameters: dict[str, torch.Tensor]) -> list[tuple[int, int]]:
    return list(zip(parameters["top"].tolist(), parameters["left"].tolist(), strict=True))


def holes_as_seen(parameters: dict[str, torch.Tensor]) -> dict[str, list[Any]]:
    """Of each image: how many holes, and of its first one the extents, with the place that goes with them."""
    sides = {name: values.tolist() for name, values in parameters.items()}
    top, bottom, left, right = (np.array(sides[name]) for name in ("top", "bottom", "left", "right"))
    heights, widths = bottom - top, right - left
    there = heights[:, 0] > 0
    first = [list(values[there, 0]) for values in (heights, top, widths, left)]
    return {
        "number": list((heights > 0).sum(axis=1)),
        "height and top": list(zip(first[0], first[1], strict=True)),
        "width and left": list(zip(first[2], first[3], strict=True)),
        "height and width": list(zip(first[0], first[2], strict=True)),
        "top and left": list(zip(first[1], first[3], strict=True)),
        "last height": list(heights[heights[:, -1] > 0, -1]),
    }


def test_crops_are_distributed_alike():
    size, transform = (12, 14), albumentations.RandomCrop(8, 8)
    [step] = translate({"it": transform}, (*size, 3))
    theirs = places(singly(transform, step, size))
    assert p_value(places(batched(step, size)), theirs) > SAME
    assert p_value(places(batched(RandomCrop(9, 8), size)), theirs) < DIFFERENT  # the last place is never taken
    both = batched(step, size)
    both["left"] = both["top"] + (both["left"] > 4)  # each alone is nearly right, and they hang together
    assert p_value(places(both), theirs) < DIFFERENT


def test_random_padding_is_distributed_alike():
    size = (5, 6)
    transform = albumentations.PadIfNeeded(8, 8, position="random", fill=0)
    [step] = translate({"it": transform}, (*size, 3))
    theirs = places(singly(transform, step, size))
    assert p_value(places(batched(step, size)), theirs) > SAME
    [other] = translate({"it": albumentations.PadIfNeeded(8, 9, position="random", fill=0)}, (*size, 3))
    assert p_value(places(batched(other, size)), theirs) < DIFFERENT


@pytest.mark.parametrize("p", [0.2, 0.5, 1.0])
def test_flips_are_distributed_alike(p):
    transform = albumentations.HorizontalFlip(p=p)
    [step] = translate({"it": transform}, (4, 4, 3))
    theirs = singly(transform, step, (4, 4))["flipped"].tolist()
    assert p_value(batched(step, (4, 4))["flipped"].tolist(), theirs) > SAME
    assert p_value(batched(HorizontalFlip(p - 0.08), (4, 4))["flipped"].tolist(), theirs) < DIFFERENT


DROPOUTS = {
    "one hole": {"num_holes_range": (1, 1), "hole_height_range": (4, 4), "hole_width_range": (3, 3), "p": 1.0},
    "pixels": {"num_holes_range": (1, 3), "hole_height_range": (2, 5), "hole_width_range": (3, 6), "p": 0.6},
    "fractions": {
        "num_holes_range": (2, 4),
        "hole_height_range": (0.15, 0.7),
        "hole_width_range": (0.2, 0.2),
        "p": 0.9,
    },
    # Albumentations takes both ranges for pixels as soon as heights go up to 1, and makes whole numbers of them.
    "pixels and fractions": {
        "num_holes_range": (1, 1),
        "hole_height_range": (1.5, 4.9),
        "hole_width_range": (0.5, 2.5),
        "p": 1.0,
    },
    "up to the whole image": {
        "num_holes_range": (1, 1),
        "hole_height_range": (0.5, 1.0),
        "hole_width_range": (2, 99),
        "p": 1.0,
    },
}


@pytest.mark.parametrize("name", DROPOUTS)
def test_holes_are_distributed_alike(name):
    size, transform = (8, 7), albumentations.CoarseDropout(**DROPOUTS[name], fill=0)
    [step] = translate({"it": transform}, (*size, 3))
    ours, theirs = (holes_as_seen(found) for found in (batched(step, size), singly(transform, step, size)))
    for what, values in ours.items():
        assert p_value(values, theirs[what]) > SAME, what


@pytest.mark.parametrize(
    ("wrong", "what"),
    [
        ({"num_holes_range": (1, 4)}, "number"),
        ({"p": 0.5}, "number"),
        ({"hole_height_range": (2, 6)}, "height and top"),
        ({"hole_width_range": (3, 5)}, "width and left"),
    ],
)
def test_other_holes_are_told_apart(wrong, what):
    size, transform = (8, 7), albumentations.CoarseDropout(**DROPOUTS["pixels"], fill=0)
    [right] = translate({"it": transform}, (*size, 3))
    [step] = translate({"it": albumentations.CoarseDropout(**DROPOUTS["pixels"] | wrong, fill=0)}, (*size, 3))
    theirs = holes_as_seen(singly(transform, right, size))[what]
    assert p_value(holes_as_seen(batched(step, size))[what], theirs) < DIFFERENT


def test_holes_around_a_center_are_told_apart():
    """Cutout as its paper has it: any pixel can be the center, and the hole ends where the image does."""
    size, transform = (8, 7), albumentations.CoarseDropout(**DROPOUTS["one hole"], fill=0)
    [step] = translate({"it": transform}, (*size, 3))
    theirs = places({name: values[:, 0] for name, values in singly(transform, step, size).items()})
    rng = np.random.default_rng(1)
    clipped = {"top": rng.integers(-2, 6, DRAWS).clip(0), "left": rng.integers(-1, 6, DRAWS).clip(0)}
    assert p_value(places({name: torch.from_numpy(values) for name, values in clipped.items()}), theirs) < DIFFERENT
