"""One optimizer step, the same for training and for the LR range test."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from cifar_exp.compute.device import Compute
from cifar_exp.data.batches import Batch
from cifar_exp.data.normalize import Normalizer
from cifar_exp.training.loss import Loss
from cifar_exp.training.mixing import Mixing

Size = tuple[int, int]  # images of a batch that count on this rank, and images of the batch on all ranks


@dataclass(frozen=True)
class StepResult:
    """Loss and accuracy of a step, from before its update; tensors stay on the device."""

    loss: Tensor  # (), this rank's part of the mean loss that the step reduces, nats
    # (), cross-entropy without label smoothing and class weights, summed over the counted images, nats
    loss_sum: Tensor
    correct: Tensor  # (), counted images whose predicted class is the label (with mixing, the dominant one)
    images: int  # number of counted images
    gradient_norm: Tensor | None = None  # (), before clipping; None without clipping


@dataclass(frozen=True)
class TrainingStep:
    """Takes one step: forward passes, losses, backward passes and the update."""

    compute: Compute  # device and precision
    normalize: Normalizer  # makes the network's input
    loss: Loss = field(default_factory=Loss)  # minimized by the step
    mixing: Mixing | None = None  # mixup or CutMix; None for neither
    clip_grad_norm: float | None = None  # maximum norm of the gradient; None for no clipping
    accumulate: int = 1  # batches of a step, whose gradients are added
    rank: int = 0  # of this process
    world_size: int = 1  # number of ranks, over which the gradients are averaged

    def __call__(
        self,
        forward: Callable[[Tensor], Tensor],
        optimizer: torch.optim.Optimizer,
        batches: Sequence[Batch],
        sizes: Sequence[Size] | None = None,
        *,
        number: int = 0,
    ) -> StepResult:
        """Take the step: its loss is the mean over the images of all its batches, on all ranks.

        ``forward`` maps (N, C, H, W) float32 to logits (N, classes). ``batches`` are this rank's shards: (N, H, W, C)
        uint8 and (N,) int64. Without ``sizes`` all images count. Mixing depends on ``number``, the step in the run.
        """
        sizes = sizes or [(len(labels), len(labels)) for _, labels in batches]
        whole = sum(size for _, size in sizes)
        optimizer.zero_grad(set_to_none=True)
        results = []
        for position, (batch, (counted, _)) in enumerate(zip(batches, sizes, strict=True)):
            is_last = position == len(batches) - 1
            # DistributedDataParallel averages the gradients over the ranks once a step, with its last batch.
            with nullcontext() if is_last else getattr(forward, "no_sync", nullcontext)():
                results.append(self._backward(forward, batch, counted, whole, (number, position)))
        norm = None
        if self.clip_grad_norm is not None:
            parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            norm = torch.nn.utils.clip_grad_norm_(parameters, self.clip_grad_norm)
        optimizer.step()
        return _add_results(results, norm)

    def _backward(
        self, forward: Callable[[Tensor], Tensor], batch: Batch, counted: int, whole: int, draw: tuple[int, int]
    ) -> StepResult:
        """Add the gradient of a batch; ``whole`` is the number of images of the step."""
        pixels, labels = batch
        inputs = self.normalize(pixels)  # (N, C, H, W) float32
        targets = labels.to(self.compute.device, non_blocking=True)  # (N,)
        if self.mixing is not None:
            own = (self.rank,) if self.world_size > 1 else ()
            inputs, targets = self.mixing(inputs, targets, *draw, *own)  # targets: (N, classes)
        with self.compute.autocast():
            logits = forward(inputs)  # (N, classes)
        logits = logits.float()
        loss = self.loss(logits, targets)
        # The ranks' gradients are averaged; this weight makes the average the gradient of the whole step's mean loss.
        _scale(loss, self.world_size * counted / whole).backward()
        with torch.no_grad():
            plain = loss.detach() if self.loss.is_plain else F.cross_entropy(logits, targets)
            dominant = targets if targets.ndim == 1 else targets.argmax(dim=1)
            return StepResult(
                loss=_scale(loss.detach(), counted / whole),
                loss_sum=plain * counted,
                correct=(logits.argmax(dim=1) == dominant)[:counted].sum(),
                images=counted,
            )


def _add_results(results: Sequence[StepResult], norm: Tensor | None) -> StepResult:
    first, *others = results
    if not others:
        return StepResult(first.loss, first.loss_sum, first.correct, first.images, norm)
    loss, loss_sum, correct = (
        torch.stack([getattr(result, name) for result in results]).sum() for name in ("loss", "loss_sum", "correct")
    )
    return StepResult(loss, loss_sum, correct, sum(result.images for result in results), norm)


def _scale(tensor: Tensor, factor: float) -> Tensor:
    return tensor if factor == 1 else tensor * factor
