"""Typed configs of the groups ``optimizer`` and ``averaging``; ``cifar_exp.training`` builds what they describe."""

from dataclasses import dataclass
from typing import Annotated

from cifar_exp.config.fields import Count, Fraction, NotNegative, Positive, Schema, key, one_of
from cifar_exp.config.registry import Group, Option


@dataclass
class OptimizerConfig(Option):
    """Keys of every optimizer."""

    weight_decay: NotNegative = key("weight decay (L2 penalty; decoupled for AdamW)", 0.0)
    decay_norms_and_biases: bool = key("apply the weight decay to normalization layers and biases, too", False)
    bias_lr_factor: Positive = key("learning rate of norms and biases, relative to the others'", 1.0)
    clip_grad_norm: Positive | None = key("scale the gradient down to this norm if it is larger; null: never", None)


@dataclass
class OwnOptimizerConfig(OptimizerConfig):
    """Keys of an optimizer without a typed config: like the optimizer itself, it decays all parameters."""

    decay_norms_and_biases: bool = True


OPTIMIZERS = Group("optimizer", OwnOptimizerConfig)
OPTIMIZERS.allow(f"torch.optim.{name}" for name in ("Adam", "NAdam", "RAdam", "RMSprop", "Adagrad"))


@OPTIMIZERS.option("base_sgd")
@dataclass
class SGDConfig(OptimizerConfig):
    """``torch.optim.SGD``."""

    _target_: str = "torch.optim.SGD"
    momentum: Fraction = key("momentum (scheduler=one_cycle cycles it unless scheduler.cycle_momentum=false)", 0.9)
    nesterov: bool = key("Nesterov momentum", False)


@OPTIMIZERS.option("base_adamw")
@dataclass
class AdamWConfig(OptimizerConfig):
    """``torch.optim.AdamW``."""

    _target_: str = "torch.optim.AdamW"
    betas: tuple[float, float] = key("decay rates of the running averages of the gradient and its square", (0.9, 0.999))
    eps: Positive = key("added to the denominator", 1e-8)


@OPTIMIZERS.option("base_muon")
@dataclass
class MuonConfig(Option):
    """``cifar_exp.training.muon.Muon`` for the filters, SGD with Nesterov momentum for the rest."""

    _target_: str = "cifar_exp.training.muon.Muon"
    momentum: Fraction = key("momentum of the convolution filters")
    weight_decay: NotNegative = key("weight decay of linear layers, norms and biases in a step at max_lr")
    sgd_momentum: Fraction = key("momentum of all other parameters")
    head_lr_factor: Positive = key("learning rate of linear layers, relative to max_lr")
    bias_lr_factor: Positive = key("learning rate of norms and biases, relative to max_lr")
    clip_grad_norm: Positive | None = key("scale the gradient down to this norm if it is larger; null: never", None)


@dataclass
class AveragingConfig(Schema):
    """Moving average of the weights."""

    name: Annotated[str, one_of("none", "ema")] = key("evaluate the averaged weights: none | ema", "none")
    decay: Fraction = key("decay of the average in one update; it rises to this value in the first updates", 0.998)
    every_steps: Count = key("optimizer steps between two updates", 1)


AVERAGING = Group("averaging", AveragingConfig, {"base_averaging": AveragingConfig})
