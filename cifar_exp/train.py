"""One epoch of training, read from top to bottom."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import LRScheduler

from cifar_exp.compute import Compute, Normalizer
from cifar_exp.data.batches import Batch
from cifar_exp.errors import DivergedError
from cifar_exp.optimizer import momentum_of
from cifar_exp.progress import EpochProgress


@dataclass
class Learner:
    """Everything that training changes, and the plan that it follows.

    Attributes:
        model: the network; its weights are what checkpoints hold.
        forward: what is called to train it: the network, or its compiled form.
        interval: ``step`` or ``epoch``; after what the schedule moves on.
        total_steps: steps in the plan, beyond which the schedule cannot go.
        step: optimizer steps taken so far.
        epoch: epochs completed so far.
    """

    model: nn.Module
    forward: Callable[[torch.Tensor], torch.Tensor]
    optimizer: torch.optim.Optimizer
    scheduler: LRScheduler
    interval: str
    total_steps: int
    label_smoothing: float = 0.0
    step: int = 0
    epoch: int = 0


@dataclass(frozen=True)
class EpochResult:
    """Means over the epoch's images, as they were seen: augmented, by a network that was still learning.

    Attributes:
        loss: cross-entropy, nats per image, without label smoothing.
        accuracy: fraction in [0, 1].
        learning_rate: at the epoch's last step.
        steps: rows of ``steps.csv``.
    """

    loss: float
    accuracy: float
    images: int
    learning_rate: float
    seconds: float
    steps: list[Mapping[str, Any]]


def train_epoch(
    learner: Learner,
    batches: Iterable[Batch],
    *,
    images: int,
    epochs: int,
    compute: Compute,
    normalize: Normalizer,
) -> EpochResult:
    """Train for one epoch.

    Args:
        learner: changed in place.
        batches: the epoch's batches.
        images: how many images they hold in all.
        epochs: of the whole run, for the display.
        compute: where and in which precision.
        normalize: makes the network's input.

    Raises:
        DivergedError: a step's loss was not finite; at once on a CPU, at the end of the epoch on a GPU, where looking
            at every loss would make the two wait for each other.
    """
    learner.model.train()
    epoch = learner.epoch + 1
    started = time.perf_counter()
    loss_sum = torch.zeros(
        (), dtype=torch.float32 if compute.device.type == "mps" else torch.float64, device=compute.device
    )
    correct = torch.zeros((), dtype=torch.int64, device=compute.device)
    losses: list[torch.Tensor] = []
    rates: list[tuple[float, float | None]] = []
    seen = 0

    with EpochProgress(epoch, epochs, images) as progress:
        for pixels, labels in batches:  # (N, H, W, C) uint8, (N,)
            inputs = normalize(pixels)  # (N, C, H, W) float32
            labels = labels.to(compute.device, non_blocking=True)
            with compute.autocast():
                logits = learner.forward(inputs)  # (N, classes)
            logits = logits.float()
            loss = F.cross_entropy(logits, labels, label_smoothing=learner.label_smoothing)
            learner.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            learner.optimizer.step()

            rates.append((float(learner.optimizer.param_groups[0]["lr"]), momentum_of(learner.optimizer)))
            learner.step += 1
            if learner.interval == "step":
                _move_on(learner)
            with torch.no_grad():
                losses.append(loss.detach())
                plain = F.cross_entropy(logits, labels) if learner.label_smoothing else loss.detach()
                loss_sum += plain * len(labels)
                correct += (logits.argmax(dim=1) == labels).sum()
            seen += len(labels)
            if compute.device.type == "cpu" and not torch.isfinite(loss):
                raise DivergedError(_step_rows(learner, epoch, losses, rates))
            progress.advance(len(labels))
            if progress.due:
                progress.show(loss=float(loss), accuracy=float(correct) / seen, learning_rate=rates[-1][0])

    rows = _step_rows(learner, epoch, losses, rates)
    for position, row in enumerate(rows):
        if not torch.isfinite(torch.tensor(row["loss"])):
            raise DivergedError(rows[: position + 1])
    learner.epoch = epoch
    if learner.interval == "epoch":
        _move_on(learner)
    return EpochResult(
        loss=float(loss_sum) / seen,
        accuracy=int(correct) / seen,
        images=seen,
        learning_rate=rates[-1][0],
        seconds=time.perf_counter() - started,
        steps=rows,
    )


def _move_on(learner: Learner) -> None:
    """Move the schedule on by one, except past its end, where PyTorch's schedulers raise."""
    if learner.scheduler.last_epoch + 1 < learner.total_steps:
        learner.scheduler.step()


def _step_rows(
    learner: Learner, epoch: int, losses: list[torch.Tensor], rates: list[tuple[float, float | None]]
) -> list[Mapping[str, Any]]:
    first = learner.step - len(losses) + 1
    values = torch.stack(losses).tolist()  # one transfer from the device for the whole epoch
    return [
        {"step": first + i, "epoch": epoch, "learning_rate": rate, "momentum": momentum, "loss": loss}
        for i, (loss, (rate, momentum)) in enumerate(zip(values, rates, strict=True))
    ]
