"""Which epoch is the best: a score of its evaluation on the selection split."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from cifar_exp.evaluation.metrics import Evaluation, confusion_matrix


def balanced_accuracy(evaluation: Evaluation) -> float:
    """Mean recall of the classes that occur."""
    counts = _confusion(evaluation)
    images = counts.sum(axis=1)
    occurs = images > 0
    return float((counts.diagonal()[occurs] / images[occurs]).mean())


def macro_f1(evaluation: Evaluation) -> float:
    """Mean F1 of the classes that occur as a label or a prediction."""
    counts = _confusion(evaluation)
    total = counts.sum(axis=0) + counts.sum(axis=1)
    occurs = total > 0
    return float((2 * counts.diagonal()[occurs] / total[occurs]).mean())


def _confusion(evaluation: Evaluation) -> NDArray[np.int64]:
    classes = int(max(evaluation.labels.max(), evaluation.predictions.max())) + 1
    return confusion_matrix(evaluation.labels, evaluation.predictions, classes)


_SCORES: dict[str, Callable[[Evaluation], float]] = {
    "val_accuracy": lambda evaluation: evaluation.accuracy,
    "val_balanced_accuracy": balanced_accuracy,
    "val_macro_f1": macro_f1,
    "val_loss": lambda evaluation: -evaluation.loss,
}
METRICS = tuple(_SCORES)


def score(evaluation: Evaluation, metric: str) -> float:
    """The value of a selection metric; higher is better, so ``val_loss`` is negated."""
    return _SCORES[metric](evaluation)
