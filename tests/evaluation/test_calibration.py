"""Calibration against scikit-learn, examples worked by hand, and simulated networks."""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from sklearn import metrics
from sklearn.calibration import calibration_curve

from cifar_exp.evaluation.calibration import (
    apply_temperature,
    brier_score,
    calibration_error,
    calibration_rows,
    calibration_scores,
    expected_calibration_error,
    fit_temperature,
)


@pytest.fixture(scope="module")
def overconfident():
    """Probabilities (3000, 10), and labels drawn from their 0.7th powers."""
    generator = np.random.default_rng(0)
    logits = generator.normal(0, 2, (3000, 10))
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    true = p**0.7 / (p**0.7).sum(1, keepdims=True)
    return p.astype(np.float32), (true.cumsum(1) < generator.random((3000, 1))).sum(1)


def test_the_reliability_diagram_and_brier_score_are_scikit_learns(overconfident):
    p, labels = overconfident
    confidence, correct = p.max(1).astype(float), p.argmax(1) == labels
    accuracy, mean = calibration_curve(correct, confidence, n_bins=15, strategy="quantile")
    rows = calibration_rows(confidence, correct)
    np.testing.assert_allclose([row["accuracy"] for row in rows], accuracy)
    np.testing.assert_allclose([row["mean_confidence"] for row in rows], mean)
    images = np.array([row["images"] for row in rows])
    assert (images.sum(), images.min()) == (3000, 200)
    expected = float((images * np.abs(accuracy - mean)).sum() / 3000)
    scores = calibration_scores(p, labels, None)
    assert scores["ece"] == pytest.approx(expected, abs=1e-6)
    assert scores["brier"] == brier_score(p, labels) == pytest.approx(metrics.brier_score_loss(labels, p), abs=1e-6)
    assert scores["temperature"] is scores["ece_calibrated"] is None


def test_the_temperature_minimizes_the_log_loss(overconfident):
    p, labels = overconfident
    expected = minimize_scalar(
        lambda temperature: metrics.log_loss(labels, apply_temperature(p, temperature)),
        bounds=(0.05, 20),
        method="bounded",
        options={"xatol": 1e-9},
    )
    found = fit_temperature(p, labels)
    assert found == pytest.approx(expected.x, rel=1e-5)
    assert found == pytest.approx(1 / 0.7, rel=0.1)
    scores = calibration_scores(p, labels, found)
    assert scores["ece_calibrated"] < 0.03 < scores["ece"]


@pytest.mark.parametrize("right", [True, False])
def test_no_temperature_fits_a_network_that_is_always_right_or_always_wrong(right):
    p = np.array([[0.9, 0.1], [0.2, 0.8]], np.float32)
    assert fit_temperature(p, np.array([0, 1]) if right else np.array([1, 0])) is None


def test_errors_of_both_signs_do_not_cancel():
    # Half of the images at 0.95 and half at 0.55, all of them right in 75 %.
    confidence = np.repeat([0.95, 0.55], 400)
    correct = np.tile([True, True, True, False], 200)
    assert len(calibration_rows(confidence, correct)) == 2
    assert expected_calibration_error(confidence, correct) == pytest.approx(0.2)
    error = calibration_error(confidence, correct)
    assert error.excess == pytest.approx(0)
    assert error.verdict == "mixed"
    assert error.low < 0.2 < error.high


@pytest.mark.parametrize(
    ("sharpness", "verdict"), [(1.0, "calibrated"), (1.8, "overconfident"), (0.6, "underconfident")]
)
def test_intervals_and_verdicts_of_simulated_networks(sharpness, verdict):
    generator = np.random.default_rng(3)
    draws, n = 150, 2_000
    covered = verdicts = 0
    for _ in range(draws):
        logit = generator.normal(2, 1.5, n)
        accuracy, confidence = 1 / (1 + np.exp(-logit)), 1 / (1 + np.exp(-sharpness * logit))
        error = calibration_error(confidence, generator.random(n) < accuracy)
        true = float(np.abs(accuracy - confidence).mean())
        covered += error.low <= true <= error.high
        verdicts += error.verdict == verdict
    # 95%, with room for three standard errors of 150 draws; bins average a little of the error away.
    assert covered >= 0.89 * draws
    assert verdicts >= 0.9 * draws
