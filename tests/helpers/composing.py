"""Configurations as the command line composes them, for tests of what they describe."""

import copy
import functools
import os

from cifar_exp.config.compose import compose_config
from cifar_exp.config.schema import ExperimentConfig

# A run of seconds: 300 digits, one small network, nothing drawn.
TINY = (
    "experiment=quickstart",
    "epochs=2",
    "batch_size=128",
    "model.width=4",
    "data.limit_train=300",
    "data.limit_test=100",
    "max_lr=0.05",
    "threads=1",  # two would wait for each other on a busy machine
    "figures=false",
    "report=false",
    "explain.images=2",
    "explain.faithfulness_images=0",
)


def composed(*overrides: str) -> ExperimentConfig:
    """The typed configuration of one job, composed once for the same overrides, folder and environment."""
    environment = frozenset(item for item in os.environ.items() if item[0] != "PYTEST_CURRENT_TEST")
    return copy.deepcopy(_composed(overrides, os.getcwd(), environment))


@functools.cache
def _composed(overrides: tuple[str, ...], _folder: str, _environment: frozenset[tuple[str, str]]) -> ExperimentConfig:
    return compose_config(overrides)
