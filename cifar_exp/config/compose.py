"""Composition of a command line's overrides into configurations, with errors a person can act on.

Hydra composes again when it runs the job. Composing here first means that every job of a sweep is known to be
valid before the first one starts, and that a mistake ends in one line and exit code 2.
"""

import itertools
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hydra import compose, version
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_automatic_config_search_path
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.errors import HydraException
from omegaconf import DictConfig, open_dict

from cifar_exp.config.hydra_errors import COMPOSITION_ERRORS, explain
from cifar_exp.config.overrides import with_quotes
from cifar_exp.config.resolved import check_keys, resolve, validate
from cifar_exp.config.schema import register_schemas
from cifar_exp.config.trusted_settings import check_hydra_settings, may_be_overruled, typed_in
from cifar_exp.errors import RequestError
from cifar_exp.sweeps.launchers import options

CONFIG_MODULE = "cifar_exp.conf"


def compose_jobs(
    overrides: list[str],
    *,
    config_name: str = "config",
    config_dir: str | None = None,
    multirun: bool = False,
) -> list[DictConfig]:
    """Compose and validate the jobs that a command line asks for.

    Args:
        overrides: Hydra overrides as typed; with ``multirun``, values with commas span a grid.
        config_name: the primary config.
        config_dir: a folder of the user's own with more options for the groups.
        multirun: whether the overrides describe a sweep.

    Returns:
        One configuration per job, in the order of the grid, each with its ``hydra`` node.

    Raises:
        RequestError: the first mistake found, in one or two lines.
    """
    overrides = with_quotes(overrides)
    with initialized(config_dir):
        try:
            parsed = _parse(overrides)
            grid = list(_jobs_of_sweep(parsed, config_name)) if multirun else [overrides]
            jobs = [_compose_one(config_name, job) for job in grid]
            if multirun:
                options.check_search(jobs)
        except RequestError:
            raise
        except COMPOSITION_ERRORS as error:
            raise RequestError(explain(error, overrides, config_name)) from error
    if may_be_overruled(parsed, config_name, config_dir):
        shipped = _shipped(typed_in(parsed))
        for job in jobs:
            check_hydra_settings(job, shipped, parsed)
    return jobs


def _shipped(overrides: list[str]) -> DictConfig:
    """The shipped configuration with overrides of Hydra's settings, none of them a user's file."""
    with initialized(None):
        try:
            return compose("config", overrides=overrides, return_hydra_config=True)
        except COMPOSITION_ERRORS as error:
            raise RequestError(explain(error, overrides, "config")) from error


@contextmanager
def initialized(config_dir: str | None) -> Iterator[None]:
    """Hydra's composition, with the user's own folder beside the shipped one."""
    register_schemas()
    search_path = create_automatic_config_search_path(None, None, f"pkg://{CONFIG_MODULE}")
    if config_dir is not None:
        if not Path(config_dir).is_dir():
            raise RequestError(f"--config-dir {config_dir}: there is no such folder")
        # In the place where Hydra's own command line puts it: before the shipped options.
        search_path.prepend("command-line", f"file://{config_dir}", SearchPathQuery(provider="schema"))
    version.setbase("1.3")
    GlobalHydra.instance().clear()
    Hydra.create_main_hydra2("cifar-exp", search_path)
    options.register()
    try:
        yield
    finally:
        GlobalHydra.instance().clear()


def _parse(overrides: list[str]) -> list[Override]:
    parser = OverridesParser.create()
    parsed = []
    for override in overrides:
        try:
            parsed.append(parser.parse_override(override))
            if parsed[-1].value() == {} and parsed[-1].type is OverrideType.CHANGE:
                key = parsed[-1].key_or_group
                raise RequestError(f"{override}: would be merged into what is there; take it out by ~{key}.NAME")
        except HydraException as error:
            raise RequestError(f"{override}: not an override; write key=value, and quote lists: 'key=[1,2]'") from error
    return parsed


def _jobs_of_sweep(parsed: list[Override], config_name: str) -> Iterable[list[str]]:
    """The jobs of a sweep, or where they are chosen later, the ends of what may be chosen."""
    about_hydra = typed_in(parsed)
    hydra = compose(config_name, overrides=about_hydra, return_hydra_config=True).hydra
    options.check(hydra)
    if not options.is_search(hydra):
        return _grid(parsed)
    from cifar_exp.sweeps.search import corners

    about_jobs = [one.input_line or "" for one in parsed if (one.input_line or "") not in about_hydra]
    return [[*about_hydra, *job] for job in corners(hydra.sweeper.params, about_jobs)]


def _grid(parsed: list[Override]) -> Iterator[list[str]]:
    """Every combination of swept values, in the order in which Hydra's own sweeper numbers its jobs."""
    axes = [
        [f"{override.get_key_element()}={value}" for value in override.sweep_string_iterator()]
        if override.is_sweep_override()
        else [override.input_line or ""]
        for override in parsed
    ]
    return (list(job) for job in itertools.product(*axes))


def _compose_one(config_name: str, overrides: list[str]) -> DictConfig:
    config = compose(config_name, overrides=overrides, return_hydra_config=True)
    experiment = without_hydra(config)
    check_keys(experiment)
    validate(resolve(experiment))
    return config


def without_hydra(config: DictConfig) -> DictConfig:
    """A copy of a composed configuration that holds the experiment alone."""
    job = config.copy()
    with open_dict(job):
        del job["hydra"]
    return job
