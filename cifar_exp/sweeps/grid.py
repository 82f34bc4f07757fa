"""The jobs of a sweep, expanded and composed once: the checked, recorded and executed overrides are the same."""

import itertools
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra._internal.callbacks import Callbacks  # Hydra has no public way to call its callbacks
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.types import ChoiceSweep, Glob, IntervalSweep, Override, RangeSweep
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
    count = 1.0
    for override in last.values():
        count *= _count_values(override)
        if not count <= MOST_JOBS:
            raise RequestError(f"{override.input_line}: makes more than {MOST_JOBS:,} jobs, the limit of a sweep")
        if not count:
            raise RequestError(f"{override.input_line}: has no values")
    axes = [
        [f"{key}={value}" for value in _values(override)]
        if override.is_sweep_override()
        else [override.input_line or ""]
        for key, override in last.items()
    ]
    return [list(job) for job in itertools.product(*axes)]


def _values(override: Override) -> Iterator[str]:
    """The values of a swept override; ``glob(...)`` matches a group's options, without the schemas."""
    is_glob = isinstance(override.value(), Glob)
    return (value for value in override.sweep_string_iterator() if not (is_glob and value.startswith("base_")))


def _count_values(override: Override) -> float:
    """The number of an override's values, without generating a long range."""
    value = override.value()
    if not override.is_sweep_override():
        return 1
    if isinstance(value, IntervalSweep):
        raise RequestError(f"{override.input_line}: an interval has no list of values; use hydra/sweeper=optuna")
    if isinstance(value, RangeSweep):
        if not value.step:
            raise RequestError(f"{override.input_line}: its step must not be 0")
        return max(0.0, (float(value.stop or 0) - float(value.start or 0)) / float(value.step))
    return len(value.list) if isinstance(value, ChoiceSweep) else sum(1 for _ in _values(override))


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
    for job in composed:
        check_hydra_settings(job, expected)
    is_search = options.is_search(master.hydra) or not _is_basic(master.hydra)
    jobs = _jobs(grid, list(zip(composed, configs, strict=True)), directory)
    return Sweep(master, directory, jobs, is_search, loader)


def _grid(request: Request, master: DictConfig, parsed: Sequence[Override], loader: ConfigLoader) -> list[list[str]]:
    """Overrides of each job."""
    experiment = [override for override in parsed if not override.is_hydra_override()]
    given = [override.input_line or "" for override in experiment]
    if request.jobs is not None:
        return [[*job, *given] for job in request.jobs]
    if options.is_search(master.hydra):
        if OmegaConf.to_container(master.hydra.sweep).get("subdir") != _DEFAULT_SUBDIR:  # type: ignore[union-attr]
            raise RequestError(f"hydra.sweep.subdir: must be {_DEFAULT_SUBDIR} with hydra/sweeper=optuna")
        from cifar_exp.sweeps.search import corners

        return corners(master.hydra.sweeper.params, given)
    if not _is_basic(master.hydra):  # another package's sweeper: check the overrides that all its jobs share
        return [[override.input_line or "" for override in experiment if not override.is_sweep_override()]]
    params = [f"{key}={value}" for key, value in (master.hydra.sweeper.params or {}).items()]
    return _in_recorded_order(expand(parse_overrides([*params, *given], loader)), Path(master.hydra.sweep.dir))


def _is_basic(hydra: DictConfig) -> bool:
    return bool(hydra.runtime.choices["hydra/sweeper"] == "basic")


def _in_recorded_order(grid: list[list[str]], directory: Path) -> list[list[str]]:
    """The jobs in the order of the sweep's record: ``shuffle(...)`` gives a new order each time."""
    try:
        recorded = [job["arguments"] for job in read_json(directory / RECORD)["jobs"]]
        return recorded if sorted(recorded) == sorted(grid) else grid
    except (OSError, ValueError, KeyError, TypeError):
        return grid


def _jobs(
    grid: Sequence[list[str]], composed: Sequence[tuple[DictConfig, ExperimentConfig]], directory: Path
) -> list[Job]:
    values = [by_key(overrides) for overrides in grid]
    keys = dict.fromkeys(key for one in values for key in one)
    varied = [key for key in keys if len({one.get(key) for one in values}) > 1]
    jobs = []
    for number, (job, config) in enumerate(composed):
        with open_dict(job):
            job.hydra.job.num, job.hydra.job.id = number, str(number)
        shown = {key: values[number][key] for key in varied if key in values[number]}
        jobs.append(Job(number, directory / hydra_path(job, "hydra.sweep.subdir"), shown, grid[number], config))
    return jobs


def by_key(overrides: Sequence[str]) -> dict[str, str]:
    """The values of overrides."""
    return dict(override.lstrip("+~").partition("=")[::2] for override in overrides)


def duplicates(jobs: Sequence[Job]) -> dict[int, int]:
    """The numbers of jobs whose config equals an earlier job's, with the number of that job."""
    first: dict[str, int] = {}
    numbers = {job.number: first.setdefault(config_hash(job.config), job.number) for job in jobs}
    return {number: earlier for number, earlier in numbers.items() if number != earlier}


def check_directories(sweep: Sweep, expected: Sequence[str] | None = None) -> None:
    """Refuse a sweep unless every job has its own directory, without a run of another config.

    ``expected`` are the jobs' directories by the sweep's record, relative to the sweep's directory.
    """
    root = os.path.normpath(sweep.directory)
    owners: dict[str, Job] = {}
    for job in sweep.jobs:
        path = os.path.normpath(job.directory)
        shown = os.path.relpath(path, root)
        if not path.startswith(f"{root}{os.sep}"):
            raise RequestError(f"hydra.sweep.subdir={shown}: must be a folder in the sweep's directory")
        if any(len(os.fsencode(part)) > _LONGEST_NAME for part in Path(shown).parts):
            raise RequestError(
                f"hydra.sweep.subdir={shown[:40]}...: longer than a folder's name can be ({_LONGEST_NAME} bytes); "
                f"use a short name, such as the default '{_DEFAULT_SUBDIR}'"
            )
        other = owners.setdefault(path, job)
        if other is not job:
            raise RequestError(
                f"hydra.sweep.subdir={shown}: jobs {other.number} and {job.number} would share this directory; "
                f"use a name for each job, such as the default '{_DEFAULT_SUBDIR}'"
            )
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
