"""``augment_backend=device``, run on a CPU: its batches, and runs that use it."""

import numpy as np
import pytest
import torch
from composing import TINY

from cifar_exp.compute.distributed.ranks import SINGLE, Ranks
from cifar_exp.data import device_batches
from cifar_exp.data.augment.backend import choose
from cifar_exp.data.augment.pipeline import Augmentation, LowResolution, shrink_as_floats
from cifar_exp.data.batches import TrainingBatches
from cifar_exp.data.dataset import Split
from cifar_exp.data.device_batches import DeviceBatches

COUNT, SHAPE = 43, (16, 16, 3)
CROP_FLIP = {
    "pad": {"_target_": "albumentations.Pad", "padding": 4, "fill": "dataset_mean"},
    "crop": {"_target_": "albumentations.RandomCrop", "height": 16, "width": 16},
    "flip": {"_target_": "albumentations.HorizontalFlip", "p": 0.5},
}
ON_DEVICE = (*TINY, "augment=crop_flip_cutout", "augment_backend=device")


def made(
    transforms: dict | None = None,
    *,
    seed: int = 0,
    ranks: Ranks = SINGLE,
    on_device: bool = True,
    device: str = "cpu",
    **options,
) -> TrainingBatches:
    """Batches of 8 of 43 noisy images; the label of each is its position."""
    images = np.random.default_rng(0).integers(0, 256, (COUNT, *SHAPE), dtype=np.uint8)
    split = Split(images, np.arange(COUNT), np.array([str(i) for i in range(COUNT)]))
    augmentation = Augmentation(transforms or {}, (1.0, 2.0, 3.0), SHAPE)
    if not on_device:
        return TrainingBatches(split, augmentation, 8, seed, ranks, **options)
    pipeline = choose("device", augmentation, torch.device("cpu"), 0).device_augmentation
    assert pipeline is not None
    on = {"device_augmentation": pipeline, "device": torch.device(device)}
    return DeviceBatches(split, augmentation, 8, seed, ranks, **on, **options)


def epoch_of(batches: TrainingBatches, epoch: int, first: int = 0) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return list(batches.epoch(epoch, first))


def check_same(one: list, other: list) -> None:
    for (images, labels), (other_images, other_labels) in zip(one, other, strict=True):
        assert torch.equal(images, other_images)
        assert torch.equal(labels, other_labels)


# --- batches -------------------------------------------------------------------------------------------
@pytest.mark.parametrize("ranks", [SINGLE, Ranks(0, 2), Ranks(1, 2), Ranks(2, 3)])
@pytest.mark.parametrize(
    "options", [{}, {"alternating_flip": True}, {"low_resolution": LowResolution(9, 0.5, epochs=3)}]
)
def test_without_transforms_the_batches_are_those_of_the_other_backend(ranks, options):
    ours, theirs = made(ranks=ranks, **options), made(ranks=ranks, on_device=False, **options)
    before = ours.split.images.copy()
    for epoch in (1, 2, 3):
        check_same(epoch_of(ours, epoch), epoch_of(theirs, epoch))
    np.testing.assert_array_equal(ours.split.images, before)


def test_images_come_in_the_same_order_and_are_drawn_apart_by_batch_epoch_and_seed():
    ours, theirs = made(CROP_FLIP), made(CROP_FLIP, on_device=False)
    for epoch in (1, 2):
        for (_, labels), (_, expected) in zip(epoch_of(ours, epoch), epoch_of(theirs, epoch), strict=True):
            assert torch.equal(labels, expected)
    drawn = {
        made(CROP_FLIP, seed=seed).images(epoch, batch, np.arange(8)).tobytes()
        for seed in range(3)
        for epoch in (1, 2, 3)
        for batch in range(3)
    }
    assert len(drawn) == 27


def test_a_batch_does_not_depend_on_those_before_it():
    whole = epoch_of(made(CROP_FLIP, alternating_flip=True), 2)
    for first in (1, 5):
        check_same(epoch_of(made(CROP_FLIP, alternating_flip=True), 2, first), whole[first:])


@pytest.mark.parametrize("ranks", [SINGLE, Ranks(0, 2), Ranks(1, 2)])
def test_as_seen_is_what_the_loader_yields(ranks):
    options = {"alternating_flip": True, "low_resolution": LowResolution(12, 0.5, epochs=2)}
    batches, anyone = (
        made(CROP_FLIP, ranks=ranks, **options),
        made(CROP_FLIP, ranks=Ranks(0, ranks.world_size), **options),
    )
    for epoch in (1, 2):
        for images, labels in epoch_of(batches, epoch):
            for image, label in zip(images.numpy(), labels.tolist(), strict=True):
                np.testing.assert_array_equal(anyone.as_seen(label, epoch), image)


@pytest.mark.parametrize("together", [1, 2, 4])
@pytest.mark.parametrize("ranks", [SINGLE, Ranks(1, 3), Ranks(3, 4)])  # of the last three images, the fourth has none
def test_batches_made_together_equal_single_ones(monkeypatch, ranks, together):
    options = {"alternating_flip": True, "low_resolution": LowResolution(12, 0.5, epochs=2)}
    batches = made(CROP_FLIP, ranks=ranks, **options)
    own = batches.own_rows(0)
    for epoch in (1, 2):
        expected = [(batches.images(epoch, b, batches.order(epoch)[batches.own_rows(b)]), b) for b in range(6)]
        with monkeypatch.context() as patch:
            patch.setattr(device_batches, "_PIXELS_AT_ONCE", together * (own.stop - own.start) * 16 * 16)
            for first in (0, 1, 3):
                found = epoch_of(batches, epoch, first)
                for (images, labels), (alone, batch) in zip(found, expected[first:], strict=True):
                    np.testing.assert_array_equal(images, alone)
                    assert labels.tolist() == batches.order(epoch)[batches.own_rows(batch)].tolist()


def test_ranks_draw_independently_on_shards_of_the_images():
    shards = [made(CROP_FLIP, ranks=Ranks(rank, 2)) for rank in (0, 1)]
    assert not np.array_equal(*(batches.images(1, 0, np.arange(4)) for batches in shards))
    both = [epoch_of(batches, 1) for batches in shards]
    seen = []
    for batch, parts in enumerate(zip(*both, strict=True)):
        counts = [batches.sizes(batch)[0] for batches in shards]
        seen += [int(i) for (_, labels), count in zip(parts, counts, strict=True) for i in labels[:count]]
    assert seen == made().order(1).tolist()


def test_no_value_is_read_from_the_device():
    """The meta device has shapes and no values, so whatever would make the program wait for a value fails."""
    options = {"alternating_flip": True, "low_resolution": LowResolution(12, 0.5, epochs=2)}
    shapes = [tuple(images.shape) for images, _ in epoch_of(made(CROP_FLIP, device="meta", **options), 1)]
    assert shapes == [(8, 12, 12, 3)] * 5 + [(3, 12, 12, 3)]


@pytest.mark.parametrize(("whole", "size"), [(32, 24), (32, 31), (32, 8), (17, 5), (64, 7)])
def test_low_resolution_in_floats_is_nearly_that_in_bytes(whole, size):
    images = np.random.default_rng(whole).integers(0, 256, (50, whole, whole, 3), dtype=np.uint8)
    images[:10] = (images[:10] > 127) * 255  # the steepest there can be
    on_bytes = LowResolution(size, 1.0, 1)(images)
    as_floats = shrink_as_floats(torch.from_numpy(images).permute(0, 3, 1, 2), size).permute(0, 2, 3, 1).numpy()
    difference = on_bytes.astype(int) - as_floats
    assert np.abs(difference).max() <= 2
    # Rounded once, at the end, up to a quarter of the pixels differ, and those of 24x24 are darker by 0.16.
    assert (difference != 0).mean() < 0.05
    assert abs(difference.mean()) < 0.02
