"""Typed config of the ``tracker`` group; the trackers are in ``cifar_exp.trackers``."""

from dataclasses import dataclass
from typing import Annotated

from cifar_exp.config.fields import Schema, key, one_of
from cifar_exp.config.registry import Group


@dataclass
class TrackerConfig(Schema):
    """Where else a run's records are logged."""

    name: Annotated[str, one_of("none", "tensorboard", "mlflow")] = key(
        "tracker that the run is also logged to: none | tensorboard | mlflow", "none"
    )
    store: str | None = key("folder of the MLflow store; TensorBoard writes into the run directory", None)
    experiment: str = key("MLflow experiment that contains the runs", "cifar_exp")


TRACKERS = Group("tracker", TrackerConfig, {"base_tracker": TrackerConfig})
