"""What the network sees depends on (seed, epoch, batch) and on nothing else."""

import numpy as np
import pytest
import torch

from cifar_exp.augment import Augmentation
from cifar_exp.data.batches import Loader, TrainingBatches
from cifar_exp.data.dataset import Split

CROP_FLIP = {
    "pad": {"_target_": "albumentations.Pad", "padding": 4, "fill": "dataset_mean"},
    "crop": {"_target_": "albumentations.RandomCrop", "height": 16, "width": 16},
    "flip": {"_target_": "albumentations.HorizontalFlip", "p": 0.5},
}
COUNT = 43


def made(transforms: dict | None = None, seed: int = 0, batch_size: int = 8) -> TrainingBatches:
    """43 noisy images; the label of each is its position."""
    images = np.random.default_rng(0).integers(0, 256, (COUNT, 16, 16, 3), dtype=np.uint8)
    split = Split(images, np.arange(COUNT), np.array([str(i) for i in range(COUNT)]))
    return TrainingBatches(split, Augmentation(transforms or {}, (1.0, 2.0, 3.0), (16, 16, 3)), batch_size, seed)


def epoch_of(batches: TrainingBatches, epoch: int, workers: int = 0) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return list(Loader(batches, workers, pin_memory=False).epoch(epoch))


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
def test_every_image_comes_once_and_the_last_batch_holds_what_is_left(batch_size: int, sizes: list[int]) -> None:
    batches = made(batch_size=batch_size)
    seen = epoch_of(batches, 1)
    assert [len(labels) for _, labels in seen] == sizes
    assert batches.per_epoch == len(sizes)
    assert sorted(torch.cat([labels for _, labels in seen]).tolist()) == list(range(COUNT))


def test_images_come_with_their_own_labels_as_uint8() -> None:
    batches = made()
    for images, labels in epoch_of(batches, 2):
        assert images.dtype == torch.uint8
        assert labels.dtype == torch.int64
        np.testing.assert_array_equal(images.numpy(), batches.split.images[labels.numpy()])


def test_workers_change_nothing() -> None:
    alone = Loader(made(CROP_FLIP), 0, pin_memory=False)
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


def test_what_was_drawn_before_changes_nothing() -> None:
    batches = made(CROP_FLIP)
    first = epoch_of(batches, 3)
    np.random.seed(5)  # noqa: NPY002
    torch.manual_seed(5)
    next(iter(Loader(batches, 0, pin_memory=False).epoch(1)))
    again = epoch_of(batches, 3)
    assert all(torch.equal(before, after) for (before, _), (after, _) in zip(first, again, strict=True))


def test_as_seen_is_what_the_loader_yields() -> None:
    batches = made(CROP_FLIP)
    for epoch in (1, 2):
        seen = {
            int(label): image
            for images, labels in epoch_of(batches, epoch)
            for image, label in zip(images, labels, strict=True)
        }
        for index in (0, 7, COUNT - 1, int(batches.order(epoch)[-1])):
            np.testing.assert_array_equal(batches.as_seen(index, epoch), seen[index].numpy())
