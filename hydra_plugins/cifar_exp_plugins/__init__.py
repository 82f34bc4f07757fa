"""The launchers and the sweeper of ``conf/hydra``, where Hydra looks for plugins. Imports no engine.

Hydra's own plugins for the same engines give up a sweep, and what its other jobs came to, at the first job whose
process dies. These go on.
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf


class _Plugin:
    """Keeps what Hydra hands over. The settings are those of the option's file in ``conf/hydra``."""

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
    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        from cifar_exp.sweeps.launchers.hydra_job import compose_jobs, job_returns

        jobs = compose_jobs(self.hydra_context, self.config, self.task_function, job_overrides, initial_job_idx)
        return job_returns(jobs, self._run(jobs))

    @abstractmethod
    def _run(self, jobs: list[Any]) -> dict[int, float | None]:
        """The value of each job that has one, by its number."""


class LocalLauncher(_JobsLauncher):
    """``hydra/launcher=joblib``: several jobs at a time on this machine."""

    def _run(self, jobs: list[Any]) -> dict[int, float | None]:
        from cifar_exp.sweeps.launchers.joblib import run_jobs

        return run_jobs(jobs, **self.settings)


class RayLauncher(_JobsLauncher):
    """``hydra/launcher=ray``: on the machines of a Ray cluster."""

    def _run(self, jobs: list[Any]) -> dict[int, float | None]:
        from cifar_exp.sweeps.launchers.ray import run_jobs

        return run_jobs(jobs, **self.settings)


class SlurmLauncher(_JobsLauncher):
    """``hydra/launcher=slurm``: as an array of Slurm jobs."""

    def _run(self, jobs: list[Any]) -> dict[int, float | None]:
        from cifar_exp.sweeps.launchers.slurm import run_jobs

        return run_jobs(jobs, **self.settings)


class OptunaSweeper(_Plugin, Sweeper):
    """``hydra/sweeper=optuna``: jobs that Optuna chooses from what earlier ones came to."""

    def sweep(self, arguments: list[str]) -> Any:
        """Run the search; ``arguments`` are the overrides as typed."""
        from hydra.core.plugins import Plugins

        from cifar_exp.sweeps.search import search

        launcher = Plugins.instance().instantiate_launcher(
            hydra_context=self.hydra_context, task_function=self.task_function, config=self.config
        )
        search(launcher, self.config, arguments, **self.settings)


PLUGINS = (LocalLauncher, RayLauncher, SlurmLauncher, OptunaSweeper)
