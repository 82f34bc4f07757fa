"""Typed config of the ``averaging`` group; ``cifar_exp.training.ema`` averages."""

from dataclasses import dataclass
from typing import Annotated

from cifar_exp.config.fields import Count, Fraction, Schema, key, one_of
from cifar_exp.config.registry import Group


@dataclass
class AveragingConfig(Schema):
    """Moving average of the weights."""

    name: Annotated[str, one_of("none", "ema")] = key("evaluate the averaged weights: none | ema", "none")
    decay: Fraction = key("decay of the average in one update; it rises to this value in the first updates", 0.998)
    every_steps: Count = key("optimizer steps between two updates", 1)


AVERAGING = Group("averaging", AveragingConfig, {"base_averaging": AveragingConfig})
