"""torchvision's policies: its own results for the same seeds, drawn for each image, wherever the batch is made."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from composing import TINY, composed
from PIL import Image
from torchvision.transforms import AutoAugmentPolicy, InterpolationMode, v2

from cifar_exp.cli.main import main
from cifar_exp.compute.seeding import derived_seed
from cifar_exp.data.augment.backend import choose
from cifar_exp.data.augment.pipeline import Augmentation
from cifar_exp.data.batches import Loader, TrainingBatches
from cifar_exp.data.dataset import Split
from cifar_exp.errors import RequestError

MEAN = (125.3, 122.95, 113.9)
COLOUR = [125, 123, 114]
RAND, TRIVIAL, AUTO = (
    f"torchvision.transforms.v2.{name}" for name in ("RandAugment", "TrivialAugmentWide", "AutoAugment")
)


def noise(count: int, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 32, 32, channels), dtype=np.uint8)


def augmentation(channels: int = 3, **node) -> Augmentation:
    return Augmentation({"policy": node}, MEAN[:channels], (32, 32, channels))


@pytest.mark.parametrize(
    ("node", "theirs", "channels"),
    [
        ({"_target_": RAND, "num_ops": 3, "magnitude": 12}, v2.RandAugment(3, 12), 3),
        ({"_target_": RAND, "fill": "dataset_mean"}, v2.RandAugment(fill=COLOUR[:1]), 1),
        (
            {"_target_": TRIVIAL, "interpolation": "bilinear", "fill": "dataset_mean"},
            v2.TrivialAugmentWide(interpolation=InterpolationMode.BILINEAR, fill=COLOUR),
            3,
        ),
        ({"_target_": AUTO, "policy": "cifar10", "fill": 7}, v2.AutoAugment(AutoAugmentPolicy.CIFAR10, fill=7), 3),
    ],
)
def test_each_image_is_a_call_of_torchvision_with_its_own_seed(node, theirs, channels):
    images = noise(30, channels)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    made = augmentation(channels, **node)(images, 7)
    assert torch.equal(torch.get_rng_state(), before)  # dropout, for example, draws from it
    seeds = np.random.default_rng(derived_seed(7, "policy")).integers(2**63, size=len(images))
    for image, seed, mine in zip(images, seeds, made, strict=True):
        torch.manual_seed(int(seed))
        expected = np.asarray(theirs(Image.fromarray(image.squeeze())))
        np.testing.assert_array_equal(mine.squeeze(), expected)


@pytest.mark.parametrize("target", [RAND, TRIVIAL, AUTO])
def test_images_of_a_batch_have_independent_draws(target):
    made = augmentation(_target_=target)(np.repeat(noise(1), 40, axis=0), 0)
    assert len({image.tobytes() for image in made}) > 10  # several operations leave noise as it is


def test_two_policies_and_nested_ones_have_streams_of_their_own():
    policy = {"_target_": TRIVIAL}
    nested = {"_target_": "albumentations.Sequential", "transforms": [policy, policy], "p": 1.0}
    pipeline = Augmentation({"a": policy, "b": policy, "c": nested}, MEAN, (32, 32, 3))
    pipeline(noise(1), 3)
    inner = [pipeline.transforms["a"], pipeline.transforms["b"], *pipeline.transforms["c"].transforms]
    assert len({one.random_generator.integers(2**63) for one in inner}) == 4


def test_workers_and_a_resume_change_no_image():
    config = composed("augment=randaugment", "data.image_size=32")
    split = Split(noise(22), np.arange(22), np.array([str(i) for i in range(22)]))

    def batches(workers: int, first: int = 0) -> list[torch.Tensor]:
        made = TrainingBatches(split, Augmentation(config.augment.transforms, MEAN, (32, 32, 3)), 8, seed=1)
        loader = Loader(made, workers, pin_memory=False) if workers else made
        return [images for images, _ in loader.epoch(2, first)]

    expected = batches(0)
    assert all(not torch.equal(one[:6], other[:6]) for one, other in pairwise(expected))
    for got in (batches(1), batches(2), [*expected[:1], *batches(0, first=1)], [*expected[:2], *batches(2, first=2)]):
        assert [images.tolist() for images in got] == [images.tolist() for images in expected]


@pytest.mark.parametrize(
    ("node", "named"),
    [
        ({"_target_": RAND, "num_opps": 2}, "num_opps"),
        ({"_target_": RAND, "p": 0.5}, r"\bp\b"),
        ({"_target_": RAND, "num_ops": 0}, "num_ops=0: must be an integer, at least 1"),
        ({"_target_": RAND, "magnitude": -1}, "magnitude=-1"),
        ({"_target_": RAND, "magnitude": 9.5}, "magnitude=9.5"),
        ({"_target_": RAND, "magnitude": 31}, "magnitude=31: must be below num_magnitude_bins=31"),
        ({"_target_": TRIVIAL, "num_magnitude_bins": 1}, "num_magnitude_bins=1"),
        ({"_target_": TRIVIAL, "interpolation": "lanczos"}, "lanczos: must be one of nearest, bilinear, bicubic"),
        ({"_target_": TRIVIAL, "interpolation": ["nearest"]}, "interpolation"),
        ({"_target_": AUTO, "policy": "cifar100"}, "cifar100: must be one of imagenet, cifar10, svhn"),
        ({"_target_": AUTO, "fill": [1, 2]}, "fill="),
        ({"_target_": AUTO, "fill": 256}, "fill=256"),
        ({"_target_": AUTO, "fill": "mean"}, "fill=mean: must be dataset_mean"),
    ],
)
def test_a_wrong_argument_is_an_error_that_names_it(node, named):
    with pytest.raises(RequestError, match=named) as caught:
        augmentation(**node)
    assert str(caught.value).startswith("augment.transforms.policy: ")
    assert "\n" not in str(caught.value)


def test_a_wrong_argument_ends_with_exit_code_2(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main([*TINY, "augment=randaugment", "augment.transforms.policy.magnitude=40"]) == 2
    error = capsys.readouterr().err.splitlines()
    assert any("magnitude=40: must be below num_magnitude_bins=31" in line for line in error)
    assert not any("Traceback" in line for line in error)


def test_the_device_names_the_policy_that_it_cannot_apply():
    chosen = choose("device", augmentation(_target_=RAND), torch.device("cpu"), 0)
    assert chosen.name == "albumentations"
    assert chosen.reason.endswith("augment.transforms.policy (RandAugment with these arguments)")
