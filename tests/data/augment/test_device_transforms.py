"""Batched transforms: equal to Albumentations for equal parameters; their random streams; the choice of backend."""

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
from cifar_exp.data.augment.device_transforms import DeviceAugmentation
from cifar_exp.data.augment.pipeline import Augmentation
from cifar_exp.errors import RequestError

ROOT = Path(__file__).resolve().parents[3]
COUNT = 20
COLOUR = (12.4, 200.0, 7.0)
CPU, GPU = torch.device("cpu"), torch.device("cuda")
FLIP = {"_target_": "albumentations.HorizontalFlip", "p": 0.5}
BLUR = {"_target_": "albumentations.Blur"}


def noise(shape: tuple[int, int, int], count: int = COUNT) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, *shape), dtype=np.uint8)


def cutout(**options: Any) -> dict[str, Any]:
    sizes = {"num_holes_range": [1, 1], "hole_height_range": [3, 5], "hole_width_range": [4, 4]}
    return {"_target_": "albumentations.CoarseDropout", "fill": "dataset_mean", **sizes, **options}


def pad(padding: Any, **options: Any) -> dict[str, Any]:
    return {"_target_": "albumentations.Pad", "padding": padding, **options}


def crop(height: int = 16, width: int = 16, **options: Any) -> dict[str, Any]:
    return {"_target_": "albumentations.RandomCrop", "height": height, "width": width, **options}


def asked_for(*transforms: dict[str, Any], shape: tuple[int, int, int] = (16, 16, 3)) -> Augmentation:
    return Augmentation({f"t{place}": node for place, node in enumerate(transforms)}, COLOUR[: shape[2]], shape)


def on_device(augmentation: Augmentation) -> DeviceAugmentation:
    pipeline = choose("device", augmentation, CPU, 0).device_augmentation
    assert pipeline is not None
    return pipeline


def as_parameters(transform: Any, drawn: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """What Albumentations drew for each image, as a batched transform takes it."""
    if isinstance(transform, albumentations.RandomCrop):
        found = {"row": [own["crop_coords"][1] for own in drawn], "column": [own["crop_coords"][0] for own in drawn]}
    elif isinstance(transform, albumentations.HorizontalFlip):
        found = {"flipped": [bool(own) for own in drawn]}
    else:
        holes = [own["holes"][0] if own else (0, 0, 0, 0) for own in drawn]
        found = dict(zip(("left", "top", "right", "bottom"), np.array(holes).T, strict=True))
    return {name: torch.as_tensor(np.array(values)) for name, values in found.items()}


def check_pixels(augmentation: Augmentation) -> None:
    """Given Albumentations' own draws, the batched transforms make the same images and do not change their input."""
    images = noise(augmentation.shape)
    given_to_it = torch.from_numpy(images.copy())
    expected, made = images, given_to_it
    steps = iter(on_device(augmentation).transforms)
    for name, transform in augmentation.transforms.items():
        transform.set_random_seed(len(name))
        done, drawn = [], []
        for image in expected:
            done.append(transform(image=image)["image"])
            drawn.append(dict(transform.params))
        expected = np.stack(done)
        if not isinstance(transform, albumentations.Pad):  # one step together with the crop after it
            made = next(steps).apply(made, as_parameters(transform, drawn))
            np.testing.assert_array_equal(made, expected)
    np.testing.assert_array_equal(given_to_it, images)


sides = st.integers(4, 12)


@settings(deadline=None, max_examples=40)
@given(
    st.tuples(sides, sides, st.sampled_from([1, 3])),
    st.sampled_from([{"border_mode": 0, "fill": "dataset_mean"}, {"border_mode": 4}]),
    st.one_of(*(st.tuples(*[st.integers(0, 3)] * count).map(list) for count in (2, 4)), st.integers(0, 3)),
)
def test_the_pixels_are_those_of_albumentations(shape, border, padding):
    hole = cutout(hole_height_range=[1, shape[0]], hole_width_range=[2, 4], p=0.7)
    check_pixels(asked_for(pad(padding, **border), crop(*shape[:2]), FLIP, hole, FLIP, shape=shape))


# --- streams -------------------------------------------------------------------------------------------
WHOLE = (pad(4, fill="dataset_mean"), crop(), FLIP, cutout(p=1.0))


def test_the_seed_decides_the_pixels():
    augment, images = on_device(asked_for(*WHOLE)), torch.from_numpy(noise((16, 16, 3)))
    first = augment(images, [(COUNT, 7)])
    np.random.seed(5)  # noqa: NPY002
    torch.manual_seed(5)
    assert torch.equal(on_device(asked_for(*WHOLE))(images, [(COUNT, 7)]), first)
    assert not torch.equal(augment(images, [(COUNT, 9)]), first)
    hundred = augment(images[:1].expand(100, -1, -1, -1), [(100, 0)])
    assert len({image.numpy().tobytes() for image in hundred}) > 90


def test_batches_made_together_are_those_made_alone():
    augment, images = on_device(asked_for(*WHOLE)), torch.from_numpy(noise((16, 16, 3)))
    together = augment(images, [(5, 3), (COUNT - 6, 4), (1, 3)])
    alone = [augment(images[:5], [(5, 3)]), augment(images[5:-1], [(COUNT - 6, 4)]), augment(images[-1:], [(1, 3)])]
    assert torch.equal(together, torch.cat(alone))


def test_augmentation_reads_no_value_from_the_device():
    """Tensors of the meta device have none: what reads one, as `if`, a mask as an index or `item` do, fails."""
    made = on_device(asked_for(*WHOLE))(torch.from_numpy(noise((16, 16, 3))).to("meta"), [(COUNT, 3)])
    assert (made.device.type, made.shape, made.dtype) == ("meta", (COUNT, 16, 16, 3), torch.uint8)


# --- who augments --------------------------------------------------------------------------------------
@pytest.mark.parametrize("option", sorted(path.stem for path in (ROOT / "conf" / "augment").glob("*.yaml")))
def test_every_shipped_option_without_a_policy_has_batched_equivalents(option):
    node = composed(f"augment={option}").augment
    augmentation = Augmentation(node.transforms, COLOUR, (32, 32, 3))
    if "policy" in node.transforms:
        assert choose("device", augmentation, CPU, 0).device_augmentation is None
        return
    pipeline = on_device(augmentation)
    assert len(pipeline.transforms) == len(node.transforms) - ("crop" in node.transforms)


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
def test_auto_selects_the_device_only_on_a_gpu(monkeypatch, wanted, device, transform, found):
    monkeypatch.setattr(backend, "memory_bytes", lambda _device: 10**9)
    choice = choose(wanted, asked_for(transform), device, image_bytes=1000)
    assert (choice.name, choice.device_augmentation is not None) == (found, found == "device")
    assert ("augment.transforms.t0 (Blur" in choice.reason) == (transform is BLUR)


def test_auto_falls_back_if_the_images_need_too_much_gpu_memory(monkeypatch):
    monkeypatch.setattr(backend, "memory_bytes", lambda _device: 10**9)
    choice = choose("auto", asked_for(FLIP), GPU, image_bytes=260_000_000)
    assert (choice.name, choice.reason) == (
        "albumentations",
        "the training images take 0.3 GB, more than a quarter of the GPU's memory",
    )
    assert choose("device", asked_for(FLIP), GPU, image_bytes=260_000_000).name == "device"


@pytest.mark.parametrize(
    "nodes",
    [
        (BLUR,),
        (FLIP | {"_target_": "albumentations.VerticalFlip"},),
        ({"_target_": "albumentations.OneOf", "transforms": [FLIP]},),
        (cutout(fill="random"),),
        (cutout(fill=0.5),),
        (cutout(fill=-1, p=0.001),),
        (cutout(fill=[1, 2, 3, 4], p=0.001),),
        (cutout(num_holes_range=[1, 2]),),
        (cutout(hole_height_range=[0.1, 0.5], hole_width_range=[0.1, 0.5]),),
        (cutout(hole_height_range=[17, 20], p=0.001),),
        (pad(0, p=0.5),),
        (pad(2, p=0.5), crop()),
        (pad(2, border_mode=1), crop()),
        (crop(p=0.5),),
        (pad(2), FLIP, crop()),
        (pad(20, border_mode=4), crop()),
    ],
)
def test_transforms_without_batched_equivalent_fall_back_to_albumentations(nodes):
    choice = choose("device", asked_for(*nodes), CPU, 0)
    assert (choice.name, choice.device_augmentation) == ("albumentations", None)
    assert choice.reason.startswith("the device cannot apply augment.transforms.t0 (")


def test_arguments_are_still_checked_by_albumentations():
    with pytest.raises(RequestError, match="max_holes"):
        asked_for(cutout(max_holes=1))
