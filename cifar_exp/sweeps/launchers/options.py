"""The launchers and the sweeper that ``conf/hydra`` offers, and whether what a sweep chose can be had."""

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from omegaconf import DictConfig

from cifar_exp.errors import RequestError

_PACKAGE = "hydra_plugins.cifar_exp_plugins"
# What an option calls: the option's name, the engine that it needs, the extra that installs the engine.
_NEEDS = {
    f"{_PACKAGE}.RayLauncher": ("hydra/launcher=ray", "ray", "ray"),
    f"{_PACKAGE}.SlurmLauncher": ("hydra/launcher=slurm", "submitit", "slurm"),
    f"{_PACKAGE}.OptunaSweeper": ("hydra/sweeper=optuna", "optuna", "optuna"),
}
_OURS = {"launcher": ("joblib", "ray", "slurm"), "sweeper": ("optuna",)}


def register() -> None:
    """Let Hydra find the classes, and ours rather than another package's options of the same names.

    Hydra refuses to choose between two of a name. It finds plugins by walking folders, so it misses those of a
    package that is installed as editable.
    """
    from hydra_plugins.cifar_exp_plugins import PLUGINS

    plugins = Plugins.instance()
    for plugin in PLUGINS:
        plugins.register(plugin)
    groups = ConfigStore.instance().repo.get("hydra", {})
    for group, names in _OURS.items():
        for name in names:
            groups.get(group, {}).pop(f"{name}.yaml", None)


def check(hydra: DictConfig) -> None:
    """See before a sweep starts that what it chose is installed and its settings make sense.

    Raises:
        RequestError: they do not.
    """
    for node in (hydra.launcher, hydra.sweeper):
        option, engine, extra = _NEEDS.get(node.get("_target_"), (None, None, None))
        if engine is not None and find_spec(engine) is None:
            raise RequestError(f"{option}: needs a package more; pip install 'cifar-exp[{extra}]'")
        for key, least in _LEAST.items():
            if key in node and isinstance(node[key], int | float) and node[key] < least:
                name = "launcher" if node is hydra.launcher else "sweeper"
                raise RequestError(f"hydra.{name}.{key}={node[key]}: must be at least {least}")
    if is_search(hydra) and hydra.sweeper.sampler not in SAMPLERS:
        raise RequestError(f"hydra.sweeper.sampler={hydra.sweeper.sampler}: must be {' or '.join(SAMPLERS)}")


_LEAST: dict[str, Any] = {
    "n_jobs": 1,
    "n_trials": 1,
    "num_cpus": 0,
    "num_gpus": 0,
    "max_batch_size": 1,
    "max_retries": 0,
    "timeout_min": 1,
    "cpus_per_task": 1,
    "gpus_per_node": 0,
    "max_num_timeout": 0,
    "signal_delay_s": 1,
}
SAMPLERS = ("tpe", "random")


def check_search(jobs: Sequence[DictConfig]) -> None:
    """See that a search will have something to choose by.

    Raises:
        RequestError: it will not.
    """
    for job in jobs:
        if is_search(job.hydra) and not job.data.validation_fraction:
            raise RequestError(
                f"data.validation_fraction={job.data.validation_fraction}: leaves hydra/sweeper=optuna nothing to "
                "choose by; 0.1 holds out a tenth of the training images"
            )


def is_search(hydra: DictConfig) -> bool:
    """Whether Optuna chooses the jobs, so that they are not known before."""
    return bool(hydra.sweeper.get("_target_") == f"{_PACKAGE}.OptunaSweeper")
