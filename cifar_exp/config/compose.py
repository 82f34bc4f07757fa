"""Composition of a command line's overrides into configurations, with errors a person can act on.

Hydra composes again when it runs the job. Composing here first means that a mistake ends in one line and exit code 2
before anything is made.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hydra import compose, version
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_automatic_config_search_path
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, open_dict

from cifar_exp.config.hydra_errors import COMPOSITION_ERRORS, explain
from cifar_exp.config.overrides import with_quotes
from cifar_exp.config.resolved import check_keys, resolve
from cifar_exp.config.schema import ExperimentConfig, register_schemas
from cifar_exp.config.trusted_settings import (
    check_choices,
    check_group_choices,
    check_hydra_settings,
    is_path,
    may_be_overruled,
    typed_in,
)
from cifar_exp.errors import RequestError

CONFIG_MODULE = "cifar_exp.conf"


def compose_jobs(
    overrides: list[str], *, config_name: str = "config", config_dir: str | None = None, checked: bool = True
) -> list[DictConfig]:
    """Compose and validate the one run that a command line asks for (``sweeps.grid`` composes the jobs of a sweep).

    Args:
        overrides: Hydra overrides as typed.
        config_name: the primary config.
        config_dir: a folder of the user's own with more options for the groups.
        checked: whether wrong values are refused; ``--help`` shows them and does without the library that checks.

    Returns:
        Its configuration, with the ``hydra`` node.

    Raises:
        RequestError: the first mistake found, in one or two lines.
    """
    overrides = with_quotes(overrides)
    with composition(config_dir, overrides, config_name) as loader:
        parsed = parse(overrides, loader)
        check_group_choices(parsed, loader)
        job = compose(config_name, overrides=overrides, return_hydra_config=True)
        if checked:
            check_job(job)
    if may_be_overruled(parsed, config_name, config_dir):
        check_hydra_settings(job, shipped(typed_in(parsed)), parsed)
    return [job]


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
    job = compose_jobs(list(overrides), config_dir=None if config_dir is None else str(config_dir))[0]
    return resolve(without_hydra(job))


def shipped(overrides: list[str]) -> DictConfig:
    """The shipped configuration with overrides of Hydra's settings, none of them a user's file."""
    with composition(None, overrides):
        return compose("config", overrides=overrides, return_hydra_config=True)


def is_multirun(overrides: list[str], config_name: str, config_dir: str | None) -> bool:
    """Whether ``hydra.mode`` makes a sweep of what was not asked for by ``-m``; only a user's own file can say so."""
    own = config_dir or config_name != "config"
    if not (own or any(text.startswith(("hydra.mode", "hydra.searchpath")) for text in overrides)):
        return False
    with composition(config_dir, overrides, config_name) as loader:
        check_group_choices(parse(overrides, loader), loader)
        composed = loader.load_configuration(config_name, overrides, RunMode.MULTIRUN, validate_sweep_overrides=False)
    return bool(composed.hydra.mode == RunMode.MULTIRUN)


@contextmanager
def composition(
    config_dir: str | None, overrides: list[str] | None = None, config_name: str = "config"
) -> Iterator[ConfigLoader]:
    """Hydra's composition, with the user's own folder beside the shipped one.

    Args:
        config_dir: the user's own folder.
        overrides: what is composed, for the messages.
        config_name: the primary config.

    Raises:
        RequestError: in the place of Hydra's own errors.
    """
    register_schemas()
    if is_path(config_name):
        raise RequestError(f"--config-name {config_name}: must be a name, not a path; --config-dir names its folder")
    search_path = create_automatic_config_search_path(None, None, f"pkg://{CONFIG_MODULE}")
    if config_dir is not None:
        if not Path(config_dir).is_dir():
            raise RequestError(f"--config-dir {config_dir}: there is no such folder")
        # In the place where Hydra's own command line puts it: before the shipped options.
        search_path.prepend("command-line", f"file://{config_dir}", SearchPathQuery(provider="schema"))
    version.setbase("1.3")
    GlobalHydra.instance().clear()
    loader = Hydra.create_main_hydra2("cifar-exp", search_path).config_loader
    try:
        yield loader
    except RequestError:
        raise
    except COMPOSITION_ERRORS as error:
        raise RequestError(explain(error, overrides or [], config_name)) from error
    finally:
        GlobalHydra.instance().clear()


def parse(overrides: list[str], loader: ConfigLoader) -> list[Override]:
    """Overrides as Hydra reads them.

    Raises:
        RequestError: one of them is none, or would be merged where it looks like a replacement.
    """
    parser = OverridesParser.create(config_loader=loader)
    parsed = []
    for override in overrides:
        try:
            parsed += parser.parse_overrides([override])
            if parsed[-1].value() == {} and parsed[-1].type is OverrideType.CHANGE:
                key = parsed[-1].key_or_group
                raise RequestError(f"{override}: would be merged into what is there; take it out by ~{key}.NAME")
        except HydraException as error:
            raise RequestError(f"{override}: not an override; write key=value, and quote lists: 'key=[1,2]'") from error
    return parsed


def check_job(config: DictConfig) -> None:
    """Check a composed configuration of one run.

    Raises:
        RequestError: it has an unknown key or a wrong value.
    """
    check_choices(config.hydra.runtime.choices)
    experiment = without_hydra(config)
    check_keys(experiment)
    resolve(experiment)


def without_hydra(config: DictConfig) -> DictConfig:
    """A copy of a composed configuration that holds the experiment alone."""
    job = config.copy()
    with open_dict(job):
        del job["hydra"]
    return job
