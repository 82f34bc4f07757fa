"""The network and everything else that training changes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from cifar_exp.compute.distributed.ranks import Ranks
from cifar_exp.data.batches import Batch
from cifar_exp.training.ema import WeightAverage
from cifar_exp.training.progress import RunClock
from cifar_exp.training.step import Size, StepResult, TrainingStep


@dataclass
class Learner:
    """Everything that training changes, and the plan that it follows."""

    model: nn.Module  # the network that is trained
    # What training calls: the network, or its compiled or distributed form.
    forward: Callable[[torch.Tensor], torch.Tensor]
    optimizer: torch.optim.Optimizer  # of the network's parameters
    scheduler: LRScheduler  # of the optimizer's learning rate
    interval: str  # ``step`` or ``epoch``: when the schedule advances
    total_steps: int  # length of the schedule
    training_step: TrainingStep  # computes one optimizer step
    average: WeightAverage | None = None  # moving average of the weights; None without averaging
    ranks: Ranks = field(default_factory=Ranks)  # of the run
    step: int = 0  # optimizer steps taken so far
    epoch: int = 0  # epochs completed so far
    clock: RunClock | None = None  # estimates the time left; None without an estimate

    @property
    def device(self) -> torch.device:
        """The device of the network."""
        return self.training_step.compute.device

    @property
    def learning_rate(self) -> float:
        """The learning rate of the optimizer's first group."""
        return float(self.optimizer.param_groups[0]["lr"])

    @property
    def evaluated_model(self) -> nn.Module:
        """The network that is evaluated and selected: the averaged one, if there is one."""
        return self.model if self.average is None else self.average.model

    def start_epoch(self) -> None:
        """Put the network into training mode, and call its ``begin_epoch``, if it has that method."""
        self.model.train()
        begin_epoch = getattr(self.model, "begin_epoch", None)
        # DistributedDataParallel needs a gradient of every parameter, so ranks keep training all of them.
        if begin_epoch is not None and not self.ranks.is_distributed:
            begin_epoch(self.epoch + 1)

    def take_step(self, batches: Sequence[Batch], sizes: Sequence[Size]) -> StepResult:
        """Take an optimizer step; see ``TrainingStep``."""
        self.step += 1
        result = self.training_step(self.forward, self.optimizer, batches, sizes, number=self.step)
        if self.average is not None:
            self.average.after_step(self.model, self.step)
        return result

    def end_epoch(self, score: float | None = None) -> None:
        """Count the epoch, and advance a schedule with ``interval=epoch`` or one that depends on the score."""
        self.epoch += 1
        self.advance_schedule("epoch", score)

    def use_average(self) -> None:
        """Replace the network's weights by the averaged ones, if there are any; for the end of training."""
        if self.average is not None:
            self.model.load_state_dict(self.average.model.state_dict())

    def advance_schedule(self, interval: str, score: float | None = None) -> None:
        """Advance a schedule of this ``interval``, step or epoch; a plateau schedule by an epoch's score."""
        if isinstance(self.scheduler, ReduceLROnPlateau):
            if interval == "epoch":
                assert score is not None  # the config's checks refuse a plateau schedule without a selection split
                self.scheduler.step(score)
        # PyTorch's other schedulers raise an error beyond their last step.
        elif self.interval == interval and self.scheduler.last_epoch + 1 < self.total_steps:
            self.scheduler.step()

    def state_dict(self) -> dict[str, Any]:
        """Return the state of training without the network's weights, as tensors and plain values."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "step": self.step,
            "epoch": self.epoch,
            **self.raw_weights(),
        }

    def raw_weights(self) -> dict[str, Any]:
        """Return the trained weights, if the averaged ones are evaluated; a checkpoint holds those under ``model``."""
        if self.average is None:
            return {}
        return {"raw_model": self.model.state_dict(), "average": self.average.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore ``state_dict`` and the evaluated network's weights (``state["model"]``)."""
        if self.average is None:
            self.model.load_state_dict(state["model"])
        else:
            self.model.load_state_dict(state["raw_model"])
            self.average.load_state_dict(state["average"], state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        self.step = state["step"]
        self.epoch = state["epoch"]
