"""The network and everything else that training changes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LRScheduler

from cifar_exp.compute.distributed.ranks import Ranks
from cifar_exp.data.batches import Batch
from cifar_exp.training.step import StepResult, TrainingStep


@dataclass
class Learner:
    """Everything that training changes, and the plan that it follows.

    Attributes:
        model: the network; checkpoints hold its weights.
        forward: what training calls: the network, or its compiled or distributed form.
        optimizer: of the network's parameters.
        scheduler: of the optimizer's learning rate.
        interval: ``step`` or ``epoch``: when the schedule advances.
        total_steps: length of the schedule.
        training_step: computes one optimizer step.
        ranks: of the run.
        step: optimizer steps taken so far.
        epoch: epochs completed so far.
    """

    model: nn.Module
    forward: Callable[[torch.Tensor], torch.Tensor]
    optimizer: torch.optim.Optimizer
    scheduler: LRScheduler
    interval: str
    total_steps: int
    training_step: TrainingStep
    ranks: Ranks = field(default_factory=Ranks)
    step: int = 0
    epoch: int = 0

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return self.training_step.compute.device

    @property
    def learning_rate(self) -> float:
        """Of the optimizer's first group."""
        return float(self.optimizer.param_groups[0]["lr"])

    def start_epoch(self) -> None:
        """Put the network into training mode and tell it which epoch starts, if it has a method for that."""
        self.model.train()
        begin_epoch = getattr(self.model, "begin_epoch", None)
        # DistributedDataParallel needs a gradient of every parameter, so ranks keep training all of them.
        if begin_epoch is not None and not self.ranks.is_distributed:
            begin_epoch(self.epoch + 1)

    def take_step(self, batch: Batch, size: tuple[int, int]) -> StepResult:
        """Take an optimizer step on a batch; see ``TrainingStep``."""
        result = self.training_step(self.forward, self.optimizer, batch, size)
        self.step += 1
        return result

    def end_step(self) -> None:
        """Advance a schedule with ``interval=step``."""
        self._advance_schedule("step")

    def end_epoch(self) -> None:
        """Count the epoch, and advance a schedule with ``interval=epoch``."""
        self.epoch += 1
        self._advance_schedule("epoch")

    def _advance_schedule(self, interval: str) -> None:
        # PyTorch's schedulers raise an error beyond their last step.
        if self.interval == interval and self.scheduler.last_epoch + 1 < self.total_steps:
            self.scheduler.step()

    def state_dict(self) -> dict[str, Any]:
        """The state of training without the network's weights, as tensors and plain values."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "step": self.step,
            "epoch": self.epoch,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore ``state_dict`` and the network's weights (``state["model"]``)."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        self.step = state["step"]
        self.epoch = state["epoch"]
