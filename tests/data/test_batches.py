"""Training batches depend on seed, epoch and batch number only."""

import numpy as np
import pytest
import torch
from PIL import Image

from cifar_exp.data.augment.pipeline import Augmentation, LowResolution
from cifar_exp.data.batches import Loader, TrainingBatches
from cifar_exp.data.dataset import Split

CROP_FLIP = {
    "pad": {"_target_": "albumentations.Pad", "padding": 4, "fill": "dataset_mean"},
    "crop": {"_target_": "albumentations.RandomCrop", "height": 16, "width": 16},
    "flip": {"_target_": "albumentations.HorizontalFlip", "p": 0.5},
}
COUNT = 43


def made(transforms: dict | None = None, seed: int = 0, batch_size: int = 8, **options) -> TrainingBatches:
    """43 noisy images; the label of each is its position."""
    images = np.random.default_rng(0).integers(0, 256, (COUNT, 16, 16, 3), dtype=np.uint8)
    split = Split(images, np.arange(COUNT), np.array([str(i) for i in range(COUNT)]))
    augmentation = Augmentation(transforms or {}, (1.0, 2.0, 3.0), (16, 16, 3))
    return TrainingBatches(split, augmentation, batch_size, seed, **options)


def epoch_of(batches: TrainingBatches, epoch: int, workers: int = 0) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return list((Loader(batches, workers, pin_memory=False) if workers else batches).epoch(epoch))


def test_order_is_a_permutation_of_its_own_for_each_epoch_and_seed() -> None:
    orders = [made(seed=seed).order(epoch).tolist() for seed in (0, 1) for epoch in (1, 2)]
    assert all(sorted(order) == list(range(COUNT)) for order in orders)
    assert len({tuple(order) for order in orders}) == 4
    assert made(seed=0).order(1).tolist() == orders[0]


def test_seeds_and_epochs_do_not_share_their_draws() -> None:
    drawn = {
        made(CROP_FLIP, seed).images(epoch, batch, np.arange(8)).tobytes()
        for seed in range(3)
        for epoch in range(1, 4)
        for batch in range(3)
    }
    assert len(drawn) == 27


@pytest.mark.parametrize(("batch_size", "sizes"), [(8, [8] * 5 + [3]), (43, [43]), (100, [43]), (1, [1] * 43)])
def test_an_epoch_has_every_image_once_and_a_smaller_last_batch(batch_size: int, sizes: list[int]) -> None:
    batches = made(batch_size=batch_size)
    seen = epoch_of(batches, 1)
    assert [len(labels) for _, labels in seen] == sizes
    assert batches.per_epoch == len(sizes)
    assert sorted(torch.cat([labels for _, labels in seen]).tolist()) == list(range(COUNT))


def test_batches_have_uint8_images_with_their_labels() -> None:
    batches = made()
    for images, labels in epoch_of(batches, 2):
        assert images.dtype == torch.uint8
        assert labels.dtype == torch.int64
        np.testing.assert_array_equal(images.numpy(), batches.split.images[labels.numpy()])


def test_workers_make_the_same_batches() -> None:
    alone = made(CROP_FLIP)
    together = Loader(made(CROP_FLIP), 2, pin_memory=False)
    epochs = []
    for epoch in (1, 2, 1):
        expected, got = list(alone.epoch(epoch)), list(together.epoch(epoch))
        assert len(expected) == len(got) == 6
        for (images, labels), (other_images, other_labels) in zip(expected, got, strict=True):
            assert torch.equal(images, other_images)
            assert torch.equal(labels, other_labels)
        epochs.append(torch.cat([images for images, _ in got]))
    assert torch.equal(epochs[0], epochs[2])
    assert not torch.equal(epochs[0], epochs[1])


def test_batches_do_not_depend_on_earlier_draws() -> None:
    batches = made(CROP_FLIP)
    first = epoch_of(batches, 3)
    np.random.seed(5)  # noqa: NPY002
    torch.manual_seed(5)
    next(iter(batches.epoch(1)))
    again = epoch_of(batches, 3)
    assert all(torch.equal(before, after) for (before, _), (after, _) in zip(first, again, strict=True))


@pytest.mark.parametrize("alternating_flip", [False, True])
def test_as_seen_is_the_image_in_its_batch(alternating_flip: bool) -> None:
    batches = made(CROP_FLIP, alternating_flip=alternating_flip)
    for epoch in (1, 2):
        seen = {
            int(label): image
            for images, labels in epoch_of(batches, epoch)
            for image, label in zip(images, labels, strict=True)
        }
        for index in (0, 7, COUNT - 1, int(batches.order(epoch)[-1])):
            np.testing.assert_array_equal(batches.as_seen(index, epoch), seen[index].numpy())


def mirrored_in(batches: TrainingBatches, epoch: int, workers: int = 0) -> list[bool]:
    """For each training image, whether the epoch shows it mirrored; it must be one or the other."""
    found = {}
    for images, labels in epoch_of(batches, epoch, workers):
        for image, label in zip(images.numpy(), labels.tolist(), strict=True):
            original = batches.split.images[label]
            found[label] = bool((image == original[:, ::-1]).all())
            assert found[label] or (image == original).all()
    return [found[label] for label in range(COUNT)]


def test_alternating_flip_shows_each_side_in_every_other_epoch():
    batches = made(alternating_flip=True)
    before = batches.split.images.copy()
    epochs = [mirrored_in(batches, epoch) for epoch in (1, 2, 3, 4)]
    assert sum(epochs[0]) == 22  # half of 43, rounded
    assert epochs[1] == [not flipped for flipped in epochs[0]]
    assert epochs[2:] == epochs[:2]
    assert mirrored_in(made(alternating_flip=True, seed=1), 1) != epochs[0]
    assert mirrored_in(made(alternating_flip=True, batch_size=5), 1, workers=2) == epochs[0]
    np.testing.assert_array_equal(batches.split.images, before)


def test_alternating_flip_comes_before_the_transforms_and_changes_none_of_their_draws():
    crop = {name: CROP_FLIP[name] for name in ("pad", "crop")}
    plain, alternating = made(crop), made(crop, alternating_flip=True)
    flipped = mirrored_in(made(alternating_flip=True), 1)
    rows = np.flatnonzero(~np.array(flipped))
    np.testing.assert_array_equal(
        plain.images(1, 0, np.arange(COUNT))[rows], alternating.images(1, 0, np.arange(COUNT))[rows]
    )


def test_low_resolution_ends_after_its_fraction_of_the_epochs():
    whole, small = made(CROP_FLIP), made(CROP_FLIP, low_resolution=LowResolution(8, 0.5, epochs=5))
    sizes = [{tuple(images.shape[1:]) for images, _ in epoch_of(small, epoch)} for epoch in range(1, 6)]
    assert sizes == [{(8, 8, 3)}] * 2 + [{(16, 16, 3)}] * 3  # half of 5, rounded to even
    for epoch in (3, 4):
        for (images, _), (expected, _) in zip(epoch_of(small, epoch), epoch_of(whole, epoch), strict=True):
            assert torch.equal(images, expected)
    (images, _), (originals, _) = epoch_of(small, 1)[0], epoch_of(whole, 1)[0]
    expected = Image.fromarray(originals[0].numpy()).resize((8, 8), Image.Resampling.BILINEAR)
    assert np.abs(images[0].numpy().astype(int) - np.asarray(expected)).max() <= 1
    assert images.is_contiguous()
    assert small.as_seen(3, 1).shape == (8, 8, 3)


def test_a_low_resolution_of_no_epochs_changes_nothing():
    (images, _), (expected, _) = epoch_of(made(low_resolution=LowResolution(8, 0.0, 4)), 1)[0], epoch_of(made(), 1)[0]
    assert torch.equal(images, expected)
