"""Confident learning on examples worked by hand, and on labels flipped on purpose."""

import numpy as np
import pytest

from cifar_exp.evaluation.probability_records import find_label_issues, label_issue_rows


def test_an_example_worked_by_hand():
    # Thresholds: class 0 (0.9 + 0.8 + 0.1) / 3 = 0.6, class 1 (0.9 + 0.7 + 0.6) / 3 = 0.73. Confidently: images 0 and 1
    # belong to class 0, images 2 and 3 to class 1, images 4 and 5 to none. So a third of the three labels 0 is wrong.
    p = np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.1, 0.9], [0.3, 0.7], [0.4, 0.6]], np.float32)
    labels = np.array([0, 0, 0, 1, 1, 1])
    issues = find_label_issues(p, labels)
    assert issues.tolist() == [2]
    assert label_issue_rows(issues, p, labels, np.array(list("abcdef")), ["cat", "dog"]) == [
        {
            "rank": 1,
            "index": 2,
            "source": "c",
            "label": "cat",
            "suggested": "dog",
            "label_probability": pytest.approx(0.1),
            "suggested_probability": pytest.approx(0.9),
        }
    ]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_flipped_labels_come_first(seed):
    # A network of 92 % accuracy whose mistakes are mostly between neighbouring classes, as those of real networks.
    generator = np.random.default_rng(seed)
    n, classes = 5_000, 10
    true = generator.integers(0, classes, n)
    logits = generator.normal(0, 1, (n, classes))
    logits[np.arange(n), true] += generator.normal(6, 2, n)
    logits[np.arange(n), (true + 1) % classes] += generator.normal(1, 2.5, n)
    p = np.exp(logits)
    p = (p / p.sum(1, keepdims=True)).astype(np.float32)
    assert 0.85 < (p.argmax(1) == true).mean() < 0.95
    flipped = generator.choice(n, n // 50, replace=False)
    labels = true.copy()
    labels[flipped] = (true[flipped] + generator.integers(1, classes, len(flipped))) % classes
    issues = find_label_issues(p, labels)
    assert np.isin(flipped, issues[: 2 * len(flipped)]).mean() >= 0.8


def test_classes_without_images_and_labels_beyond_doubt():
    p = np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1]], np.float32)
    assert find_label_issues(p, np.array([0, 1])).tolist() == []
    assert find_label_issues(p, np.array([0, 0])).size <= 1
