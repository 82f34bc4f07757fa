"""Typed config of the ``tracker`` group; the trackers are in ``cifar_exp.trackers``."""

from dataclasses import dataclass
from importlib.resources import files
from typing import Annotated

from cifar_exp.config.fields import Schema, key, one_of
from cifar_exp.config.registry import Group

# The names of the shipped options.
_NAMES = sorted(file.name.removesuffix(".yaml") for file in files("cifar_exp.conf").joinpath("tracker").iterdir())


@dataclass
class TrackerConfig(Schema):
    """Where else a run's records are logged."""

    name: Annotated[str, one_of(*_NAMES)] = key(f"tracker that the run is also logged to: {' | '.join(_NAMES)}", "none")
    store: str | None = key("folder of the MLflow store; TensorBoard writes into the run directory", None)
    experiment: str = key("MLflow experiment that contains the runs", "cifar_exp")


TRACKERS = Group("tracker", TrackerConfig, {"base_tracker": TrackerConfig})
