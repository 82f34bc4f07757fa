"""Test-time augmentation against the mean over views made one by one."""

import numpy as np
import pytest
import torch
from torch import nn

from cifar_exp.compute.device import Compute
from cifar_exp.data.dataset import Split
from cifar_exp.data.normalize import Normalizer, Statistics
from cifar_exp.evaluation.metrics import compute_view_logits, evaluate

CPU = Compute(torch.device("cpu"), torch.float32, torch.contiguous_format)
NORMALIZE = Normalizer(Statistics((0.5, 0.4, 0.3), (0.2, 0.2, 0.2)), CPU)


@pytest.fixture
def model():
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 4)).eval()


@pytest.fixture
def split():
    generator = np.random.default_rng(3)
    images = generator.integers(0, 256, (101, 8, 8, 3), dtype=np.uint8)
    return Split(images, generator.integers(0, 4, 101), np.array(["x"] * 101))


def moved(image: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """(C, H, W) with its content moved; what comes in is the reflection about the border pixels."""
    _, height, width = image.shape
    out = np.empty_like(image)
    for row in range(height):
        for column in range(width):
            source_row, source_column = abs(row - rows), abs(column - columns)
            source_row = min(source_row, 2 * (height - 1) - source_row)
            source_column = min(source_column, 2 * (width - 1) - source_column)
            out[:, row, column] = image[:, source_row, source_column]
    return out


def expected_logits(model: nn.Module, images: np.ndarray, weighted: list[tuple[float, int, int]]) -> np.ndarray:
    total = 0.0
    for weight, rows, columns in weighted:
        for mirror in (False, True):
            views = np.stack([moved(image, rows, columns) for image in images])
            views = views[:, :, :, ::-1].copy() if mirror else views
            with torch.no_grad():
                total = total + weight / 2 * model(torch.from_numpy(views)).numpy()
    return total


@pytest.mark.parametrize(
    ("views", "weighted"),
    [("mirror", [(1.0, 0, 0)]), ("mirror_translate", [(0.5, 0, 0), (0.25, 1, 1), (0.25, -1, -1)])],
)
def test_logits_are_the_weighted_mean_over_views(model, views, weighted):
    images = np.random.default_rng(0).normal(size=(5, 3, 8, 8)).astype(np.float32)
    with torch.no_grad():
        found = compute_view_logits(model, torch.from_numpy(images), views).numpy()
    np.testing.assert_allclose(found, expected_logits(model, images, weighted), atol=1e-5)


@pytest.mark.parametrize("batch_size", [7, 101])
def test_evaluation_uses_the_views(model, split, batch_size):
    options = {"compute": CPU, "normalize": NORMALIZE, "batch_size": batch_size}
    model.eval()
    images = NORMALIZE(torch.from_numpy(split.images)).numpy()
    expected = expected_logits(model, images, [(0.5, 0, 0), (0.25, 1, 1), (0.25, -1, -1)]).argmax(1)
    model.train()
    found = evaluate(model, split, views="mirror_translate", **options)
    assert model.training
    np.testing.assert_array_equal(found.predictions, expected)
