"""Composition of a command line's overrides into configurations, with errors a person can act on.

Hydra composes again when it runs the job. Composing here first means that every job of a sweep is known to be
valid before the first one starts, and that a mistake ends in one line and exit code 2.
"""

import difflib
import itertools
import re
from collections.abc import Iterator
from typing import Any

from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from cifar_exp.config import first_line, flatten, resolve, validate
from cifar_exp.errors import RequestError
from cifar_exp.schema import register_schemas

CONFIG_MODULE = "cifar_exp.conf"

# Hydra raises ValueError for a group's option that is a number.
_COMPOSITION_ERRORS = (HydraException, OmegaConfBaseException, ValueError)


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
    register_schemas()
    search_path = [] if config_dir is None else [f"hydra.searchpath=[file://{config_dir}]"]
    with initialize_config_module(CONFIG_MODULE, version_base="1.3", job_name="cifar-exp"):
        try:
            parsed = _parse(overrides)
            return [
                _compose_one(config_name, [*job, *search_path]) for job in (_grid(parsed) if multirun else [overrides])
            ]
        except RequestError:
            raise
        except _COMPOSITION_ERRORS as error:
            raise RequestError(_explain(error, overrides, config_name, search_path)) from error


def _parse(overrides: list[str]) -> list[Override]:
    parser = OverridesParser.create()
    parsed = []
    for override in overrides:
        try:
            parsed.append(parser.parse_override(override))
        except HydraException as error:
            raise RequestError(f"{override}: not an override; write key=value, and quote lists: 'key=[1,2]'") from error
    return parsed


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
    job = config.copy()
    with open_dict(job):
        del job["hydra"]
    validate(resolve(job))
    return config


def _explain(error: Exception, overrides: list[str], config_name: str, extra: list[str]) -> str:
    """Hydra's error in a line or two, with the nearest valid name."""
    text = str(error)
    cause = error.__cause__
    if match := re.search(r"Could not override '([^']+)'", text):
        return _unknown_key(match[1], overrides, config_name, extra)
    if match := re.search(r"Could not find '([^']+)'\n", text):
        group, _, option = match[1].rpartition("/")
        options = GlobalHydra.instance().config_loader().get_group_options(group)
        options = [name for name in options if not name.startswith("base_")]
        return f"{group}={option}: no such option{_nearest(option, options)}; {group} has {', '.join(options)}"
    if match := re.search(r"Error merging override (\S+)", text):
        reason = first_line(cause) if isinstance(cause, Exception) else text.splitlines()[-1]
        reason = re.sub(r"^\S+: ", "", reason)
        return f"{match[1]}: {reason}"
    if match := re.search(r"Could not delete from config. '([^']+)'", text):
        return f"~{match[1]}: there is no such key to remove"
    message = first_line(error)
    if match := re.search(r"Key '([^']+)' (?:is )?not in", message):
        full_key = message.split(":", 1)[0] if ": " in message else match[1]
        return f"{full_key}: unknown key{_nearest(full_key, _known_keys([], config_name, extra))}"
    return message


def _unknown_key(key: str, overrides: list[str], config_name: str, extra: list[str]) -> str:
    if key.split(".")[0].split("@")[0] == "hydra":
        return f"{key}: unknown key; `cifar-exp --cfg hydra` lists Hydra's own settings"
    # The groups' choices decide which keys there are, so keep those of the overrides that can be kept.
    choices = [override for override in overrides if re.fullmatch(r"[\w/]+=\w+", override)]
    known = _known_keys(choices, config_name, extra)
    return f"{key}: unknown key{_nearest(key, known)}; `cifar-exp --cfg job` lists all (+{key}=... adds it)"


def _known_keys(choices: list[str], config_name: str, extra: list[str]) -> list[str]:
    """Every key that the composed config has, inner nodes included."""
    kept: list[str] = []
    for choice in choices:
        if _composes([*kept, choice, *extra], config_name) is not None:
            kept.append(choice)
    leaves = flatten(_composes([*kept, *extra], config_name) or {})
    return sorted(
        {".".join(parts[:n]) for key in leaves if (parts := key.split(".")) for n in range(1, len(parts) + 1)}
    )


def _composes(overrides: list[str], config_name: str) -> dict[Any, Any] | None:
    try:
        container = OmegaConf.to_container(compose(config_name, overrides=overrides))
    except _COMPOSITION_ERRORS:
        return None
    return container if isinstance(container, dict) else None


def _nearest(name: str, known: list[str]) -> str:
    """`` (did you mean 'x'?)``, or nothing where no known name is close."""
    matches = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if not matches:
        leaf = name.rsplit(".", 1)[-1]
        matches = [key for key in known if key.rsplit(".", 1)[-1] == leaf][:1]
    return f" (did you mean {matches[0]!r}?)" if matches else ""
