"""The test of Grad-CAM where the answer is known; its parts against SciPy and a dense solve."""

import numpy as np
import pytest
import torch
from scipy import ndimage, stats
from torch import nn

from cifar_exp.compute.device import Compute
from cifar_exp.data.normalize import Normalizer, Statistics
from cifar_exp.explain import faithfulness, infill
from cifar_exp.explain.gradcam import Explainer, control_rows, most_attended
from cifar_exp.explain.layers import LayerMap
from cifar_exp.explain.verdict import MARKS, UNCLEAR, WRONG_PLACE, verdict

CPU = Compute(torch.device("cpu"), torch.float32, torch.contiguous_format)
NORMALIZE = Normalizer(Statistics((0.5, 0.5, 0.5), (0.25, 0.25, 0.25)), CPU)
SIDE, SQUARE = 20, 4
LAYER = LayerMap("layer1", 10, 10)


class Planted(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 12, 3, padding=1), nn.ReLU())
        self.layer1 = nn.Sequential(nn.Conv2d(12, 12, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
        self.fc = nn.Linear(12, 3)

    def forward(self, pixels):
        return self.fc(self.layer1(self.stem(pixels)).mean((2, 3)))


def planted(count, seed):
    """Noise with a coloured square that alone decides the class: images, classes, masks of the square."""
    draw = np.random.default_rng(seed)
    images = draw.integers(60, 196, (count, SIDE, SIDE, 1), dtype=np.uint8).repeat(3, axis=3)
    classes, squares = draw.integers(0, 3, count), np.zeros((count, SIDE, SIDE), bool)
    for image, square, label in zip(images, squares, classes, strict=True):
        top, left = draw.integers(0, SIDE - SQUARE, 2)
        square[top : top + SQUARE, left : left + SQUARE] = True
        image[square] = np.eye(3, dtype=np.uint8)[label] * 255
    return images, classes, squares


@pytest.fixture(scope="module")
def explainer():
    """A network that has learned the shortcut."""
    torch.manual_seed(0)
    model = Planted()
    images, classes, _ = planted(300, seed=0)
    inputs, labels = NORMALIZE(torch.from_numpy(images)), torch.from_numpy(classes)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for step in range(60):
        part = slice(step % 3 * 100, step % 3 * 100 + 100)
        loss = nn.functional.cross_entropy(model(inputs[part]), labels[part])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    found = Explainer(model, CPU, NORMALIZE, 200, "blur")
    assert found.probabilities(images, classes).mean() > 0.95
    return found


def judge(explainer, images, classes, masks, seed=0):
    effect = faithfulness.measure_effect(explainer, images, classes, masks, seed)
    return verdict(effect.low, effect.high)


def blobs(count, seed):
    noise = np.random.default_rng(seed).standard_normal((count, SIDE, SIDE)).astype(np.float32)
    smooth = ndimage.gaussian_filter(noise, (0, 3, 3))
    return most_attended(smooth, smooth)


@pytest.mark.parametrize("name", infill.INFILLS)
def test_only_a_map_of_the_planted_shortcut_gets_the_verdict(explainer, name):
    images, classes, squares = planted(60, seed=1)
    with_infill = Explainer(explainer.model, CPU, NORMALIZE, 200, name)
    assert judge(with_infill, images, classes, squares) == MARKS
    elsewhere = np.roll(squares, SIDE // 2, axis=(1, 2))
    assert judge(with_infill, images, classes, elsewhere) != MARKS
    [test] = faithfulness.measure(with_infill, images, classes, classes, [LAYER], seed=0)[:1]
    assert test.verdict == MARKS


def test_random_maps_seldom_get_the_verdict_and_occlusion_maps_always(explainer):
    found = {"blobs": [], "occlusion": []}
    for seed in range(100):
        images, classes, squares = planted(30, seed)
        found["blobs"].append(judge(explainer, images, classes, blobs(30, seed), seed))
        if seed < 10:  # importance measured directly: the drop with each patch hidden
            heat = np.zeros(squares.shape, np.float32)
            before = explainer.probabilities(images, classes)
            for top, left in np.ndindex(SIDE // 4, SIDE // 4):
                patch = np.zeros(squares.shape, bool)
                patch[:, 4 * top : 4 * top + 4, 4 * left : 4 * left + 4] = True
                heat += patch * (before - explainer.probabilities(images, classes, patch))[:, None, None]
            found["occlusion"].append(judge(explainer, images, classes, most_attended(heat, heat), seed))
    assert found["blobs"].count(MARKS) <= 5
    assert set(found["occlusion"]) == {MARKS}


def test_measure_reads_both_targets_and_what_the_last_block_learned(explainer):
    images, classes, _ = planted(60, seed=2)
    few = np.where(np.arange(60) < 5, (classes + 1) % 3, classes)  # five "mistakes"
    predicted, true = faithfulness.measure(explainer, images, few, classes, [LAYER], seed=0)
    assert (predicted.target, predicted.n, true.target, true.n) == ("predicted", 60, "true", 5)
    assert (true.effect, true.verdict) == (None, None)  # too few for an interval
    assert abs(predicted.correlation) < 0.9
    again = faithfulness.measure(explainer, images, few, classes, [LAYER], seed=0)
    assert faithfulness.faithfulness_rows(again) == faithfulness.faithfulness_rows([predicted, true])
    scrambled = faithfulness.copy_reinitialized(explainer, 0).model
    same = {
        name for name, value in explainer.model.named_parameters() if torch.equal(value, scrambled.get_parameter(name))
    }
    assert same == {"stem.0.weight", "stem.0.bias"}


@pytest.mark.parametrize(
    ("low", "high", "said"), [(1e-3, 1, MARKS), (4e-4, 1, UNCLEAR), (-1, -4e-4, UNCLEAR), (-1, -1e-3, WRONG_PLACE)]
)
def test_the_verdict_is_the_interval_s(low, high, said):
    assert verdict(low, high) == said


@pytest.mark.parametrize(("count", "drawn"), [(0, 0), (1, 0), (3, 2), (6, 5), (50, 5)])
def test_controls_are_derangements(count, drawn):
    rows = control_rows(count, seed=0)
    assert len(rows) == drawn
    assert all(sorted(row) == list(range(count)) for row in rows)
    meetings = np.vstack([np.arange(count), rows])
    assert all(len(set(column)) == drawn + 1 for column in meetings.T)  # neither itself nor anyone twice


def test_the_sample_has_the_classes_and_mistakes_of_the_whole():
    labels = np.repeat(np.arange(5), 100)
    predictions = np.where(np.arange(500) % 10 == 0, (labels + 1) % 5, labels)
    rows = faithfulness.sample(labels, predictions, 100, seed=0)
    assert np.bincount(labels[rows]).tolist() == [20] * 5
    assert (labels != predictions)[rows].sum() == 10
    assert faithfulness.limit_sample_size(200, 10_000, 4) == 200
    assert faithfulness.limit_sample_size(200, 1_000, 3) == 33
    assert faithfulness.limit_sample_size(200, 25, 3) == 25


def test_statistics_equal_those_of_scipy():
    values = np.random.default_rng(0).exponential(size=80) - 0.8
    expected = stats.bootstrap((values,), np.mean, method="percentile", n_resamples=5000, rng=0).confidence_interval
    assert faithfulness.bootstrap_interval(values, 0) == pytest.approx((expected.low, expected.high), abs=0.02)
    maps = np.random.default_rng(1).integers(0, 9, (4, 30)).astype(np.float32)  # with ties
    others = np.random.default_rng(2).integers(0, 9, (4, 30)).astype(np.float32)
    correlations = [stats.spearmanr(*pair).statistic for pair in zip(maps, others, strict=True)]
    assert faithfulness.rank_correlation(maps, others) == pytest.approx(np.mean(correlations), abs=1e-6)
    others[0] = 3  # constant: left out
    assert faithfulness.rank_correlation(maps, others) == pytest.approx(np.mean(correlations[1:]), abs=1e-6)
    assert faithfulness.rank_correlation(maps, np.zeros_like(maps)) is None


def hidden_and_inputs():
    draw = np.random.default_rng(0)
    hidden = ndimage.gaussian_filter(draw.standard_normal((2, 16, 12)), (0, 2, 2)) > 0.05
    return torch.from_numpy(draw.standard_normal((2, 3, 16, 12)).astype(np.float32)), hidden


def test_blur_weighs_only_what_is_seen():
    inputs, hidden = hidden_and_inputs()
    seen = (~hidden[:, None]).astype(np.float64)

    def blurred(values):
        around = np.pad(values, ((0, 0), (0, 0), (6, 6), (6, 6)), mode="reflect")
        return sum(
            np.exp(-(y**2 + x**2) / (2 * 1.5**2)) * around[:, :, 6 + y : 22 + y, 6 + x : 18 + x]
            for y in range(-6, 7)
            for x in range(-6, 7)
        )

    expected = np.where(hidden[:, None], blurred(inputs.numpy() * seen) / blurred(seen), inputs.numpy())
    np.testing.assert_allclose(infill.blur(inputs, hidden).numpy(), expected, atol=1e-5)


def test_road_equals_a_dense_solve(monkeypatch):
    monkeypatch.setattr(infill, "_ROAD_NOISE", 0.0)
    inputs, hidden = hidden_and_inputs()
    found = infill.road(inputs, hidden).numpy()
    for image, mask, imputed in zip(inputs.numpy(), hidden, found, strict=True):
        # All pixels are unknowns: the seen ones equal the image, the hidden ones their neighbours' weighted mean.
        system, known = np.eye(mask.size), image.reshape(3, -1).T.astype(np.float64)
        for y, x in np.argwhere(mask):
            row = 12 * y + x
            known[row] = 0
            weights = {
                12 * b + a: 2.0 if abs(b - y) + abs(a - x) == 1 else 1.0
                for b in range(max(y - 1, 0), min(y + 2, 16))
                for a in range(max(x - 1, 0), min(x + 2, 12))
                if (b, a) != (y, x)
            }
            for other, weight in weights.items():
                system[row, other] = -weight / sum(weights.values())
        expected = np.linalg.solve(system, known).T.reshape(image.shape)
        np.testing.assert_allclose(imputed, expected, atol=1e-5)


def test_road_continues_a_ramp_and_adds_its_noise():
    ramp = torch.arange(16.0).repeat(1, 1, 16, 1)
    hidden = np.zeros((1, 16, 16), bool)
    hidden[:, 4:12, 5:11] = True
    rest = (infill.road(ramp, hidden) - ramp)[0, 0].numpy()
    assert np.abs(rest[~hidden[0]]).max() == 0
    assert 0.007 < rest[hidden[0]].std() < 0.013
