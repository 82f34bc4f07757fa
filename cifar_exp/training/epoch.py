"""One epoch of training, read from top to bottom."""

import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import LRScheduler

from cifar_exp.compute.device import Compute
from cifar_exp.compute.distributed import collectives
from cifar_exp.data.batches import Batch
from cifar_exp.data.normalize import Normalizer
from cifar_exp.errors import DivergedError
from cifar_exp.training.lookahead import Lookahead
from cifar_exp.training.optimizer import momentum_of
from cifar_exp.training.progress import EpochProgress, Figures


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
    averaging: Lookahead | None = None
    step: int = 0
    epoch: int = 0

    def state_dict(self) -> dict[str, Any]:
        """What training has changed apart from the network, as tensors and plain values."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "averaging": self.averaging.state_dict() if self.averaging else None,
            "step": self.step,
            "epoch": self.epoch,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go back to where ``state_dict`` and the network's weights (``state["model"]``) were taken."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        if self.averaging:
            self.averaging.load_state_dict(state["averaging"])
        self.step = state["step"]
        self.epoch = state["epoch"]


@dataclass
class EpochSoFar:
    """What the epoch in progress has come to; a checkpoint holds it, so that the epoch can go on in its middle.

    Where processes share the batches, each has what its own part has come to, and the sums over the processes are the
    epoch's.

    Attributes:
        loss_sum: over the images, nats.
        correct: right predictions.
        losses: of each step, as the optimizer saw it: this process's part of the mean over the whole batch.
        rates: learning rate and momentum of each step.
        seen: images.
        seconds: spent on them.
    """

    loss_sum: torch.Tensor
    correct: torch.Tensor
    losses: list[torch.Tensor] = field(default_factory=list)
    rates: list[tuple[float, float | None]] = field(default_factory=list)
    seen: int = 0
    seconds: float = 0.0

    @classmethod
    def begin(cls, device: torch.device) -> "EpochSoFar":
        """Nothing yet. The sum is kept in double precision where the device has it."""
        exact = torch.float32 if device.type == "mps" else torch.float64
        return cls(
            torch.zeros((), dtype=exact, device=device),
            torch.zeros((), dtype=torch.int64, device=device),
        )

    @property
    def batches(self) -> int:
        """Batches that the epoch has had."""
        return len(self.losses)

    def state_dict(self) -> dict[str, Any]:
        """As tensors and plain values."""
        return vars(self) | {
            "loss_sum": self.loss_sum.cpu(),
            "correct": self.correct.cpu(),
            "losses": torch.stack(self.losses).cpu() if self.losses else torch.zeros(0),
        }

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Any], device: torch.device) -> "EpochSoFar":
        """Back from ``state_dict``."""
        tensors = {name: state[name].to(device) for name in ("loss_sum", "correct", "losses")}
        return cls(**{**state, **tensors, "losses": list(tensors["losses"].unbind())})


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
    so_far: EpochSoFar,
    *,
    images: int,
    epochs: int,
    compute: Compute,
    normalize: Normalizer,
    after_step: Callable[[], None] = lambda: None,
    sizes: Callable[[int], tuple[int, int]] | None = None,
) -> EpochResult:
    """Take the epoch's steps; ``end_epoch`` then closes it.

    Until its last step nothing here waits for a GPU, so that the program is always ahead of it with work to do.

    Args:
        learner: changed in place.
        batches: those of the epoch that are not in ``so_far`` yet.
        so_far: changed in place.
        images: how many images the whole epoch has.
        epochs: of the whole run, for the display.
        compute: where and in which precision.
        normalize: makes the network's input.
        after_step: called between steps, when ``learner`` and ``so_far`` agree with each other.
        sizes: how many images of a batch (counted from 0 in the epoch) count here, and how many all processes have of
            it; None where this process has them all.

    Raises:
        DivergedError: a step's loss was not finite; at once on a CPU, at the end of the epoch on a GPU, where looking
            at every loss would make the two wait for each other.
    """
    learner.model.train()
    epoch = learner.epoch + 1
    begin_epoch = getattr(learner.model, "begin_epoch", None)
    # DistributedDataParallel waits for a gradient of all it was given: several processes go on training all of it.
    if begin_epoch is not None and collectives.world_size() == 1:
        begin_epoch(epoch)
    started, before = time.perf_counter(), so_far.seconds
    done = sum(sizes(batch)[1] for batch in range(so_far.batches)) if sizes else so_far.seen
    figures: Figures | None = None
    with EpochProgress(epoch, epochs, images, done=done) as progress:
        for pixels, labels in batches:  # (N, H, W, C) uint8, (N,)
            counted, whole = sizes(so_far.batches) if sizes else (len(labels), len(labels))
            inputs = normalize(pixels)  # (N, C, H, W) float32
            labels = labels.to(compute.device, non_blocking=True)
            # The mean of the processes' gradients is taken; the gradient of the mean over the whole batch is wanted.
            weight = collectives.world_size() * counted / whole
            logits, loss = optimize(
                learner.forward, learner.optimizer, inputs, labels, learner.label_smoothing, compute, weight
            )
            so_far.rates.append((float(learner.optimizer.param_groups[0]["lr"]), momentum_of(learner.optimizer)))
            learner.step += 1
            if learner.averaging:
                learner.averaging.after_step(learner.step)
            if learner.interval == "step":
                _move_on(learner)
            with torch.no_grad():
                so_far.losses.append(_times(loss.detach(), counted / whole))
                plain = F.cross_entropy(logits, labels) if learner.label_smoothing else loss.detach()
                so_far.loss_sum += plain * counted
                so_far.correct += (logits.argmax(dim=1) == labels)[:counted].sum()
            so_far.seen += counted
            so_far.seconds = before + time.perf_counter() - started
            if compute.device.type == "cpu" and any(collectives.agree(not torch.isfinite(loss))):
                raise DivergedError(_step_rows(learner, so_far))
            progress.advance(whole)
            if progress.due and figures is None:
                figures = Figures(loss, so_far.correct, so_far.seen, so_far.rates[-1][0])
            if figures is not None and figures.arrived:
                progress.show(figures)
                figures = None
            after_step()

    rows = _step_rows(learner, so_far)  # waits for the device
    so_far.seconds = before + time.perf_counter() - started
    for position, row in enumerate(rows):
        if not math.isfinite(row["loss"]):
            raise DivergedError(rows[: position + 1])
    loss_sum, correct, seen = collectives.total([float(so_far.loss_sum), int(so_far.correct), so_far.seen])
    return EpochResult(
        loss=loss_sum / seen,
        accuracy=correct / seen,
        images=int(seen),
        learning_rate=so_far.rates[-1][0],
        seconds=so_far.seconds,
        steps=rows,
    )


def end_epoch(learner: Learner) -> None:
    """Count the epoch, and move a schedule on that goes by epochs."""
    learner.epoch += 1
    if learner.interval == "epoch":
        _move_on(learner)


def optimize(
    forward: Callable[[torch.Tensor], torch.Tensor],
    optimizer: torch.optim.Optimizer,
    inputs: torch.Tensor,
    labels: torch.Tensor,
    label_smoothing: float,
    compute: Compute,
    weight: float = 1.0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """One optimizer step, the same for training and for a learning-rate range test.

    The gradient is that of ``weight`` times the mean loss.

    Returns:
        Logits, (N, classes) float32, and the loss that the step makes smaller: both from before the step.
    """
    with compute.autocast():
        logits = forward(inputs)  # (N, classes)
    logits = logits.float()
    loss = F.cross_entropy(logits, labels, label_smoothing=label_smoothing)
    optimizer.zero_grad(set_to_none=True)
    _times(loss, weight).backward()
    optimizer.step()
    return logits, loss


def _times(tensor: torch.Tensor, factor: float) -> torch.Tensor:
    return tensor if factor == 1 else tensor * factor


def _move_on(learner: Learner) -> None:
    """Move the schedule on by one, except past its end, where PyTorch's schedulers raise."""
    if learner.scheduler.last_epoch + 1 < learner.total_steps:
        learner.scheduler.step()


def _step_rows(learner: Learner, so_far: EpochSoFar) -> list[Mapping[str, Any]]:
    first, epoch = learner.step - so_far.batches + 1, learner.epoch + 1
    values = collectives.total(torch.stack(so_far.losses).tolist())  # one transfer from the device for the whole epoch
    return [
        {"step": first + i, "epoch": epoch, "learning_rate": rate, "momentum": momentum, "loss": loss}
        for i, (loss, (rate, momentum)) in enumerate(zip(values, so_far.rates, strict=True))
    ]
