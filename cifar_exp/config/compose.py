"""Composition of a command line's overrides into configurations, with errors a person can act on.

Hydra composes again when it runs the job. Composing here first means that a mistake ends in one line and exit code 2
before anything is made.
"""

import difflib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

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
from omegaconf import DictConfig, OmegaConf, open_dict

from cifar_exp.config.resolved import GROUPS, SCHEMA_ERRORS, check_keys, first_line, flatten, resolve, validate
from cifar_exp.config.schema import register_schemas
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

# Hydra raises ValueError for a group's option that is a number.
_COMPOSITION_ERRORS = (HydraException, *SCHEMA_ERRORS, ValueError)


def compose_jobs(
    overrides: list[str], *, config_name: str = "config", config_dir: str | None = None
) -> list[DictConfig]:
    """Compose and validate the one run that a command line asks for (``sweeps.grid`` composes the jobs of a sweep).

    Args:
        overrides: Hydra overrides as typed.
        config_name: the primary config.
        config_dir: a folder of the user's own with more options for the groups.

    Returns:
        Its configuration, with the ``hydra`` node.

    Raises:
        RequestError: the first mistake found, in one or two lines.
    """
    with composition(config_dir, overrides, config_name) as loader:
        parsed = parse(overrides, loader)
        check_group_choices(parsed, loader)
        job = compose(config_name, overrides=overrides, return_hydra_config=True)
        check_job(job)
    if may_be_overruled(parsed, config_name, config_dir):
        check_hydra_settings(job, shipped(typed_in(parsed)), parsed)
    return [job]


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


_HELP = """\
cifar-exp: train, explain, reproduce and compare image classifiers on CIFAR-10

One run, and a sweep (every combination, each in a directory of its own):
  cifar-exp experiment=quickstart
  cifar-exp max_lr=0.05 epochs=10 model=resnet9
  cifar-exp -m max_lr=0.01,0.05 epochs=5,10
  cifar-exp -m hydra/launcher=joblib max_lr=0.01,0.05   several jobs at a time (also ray, slurm)
  cifar-exp -m hydra/sweeper=optuna                     jobs chosen by what earlier ones came to

Before a sweep (every command has its own --help):
  cifar-exp lr-find [KEY=VALUE ...]    which max_lr to start from

Commands about runs that are there:
  cifar-exp compare PATH...    what differs, by how much, and whether it means anything
  cifar-exp resume RUN         go on with an interrupted run or sweep
  cifar-exp reproduce RUN      run the saved config again: are the numbers the same?
  cifar-exp evaluate RUN       measure the checkpoint again, on its own or on other data
  cifar-exp report RUN...      make report.html again, from the run directory alone

Options of each config group (GROUP=OPTION):
{groups}

The config that these arguments compose (override any key: KEY=VALUE):
{config}
Flags: --cfg job (only the config), -m (a sweep), --config-dir DIR (options of your own), --hydra-help (all flags).
Exit codes: 0 done, 1 a run failed or diverged, 2 the request is wrong."""


def help_text(overrides: list[str], *, config_dir: str | None = None) -> str:
    """What ``--help`` prints: usage, the options of each group, the composed config."""
    job = without_hydra(compose_jobs(overrides, config_dir=config_dir)[0])
    with composition(config_dir):
        groups = "\n".join(f"  {group}: {', '.join(_options(group))}" for group in (*GROUPS, "tracker", "experiment"))
    config = "".join(f"  {line}\n" for line in OmegaConf.to_yaml(job).splitlines())
    return _HELP.format(groups=groups, config=config)


def _options(group: str) -> list[str]:
    """The options of a group that a user can choose; the schemas that they start from are not."""
    return [name for name in GlobalHydra.instance().config_loader().get_group_options(group) if name[:5] != "base_"]


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
    except _COMPOSITION_ERRORS as error:
        raise RequestError(_explain(error, overrides or [], config_name)) from error
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
    validate(resolve(experiment))


def without_hydra(config: DictConfig) -> DictConfig:
    """A copy of a composed configuration that holds the experiment alone."""
    job = config.copy()
    with open_dict(job):
        del job["hydra"]
    return job


def _explain(error: Exception, overrides: list[str], config_name: str) -> str:
    """Hydra's error in a line or two, with the nearest valid name."""
    text = str(error)
    cause = error.__cause__
    if match := re.search(r"Could not override '([^']+)'", text):
        return _unknown_key(match[1], overrides, config_name)
    if match := re.search(r"Could not find '([^']+)'\n", text):
        group, _, option = match[1].rpartition("/")
        options = _options(group)
        return f"{group}={option}: no such option{_nearest(option, options)}; {group} has {', '.join(options)}"
    if match := re.search(r"Error merging override (\S+)", text):
        reason = first_line(cause) if isinstance(cause, Exception) else text.splitlines()[-1]
        reason = re.sub(r"^\S+: ", "", reason)
        return f"{match[1]}: {reason}"
    if match := re.search(r"Ambiguous value for argument '(.+)'", text):
        return f"{match[1]}: several values make a sweep, which needs -m; or quote a text that holds a comma"
    if match := re.search(r"Could not delete from config. '([^']+)'", text):
        return f"~{match[1]}: there is no such key to remove"
    if match := re.search(r"Key '([^']+)' (?:is )?not in", text):
        # Written in a file, so its full name stands in the message.
        full_key = next(iter(re.findall(r"full_key: (\S+)", text)), match[1])
        return f"{full_key}: unknown key{_nearest(full_key, _known_keys([], config_name))}"
    return first_line(error)


def _unknown_key(key: str, overrides: list[str], config_name: str) -> str:
    if key.split(".")[0].split("@")[0] == "hydra":
        return f"{key}: unknown key; `cifar-exp --cfg hydra` lists Hydra's own settings"
    # The groups' choices decide which keys there are, so keep those of the overrides that can be kept.
    choices = [override for override in overrides if re.fullmatch(r"[\w/]+=\w+", override)]
    known = _known_keys(choices, config_name)
    return f"{key}: unknown key{_nearest(key, known)}; `cifar-exp --cfg job` lists all"


def _known_keys(choices: list[str], config_name: str) -> list[str]:
    """Every key that the composed config has, inner nodes included."""
    kept: list[str] = []
    for choice in choices:
        if _composes([*kept, choice], config_name) is not None:
            kept.append(choice)
    leaves = flatten(_composes(kept, config_name) or {})
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
    if name in known:  # it is there, but not to be removed
        return ""
    # What the unknown key was typed under is there for sure, and no help.
    known = [key for key in known if not name.startswith(f"{key}.")]
    matches = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if not matches:
        leaf = name.rsplit(".", 1)[-1]
        matches = [key for key in known if key.rsplit(".", 1)[-1] == leaf][:1]
    return f" (did you mean {matches[0]!r}?)" if matches else ""
