"""The training loss: cross-entropy with label smoothing and class weights."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from cifar_exp.errors import RequestError

BALANCED = "balanced"


@dataclass(frozen=True)
class Loss:
    """Mean cross-entropy of a batch, nats.

    With class weights each image's loss is multiplied by the weight of its class, and the sum is divided by the number
    of images. (PyTorch divides by the sum of the weights, which would make the loss depend on how batches are sharded.)
    """

    label_smoothing: float = 0.0  # in [0, 1]
    class_weights: Tensor | None = None  # (classes,) float32; None for equal weights

    @property
    def is_plain(self) -> bool:
        """Whether it is cross-entropy without label smoothing and weights."""
        return not self.label_smoothing and self.class_weights is None

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Compute the loss, ().

        ``logits`` are (N, classes); ``targets`` are (N,) labels or (N, classes) probabilities.
        """
        if self.class_weights is None:
            return F.cross_entropy(logits, targets, label_smoothing=self.label_smoothing)
        losses = F.cross_entropy(
            logits, targets, self.class_weights, reduction="none", label_smoothing=self.label_smoothing
        )
        return losses.mean()


def compute_class_weights(
    configured: str | Sequence[float] | None, labels: NDArray[np.int64], classes: int, device: torch.device
) -> Tensor | None:
    """Compute the weights of ``loss.class_weights``, (classes,); None for equal weights.

    ``balanced`` gives class c the weight N / (classes * N_c), as scikit-learn does: their mean over the images is 1.

    Raises:
        RequestError: the number of weights is not that of the classes, or a class has no image.
    """
    if configured is None:
        return None
    if configured == BALANCED:
        counts = np.bincount(labels, minlength=classes)
        if not counts.all():
            raise RequestError("loss.class_weights=balanced: a class has no training image")
        configured = (len(labels) / (classes * counts)).tolist()
    if len(configured) != classes:
        raise RequestError(f"loss.class_weights: has {len(configured)} weights, but the data has {classes} classes")
    return torch.tensor(configured, dtype=torch.float32, device=device)
