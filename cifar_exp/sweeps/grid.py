"""The jobs of a sweep, expanded and composed once: the checked, recorded and executed overrides are the same."""

import itertools
import math
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra._internal.callbacks import Callbacks  # Hydra has no public way to call its callbacks
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.types import Glob, IntervalSweep, Override, RangeSweep
from hydra.core.plugins import Plugins
from hydra.types import HydraContext, RunMode, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from cifar_exp.config.compose import check_job, composition, hydra_path, parse_overrides, shipped
from cifar_exp.config.overrides import quoted, with_quotes
from cifar_exp.config.resolved import config_hash
from cifar_exp.config.schema import ExperimentConfig
from cifar_exp.config.trusted_settings import check_hydra_settings, protected_overrides
from cifar_exp.errors import RequestError
from cifar_exp.run_dir import lifecycle, run_status
from cifar_exp.safe_io.untrusted import read_json
from cifar_exp.sweeps import RECORD
from cifar_exp.sweeps.launchers import options

MOST_JOBS = 10_000
_LONGEST_NAME = 255  # bytes of a folder's name, on common file systems
_DEFAULT_SUBDIR = "${hydra.job.num}"


@dataclass(frozen=True)
class Request:
    """A sweep as the user requested it."""

    overrides: list[str]  # of all jobs; values with commas span a grid
    config_name: str = "config"  # the primary config
    config_dir: str | None = None  # the user's own folder with more options for the groups, absolute
    jobs: list[list[str]] | None = None  # overrides of each job, from a record; None: expand the grid
    directories: list[str] | None = None  # of these jobs, relative to the sweep's directory; None: as composed


@dataclass(frozen=True)
class Job:
    """One job of a sweep."""

    number: int  # Hydra's, counted from 0
    directory: Path  # its run directory
    overrides: dict[str, str]  # its overrides whose values differ between jobs, by key
    arguments: list[str]  # all its overrides
    config: ExperimentConfig  # resolved

    @property
    def title(self) -> str:
        """Its number and its overrides."""
        return " ".join([f"job {self.number}:", *(f"{key}={value}" for key, value in self.overrides.items())])


@dataclass(frozen=True)
class Sweep:
    """A composed sweep."""

    master: DictConfig  # the configuration that all jobs share, with its ``hydra`` node
    directory: Path  # absolute
    jobs: list[Job]  # of a search, two jobs with the smallest and the largest value of every key
    is_search: bool  # whether the sweeper chooses the jobs while the sweep runs
    loader: ConfigLoader  # Hydra's


def expand(parsed: Sequence[Override]) -> list[list[str]]:
    """Every combination of swept values, in Hydra's order; the last override of a key counts.

    Raises:
        RequestError: too many jobs, no job, or a continuous interval.
    """
    last = {override.get_key_element(): override for override in parsed}
    axes: list[list[str]] = []
    for key, override in last.items():
        swept = override.is_sweep_override()
        axes.append([f"{key}={text}" for text in _values(override)] if swept else [override.input_line or ""])
        if not axes[-1]:
            raise RequestError(f"{override.input_line}: has no values")
        if math.prod(map(len, axes)) > MOST_JOBS:
            raise RequestError(f"{override.input_line}: makes more than {MOST_JOBS:,} jobs, the limit of a sweep")
    return [list(job) for job in itertools.product(*axes)]


def _values(override: Override) -> list[str]:
    """The values of a swept override, at most ``MOST_JOBS + 1`` of a range."""
    value: Any = override.value()
    if isinstance(value, IntervalSweep):
        raise RequestError(f"{override.input_line}: an interval has no list of values; use hydra/sweeper=optuna")
    if isinstance(value, RangeSweep):
        if not value.step:
            raise RequestError(f"{override.input_line}: its step must not be 0")
        in_order = [str(number) for number in itertools.islice(value.range(), MOST_JOBS + 1)]
        if len(in_order) > MOST_JOBS:  # a shuffle makes a list of all
            return in_order
    texts = override.sweep_string_iterator()
    # ``glob(...)`` matches a group's options, without the schemas.
    return [text for text in texts if not (isinstance(value, Glob) and text.startswith("base_"))]


def compose_sweep(request: Request) -> Sweep:
    """Compose and check every job of a sweep; nothing is written.

    Raises:
        RequestError: the first mistake found, in one or two lines.
    """
    overrides = [*with_quotes(request.overrides), "hydra.mode=MULTIRUN"]
    with composition(request.config_dir, request.config_name) as loader:
        parsed = parse_overrides(overrides, loader)
        master = loader.load_configuration(request.config_name, overrides, RunMode.MULTIRUN)
        options.check(master.hydra)
        directory = hydra_path(master, "hydra.sweep.dir").absolute()
        directory_override = f"hydra.sweep.dir={quoted(str(directory))}"  # it contains the time: compose it once
        master.hydra.overrides.hydra.append(directory_override)
        master.hydra.sweep.dir = str(directory)
        grid = _grid(request, master, parsed, loader)
        composed = [loader.load_sweep_config(master, job) for job in grid]
        configs = [check_job(job) for job in composed]
        options.check_search(composed)
    expected = shipped([*protected_overrides(parsed), directory_override])
    values = [dict(override.lstrip("+~").partition("=")[::2] for override in overrides) for overrides in grid]
    varied = [key for key in dict.fromkeys(itertools.chain(*values)) if len({one.get(key) for one in values}) > 1]
    jobs = []
    for number, (job, config) in enumerate(zip(composed, configs, strict=True)):
        check_hydra_settings(job, expected)
        with open_dict(job):
            job.hydra.job.num, job.hydra.job.id = number, str(number)
        shown = {key: values[number][key] for key in varied if key in values[number]}
        jobs.append(Job(number, directory / hydra_path(job, "hydra.sweep.subdir"), shown, grid[number], config))
    return Sweep(master, directory, jobs, options.is_search(master.hydra), loader)


def _grid(request: Request, master: DictConfig, parsed: Sequence[Override], loader: ConfigLoader) -> list[list[str]]:
    """Overrides of each job."""
    given = [override.input_line or "" for override in parsed if not override.is_hydra_override()]
    if request.jobs is not None:
        return [[*job, *given] for job in request.jobs]
    if options.is_search(master.hydra):
        if OmegaConf.to_container(master.hydra.sweep).get("subdir") != _DEFAULT_SUBDIR:  # type: ignore[union-attr]
            raise RequestError(f"hydra.sweep.subdir: must be {_DEFAULT_SUBDIR} with hydra/sweeper=optuna")
        from cifar_exp.sweeps.search import corners

        return corners(master.hydra.sweeper.params, given)
    params = [f"{key}={value}" for key, value in (master.hydra.sweeper.params or {}).items()]
    grid = expand(parse_overrides([*params, *given], loader))
    with suppress(OSError, ValueError, KeyError, TypeError):  # the recorded order: ``shuffle(...)`` gives a new one
        recorded = [job["arguments"] for job in read_json(Path(master.hydra.sweep.dir, RECORD))["jobs"]]
        if sorted(recorded) == sorted(grid):
            return recorded
    return grid


def duplicates(jobs: Sequence[Job]) -> dict[int, int]:
    """The numbers of jobs whose config equals an earlier job's, with the number of that job."""
    first: dict[str, int] = {}
    numbers = {job.number: first.setdefault(config_hash(job.config), job.number) for job in jobs}
    return {number: earlier for number, earlier in numbers.items() if number != earlier}


def check_directories(sweep: Sweep, expected: Sequence[str] | None = None) -> None:
    """Refuse a sweep unless every job has its own directory, without a run of another config.

    ``expected`` are the jobs' directories by the sweep's record, relative to the sweep's directory.
    """
    owners: dict[str, Job] = {}
    for job in sweep.jobs:
        shown = os.path.relpath(job.directory, sweep.directory)
        setting = f"hydra.sweep.subdir={shown[:80]}"
        hint = f"use a name for each job, such as the default '{_DEFAULT_SUBDIR}'"
        other = owners.setdefault(shown, job)
        if Path(shown).parts[:1] in ((), ("..",)):
            raise RequestError(f"{setting}: must be a folder in the sweep's directory")
        if any(len(os.fsencode(part)) > _LONGEST_NAME for part in Path(shown).parts):
            raise RequestError(f"{setting}: longer than a folder's name can be ({_LONGEST_NAME} bytes); {hint}")
        if other is not job:
            raise RequestError(f"{setting}: jobs {other.number} and {job.number} would share this directory; {hint}")
        if expected is not None and shown != os.path.normpath(expected[job.number]):
            raise RequestError(
                f"{sweep.directory}: job {job.number} is in {expected[job.number]}, not in {shown}; repeat the "
                "hydra.sweep.subdir=... and hydra.job....=... of the sweep"
            )
        if sweep.is_search:  # these are not its jobs
            continue
        if run_status.job_state(job.directory) is not None and not lifecycle.same_config(job.directory, job.config):
            raise RequestError(
                f"{job.directory}: already contains a run with another config than {job.title}; choose another "
                "directory with hydra.sweep.dir=..."
            )


def launch(sweep: Sweep, task: TaskFunction) -> None:
    """Run the jobs by the chosen launcher; in a search, let the sweeper choose them.

    Raises:
        RequestError: the launcher cannot run them.
    """
    master = sweep.master
    callbacks = Callbacks(master)
    context = HydraContext(config_loader=sweep.loader, callbacks=callbacks)
    name = master.hydra.job.config_name
    callbacks.on_multirun_start(config=master, config_name=name)
    if sweep.is_search:
        sweeper = Plugins.instance().instantiate_sweeper(hydra_context=context, task_function=task, config=master)
        arguments: Any = OmegaConf.to_container(master.hydra.overrides.task, resolve=False)
        sweeper.sweep(arguments=arguments)
    else:
        OmegaConf.save(master, sweep.directory / "multirun.yaml")
        launcher = Plugins.instance().instantiate_launcher(hydra_context=context, task_function=task, config=master)
        grid = [job.arguments for job in sweep.jobs]
        size = master.hydra.sweeper.max_batch_size or len(grid)
        for first in range(0, len(grid), size):
            for done in launcher.launch(grid[first : first + size], initial_job_idx=first):
                _ = done.return_value  # raises the exception of a job that could not record it
    callbacks.on_multirun_end(config=master, config_name=name)
