"""A composed job of a sweep, which can run in another process or on another machine."""

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
from hydra.core.utils import JobReturn, JobStatus, setup_globals
from hydra.core.utils import run_job as hydra_run_job
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

from cifar_exp.safe_io.current_folder import import_matplotlib


class StoppedError(KeyboardInterrupt):
    """A signal stopped the job; the run has saved its state."""


@dataclass(frozen=True)
class Job:
    """One job, composed where the sweep was started."""

    number: int  # position in the sweep
    config: DictConfig  # with its ``hydra`` node; the sweep's directory is absolute
    context: HydraContext  # has Hydra's config loader
    task: TaskFunction  # called with the config
    folder: str  # current folder of the sweep's program, where relative paths start

    @property
    def directory(self) -> Path:
        """The run directory."""
        return Path(self.config.hydra.sweep.dir) / str(self.config.hydra.sweep.subdir)

    def run(self) -> float | None:
        """Run the job in this process; an unfinished job is resumed, a completed one returns at once.

        Returns:
            The accuracy on the validation split, which a search maximizes; None for a failed job.

        Raises:
            StoppedError: SIGTERM or SIGUSR2 arrived.
        """
        version.setbase("1.3")
        setup_globals()
        os.chdir(self.folder)
        import_matplotlib()
        with _stop_on_signals():
            result = hydra_run_job(self.task, self.config, "hydra.sweep.dir", "hydra.sweep.subdir", self.context)
        if result.status is not JobStatus.COMPLETED:
            report(self, f"{type(result._return_value).__name__}: {result._return_value}")
            return None
        value = result.return_value
        return None if value is None else float(value)


def compose_jobs(
    context: HydraContext, config: DictConfig, task: TaskFunction, job_overrides: Sequence[Sequence[str]], start: int
) -> list[Job]:
    """Compose the jobs of a sweep, numbered from ``start``, and create the sweep's directory."""
    sweep_dir = Path(config.hydra.sweep.dir).absolute()
    sweep_dir.mkdir(parents=True, exist_ok=True)
    jobs = []
    for number, overrides in enumerate(job_overrides, start=start):
        job = context.config_loader.load_sweep_config(config, list(overrides))
        with open_dict(job):
            job.hydra.job.id = str(number)
            job.hydra.job.num = number
            job.hydra.sweep.dir = str(sweep_dir)
        jobs.append(Job(number, job, context, task, os.getcwd()))
    return jobs


def to_job_returns(jobs: Sequence[Job], values: Mapping[int, float | None]) -> list[JobReturn]:
    """Convert the values for Hydra. All are COMPLETED, so that it raises nothing; failed jobs recorded their state."""
    return [JobReturn(status=JobStatus.COMPLETED, _return_value=values.get(job.number)) for job in jobs]


def report(job: Job, message: str) -> None:
    """Print on stderr how a job ended."""
    print(f"cifar-exp: job {job.number} ({job.directory}): {message}", file=sys.stderr, flush=True)


@contextmanager
def _stop_on_signals() -> Iterator[None]:
    """Raise ``StoppedError`` on SIGTERM and SIGUSR2; while a run trains, ``training.signals`` saves first."""

    def stop(_signal: int, _frame: FrameType | None) -> NoReturn:
        raise StoppedError

    previous = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGUSR2)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
