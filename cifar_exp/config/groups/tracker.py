"""Typed config of the ``tracker`` group; the trackers are in ``cifar_exp.trackers``."""

from dataclasses import dataclass, fields

from cifar_exp.config.fields import Schema, key
from cifar_exp.config.registry import Group


@dataclass
class TrackerConfig(Schema):
    """Where else a run's records are logged. Each option turns on one tracker, so options can be combined."""

    tensorboard: bool = key("log to TensorBoard: tracker=tensorboard", False)
    mlflow: bool = key("log to MLflow: tracker=mlflow", False)
    wandb: bool = key("log to Weights & Biases: tracker=wandb", False)
    store: str | None = key("folder of the MLflow store; the other trackers write into the run directory", None)
    experiment: str = key("MLflow experiment or W&B project that contains the runs", "cifar_exp")

    @property
    def names(self) -> list[str]:
        """The trackers that are on."""
        return [one.name for one in fields(self) if getattr(self, one.name) is True]


TRACKERS = Group("tracker", TrackerConfig, {"base_tracker": TrackerConfig})
