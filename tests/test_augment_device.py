"""Batched transforms against Albumentations: the same pixels for the same parameters, and the same distributions."""

from typing import Any

import albumentations
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2_contingency

from cifar_exp.augment import Augmentation
from cifar_exp.augment_device import choice
from cifar_exp.augment_device.choice import choose
from cifar_exp.augment_device.pipeline import DeviceAugmentation
from cifar_exp.augment_device.transforms import CoarseDropout, HorizontalFlip, RandomCrop, Transform
from cifar_exp.augment_device.translate import NotBatchedError, translate
from cifar_exp.errors import RequestError

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


# --- the same distributions ----------------------------------------------------------------------------
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


# --- streams -------------------------------------------------------------------------------------------
def pipeline(name: str = "crop_flip_cutout") -> DeviceAugmentation:
    transforms = {str(place): transform for place, transform in enumerate(PIPELINES[name])}
    return DeviceAugmentation(translate(transforms, (16, 16, 3)), (16, 16))


def test_the_seed_decides_the_pixels():
    augment, images = pipeline(), torch.from_numpy(noise((16, 16, 3)))
    first = augment(images, 7)
    augment(images[:3], 8)
    np.random.seed(5)  # noqa: NPY002
    torch.manual_seed(5)
    assert torch.equal(augment(images, 7), first)
    assert torch.equal(pipeline()(images, 7), first)
    assert not torch.equal(augment(images, 9), first)
    assert len({image.numpy().tobytes() for image in augment(images[:1].expand(100, -1, -1, -1), 0)}) > 90


@pytest.mark.parametrize("name", PIPELINES)
def test_no_device_is_asked_for_a_value(name):
    """Tensors of the meta device have none: what reads one, as `if`, a mask as an index or `item` do, fails."""
    made = pipeline(name)(torch.from_numpy(noise((16, 16, 3))).to("meta"), 3)
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
    monkeypatch.setattr(choice, "memory_bytes", lambda _device: 10**9)
    backend = choose(wanted, asked_for(it=transform), device, image_bytes=1000)
    assert (backend.name, backend.on_device is not None) == (found, found == "device")
    assert ("augment_backend=device has no Blur" in backend.reason) == (transform is BLUR)


def test_auto_leaves_room_on_the_gpu(monkeypatch):
    monkeypatch.setattr(choice, "memory_bytes", lambda _device: 10**9)
    backend = choose("auto", asked_for(flip=FLIP), GPU, image_bytes=260_000_000)
    assert (backend.name, backend.reason) == (
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
