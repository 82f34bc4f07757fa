"""Trains one epoch."""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import torch

from cifar_exp.data.batches import Batch
from cifar_exp.errors import DivergedError
from cifar_exp.training.learner import Learner
from cifar_exp.training.optimizer import read_momentum
from cifar_exp.training.progress import EpochProgress
from cifar_exp.training.step import Size, StepResult


@dataclass
class EpochState:
    """Running totals of the current epoch, on this rank. Saved in checkpoints, so that an epoch can resume mid-way."""

    loss_sum: torch.Tensor  # (), over the images, nats
    correct: torch.Tensor  # (), correct predictions
    # Of each step, (): this rank's part of the mean over the whole batch.
    losses: list[torch.Tensor] = field(default_factory=list)
    rates: list[tuple[float, float | None]] = field(default_factory=list)  # learning rate and momentum of each step
    seen: int = 0  # images
    seconds: float = 0.0  # training time
    norms: list[torch.Tensor] = field(default_factory=list)  # gradient norm of each step, (); empty without clipping

    @classmethod
    def start(cls, device: torch.device) -> "EpochState":
        """Start with empty totals. The loss is summed in double precision if the device supports it."""
        dtype = torch.float32 if device.type == "mps" else torch.float64
        return cls(torch.zeros((), dtype=dtype, device=device), torch.zeros((), dtype=torch.int64, device=device))

    @property
    def steps(self) -> int:
        """Optimizer steps taken in the epoch."""
        return len(self.losses)

    def add(self, result: StepResult, learning_rate: float, momentum: float | None) -> None:
        """Add a step; does not synchronize with the device."""
        self.losses.append(result.loss)
        self.rates.append((learning_rate, momentum))
        self.loss_sum += result.loss_sum
        self.correct += result.correct
        self.seen += result.images
        if result.gradient_norm is not None:
            self.norms.append(result.gradient_norm)

    def state_dict(self) -> dict[str, Any]:
        """Return the state as tensors and plain values."""
        return vars(self) | {
            "loss_sum": self.loss_sum.cpu(),
            "correct": self.correct.cpu(),
            "losses": torch.stack(self.losses).cpu() if self.losses else torch.zeros(0),
            "norms": torch.stack(self.norms).cpu() if self.norms else torch.zeros(0),
        }

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Any], device: torch.device) -> "EpochState":
        """Restore ``state_dict``."""
        sums = {name: state[name].to(device) for name in ("loss_sum", "correct")}
        steps = {name: list(state[name].to(device).unbind()) for name in ("losses", "norms") if name in state}
        return cls(**{**state, **sums, **steps})


@dataclass(frozen=True)
class EpochResult:
    """Means over the epoch's images, all ranks, as training saw them: augmented, by a network still learning."""

    loss: float  # cross-entropy, nats per image, without label smoothing
    accuracy: float  # fraction in [0, 1]
    images: int  # number of images
    learning_rate: float  # at the epoch's last step
    seconds: float  # training time
    steps: list[Mapping[str, Any]]  # rows of ``steps.csv``


def train_epoch(
    learner: Learner,
    batches: Iterable[Batch],
    state: EpochState,
    *,
    images: int,
    epochs: int,
    sizes: Callable[[int], Size],
    after_step: Callable[[], None] = lambda: None,
) -> EpochResult:
    """Take the epoch's steps; ``learner.end_epoch`` then closes it.

    Before the last step nothing here synchronizes with a GPU, apart from metrics once a second, so the GPU always has
    work queued.

    ``images`` are those of the whole epoch; ``batches`` those that are not in ``state`` yet. ``sizes`` says for a batch
    (from 0 in the epoch) how many images count on this rank, and how many the batch has. ``after_step`` is called
    between steps, when ``learner`` and ``state`` are consistent.

    Raises:
        DivergedError: the loss of a step was not finite. Raised at once on a CPU, and at the end of the epoch on a
            GPU, because checking every loss would synchronize with the GPU.
    """
    learner.start_epoch()
    started = time.perf_counter() - state.seconds
    per_step = learner.training_step.accumulate
    before = sum(sizes(batch)[1] for batch in range(state.steps * per_step))
    rank_0, clock = learner.ranks.is_rank_0, learner.clock
    progress = EpochProgress(learner.epoch + 1, epochs, images, images_before=before, visible=rank_0, clock=clock)
    with closing(progress):
        for step_batches in _group(batches, per_step):  # each (N, H, W, C) uint8, (N,)
            first = state.steps * per_step
            step_sizes = [sizes(first + position) for position in range(len(step_batches))]
            result = learner.take_step(step_batches, step_sizes)
            state.add(result, learner.learning_rate, read_momentum(learner.optimizer))
            learner.advance_schedule("step")
            state.seconds = time.perf_counter() - started
            if learner.device.type == "cpu" and any(learner.ranks.max(not torch.isfinite(result.loss))):
                raise DivergedError(_make_step_rows(learner, state))
            progress.update(sum(size for _, size in step_sizes), result, state.correct, state.seen, state.rates[-1][0])
            after_step()

    rows = _make_step_rows(learner, state)  # synchronizes with the device
    state.seconds = time.perf_counter() - started
    for position, row in enumerate(rows):
        if not math.isfinite(row["loss"]):
            raise DivergedError(rows[: position + 1])
    loss_sum, correct, seen = learner.ranks.sum([float(state.loss_sum), int(state.correct), state.seen])
    return EpochResult(loss_sum / seen, correct / seen, int(seen), state.rates[-1][0], state.seconds, rows)


def _make_step_rows(learner: Learner, state: EpochState) -> list[Mapping[str, Any]]:
    first, epoch = learner.step - state.steps + 1, learner.epoch + 1
    losses = learner.ranks.sum(torch.stack(state.losses).tolist())  # one transfer from the device for the whole epoch
    rows: list[dict[str, Any]] = [
        {"step": first + i, "epoch": epoch, "learning_rate": rate, "momentum": momentum, "loss": loss}
        for i, (loss, (rate, momentum)) in enumerate(zip(losses, state.rates, strict=True))
    ]
    for row, norm in zip(rows, torch.stack(state.norms).tolist() if state.norms else [], strict=False):
        row["gradient_norm"] = norm
    return list(rows)


def _group(batches: Iterable[Batch], size: int) -> Iterator[list[Batch]]:
    """Yield lists of ``size`` consecutive batches; the last one may be shorter."""
    iterator = iter(batches)
    while group := list(islice(iterator, size)):
        yield group
