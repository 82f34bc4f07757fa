"""Metrics against scikit-learn's, whatever the batches."""

import numpy as np
import pytest
import torch
from sklearn import metrics
from torch import nn

from cifar_exp.compute.device import Compute
from cifar_exp.data.dataset import Split
from cifar_exp.data.normalize import Normalizer, Statistics
from cifar_exp.evaluation.metrics import (
    Evaluation,
    class_scores,
    confusion_matrix,
    confusion_rows,
    evaluate,
    per_class_rows,
    prediction_rows,
)

CLASSES = 4
CPU = Compute(torch.device("cpu"), torch.float32, torch.contiguous_format)
NORMALIZE = Normalizer(Statistics((0.5, 0.4, 0.3), (0.2, 0.2, 0.2)), CPU)


@pytest.fixture
def split():
    generator = np.random.default_rng(3)
    images = generator.integers(0, 256, (101, 8, 8, 3), dtype=np.uint8)
    return Split(images, generator.integers(0, CLASSES, 101), np.array([f"image {i}" for i in range(101)]))


@pytest.fixture
def model():
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, CLASSES))


def probabilities(model: nn.Module, split: Split) -> np.ndarray:
    """Softmax of the whole split in one batch, in double precision and without the project's own code."""
    images = torch.from_numpy(split.images).double().permute(0, 3, 1, 2) / 255
    images = (images - torch.tensor([0.5, 0.4, 0.3]).double().view(1, 3, 1, 1)) / 0.2
    with torch.no_grad():
        return model.double().eval()(images).softmax(1).numpy()


@pytest.mark.parametrize("batch_size", [1, 7, 100, 101, 512])
def test_metrics_equal_scikit_learns(model, split, batch_size):
    found = evaluate(model, split, compute=CPU, normalize=NORMALIZE, batch_size=batch_size)
    expected = probabilities(model, split)
    assert found.loss == pytest.approx(metrics.log_loss(split.labels, expected, labels=range(CLASSES)), abs=1e-6)
    assert found.accuracy == metrics.accuracy_score(split.labels, expected.argmax(1))
    np.testing.assert_array_equal(found.predictions, expected.argmax(1))
    np.testing.assert_allclose(found.probabilities, expected, atol=1e-6)
    assert found.probabilities.dtype == np.float32
    np.testing.assert_array_equal(found.confidences, found.probabilities.max(1))


@pytest.mark.parametrize("batch_size", [25, 512])
def test_the_published_loss_is_that_of_batches_of_128(model, split, batch_size):
    found = evaluate(model, split, compute=CPU, normalize=NORMALIZE, batch_size=batch_size)
    assert found.loss_as_published == pytest.approx(found.losses.mean() / 101, rel=1e-6)  # one batch
    # 650 images, as by hand: 5 batches of 128 with a mean of 1, 2, 3, 4 and 5, and one of 10 with a mean of 6.
    losses = np.repeat([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [128] * 5 + [10])
    many = Evaluation(np.zeros(650, int), np.ones((650, 1), np.float32), losses)
    assert many.loss_as_published == pytest.approx(21 / 650)


def test_evaluation_leaves_the_model_as_it_was(model, split):
    model.train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    evaluate(model, split, compute=CPU, normalize=NORMALIZE, batch_size=10)
    assert model.training
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key])


def test_the_most_confident_mistakes_come_first(model, split):
    found = evaluate(model, split, compute=CPU, normalize=NORMALIZE, batch_size=101)
    order = found.most_confidently_wrong()
    assert set(order) == set(np.flatnonzero(found.predictions != split.labels))
    assert (np.diff(found.confidences[order]) <= 0).all()


def test_tables_equal_scikit_learns(model, split):
    found = evaluate(model, split, compute=CPU, normalize=NORMALIZE, batch_size=50)
    names = ["cat", "dog", "=1+1", "über"]
    counts = confusion_matrix(found.labels, found.predictions, CLASSES)
    np.testing.assert_array_equal(
        counts, metrics.confusion_matrix(found.labels, found.predictions, labels=range(CLASSES))
    )
    rows = per_class_rows(counts, names)
    recall = metrics.recall_score(found.labels, found.predictions, average=None, labels=range(CLASSES))
    precision = metrics.precision_score(
        found.labels, found.predictions, average=None, labels=range(CLASSES), zero_division=np.nan
    )
    assert [row["accuracy"] for row in rows] == pytest.approx(recall.tolist())
    assert [np.nan if row["precision"] is None else row["precision"] for row in rows] == pytest.approx(
        precision.tolist(), nan_ok=True
    )
    f1 = metrics.f1_score(found.labels, found.predictions, average=None, labels=range(CLASSES))
    assert [row["f1"] for row in rows] == pytest.approx(f1.tolist())
    assert [row["label"] for row in confusion_rows(counts, names)] == names
    predictions = prediction_rows(found, split, names)
    assert sum(row["correct"] for row in predictions) == metrics.accuracy_score(
        found.labels, found.predictions, normalize=False
    )
    assert predictions[7]["source"] == "image 7"


def test_a_class_that_never_occurs_has_no_accuracy():
    counts = confusion_matrix(np.array([0, 0]), np.array([0, 1]), 3)
    rows = per_class_rows(counts, ["a", "b", "c"])
    assert [row["accuracy"] for row in rows] == [0.5, None, None]
    assert [row["precision"] for row in rows] == [1.0, 0.0, None]
    assert [row["f1"] for row in rows] == [pytest.approx(2 / 3), 0.0, None]


@pytest.mark.parametrize("classes", [3, 5, 7, 30])
def test_class_scores_equal_scikit_learns(classes):
    generator = np.random.default_rng(classes)
    labels = generator.integers(0, classes - 1, 400)  # the last class has no image
    p = generator.dirichlet(np.ones(classes), 400).astype(np.float32)
    p[np.arange(400), labels] += 0.2
    found = class_scores(Evaluation(labels, p, np.zeros(400)))
    assert found["balanced_accuracy"] == pytest.approx(metrics.recall_score(
        labels, p.argmax(1), average="macro", labels=range(classes - 1)
    ))  # fmt: skip
    assert found["macro_f1"] == pytest.approx(metrics.f1_score(labels, p.argmax(1), average="macro"))
    expected = metrics.top_k_accuracy_score(labels, p, k=5, labels=range(classes)) if classes > 5 else None
    assert found["top5_accuracy"] == (None if expected is None else pytest.approx(expected))


def test_a_label_among_equal_probabilities_is_not_in_the_top_five():
    p = np.full((1, 10), 0.1, np.float32)
    assert class_scores(Evaluation(np.array([0]), p, np.zeros(1)))["top5_accuracy"] == 0


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_normalization_by_its_formula(split, memory_format):
    normalize = Normalizer(
        Statistics((0.5, 0.4, 0.3), (0.2, 0.3, 0.4)), Compute(torch.device("cpu"), torch.float32, memory_format)
    )
    found = normalize(torch.from_numpy(split.images))
    expected = (split.images / 255 - [0.5, 0.4, 0.3]) / [0.2, 0.3, 0.4]  # (N, H, W, C)
    np.testing.assert_allclose(found.permute(0, 2, 3, 1).numpy(), expected, atol=1e-5)
    assert found.is_contiguous(memory_format=memory_format)
