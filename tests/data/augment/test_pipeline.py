"""Augmentation: wrong arguments are errors, draws depend on the seed, transforms do what their names say."""

import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from cifar_exp.config.groups.augment import AUGMENTATIONS
from cifar_exp.config.targets import check_targets
from cifar_exp.data.augment.pipeline import Augmentation
from cifar_exp.errors import RequestError

COLOUR = (125.3, 122.95, 113.9)
FLIP = {"_target_": "albumentations.HorizontalFlip", "p": 1.0}
CROP = {
    "pad": {"_target_": "albumentations.Pad", "padding": 4, "fill": "dataset_mean"},
    "crop": {"_target_": "albumentations.RandomCrop", "height": 32, "width": 32},
}


def cutout(**options: Any) -> dict[str, Any]:
    sizes = {"num_holes_range": [1, 1], "hole_height_range": [16, 16], "hole_width_range": [16, 16]}
    return {"_target_": "albumentations.CoarseDropout", **sizes, "fill": "dataset_mean", **options}


def augmentation(*transforms: dict[str, Any], channels: int = 3) -> Augmentation:
    return Augmentation({f"t{i}": node for i, node in enumerate(transforms)}, COLOUR[:channels], (32, 32, channels))


def noise(count: int, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 32, 32, channels), dtype=np.uint8)


def same(count: int) -> np.ndarray:
    """One noisy image, many times."""
    return np.repeat(noise(1), count, axis=0)


@pytest.mark.parametrize(
    ("node", "named"),
    [
        (FLIP | {"pp": 1}, "pp"),
        (FLIP | {"always_apply": True}, "always_apply"),
        (cutout(max_holes=1), "max_holes"),
        (cutout(fill_value=0), "fill_value"),
        ({"_target_": "albumentations.RandomCrop", "height": 32, "width": 32, "heigth": 3}, "heigth"),
        ({"_target_": "albumentations.RandomCrop", "height": 32}, "width"),
        (FLIP | {"p": 1.5}, "p"),
        (cutout(hole_height_range=["a", "b"]), "hole_height_range"),
    ],
)
def test_wrong_argument_is_an_error_that_names_it(node: dict[str, Any], named: str) -> None:
    with pytest.raises(RequestError, match=rf"\b{named}\b") as caught:
        augmentation(node)
    assert node["_target_"] in str(caught.value)
    assert "\n" not in str(caught.value)


def test_wrong_argument_inside_one_of() -> None:
    node = {"_target_": "albumentations.OneOf", "transforms": [FLIP, cutout(max_holes=3)]}
    with pytest.raises(RequestError, match="max_holes"):
        augmentation(node)


@pytest.mark.parametrize("node", ["albumentations.HorizontalFlip", {"p": 1.0}, None])
def test_transform_without_a_target(node: Any) -> None:
    with pytest.raises(RequestError, match=r"augment\.transforms\.mirror: needs a _target_"):
        Augmentation({"mirror": node}, COLOUR, (32, 32, 3))


def test_unknown_transform() -> None:
    with pytest.raises(RequestError, match=r"albumentations\.HorizontalFlop: cannot be imported"):
        augmentation({"_target_": "albumentations.HorizontalFlop"})


@pytest.mark.parametrize(
    "node",
    [
        {"_target_": "albumentations.Resize", "height": 16, "width": 32},
        {"_target_": "albumentations.Pad", "padding": 4},
        {"_target_": "albumentations.ToFloat"},
        {"_target_": "albumentations.Normalize"},
        {"_target_": "albumentations.ToGray", "num_output_channels": 1, "p": 1.0},
    ],
)
def test_other_shape_or_type_is_refused(node: dict[str, Any]) -> None:
    with pytest.raises(RequestError, match=r"changed images from \(32, 32, 3\) uint8 to"):
        augmentation(node)


def test_a_shape_that_changes_at_random_is_refused() -> None:
    node = {"_target_": "albumentations.Pad", "padding": 4, "p": 0.5}
    with pytest.raises(RequestError, match=r"changed images from \(32, 32, 3\) uint8 to \(40, 40, 3\)"):  # noqa: PT012
        made = augmentation(node)
        for seed in range(10):
            made(noise(8), seed)


SQUARE = {"height": 32, "width": 32}
INNER = {"transforms": [FLIP, FLIP]}
ARGUMENTS: dict[str, dict[str, Any]] = {
    "CenterCrop": SQUARE,
    "Crop": {"x_max": 16, "y_max": 16},
    "CropAndPad": {"px": 2},
    "GridElasticDeform": {"num_grid_xy": [4, 4], "magnitude": 2},
    "LongestMaxSize": {"max_size": 16},
    "OneOf": INNER,
    "OneOrOther": INNER,
    "RandomCrop": SQUARE,
    "RandomOrder": INNER,
    "RandomResizedCrop": {"size": [32, 32]},
    "RandomSizedCrop": {"size": [32, 32], "min_max_height": [16, 32]},
    "Resize": SQUARE,
    "SelectiveChannelTransform": INNER,
    "Sequential": INNER,
    "SmallestMaxSize": {"max_size": 16},
    "SomeOf": INNER,
}


@pytest.mark.parametrize("target", sorted(AUGMENTATIONS.targets))
def test_everything_on_the_list_can_be_used(target: str) -> None:
    always = {"p": 1.0} if target.startswith("albumentations.") else {}
    node = {"_target_": target} | always | ARGUMENTS.get(target.removeprefix("albumentations."), {})
    made = augmentation(node, {"_target_": "albumentations.Resize", **SQUARE})
    np.testing.assert_array_equal(made(noise(2), 0), made(noise(2), 0))


def test_transform_that_cannot_be_applied() -> None:
    with pytest.raises(RequestError, match="64"):
        augmentation({"_target_": "albumentations.RandomCrop", "height": 64, "width": 64})


@pytest.mark.parametrize("name", ["Normalize", "ToFloat", "ToTensorV2"])
def test_normalization_gets_the_hint(name: str) -> None:
    config = {"augment": {"transforms": {"last": {"_target_": f"albumentations.{name}"}}}}
    with pytest.raises(RequestError, match="cifar-exp normalizes each batch") as caught:
        check_targets(config, [])
    assert f"augment.transforms.last._target_=albumentations.{name}" in str(caught.value)


def test_no_transforms_leave_the_images_alone() -> None:
    np.testing.assert_array_equal(augmentation()(noise(5), 1), noise(5))


def test_flip_mirrors_left_and_right() -> None:
    np.testing.assert_array_equal(augmentation(FLIP)(noise(5), 1), noise(5)[:, :, ::-1])


def test_transforms_apply_in_their_order() -> None:
    transposed = augmentation(FLIP, {"_target_": "albumentations.Transpose", "p": 1.0})(noise(2), 0)
    np.testing.assert_array_equal(transposed, noise(2)[:, :, ::-1].transpose(0, 2, 1, 3))


def test_seed_decides_the_pixels() -> None:
    made = augmentation(*CROP.values(), cutout(p=1.0))
    first = made(noise(20), 7)
    made(noise(3), 8)
    np.testing.assert_array_equal(made(noise(20), 7), first)
    np.testing.assert_array_equal(augmentation(*CROP.values(), cutout(p=1.0))(noise(20), 7), first)
    assert not np.array_equal(made(noise(20), 9), first)


def test_global_seeds_do_not_matter() -> None:
    made = augmentation(*CROP.values())
    results = []
    for seed in (1, 2):
        np.random.seed(seed)  # noqa: NPY002
        results.append(made(noise(20), 7))
    np.testing.assert_array_equal(*results)


def test_images_of_a_batch_have_independent_draws() -> None:
    augmented = augmentation(*CROP.values())(same(100), 0)
    assert len({image.tobytes() for image in augmented}) > 40  # of 81 shifts


def test_crop_is_a_shift_filled_with_the_mean_colour() -> None:
    augmented = augmentation(*CROP.values())(same(800), 0)
    padded = np.full((40, 40, 3), (125, 123, 114), np.uint8)
    padded[4:36, 4:36] = noise(1)[0]
    shifts = {padded[top : top + 32, left : left + 32].tobytes() for top in range(9) for left in range(9)}
    assert {image.tobytes() for image in augmented} == shifts


def test_flip_as_often_as_its_probability() -> None:
    augmented = augmentation(FLIP | {"p": 0.2})(same(2000), 0)
    flipped = (augmented == noise(1)[:, :, ::-1]).all(axis=(1, 2, 3))
    kept = (augmented == noise(1)).all(axis=(1, 2, 3))
    assert (flipped ^ kept).all()
    assert abs(flipped.sum() - 400) < 4 * (2000 * 0.2 * 0.8) ** 0.5


def test_cutout_has_its_probability_and_size() -> None:
    images = np.zeros((2000, 32, 32, 3), np.uint8)
    augmented = augmentation(cutout(p=0.5))(images, 0)
    sizes = (augmented != 0).all(axis=3).sum(axis=(1, 2))
    assert set(sizes.tolist()) == {0, 256}
    assert abs((sizes == 256).sum() - 1000) < 4 * (2000 * 0.5 * 0.5) ** 0.5
    assert np.unique(augmented[sizes == 256].reshape(-1, 3), axis=0).tolist() == [[0, 0, 0], [125, 123, 114]]


def test_one_of_applies_one() -> None:
    node = {"_target_": "albumentations.OneOf", "transforms": [FLIP, cutout(p=1.0)], "p": 1.0}
    augmented = augmentation(node)(same(100), 0)
    flipped = (augmented == noise(1)[:, :, ::-1]).all(axis=(1, 2, 3))
    changed = (augmented != noise(1)).any(axis=(1, 2, 3))
    assert changed.all()
    assert 20 < flipped.sum() < 80


def test_one_channel() -> None:
    made = augmentation(*CROP.values(), FLIP, cutout(p=1.0), channels=1)
    augmented = made(np.zeros((10, 32, 32, 1), np.uint8), 0)
    assert augmented.shape == (10, 32, 32, 1)
    assert set(np.unique(augmented)) == {0, 125}


def test_import_asks_no_package_index() -> None:
    script = """
import os, socket
def refuse(*arguments, **options):
    print("asked the network for", arguments)
    raise OSError("no network in this test")
socket.getaddrinfo = socket.create_connection = socket.socket.connect = refuse
import cifar_exp.data.augment.pipeline
print(os.environ["NO_ALBUMENTATIONS_UPDATE"])
"""
    environment = {key: value for key, value in os.environ.items() if key != "NO_ALBUMENTATIONS_UPDATE"}
    result = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    assert result.stdout == "1\n", result.stderr
