"""Typed configs of the ``scheduler`` group; the schedules are in ``cifar_exp.training.schedule``."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from cifar_exp.config.fields import (
    Count,
    Fraction,
    FractionBelowOne,
    FractionInside,
    NotNegative,
    Positive,
    key,
    one_of,
)
from cifar_exp.config.registry import Group, Option


@dataclass
class SchedulerConfig(Option):
    """Keys of every scheduler. The schedule advances by one after each ``interval``."""

    open_ended: ClassVar[bool] = False  # True: it does not plan towards a last epoch, so that training can stop early
    interval: Annotated[str, one_of("step", "epoch")] = key(
        "interval after which the schedule advances by one: step | epoch", "step"
    )


SCHEDULERS = Group("scheduler", SchedulerConfig)


@SCHEDULERS.option("base_one_cycle")
@dataclass
class OneCycleConfig(SchedulerConfig):
    """One-cycle policy: up to max_lr, then down to about zero."""

    _target_: str = "cifar_exp.training.schedule.one_cycle"
    pct_start: Fraction = key("fraction of the steps with a rising learning rate")
    div_factor: Positive = key("first learning rate: max_lr / div_factor")
    final_div_factor: Positive = key("last learning rate: first learning rate / final_div_factor")
    anneal_strategy: Annotated[str, one_of("cos", "linear")] = key("shape of the curve: cos | linear", "cos")
    cycle_momentum: bool = key("cycle the momentum against the learning rate; overwrites optimizer.momentum")
    base_momentum: Fraction = key("momentum at max_lr", 0.85)
    max_momentum: Fraction = key("momentum at the first and last step", 0.95)


@SCHEDULERS.option("base_cosine")
@dataclass
class CosineConfig(SchedulerConfig):
    """Linear warm-up to max_lr, then half a cosine down to zero."""

    _target_: str = "cifar_exp.training.schedule.cosine"
    warmup_fraction: Fraction = key("fraction of the steps with a linear warm-up")


@SCHEDULERS.option("base_multistep")
@dataclass
class MultistepConfig(SchedulerConfig):
    """max_lr, multiplied by gamma at each milestone (a fraction of the training)."""

    open_ended = True
    _target_: str = "cifar_exp.training.schedule.multistep"
    milestones: list[FractionInside] = key(
        "where the learning rate is multiplied by gamma, as fractions of the training"
    )
    gamma: Positive = key("factor at each milestone")
    warmup_fraction: Fraction = key("fraction of the steps with a linear warm-up", 0.0)


@SCHEDULERS.option("base_triangle")
@dataclass
class TriangleConfig(SchedulerConfig):
    """Straight up to max_lr, then straight down."""

    _target_: str = "cifar_exp.training.schedule.triangle"
    peak_at: FractionBelowOne = key("where max_lr is reached, as a fraction of the steps")
    start_factor: Fraction = key("first learning rate, relative to max_lr")
    end_factor: Fraction = key("last learning rate, relative to max_lr")


@SCHEDULERS.option("base_constant")
@dataclass
class ConstantConfig(SchedulerConfig):
    """max_lr throughout."""

    open_ended = True
    _target_: str = "cifar_exp.training.schedule.constant"
    warmup_fraction: Fraction = key("fraction of the steps with a linear warm-up", 0.0)


@SCHEDULERS.option("base_plateau")
@dataclass
class PlateauConfig(SchedulerConfig):
    """max_lr, multiplied by factor when the selection metric has stopped improving."""

    open_ended = True
    _target_: str = "cifar_exp.training.schedule.plateau"
    interval: Annotated[str, one_of("step")] = key("always step; the schedule acts at the end of an epoch", "step")
    factor: FractionInside = key("factor of each reduction")
    patience: Count = key("epochs without improvement before a reduction")
    threshold: NotNegative = key("smallest change of the selection metric that counts as an improvement", 0.0)
