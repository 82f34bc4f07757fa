"""The jobs of a sweep, expanded once: what is checked, recorded and run are the same overrides.

Hydra's launcher composes each job from its overrides; so does ``compose_sweep``, by the same call.
"""

import itertools
import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra._internal.callbacks import Callbacks  # Hydra has no other way to run a launcher with callbacks
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.types import ChoiceSweep, Glob, IntervalSweep, Override, RangeSweep
from hydra.core.plugins import Plugins
from hydra.types import HydraContext, RunMode, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from cifar_exp.config.compose import check_job, composition, parse, shipped, without_hydra
from cifar_exp.config.overrides import quoted, with_quotes
from cifar_exp.config.parse import flatten
from cifar_exp.config.resolved import PATHS, config_hash, first_line, resolve
from cifar_exp.config.schema import ExperimentConfig
from cifar_exp.config.trusted_settings import check_group_choices, check_hydra_settings, typed_in
from cifar_exp.errors import RequestError
from cifar_exp.run_dir import lifecycle, run_status
from cifar_exp.safe_io import atomic
from cifar_exp.sweeps import RECORD
from cifar_exp.sweeps.launchers import options

MOST_JOBS = 10_000
_LONGEST_NAME = 255  # bytes of a folder's name, on common file systems
_RESOLVER = re.compile(r"\$\{[^{}$]*:")  # such as ${oc.env:NAME}
_ONE_PER_JOB = "${hydra.job.num}"


@dataclass(frozen=True)
class Request:
    """A sweep as it was asked for.

    Attributes:
        overrides: as typed; values with commas span a grid.
        config_name: the primary config.
        config_dir: a folder of the user's own with more options for the groups, absolute.
        jobs: overrides of each job, where a record knows them; None: the grid is expanded.
        directories: of these jobs, relative to the sweep's directory; None: wherever they are to go.
    """

    overrides: list[str]
    config_name: str = "config"
    config_dir: str | None = None
    jobs: list[list[str]] | None = None
    directories: list[str] | None = None


@dataclass(frozen=True)
class Job:
    """One job of a sweep.

    Attributes:
        number: Hydra's, counted from 0.
        directory: its run directory.
        overrides: what it was given, of what the jobs do not all have in common.
        arguments: all overrides of the experiment, with the values that environment and current folder gave them.
        config: resolved.
    """

    number: int
    directory: Path
    overrides: dict[str, str]
    arguments: list[str]
    config: ExperimentConfig

    @property
    def title(self) -> str:
        """Its number and its overrides."""
        return " ".join([f"job {self.number}:", *(f"{key}={value}" for key, value in self.overrides.items())])


@dataclass(frozen=True)
class Sweep:
    """A composed sweep.

    Attributes:
        master: the configuration that all jobs have in common, with its ``hydra`` node.
        directory: absolute.
        grid: overrides of each job.
        jobs: of a search, two with the least and the most of everything.
        is_search: whether the sweeper chooses the jobs as it goes.
        loader: Hydra's.
    """

    master: DictConfig
    directory: Path
    grid: list[list[str]]
    jobs: list[Job]
    is_search: bool
    loader: ConfigLoader


def expand(parsed: Sequence[Override]) -> list[list[str]]:
    """Every combination of swept values, in the order in which Hydra numbers its jobs; of a key, the last one counts.

    Raises:
        RequestError: too many jobs, none, or values without number.
    """
    last = {override.get_key_element(): override for override in parsed}
    count = 1.0
    for override in last.values():
        count *= _length(override)
        if not count <= MOST_JOBS:
            raise RequestError(
                f"{override.input_line}: makes more than {MOST_JOBS:,} jobs; a sweep has at most as many"
            )
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
    """The values of a swept override; ``glob(...)`` finds the options that a user can choose, not their schemas."""
    schemas = "base_" if isinstance(override.value(), Glob) else "\n"
    return (value for value in override.sweep_string_iterator() if not value.startswith(schemas))


def _length(override: Override) -> float:
    """How many values an override has, without making them."""
    value = override.value()
    if not override.is_sweep_override():
        return 1
    if isinstance(value, IntervalSweep):
        raise RequestError(f"{override.input_line}: has values without number; hydra/sweeper=optuna searches them")
    if isinstance(value, RangeSweep):
        if not value.step:
            raise RequestError(f"{override.input_line}: its step must not be 0")
        return max(0.0, (float(value.stop or 0) - float(value.start or 0)) / float(value.step))
    if isinstance(value, ChoiceSweep):
        return len(value.list)
    return sum(1 for _ in _values(override))


def compose_sweep(request: Request) -> Sweep:
    """Compose and check every job of a sweep; nothing is written.

    Raises:
        RequestError: the first mistake found, in one or two lines.
    """
    asked = [*with_quotes(request.overrides), "hydra.mode=MULTIRUN"]
    with composition(request.config_dir, asked, request.config_name) as loader:
        typed = parse(asked, loader)
        check_group_choices(typed, loader)
        master = loader.load_configuration(request.config_name, asked, RunMode.MULTIRUN)
        options.check(master.hydra)
        directory = _directory(master)
        where = f"hydra.sweep.dir={quoted(str(directory))}"  # the time of day is not composed twice
        master.hydra.overrides.hydra.append(where)
        master.hydra.sweep.dir = str(directory)
        grid = _grid(request, master, typed, loader)
        composed = [loader.load_sweep_config(master, overrides) for overrides in grid]
        for job in composed:
            check_job(job)
        options.check_search(composed)
    expected = shipped([*typed_in(typed), where])
    for job in composed:
        check_hydra_settings(job, expected, typed)
    jobs = _jobs(grid, composed, directory)
    is_search = options.is_search(master.hydra) or not _is_basic(master.hydra)
    return Sweep(master, directory, grid, jobs, is_search, loader)


def _directory(master: DictConfig) -> Path:
    try:
        return Path(str(master.hydra.sweep.dir)).absolute()
    except OmegaConfBaseException as error:
        raise RequestError(f"hydra.sweep.dir: {first_line(error)}") from error


def _grid(request: Request, master: DictConfig, typed: Sequence[Override], loader: ConfigLoader) -> list[list[str]]:
    """Overrides of each job."""
    given = [one.input_line or "" for one in typed if not one.is_hydra_override()]
    if request.jobs is not None:
        return [[*job, *given] for job in request.jobs]
    if options.is_search(master.hydra):
        if OmegaConf.to_container(master.hydra.sweep).get("subdir") != _ONE_PER_JOB:  # type: ignore[union-attr]
            raise RequestError(f"hydra.sweep.subdir: must be {_ONE_PER_JOB} with hydra/sweeper=optuna")
        from cifar_exp.sweeps.search import corners

        return corners(master.hydra.sweeper.params, given)
    if not _is_basic(master.hydra):  # another package's sweeper: what its jobs have in common is checked
        return [[one.input_line or "" for one in typed if not (one.is_hydra_override() or one.is_sweep_override())]]
    params = [f"{key}={value}" for key, value in (master.hydra.sweeper.params or {}).items()]
    parsed = parse([*params, *given], loader)
    check_group_choices(parsed, loader)
    return _in_recorded_order(expand(parsed), Path(master.hydra.sweep.dir))


def _is_basic(hydra: DictConfig) -> bool:
    return bool(hydra.runtime.choices["hydra/sweeper"] == "basic")


def _in_recorded_order(grid: list[list[str]], directory: Path) -> list[list[str]]:
    """The same jobs in the order that an earlier session gave them: ``shuffle(...)`` gives another one each time."""
    try:
        recorded = [job["arguments"] for job in atomic.read_json(directory / RECORD)["jobs"]]
        return recorded if sorted(recorded) == sorted(grid) else grid
    except (OSError, ValueError, KeyError, TypeError):
        return grid


def _jobs(given: Sequence[list[str]], composed: Sequence[DictConfig], directory: Path) -> list[Job]:
    values = [by_key(one) for one in given]
    keys = list(dict.fromkeys(key for one in values for key in one))
    varied = [key for key in keys if len({one.get(key) for one in values}) > 1]
    jobs = []
    for number, job in enumerate(composed):
        with open_dict(job):
            job.hydra.job.num, job.hydra.job.id = number, str(number)
        try:
            subdir = str(job.hydra.sweep.subdir)
        except OmegaConfBaseException as error:
            raise RequestError(f"hydra.sweep.subdir: {first_line(error)}") from error
        config = resolve(without_hydra(job))
        shown = {key: values[number][key] for key in varied if key in values[number]}
        arguments = [settled(argument, config) for argument in given[number]]
        jobs.append(Job(number, directory / subdir, shown, arguments, config))
    return jobs


def by_key(overrides: Sequence[str]) -> dict[str, str]:
    """The values of overrides."""
    return dict(override.lstrip("+~").partition("=")[::2] for override in overrides)


def settled(argument: str, config: ExperimentConfig) -> str:
    """An override that means the same in another environment and from another current folder.

    Args:
        argument: as typed.
        config: that it is part of, resolved.
    """
    typed_key, _, text = argument.partition("=")
    key = typed_key.lstrip("+~")
    value = flatten(config).get(key) if key in PATHS or _RESOLVER.search(text) else None
    if isinstance(value, str) and "${" not in value:
        return f"{typed_key}={quoted(value)}"
    return f"{typed_key}={json.dumps(value)}" if isinstance(value, bool | int | float) else argument


def duplicates(jobs: Sequence[Job]) -> dict[int, int]:
    """Jobs that are an earlier one again: their numbers, and that one's."""
    first: dict[str, int] = {}
    again = {}
    for job in jobs:
        number = first.setdefault(config_hash(job.config), job.number)
        if number != job.number:
            again[job.number] = number
    return again


def check_directories(sweep: Sweep, expected: Sequence[str] | None = None) -> None:
    """Refuse a sweep two of whose jobs would share a directory, or one whose directory holds a run of another config.

    Args:
        sweep: composed.
        expected: the jobs' directories, relative to the sweep's, where a record knows them.

    Raises:
        RequestError: nothing was touched.
    """
    root = os.path.normpath(sweep.directory)
    owners: dict[str, Job] = {}
    for job in sweep.jobs:
        place = os.path.normpath(job.directory)
        shown = os.path.relpath(place, root)
        if not place.startswith(f"{root}{os.sep}"):
            raise RequestError(f"hydra.sweep.subdir={shown}: must be a folder in the sweep's directory")
        if any(len(os.fsencode(part)) > _LONGEST_NAME for part in Path(shown).parts):
            raise RequestError(
                f"hydra.sweep.subdir={shown[:40]}...: is longer than a name can be ({_LONGEST_NAME} bytes); "
                f"hydra.sweep.subdir='{_ONE_PER_JOB}' is always short"
            )
        other = owners.setdefault(place, job)
        if other is not job:
            raise RequestError(
                f"hydra.sweep.subdir={shown}: jobs {other.number} and {job.number} would share this directory; "
                f"hydra.sweep.subdir='{_ONE_PER_JOB}' gives each its own"
            )
        if expected is not None and shown != os.path.normpath(expected[job.number]):
            raise RequestError(
                f"{sweep.directory}: job {job.number} is in {expected[job.number]}, not in {shown}; give the sweep's "
                "settings of hydra.sweep.subdir and hydra.job again"
            )
        if run_status.job_state(job.directory) is not None and not lifecycle.same_config(job.directory, job.config):
            raise RequestError(
                f"{job.directory}: already contains a run of another config than {job.title}; a run is never "
                "overwritten, choose another hydra.sweep.dir"
            )


def launch(sweep: Sweep, task: TaskFunction) -> None:
    """Run the jobs by the launcher that was chosen, or let a search choose them.

    Raises:
        RequestError: the launcher cannot do what was asked.
    """
    master = sweep.master
    callbacks = Callbacks(master)
    context = HydraContext(config_loader=sweep.loader, callbacks=callbacks)
    name = master.hydra.job.config_name
    callbacks.on_multirun_start(config=master, config_name=name)
    if sweep.is_search:
        sweeper = Plugins.instance().instantiate_sweeper(hydra_context=context, task_function=task, config=master)
        typed: Any = OmegaConf.to_container(master.hydra.overrides.task, resolve=False)
        sweeper.sweep(arguments=typed)
    else:
        OmegaConf.save(master, sweep.directory / "multirun.yaml")
        launcher = Plugins.instance().instantiate_launcher(hydra_context=context, task_function=task, config=master)
        size = master.hydra.sweeper.max_batch_size or len(sweep.grid)
        for first in range(0, len(sweep.grid), size):
            for done in launcher.launch(sweep.grid[first : first + size], initial_job_idx=first):
                _ = done.return_value  # raises what a job could not record itself
    callbacks.on_multirun_end(config=master, config_name=name)
