"""Exact metrics of a network on a split: every image counts once, whatever the batch size is."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F
from tqdm.auto import tqdm

from cifar_exp.compute.device import Compute
from cifar_exp.compute.distributed.ranks import current_ranks
from cifar_exp.data.dataset import Split
from cifar_exp.data.normalize import Normalizer
from cifar_exp.safe_io.console import shows_bars

_AT_ONCE_BYTES = 2**30  # of images copied to the device at once; CIFAR-10's test split has 31 MB
_PUBLISHED_BATCH = 128  # images; of the published run, in evaluation too


@dataclass(frozen=True)
class Evaluation:
    """Predictions of a network for a split."""

    labels: NDArray[np.int64]  # (N,) true classes
    probabilities: NDArray[np.float32]  # (N, C) float32, softmax
    losses: NDArray[np.float64]  # (N,) cross-entropy, nats

    @cached_property
    def predictions(self) -> NDArray[np.int64]:
        """(N,) most probable classes."""
        return self.probabilities.argmax(axis=1).astype(np.int64)

    @cached_property
    def confidences(self) -> NDArray[np.float64]:
        """(N,) softmax probability of the prediction, in [0, 1]."""
        return self.probabilities.max(axis=1).astype(np.float64)

    @property
    def loss(self) -> float:
        """Mean cross-entropy, nats per image."""
        return float(self.losses.mean())

    @property
    def loss_as_published(self) -> float:
        """What the published run printed as its loss: the sum of the mean losses of batches of 128, divided by N.

        It is smaller than the loss by about the batch size, and does not depend on the batches of this evaluation.
        """
        starts = range(0, len(self.losses), _PUBLISHED_BATCH)
        return float(sum(self.losses[at : at + _PUBLISHED_BATCH].mean() for at in starts)) / len(self.losses)

    @property
    def correct(self) -> NDArray[np.bool_]:
        """(N,) whether each prediction is right."""
        return self.predictions == self.labels

    @property
    def accuracy(self) -> float:
        """Fraction of right predictions."""
        return int(self.correct.sum()) / len(self.labels)

    def most_confidently_wrong(self) -> NDArray[np.int64]:
        """Positions of the misclassified images, the most confident first."""
        wrong = np.flatnonzero(~self.correct)
        return wrong[np.argsort(-self.confidences[wrong], kind="stable")]


@torch.inference_mode()
def evaluate(
    model: nn.Module,
    split: Split,
    *,
    compute: Compute,
    normalize: Normalizer,
    batch_size: int,
    views: str = "none",
    after_batch: Callable[[], None] = lambda: None,
) -> Evaluation:
    """Evaluate ``model`` on all images of ``split``; its training mode is restored afterwards.

    In a distributed run each rank evaluates its shard of every batch, and all ranks return all results. ``views``
    selects the test-time augmentation (``compute_view_logits``). ``after_batch`` is called between batches, and may
    raise to stop.
    """
    was_training = model.training
    model.eval()
    ranks = current_ranks()
    ranks.broadcast_weights(model)
    probabilities, losses = [], []
    # On a CPU the 10,000 test images of CIFAR-10 take a ResNet a minute.
    hidden = not (ranks.is_rank_0 and shows_bars())
    starts = tqdm(range(0, len(split), batch_size), desc="evaluating", unit=" batches", disable=hidden, leave=False)
    all_images, all_labels = torch.from_numpy(split.images), torch.from_numpy(split.labels).to(compute.device)
    if all_images.nbytes <= _AT_ONCE_BYTES:  # each copy from pageable memory can wait for the GPU's earlier work
        all_images = all_images.to(compute.device)
    for start in starts:
        rows, counted = ranks.rows(start, min(start + batch_size, len(split)))
        labels = all_labels[rows]
        with compute.autocast():
            logits = compute_view_logits(model, normalize(all_images[rows]), views)  # (N, classes)
        log_probabilities = F.log_softmax(logits.float(), dim=1)
        loss = F.nll_loss(log_probabilities, labels, reduction="none")
        probabilities.append(log_probabilities.exp()[:counted])
        losses.append(loss[:counted])
        after_batch()
    model.train(was_training)
    probabilities, losses = map(ranks.concatenate, (probabilities, losses))
    p, nats = (torch.cat(parts).cpu().numpy() for parts in (probabilities, losses))
    return Evaluation(split.labels, p, nats.astype(np.float64))


def compute_view_logits(model: nn.Module, inputs: torch.Tensor, views: str) -> torch.Tensor:
    """Average the logits over views of each image: test-time augmentation (Jordan 2024, arXiv 2404.00498).

    ``none``: the image. ``mirror``: it and its mirror image, half each. ``mirror_translate``: these two (a quarter
    each), and the four of the image moved by one pixel up and left or down and right, its border reflected (an eighth
    each).

    Returns:
        (N, classes).
    """

    def mirror(images: torch.Tensor) -> torch.Tensor:
        flipped = images.flip(-1)
        return (model(images.clone()) + model(flipped)) / 2  # a copy: the network may change its input in place

    if views == "none":
        logits: torch.Tensor = model(inputs)
        return logits
    if views == "mirror":
        return mirror(inputs)
    height, width = inputs.shape[2:]
    padded = F.pad(inputs, (1, 1, 1, 1), mode="reflect")
    moved = [padded[:, :, start : start + height, start : start + width] for start in (0, 2)]
    return mirror(inputs) / 2 + (mirror(moved[0]) + mirror(moved[1])) / 4


def confusion_matrix(labels: NDArray[np.int64], predictions: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    """Count predictions by class, (classes, classes); rows are true classes, columns predicted ones."""
    return np.bincount(labels * classes + predictions, minlength=classes * classes).reshape(classes, classes)


def prediction_rows(evaluation: Evaluation, split: Split, class_names: Sequence[str]) -> list[Mapping[str, Any]]:
    """Make the rows of ``predictions.csv``, classes by name."""
    return [
        {
            "index": index,
            "source": str(split.sources[index]),
            "label": class_names[label],
            "prediction": class_names[prediction],
            "confidence": float(confidence),
            "correct": bool(label == prediction),
        }
        for index, (label, prediction, confidence) in enumerate(
            zip(evaluation.labels, evaluation.predictions, evaluation.confidences, strict=True)
        )
    ]


def per_class_rows(confusion: NDArray[np.int64], class_names: Sequence[str]) -> list[Mapping[str, Any]]:
    """Make the rows of ``per_class.csv``. Accuracy (recall), precision or F1 is None if its denominator is 0."""
    rows: list[Mapping[str, Any]] = []
    for index, name in enumerate(class_names):
        images, predicted = int(confusion[index].sum()), int(confusion[:, index].sum())
        correct = int(confusion[index, index])
        rows.append(
            {
                "class_index": index,
                "class": name,
                "images": images,
                "correct": correct,
                "accuracy": correct / images if images else None,
                "predicted": predicted,
                "precision": correct / predicted if predicted else None,
                "f1": 2 * correct / (images + predicted) if images + predicted else None,
            }
        )
    return rows


def class_scores(evaluation: Evaluation) -> dict[str, float | None]:
    """Compute the columns of ``summary.csv`` that weigh classes, not images, equally, and the top-5 accuracy.

    A class that has no image and is never predicted does not count. Of equal probabilities the label's counts as the
    lowest. With five classes or fewer every label is among the top 5: the cell stays empty.
    """
    classes = evaluation.probabilities.shape[1]
    counts = confusion_matrix(evaluation.labels, evaluation.predictions, classes)
    rows = per_class_rows(counts, [str(k) for k in range(classes)])
    recalls, f1 = ([row[key] for row in rows if row[key] is not None] for key in ("accuracy", "f1"))
    of_label = np.take_along_axis(evaluation.probabilities, evaluation.labels[:, None], axis=1)
    in_top5 = (evaluation.probabilities >= of_label).sum(axis=1) <= 5
    return {
        "top5_accuracy": float(in_top5.mean()) if classes > 5 else None,
        "balanced_accuracy": float(np.mean(recalls)),
        "macro_f1": float(np.mean(f1)),
    }


def selection_score(evaluation: Evaluation, metric: str) -> float:
    """Return the value of the config's ``selection_metric``; higher is better, so ``val_loss`` is negated."""
    if metric == "val_loss":
        return -evaluation.loss
    if metric == "val_accuracy":
        return evaluation.accuracy
    value = class_scores(evaluation)[metric.removeprefix("val_")]
    assert value is not None
    return value


def confusion_rows(confusion: NDArray[np.int64], class_names: Sequence[str]) -> list[Mapping[str, Any]]:
    """Make the rows of ``confusion.csv``: the true class (``label``), then a column for each predicted class."""
    return [
        {"label": name} | dict(zip(class_names, map(int, counts), strict=True))
        for name, counts in zip(class_names, confusion, strict=True)
    ]
