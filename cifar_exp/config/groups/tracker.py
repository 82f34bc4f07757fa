"""Typed config of the ``tracker`` group; the trackers are in ``cifar_exp.trackers``."""

from dataclasses import dataclass
from typing import Annotated

from cifar_exp.config.fields import Schema, key, one_of
from cifar_exp.config.registry import Group


@dataclass
class TrackerConfig(Schema):
    """Where else a run's records are logged."""

    name: Annotated[str, one_of("none", "tensorboard", "mlflow")] = key(
        "where else the run is logged: none | tensorboard | mlflow", "none"
    )
    store: str | None = key("folder of the MLflow store; TensorBoard writes into the run directory", None)
    experiment: str = key("MLflow's name for what its runs are listed under", "cifar_exp")


TRACKERS = Group("tracker", TrackerConfig, {"base_tracker": TrackerConfig})
