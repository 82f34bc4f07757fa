"""Odd data and odd sizes: each works, or is refused with a reason before training starts."""

import json
import os

import numpy as np
import pytest
import torch
from composing import composed

from cifar_exp import data
from cifar_exp.build import build
from cifar_exp.compute import memory
from cifar_exp.config.schema import ExperimentConfig
from cifar_exp.data.dataset import Dataset, Split, make_dataset
from cifar_exp.errors import RequestError
from cifar_exp.run_dir.tables import read_table
from cifar_exp.runner import run

SMALL = (
    "scheduler=constant",
    "data=mnist5k",
    "augment=none",
    "threads=1",
    "figures=false",
    "explain.images=2",
    "epochs=1",
)


def made(labels: list[int], classes: int, size: int = 8, channels: int = 3, test: list[int] | None = None) -> Dataset:
    """Noise, labelled."""
    generator = np.random.default_rng(0)

    def split(of: list[int]) -> Split:
        images = generator.integers(0, 256, (len(of), size, size, channels), dtype=np.uint8)
        return Split(images, np.array(of, np.int64), np.array([f"x[{n}]" for n in range(len(of))]))

    return make_dataset(split(labels), split(test or labels), tuple(f"class {n}" for n in range(classes)))


def config_for(dataset: Dataset, monkeypatch: pytest.MonkeyPatch, *overrides: str) -> ExperimentConfig:
    """A config whose data is ``dataset``."""
    monkeypatch.setattr(data, "_whole", lambda node: dataset)
    return composed(*SMALL, "model=resnet9", "model.width=4", *overrides)


@pytest.mark.parametrize(
    ("images", "batch", "size", "fits"),
    [(33, 32, 8, False), (33, 32, 16, True), (3, 1, 8, False)],
)
def test_a_last_batch_of_one_image_is_refused_where_batch_normalization_cannot_take_it(
    monkeypatch, images, batch, size, fits
):
    dataset = made([0, 1] * 17, 2, size)
    dataset = Dataset(dataset.train.take(np.arange(images)), dataset.test, dataset.class_names, "f")
    config = config_for(dataset, monkeypatch, "data.validation_fraction=0", f"batch_size={batch}", "model.width=4")
    config.model = composed("model=resnet18").model
    if fits:
        build(config)
    else:
        with pytest.raises(RequestError, match=r"has a single image.*more than 1 value per channel"):
            build(config)


def test_the_trial_of_a_batch_of_one_changes_no_number(monkeypatch):
    dataset = made([0, 1] * 9, 2, 16)
    config = config_for(dataset, monkeypatch, "data.validation_fraction=0", "batch_size=17")
    tried = build(config)
    state = torch.get_rng_state()
    config.batch_size = 9
    untried = build(config)
    assert torch.equal(torch.get_rng_state(), state)
    for name, value in tried.learner.model.state_dict().items():
        assert torch.equal(value, untried.learner.model.state_dict()[name])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        # a convolution from 8 million channels to as many has 5.8e14 weights, of 12 bytes each with what training adds
        (["model.width=1000000"], r"model=resnet9: weights, gradients and momentum take [\d,]{10,}\.\d GB"),
        (["epochs=1000000", "batch_size=1"], r"epochs: a run has at most 10,000,000 steps, not 16,000,000"),
    ],
)
def test_impossible_sizes_are_refused_at_once(monkeypatch, overrides, message):
    config = config_for(made([0, 1] * 9, 2, 16), monkeypatch, *overrides)
    with pytest.raises(RequestError, match=message):
        build(config)


def test_a_network_of_gigabytes_is_refused_by_the_memory_that_there_is(monkeypatch):
    config = config_for(made([0, 1] * 9, 2, 16), monkeypatch)
    parameters = sum(value.numel() for value in build(config).learner.model.parameters())
    monkeypatch.setattr(memory, "memory_bytes", lambda: 12 * parameters)
    build(config)
    monkeypatch.setattr(memory, "memory_bytes", lambda: 12 * parameters - 1)
    with pytest.raises(RequestError, match=r"model=resnet9: .* choose a smaller width"):
        build(config)


@pytest.mark.parametrize("classes", [2, 1000])
def test_two_and_a_thousand_classes(tmp_path, monkeypatch, classes):
    labels = list(range(classes)) * (20 if classes == 2 else 2)
    figures = classes == 2 or "CIFAR_EXP_STRESS" in os.environ  # of a thousand classes: a minute
    config = config_for(
        made(labels, classes, 16, test=list(range(classes))),
        monkeypatch,
        "batch_size=256",
        "data.validation_fraction=0.1",
        f"figures={str(figures).lower()}",
        "explain.images=0",
    )
    run(config, tmp_path / "run")
    assert len(read_table(tmp_path / "run" / "per_class.csv")) == classes
    assert read_table(tmp_path / "run" / "confusion.csv").shape == (classes, classes + 1)
    if figures:
        assert (tmp_path / "run" / "figures" / "confusion.png").stat().st_size < 2_000_000


@pytest.mark.parametrize(("size", "channels"), [(16, 1), (64, 3), (224, 1), (224, 3)])
def test_images_of_many_sizes_and_one_channel(tmp_path, monkeypatch, size, channels):
    dataset = made([0, 1, 2] * 8, 3, size, channels, test=[0, 1, 2])
    row = run(config_for(dataset, monkeypatch, "batch_size=8"), tmp_path / "run")
    assert np.isfinite(row["test_loss"])


def test_a_transform_for_colours_is_refused_on_gray_images_before_training(monkeypatch):
    config = config_for(made([0, 1] * 8, 2, 16, 1), monkeypatch)
    config.augment.transforms = {"hue": {"_target_": "albumentations.ChannelShuffle", "p": 1.0}}
    build(config)  # one channel has one order
    config.augment.transforms = {"fancy": {"_target_": "albumentations.ISONoise", "p": 1.0}}
    with pytest.raises(RequestError, match="augment: cannot be applied"):
        build(config)


def test_a_class_with_a_single_image_keeps_it_for_training(monkeypatch):
    parts = build(config_for(made([0] * 30 + [1], 2, 16), monkeypatch, "data.validation_fraction=0.1"))
    assert set(parts.splits.train.labels) == {0, 1}
    with pytest.raises(RequestError, match=r"validation_fraction=0\.9: leaves no training image of class 'class 1'"):
        build(config_for(made([0] * 30 + [1], 2, 16), monkeypatch, "data.validation_fraction=0.9"))


PIXELS = np.zeros((2, 8, 8, 3), np.uint8)
LABELS = np.array([0, 1])
SOURCES = np.array(["a", "b"])
BAD = {
    "floats with NaN": (PIXELS * np.nan, LABELS, SOURCES, "uint8"),
    "infinite floats": (PIXELS + np.inf, LABELS, SOURCES, "uint8"),
    "a label out of range": (PIXELS, np.array([0, 2]), SOURCES, r"labels must lie in 0\.\.1"),
    "a negative label": (PIXELS, np.array([0, -1]), SOURCES, r"labels must lie in 0\.\.1"),
    "labels as floats": (PIXELS, np.array([0.0, np.nan]), SOURCES, "int64"),
    "two channels": (PIXELS[..., :2], LABELS, SOURCES, "1 or 3"),
    "a label too many": (PIXELS, np.array([0, 1, 1]), SOURCES, "2 images, 3 labels and 2 sources"),
    "a source too few": (PIXELS, LABELS, SOURCES[:1], "2 images, 2 labels and 1 sources"),
    "no images": (PIXELS[:0], LABELS[:0], SOURCES[:0], r"not \(0, 8, 8, 3\) uint8"),
    "images without pixels": (PIXELS[:, :0], LABELS, SOURCES, r"not \(2, 0, 8, 3\) uint8"),
    "no array": ("images", LABELS, SOURCES, "did not return a data set"),
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_a_faulty_data_set_of_an_own_loader_is_refused(monkeypatch, bad):
    *parts, message = bad
    good = Split(PIXELS, LABELS, SOURCES)
    for train, test in ((Split(*parts), good), (good, Split(*parts))):
        monkeypatch.setattr(
            data, "call", lambda *_, train=train, test=test, **__: Dataset(train, test, ("a", "b"), "f")
        )
        with pytest.raises(RequestError, match=message):
            data.load(composed("data=mnist5k").data)


@pytest.mark.parametrize("names", [("a", "a"), ("a",), ("a", ""), ("a", "label")])
def test_class_names_that_tables_cannot_tell_apart_are_refused(names):
    one = Split(PIXELS, LABELS, SOURCES)
    with pytest.raises(ValueError, match="class"):
        make_dataset(one, one, names)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_numbers_are_measured_without_a_crash(tmp_path, monkeypatch, value):
    from cifar_exp.evaluation.metrics import per_class_rows
    from cifar_exp.stages import measure

    parts = build(config_for(made([0, 1] * 8, 2, 16), monkeypatch))
    with torch.no_grad():
        next(parts.learner.model.parameters()).fill_(value)
    evaluation = measure(composed(*SMALL), parts, parts.splits.test)
    assert np.isnan(evaluation.loss)
    assert 0 <= evaluation.accuracy <= 1
    assert len(evaluation.most_confidently_wrong()) == int((~evaluation.correct).sum())
    assert json.dumps(per_class_rows(np.eye(2, dtype=np.int64), ("a", "b")))
