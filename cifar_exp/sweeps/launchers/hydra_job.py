"""A job of a sweep as an engine gets it: composed, and able to run in another process or on another machine."""

import os
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import NoReturn

from hydra import version
from hydra.core.utils import JobReturn, JobStatus, run_job, setup_globals
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

from cifar_exp.safe_io.current_folder import import_matplotlib


class StoppedError(KeyboardInterrupt):
    """A signal asked the job to stop; the run has saved what it had."""


@dataclass(frozen=True)
class Job:
    """One job, composed where the sweep was started.

    Args:
        number: in the sweep.
        config: with its ``hydra`` node; the sweep's directory is absolute.
        context: Hydra's.
        task: what to do with a config.
        folder: the current folder of the program that was started, against which relative paths are meant.
    """

    number: int
    config: DictConfig
    context: HydraContext
    task: TaskFunction
    folder: str

    @property
    def directory(self) -> Path:
        """The run directory."""
        return Path(self.config.hydra.sweep.dir) / str(self.config.hydra.sweep.subdir)

    def run(self) -> float | None:
        """Run the job in this process; a job that did not finish is gone on with, a completed one returns at once.

        Returns:
            What a search goes by (accuracy on the validation split); None for a job that failed.

        Raises:
            StoppedError: SIGTERM or SIGUSR2 came.
        """
        version.setbase("1.3")
        setup_globals()
        os.chdir(self.folder)
        import_matplotlib()
        with _signals_that_stop():
            done = run_job(
                task_function=self.task,
                config=self.config,
                job_dir_key="hydra.sweep.dir",
                job_subdir_key="hydra.sweep.subdir",
                hydra_context=self.context,
            )
        if done.status is not JobStatus.COMPLETED:
            tell(self, f"{type(done._return_value).__name__}: {done._return_value}")
            return None
        value = done.return_value
        return None if value is None else float(value)


def compose_jobs(
    context: HydraContext,
    config: DictConfig,
    task: TaskFunction,
    job_overrides: Sequence[Sequence[str]],
    first: int,
) -> list[Job]:
    """The jobs of a sweep, numbered from ``first``; their directory is made."""
    sweep_dir = Path(config.hydra.sweep.dir).absolute()
    sweep_dir.mkdir(parents=True, exist_ok=True)
    jobs = []
    for number, overrides in enumerate(job_overrides, start=first):
        job = context.config_loader.load_sweep_config(config, list(overrides))
        with open_dict(job):
            job.hydra.job.id = str(number)
            job.hydra.job.num = number
            job.hydra.sweep.dir = str(sweep_dir)
        jobs.append(Job(number, job, context, task, os.getcwd()))
    return jobs


def job_returns(jobs: Sequence[Job], values: Mapping[int, float | None]) -> list[JobReturn]:
    """What Hydra wants to know of each job. None failed here: each has told its own directory."""
    return [
        JobReturn(
            overrides=list(job.config.hydra.overrides.task),
            cfg=None,
            hydra_cfg=None,
            status=JobStatus.COMPLETED,
            _return_value=values.get(job.number),
        )
        for job in jobs
    ]


def tell(job: Job, message: str) -> None:
    """Say on stderr what became of a job that cannot say it itself."""
    print(f"cifar-exp: job {job.number} ({job.directory}): {message}", file=sys.stderr, flush=True)


@contextmanager
def _signals_that_stop() -> Iterator[None]:
    """Make the signals of a scheduler exceptions; a run in progress saves first."""
    numbers = (signal.SIGTERM, signal.SIGUSR2)
    previous = {number: signal.signal(number, _stop) for number in numbers}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _stop(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise StoppedError
