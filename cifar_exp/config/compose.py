"""Composition of command-line overrides into configurations, with errors of one or two lines.

Hydra composes again when it runs the job. Composing here first means that a mistake ends with exit code 2 before any
file is written.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from hydra import compose, initialize_config_module
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.plugins.search_path_plugin import SearchPathPlugin
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from cifar_exp.config.hydra_errors import COMPOSITION_ERRORS, CONFIG_MODULE, explain
from cifar_exp.config.overrides import with_quotes
from cifar_exp.config.parse import BY_TARGET, flatten
from cifar_exp.config.resolved import first_line, resolve
from cifar_exp.config.schema import ExperimentConfig, register_schemas
from cifar_exp.config.trusted_settings import (
    check_choices,
    check_group_choices,
    check_hydra_settings,
    is_path,
    protected_overrides,
)
from cifar_exp.errors import RequestError

_own_folder: ContextVar[str | None] = ContextVar("own_folder", default=None)


class _OwnFolder(SearchPathPlugin):
    """Adds the folder of ``--config-dir`` at the position where Hydra's own command line adds it."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        if folder := _own_folder.get():
            search_path.append("command-line", f"file://{folder}")


def compose_job(
    overrides: list[str], *, config_name: str = "config", config_dir: str | None = None, checked: bool = True
) -> DictConfig:
    """Compose the configuration of one run, with the ``hydra`` node (``sweeps.grid`` composes the jobs of a sweep).

    ``config_dir`` is a folder of the user's own options. ``--help`` does not check values, which saves importing
    pydantic.

    Raises:
        RequestError: the first mistake found, in one or two lines.
    """
    overrides = with_quotes(overrides)
    with composition(config_dir, config_name) as loader:
        parsed = parse_overrides(overrides, loader)
        job = compose(config_name, overrides=overrides, return_hydra_config=True)
        if checked:
            check_job(job)
    searches_elsewhere = any(override.key_or_group == "hydra.searchpath" for override in parsed)
    if config_dir or config_name != "config" or searches_elsewhere:
        check_hydra_settings(job, shipped(protected_overrides(parsed)))
    return job


def compose_config(overrides: Sequence[str] = (), *, config_dir: str | Path | None = None) -> ExperimentConfig:
    """Compose the config of one run, as ``cifar-exp KEY=VALUE ...`` does.

    Args:
        overrides: such as ``["experiment=quickstart", "epochs=3"]``.
        config_dir: a folder of your own with more options for the groups.

    Returns:
        The config, typed and checked; relative paths start from the current folder.

    Raises:
        RequestError: the first mistake found, in one or two lines.
    """
    folder = None if config_dir is None else os.path.abspath(config_dir)
    return resolve(without_hydra(compose_job(list(overrides), config_dir=folder)))


def shipped(overrides: list[str]) -> DictConfig:
    """The shipped configuration with these overrides, composed without a user's files."""
    with composition(None):
        return compose("config", overrides=overrides, return_hydra_config=True)


def is_multirun(overrides: list[str], config_name: str, config_dir: str | None) -> bool:
    """Whether ``hydra.mode`` in a user's file or override requests a sweep without ``-m``."""
    own = config_dir or config_name != "config"
    if not (own or any(text.startswith(("hydra.mode", "hydra.searchpath")) for text in overrides)):
        return False
    with composition(config_dir, config_name) as loader:
        parse_overrides(overrides, loader)  # refuses a path
        composed = loader.load_configuration(config_name, overrides, RunMode.MULTIRUN, validate_sweep_overrides=False)
    return bool(composed.hydra.mode == RunMode.MULTIRUN)


@contextmanager
def composition(config_dir: str | None, config_name: str = "config") -> Iterator[ConfigLoader]:
    """Initialize Hydra's composition, with the user's own folder beside the shipped one.

    Raises:
        RequestError: instead of Hydra's own errors.
    """
    register_schemas()
    if is_path(config_name):
        raise RequestError(f"--config-name {config_name}: must be a name, not a path; --config-dir names its folder")
    if config_dir is not None and not Path(config_dir).is_dir():
        raise RequestError(f"--config-dir {config_dir}: no such folder")
    Plugins.instance().register(_OwnFolder)
    GlobalHydra.instance().clear()
    token = _own_folder.set(config_dir)
    try:
        with initialize_config_module(CONFIG_MODULE, job_name="cifar-exp", version_base="1.3"):
            try:
                yield GlobalHydra.instance().config_loader()
            except RequestError:
                raise
            except COMPOSITION_ERRORS as error:
                raise RequestError(explain(error)) from error
    finally:
        _own_folder.reset(token)


def parse_overrides(overrides: list[str], loader: ConfigLoader) -> list[Override]:
    """Overrides as Hydra parses them.

    Raises:
        RequestError: a text that is no override, or ``key={}``, which Hydra would merge instead of assigning it; an
            option that is a path.
    """
    parser = OverridesParser.create(config_loader=loader)
    parsed = []
    for text in overrides:
        try:
            (override,) = parser.parse_overrides([text])  # gives `glob(...)` the loader
        except HydraException as error:
            raise RequestError(f"{text}: not an override; write key=value, and quote lists: 'key=[1,2]'") from error
        if override.value() == {} and override.type is OverrideType.CHANGE:
            key = override.key_or_group
            raise RequestError(f"{text}: would be merged and change nothing; remove an entry by ~{key}.NAME")
        parsed.append(override)
    check_group_choices(parsed, loader)
    return parsed


def check_job(config: DictConfig) -> ExperimentConfig:
    """The config of one composed run, refused with an unknown key, a removed key or a wrong value."""
    check_choices(config.hydra.runtime.choices)
    experiment = without_hydra(config)
    resolved = resolve(experiment)
    removed = flatten(resolved).keys() - flatten(OmegaConf.to_container(experiment)).keys()
    for key in sorted(key for key in removed if key.partition(".")[0] not in BY_TARGET):
        raise RequestError(f"~{key}: is required; set another value instead of removing it")
    return resolved


def hydra_path(job: DictConfig, key: str) -> Path:
    """The path that one of Hydra's settings names.

    Raises:
        RequestError: it has an interpolation that cannot be resolved.
    """
    try:
        return Path(str(OmegaConf.select(job, key)))
    except OmegaConfBaseException as error:
        raise RequestError(f"{key}: {first_line(error).removeprefix(f'{key}: ')}") from error


def without_hydra(config: DictConfig) -> DictConfig:
    """A copy of a composed configuration without the ``hydra`` node."""
    job = config.copy()
    with open_dict(job):
        del job["hydra"]
    return job
