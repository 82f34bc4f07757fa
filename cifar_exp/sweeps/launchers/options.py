"""The launchers and the sweeper of ``conf/hydra``: registration, and checks of a sweep's settings."""

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from omegaconf import DictConfig

from cifar_exp.errors import RequestError

_PACKAGE = "hydra_plugins.cifar_exp_plugins"
# The package that an option requires, by its target; the option and the installation's extra have the same name.
_NEEDS = {
    f"{_PACKAGE}.RayLauncher": ("hydra/launcher=ray", "ray"),
    f"{_PACKAGE}.SlurmLauncher": ("hydra/launcher=slurm", "submitit"),
    f"{_PACKAGE}.OptunaSweeper": ("hydra/sweeper=optuna", "optuna"),
}
_OURS = {"launcher": ("joblib", "ray", "slurm"), "sweeper": ("optuna",)}
_AT_LEAST = dict.fromkeys(
    ("n_jobs", "n_trials", "max_batch_size", "timeout_min", "cpus_per_task", "signal_delay_s"), 1
) | dict.fromkeys(("num_cpus", "num_gpus", "max_retries", "gpus_per_node", "max_num_timeout"), 0)
_ALLOWED = {"sampler": ("tpe", "random"), "pruner": ("none", "median", "hyperband")}


def register() -> None:
    """Register the classes with Hydra and remove options of the same names that belong to other packages.

    Hydra refuses two options of the same name. It finds plugins by walking folders, so it misses those of an editable
    installation.
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
    """Refuse a sweep whose launcher or sweeper is not installed, or has a setting that is not allowed."""
    for kind, node in (("launcher", hydra.launcher), ("sweeper", hydra.sweeper)):
        option, package = _NEEDS.get(node.get("_target_"), ("", ""))
        if package and find_spec(package) is None:
            extra = option.partition("=")[2]
            raise RequestError(f"{option}: requires an optional dependency: pip install 'cifar-exp[{extra}]'")
        for key, least in _AT_LEAST.items():
            if isinstance(value := node.get(key), int | float) and value < least:
                raise RequestError(f"hydra.{kind}.{key}={value}: must be at least {least}")
    choice = hydra.runtime.choices["hydra/sweeper"]
    if choice != "basic" and not is_search(hydra):
        raise RequestError(f"hydra/sweeper={choice}: must be basic or optuna")
    for key, allowed in _ALLOWED.items() if is_search(hydra) else ():
        if hydra.sweeper[key] not in allowed:
            raise RequestError(f"hydra.sweeper.{key}={hydra.sweeper[key]}: must be {' or '.join(allowed)}")


def check_search(jobs: Sequence[DictConfig]) -> None:
    """Refuse a search without a validation split, whose accuracy it maximizes."""
    for job in jobs:
        if is_search(job.hydra) and not job.data.validation_fraction:
            raise RequestError(
                f"data.validation_fraction={job.data.validation_fraction}: hydra/sweeper=optuna needs a validation "
                "split; 0.1 holds out a tenth of the training images"
            )


def is_search(hydra: Any) -> bool:
    """Whether Optuna chooses the jobs, so that they are not known in advance."""
    return bool(hydra.sweeper.get("_target_") == f"{_PACKAGE}.OptunaSweeper")
