"""One optimizer step, the same for training and for the LR range test."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from cifar_exp.compute.device import Compute
from cifar_exp.data.batches import Batch
from cifar_exp.data.normalize import Normalizer


@dataclass(frozen=True)
class StepResult:
    """Loss and accuracy of a step, from before its update; tensors stay on the device.

    Attributes:
        loss: (), this rank's part of the mean loss that the step reduces, nats.
        loss_sum: (), cross-entropy without label smoothing, summed over the counted images, nats.
        correct: (), correct predictions among the counted images.
        images: number of counted images.
    """

    loss: torch.Tensor
    loss_sum: torch.Tensor
    correct: torch.Tensor
    images: int


@dataclass(frozen=True)
class TrainingStep:
    """Forward pass, loss, backward pass and update for one batch.

    Attributes:
        compute: device and precision.
        normalize: makes the network's input.
        label_smoothing: of the loss, in [0, 1].
        world_size: number of ranks, over which the gradients are averaged.
    """

    compute: Compute
    normalize: Normalizer
    label_smoothing: float = 0.0
    world_size: int = 1

    def __call__(
        self,
        forward: Callable[[torch.Tensor], torch.Tensor],
        optimizer: torch.optim.Optimizer,
        batch: Batch,
        size: tuple[int, int] | None = None,
    ) -> StepResult:
        """Take the step.

        Args:
            forward: maps (N, C, H, W) float32 to logits (N, classes).
            optimizer: of the network's parameters.
            batch: this rank's shard: (N, H, W, C) uint8 and (N,) int64.
            size: how many images of the shard count, and how many the whole batch has; None if all count.
        """
        pixels, labels = batch
        counted, whole = size or (len(labels), len(labels))
        inputs = self.normalize(pixels)  # (N, C, H, W) float32
        labels = labels.to(self.compute.device, non_blocking=True)  # (N,)
        with self.compute.autocast():
            logits = forward(inputs)  # (N, classes)
        logits = logits.float()
        loss = F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)
        optimizer.zero_grad(set_to_none=True)
        # The ranks' gradients are averaged; this weight makes the average the gradient of the whole batch's mean loss.
        _scale(loss, self.world_size * counted / whole).backward()
        optimizer.step()
        with torch.no_grad():
            plain = F.cross_entropy(logits, labels) if self.label_smoothing else loss.detach()
            return StepResult(
                loss=_scale(loss.detach(), counted / whole),
                loss_sum=plain * counted,
                correct=(logits.argmax(dim=1) == labels)[:counted].sum(),
                images=counted,
            )


def _scale(tensor: torch.Tensor, factor: float) -> torch.Tensor:
    return tensor if factor == 1 else tensor * factor
