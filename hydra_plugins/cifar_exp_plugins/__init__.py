"""The launchers and the sweeper of ``conf/hydra``, in the package where Hydra looks for plugins.

Hydra's own plugins for joblib, Ray, submitit and Optuna end a sweep when one job's process dies, and lose the results
of the other jobs. These continue. The launchers' libraries are imported only when a sweep uses them.
"""

from collections.abc import Sequence
from importlib import import_module
from typing import Any, ClassVar

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf


class _Plugin:
    """Stores the settings of the option's file in ``conf/hydra``, and Hydra's objects."""

    hydra_context: Any
    task_function: Any
    config: Any

    def __init__(self, **settings: Any) -> None:
        self.settings: dict[str, Any] = {
            key: OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
            for key, value in settings.items()
        }

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context = hydra_context
        self.task_function = task_function
        self.config = config


class _JobsLauncher(_Plugin, Launcher):
    module: ClassVar[str]  # of cifar_exp.sweeps.launchers

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        from cifar_exp.sweeps.launchers.hydra_job import compose_jobs, to_job_returns

        jobs = compose_jobs(self.hydra_context, self.config, self.task_function, job_overrides, initial_job_idx)
        run_jobs = import_module(f"cifar_exp.sweeps.launchers.{self.module}").run_jobs
        return to_job_returns(jobs, run_jobs(jobs, **self.settings))


class LocalLauncher(_JobsLauncher):
    """``hydra/launcher=joblib``: several jobs at a time on this machine."""

    module = "joblib"


class RayLauncher(_JobsLauncher):
    """``hydra/launcher=ray``: jobs on the machines of a Ray cluster."""

    module = "ray"


class SlurmLauncher(_JobsLauncher):
    """``hydra/launcher=slurm``: jobs as a Slurm array."""

    module = "slurm"


class OptunaSweeper(_Plugin, Sweeper):
    """``hydra/sweeper=optuna``: Optuna chooses each job by the results of earlier ones."""

    def sweep(self, arguments: list[str]) -> Any:
        """Run the search; ``arguments`` are the overrides of the command line."""
        from hydra.core.plugins import Plugins

        from cifar_exp.sweeps.search import search

        launcher = Plugins.instance().instantiate_launcher(
            hydra_context=self.hydra_context, task_function=self.task_function, config=self.config
        )
        search(launcher, self.config, arguments)


PLUGINS = (LocalLauncher, RayLauncher, SlurmLauncher, OptunaSweeper)
