"""Batched transforms against Albumentations: the same pixels for the same parameters; streams; who augments."""

from pathlib import Path
from typing import Any

import albumentations
import numpy as np
import pytest
import torch
from composing import composed
from hypothesis import given, settings
from hypothesis import strategies as st

from cifar_exp.data.augment import backend
from cifar_exp.data.augment.backend import choose
from cifar_exp.data.augment.device_pipeline import DeviceAugmentation
from cifar_exp.data.augment.device_transforms import CoarseDropout, RandomCrop, Transform
from cifar_exp.data.augment.from_albumentations import NotBatchedError, translate
from cifar_exp.data.augment.policy import Augmentation
from cifar_exp.errors import RequestError

ROOT = Path(__file__).resolve().parents[3]
COUNT = 20
COLOUR = (12.4, 200.0, 7.0)
BORDER_MODES = range(5)  # OpenCV's: constant, replicate, reflect, wrap, reflect_101
POSITIONS = ("center", "top_left", "top_right", "bottom_left", "bottom_right", "random")
CPU, GPU = torch.device("cpu"), torch.device("cuda")


def noise(shape: tuple[int, int, int], count: int = COUNT) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, *shape), dtype=np.uint8)


def one_by_one(transform: Any, images: np.ndarray, seed: int) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """What Albumentations makes of the images, and the parameters it drew for each; none where it did nothing."""
    transform.set_random_seed(seed)
    made, drawn = [], []
    for image in images:
        made.append(transform(image=image)["image"])
        drawn.append(dict(transform.params))
    return np.stack(made), drawn


def parameters_of(step: Transform, drawn: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """Albumentations' draws as one batched transform takes them."""
    found: dict[str, Any] = {}
    if isinstance(step, CoarseDropout):
        holes = np.zeros((len(drawn), step.holes[1], 4), np.int64)  # a hole that is not made is empty
        for own, params in zip(holes, drawn, strict=True):
            if params:
                own[: len(params["holes"])] = params["holes"]
        found = {side: holes[:, :, place] for place, side in enumerate(("left", "top", "right", "bottom"))}
    elif isinstance(step, RandomCrop):
        found = {
            "top": [params["crop_coords"][1] for params in drawn],
            "left": [params["crop_coords"][0] for params in drawn],
        }
    elif hasattr(step, "p"):
        found = {"flipped": [bool(params) for params in drawn]}
    elif getattr(step, "anywhere", False):
        padded = [params.get("pad_params", params) for params in drawn]
        found = {side: [own[f"pad_{side}"] for own in padded] for side in ("top", "left")}
    return {name: torch.as_tensor(np.array(values)) for name, values in found.items()}


def check_pixels(transform: Any, shape: tuple[int, int, int], seed: int = 0) -> None:
    """The batched equivalent, given Albumentations' own draws, makes the same images, and spoils none it is given."""
    images = noise(shape)
    expected, drawn = one_by_one(transform, images, seed)
    steps = translate({"it": transform}, shape)
    given_to_it = torch.from_numpy(images.copy())
    parameters = [parameters_of(step, drawn) for step in steps]
    np.testing.assert_array_equal(DeviceAugmentation(steps, shape[:2]).apply(given_to_it, parameters), expected)
    apart = given_to_it
    for step, own in zip(steps, parameters, strict=True):
        apart = step.apply(apart, own)
    np.testing.assert_array_equal(apart, expected)
    np.testing.assert_array_equal(given_to_it, images)


# --- the same pixels -----------------------------------------------------------------------------------
sides = st.integers(1, 12)
shapes = st.tuples(sides, sides, st.sampled_from([1, 3]))
seeds = st.integers(0, 2**32 - 1)


@settings(deadline=None, max_examples=60)
@given(
    shapes,
    st.sampled_from(BORDER_MODES),
    st.one_of(st.integers(0, 15), st.tuples(*[st.integers(0, 15)] * 2), st.tuples(*[st.integers(0, 15)] * 4)),
)
def test_pad_makes_the_same_pixels(shape, border_mode, padding):
    fill = tuple(range(50, 50 + shape[2]))
    check_pixels(albumentations.Pad(padding=padding, border_mode=border_mode, fill=fill), shape)


@settings(deadline=None, max_examples=60)
@given(shapes, st.sampled_from(BORDER_MODES), st.sampled_from(POSITIONS), sides, sides, st.booleans(), seeds)
def test_pad_if_needed_makes_the_same_pixels(shape, border_mode, position, height, width, divide, seed):
    wanted: dict[str, Any] = {"min_height": 2 * height, "min_width": width}
    if divide:
        wanted |= {"min_height": None, "pad_height_divisor": height}
    transform = albumentations.PadIfNeeded(**wanted, border_mode=border_mode, position=position, fill=9)
    check_pixels(transform, shape, seed)


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from([albumentations.RandomCrop, albumentations.CenterCrop]),
    shapes,
    sides,
    sides,
    st.sampled_from(BORDER_MODES),
    st.sampled_from(POSITIONS),
    seeds,
)
def test_crops_make_the_same_pixels(crop, shape, height, width, border_mode, position, seed):
    options = {"pad_if_needed": True, "border_mode": border_mode, "pad_position": position, "fill": 4}
    check_pixels(crop(height=height, width=width, **options), shape, seed)
    check_pixels(crop(height=min(height, shape[0]), width=min(width, shape[1])), shape, seed)


@pytest.mark.parametrize("p", [0.3, 1.0])
@pytest.mark.parametrize("flip", [albumentations.HorizontalFlip, albumentations.VerticalFlip])
def test_flips_make_the_same_pixels(flip, p):
    check_pixels(flip(p=p), (5, 8, 3))


@settings(deadline=None, max_examples=80)
@given(shapes, st.integers(1, 3), st.integers(0, 3), st.data(), st.booleans(), st.sampled_from([0.5, 1.0]), seeds)
def test_coarse_dropout_makes_the_same_pixels(shape, fewest, more, data, in_pixels, p, seed):
    def extent(whole: int) -> tuple[float, float]:
        if in_pixels:
            low = data.draw(st.integers(0, whole))
            return low, data.draw(st.integers(max(low, 1), whole + 3))
        low = data.draw(st.floats(0, 0.9))
        return low, data.draw(st.floats(low, 0.99))

    transform = albumentations.CoarseDropout(
        num_holes_range=(fewest, fewest + more),
        hole_height_range=extent(shape[0]),
        hole_width_range=extent(shape[1]),
        fill=tuple(range(7, 7 + shape[2])),
        p=p,
    )
    check_pixels(transform, shape, seed)


# The transforms of conf/augment, and orders in which moves cannot all become one.
PIPELINES = {
    "crop_flip_cutout": [
        albumentations.Pad(padding=4, fill=(1, 2, 3)),
        albumentations.RandomCrop(16, 16),
        albumentations.HorizontalFlip(p=0.5),
        albumentations.CoarseDropout((1, 1), (8, 8), (8, 8), fill=(4, 5, 6), p=1.0),
    ],
    "alternating": [albumentations.Pad(padding=2, border_mode=4), albumentations.RandomCrop(16, 16)],
    "published": [
        albumentations.HorizontalFlip(p=0.2),
        albumentations.CoarseDropout((1, 1), (9, 9), (9, 9), fill=(4, 5, 6), p=0.5),
    ],
    "two colours": [
        albumentations.Pad(padding=(1, 2), fill=10),
        albumentations.HorizontalFlip(p=0.5),
        albumentations.Pad(padding=3, border_mode=2),
        albumentations.Pad(padding=2, fill=20),
        albumentations.VerticalFlip(p=0.5),
        albumentations.RandomCrop(16, 16),
    ],
    "moves after a hole": [
        albumentations.CoarseDropout((1, 3), (0.2, 0.6), (0.2, 0.6), fill=30, p=0.7),
        albumentations.Pad(padding=3, border_mode=3),
        albumentations.CoarseDropout((1, 1), (3, 5), (3, 5), fill=40, p=0.7),
        albumentations.CenterCrop(16, 16),
        albumentations.HorizontalFlip(p=0.0),
    ],
    "nothing": [],
}


@pytest.mark.parametrize("name", PIPELINES)
def test_transforms_in_a_row_make_the_same_pixels(name):
    images, shape = noise((16, 16, 3)), (16, 16, 3)
    transforms = {str(place): transform for place, transform in enumerate(PIPELINES[name])}
    steps = translate(transforms, shape)
    expected, drawn = images, []
    for place, transform in enumerate(transforms.values()):
        expected, own = one_by_one(transform, expected, seed=place)
        if transform.p > 0:
            drawn.append(own)
    parameters = [parameters_of(step, own) for step, own in zip(steps, drawn, strict=True)]
    made = DeviceAugmentation(steps, shape[:2]).apply(torch.from_numpy(images), parameters)
    np.testing.assert_array_equal(made, expected)


# --- streams -------------------------------------------------------------------------------------------
def pipeline(name: str = "crop_flip_cutout") -> DeviceAugmentation:
    transforms = {str(place): transform for place, transform in enumerate(PIPELINES[name])}
    return DeviceAugmentation(translate(transforms, (16, 16, 3)), (16, 16))


def test_the_seed_decides_the_pixels():
    augment, images = pipeline(), torch.from_numpy(noise((16, 16, 3)))
    first = augment(images, [(COUNT, 7)])
    augment(images[:3], [(3, 8)])
    np.random.seed(5)  # noqa: NPY002
    torch.manual_seed(5)
    assert torch.equal(augment(images, [(COUNT, 7)]), first)
    assert torch.equal(pipeline()(images, [(COUNT, 7)]), first)
    assert not torch.equal(augment(images, [(COUNT, 9)]), first)
    hundred = augment(images[:1].expand(100, -1, -1, -1), [(100, 0)])
    assert len({image.numpy().tobytes() for image in hundred}) > 90


@pytest.mark.parametrize("name", PIPELINES)
def test_batches_made_together_are_those_made_alone(name):
    augment, images = pipeline(name), torch.from_numpy(noise((16, 16, 3)))
    together = augment(images, [(5, 3), (COUNT - 6, 4), (1, 3)])
    alone = [augment(images[:5], [(5, 3)]), augment(images[5:-1], [(COUNT - 6, 4)]), augment(images[-1:], [(1, 3)])]
    assert torch.equal(together, torch.cat(alone))


@pytest.mark.parametrize("name", PIPELINES)
def test_no_device_is_asked_for_a_value(name):
    """Tensors of the meta device have none: what reads one, as `if`, a mask as an index or `item` do, fails."""
    made = pipeline(name)(torch.from_numpy(noise((16, 16, 3))).to("meta"), [(COUNT, 3)])
    assert (made.device.type, made.shape, made.dtype) == ("meta", (COUNT, 16, 16, 3), torch.uint8)


# --- who augments --------------------------------------------------------------------------------------
FLIP = {"_target_": "albumentations.HorizontalFlip", "p": 0.5}
BLUR = {"_target_": "albumentations.Blur"}


def asked_for(**transforms: dict[str, Any]) -> Augmentation:
    return Augmentation(transforms, COLOUR, (16, 16, 3))


def cutout(**options: Any) -> dict[str, Any]:
    sizes = {"num_holes_range": [1, 1], "hole_height_range": [8, 8], "hole_width_range": [8, 8]}
    return {"_target_": "albumentations.CoarseDropout", **sizes, **options}


def test_the_users_mapping_is_what_is_translated():
    pad = {"_target_": "albumentations.Pad", "padding": 4, "fill": "dataset_mean"}
    crop = {"_target_": "albumentations.RandomCrop", "height": 16, "width": 16}
    augmentation = asked_for(pad=pad, crop=crop, flip=FLIP | {"p": 0.0}, hole=cutout(fill="dataset_mean", p=1.0))
    padded, cropped, holes = translate(augmentation.transforms, augmentation.shape)
    assert (padded.fill, holes.fill, cropped) == ((12, 200, 7), (12, 200, 7), RandomCrop(16, 16))


@pytest.mark.parametrize("option", sorted(path.stem for path in (ROOT / "conf" / "augment").glob("*.yaml")))
def test_every_shipped_option_has_batched_equivalents(option):
    node = composed(f"augment={option}").augment
    augmentation = Augmentation(node.transforms, COLOUR, (32, 32, 3))
    assert len(translate(augmentation.transforms, augmentation.shape)) == len(node.transforms)


@pytest.mark.parametrize(
    ("wanted", "device", "transform", "found"),
    [
        ("auto", CPU, FLIP, "albumentations"),
        ("auto", torch.device("mps"), FLIP, "albumentations"),
        ("auto", GPU, FLIP, "device"),
        ("auto", GPU, BLUR, "albumentations"),
        ("albumentations", GPU, FLIP, "albumentations"),
        ("device", CPU, FLIP, "device"),
    ],
)
def test_auto_keeps_albumentations_but_on_a_gpu(monkeypatch, wanted, device, transform, found):
    monkeypatch.setattr(backend, "memory_bytes", lambda _device: 10**9)
    choice = choose(wanted, asked_for(it=transform), device, image_bytes=1000)
    assert (choice.name, choice.on_device is not None) == (found, found == "device")
    assert ("augment_backend=device has no Blur" in choice.reason) == (transform is BLUR)


def test_auto_leaves_room_on_the_gpu(monkeypatch):
    monkeypatch.setattr(backend, "memory_bytes", lambda _device: 10**9)
    choice = choose("auto", asked_for(flip=FLIP), GPU, image_bytes=260_000_000)
    assert (choice.name, choice.reason) == (
        "albumentations",
        "the training images take 0.3 GB, more than a quarter of the GPU's memory",
    )
    assert choose("device", asked_for(flip=FLIP), GPU, image_bytes=260_000_000).name == "device"


@pytest.mark.parametrize(
    ("node", "said"),
    [
        (BLUR, "augment.transforms.it: augment_backend=device has no Blur; it has CenterCrop, CoarseDropout, Hor"),
        ({"_target_": "albumentations.OneOf", "transforms": [FLIP]}, "has no OneOf"),
        (cutout(fill="random"), r"CoarseDropout with fill='random': augment_backend=device takes a whole number from"),
        (cutout(fill=0.5), "with fill=0.5"),
        (cutout(fill=[1, 2, 3, 4], p=0.001), r"with fill=\(1.0, 2.0, 3.0, 4.0\)"),
        (cutout(fill=-1), "with fill=-1"),
        (cutout(hole_height_range=[17, 20], p=0.001), r"with hole_height_range=\(17, 20\).* fit into the image's 16 p"),
        ({"_target_": "albumentations.Pad", "padding": 0, "p": 0.5}, "albumentations.Pad with p=0.5: .*takes 1 where"),
        (
            {"_target_": "albumentations.RandomCrop", "height": 16, "width": 16, "p": 0.5},
            "albumentations.RandomCrop with p=0.5",
        ),
    ],
)
def test_what_has_no_batched_equivalent_is_named(node, said):
    with pytest.raises(RequestError, match=said) as caught:
        choose("device", asked_for(it=node), CPU, 0)
    assert isinstance(caught.value, NotBatchedError)
    assert "augment_backend=albumentations" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_arguments_are_still_checked_by_albumentations():
    with pytest.raises(RequestError, match="max_holes"):
        asked_for(hole=cutout(max_holes=1))
