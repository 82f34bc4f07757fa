"""Hydra's and OmegaConf's errors in one or two lines: what is wrong, where, and the nearest valid name."""

import re
from importlib.resources import files
from typing import Any

from hydra import compose
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import OmegaConf
from yaml import MarkedYAMLError, YAMLError

from cifar_exp.config.overrides import for_shell, quoted, texts_of
from cifar_exp.config.parse import flatten, value_problem
from cifar_exp.config.resolved import SCHEMA_ERRORS, first_line
from cifar_exp.config.schema import GROUPS
from cifar_exp.config.suggestions import suggest_key, suggest_option

CONFIG_MODULE = "cifar_exp.conf"
# Hydra raises ValueError if a group's option is a number, and does not wrap YAML's own errors.
COMPOSITION_ERRORS = (HydraException, *SCHEMA_ERRORS, ValueError, YAMLError)


def group_options(group: str) -> list[str]:
    """The options of a group that a user can choose, without the schemas that they start from."""
    return [name for name in GlobalHydra.instance().config_loader().get_group_options(group) if name[:5] != "base_"]


def explain(error: Exception, overrides: list[str], config_name: str) -> str:
    """The message of an error in one or two lines, with the nearest valid name."""
    text = str(error)
    cause = error.__cause__
    if isinstance(error, YAMLError):
        return _about_yaml(error)
    if match := re.search(r"Could not override '([^']+)'", text):
        return _about_override(match[1], overrides, config_name)
    if match := re.search(r"Could not (?:find|load) '([^']+)'\.?\n", text):
        group, _, option = match[1].rpartition("/")
        options = group_options(group)
        parent, _, inner = group.rpartition("/")
        if not options and parent and inner in GROUPS:  # Hydra looks for it below the file's own group
            return f"{group}={option}: no such group; in the defaults of your file write `override /{inner}: {option}`"
        listed = f"{group} has {', '.join(options)}" if options else f"no such group {group!r}"
        return f"{group}={option}: no such option{suggest_option(group, option, options)}; {listed}"
    if match := re.search(r"Error merging override (\S+)", text):
        reason = first_line(cause) if isinstance(cause, Exception) else text.splitlines()[-1]
        reason = re.sub(r"^\S+: ", "", reason)
        if re.match(r"Invalid type assigned: \w+ is not a subclass of \w+Config", reason):
            node = match[1].partition("=")[0].lstrip("+")
            inner = [key for key in _known_keys([], config_name) if key.startswith(f"{node}.")]
            reason = f"holds several keys; set one of them: {', '.join(inner)}"
        elif "is not Optional" in reason or reason.startswith("Cannot merge"):  # OmegaConf's words for a wrong type
            key, _, value = match[1].partition("=")
            reason = (
                value_problem(key.lstrip("+"), OverridesParser.create().parse_override(f"x={value}").value()) or reason
            )
        return f"{match[1]}: {reason}"
    if match := re.search(r"Ambiguous value for argument '(.+)'", text):
        key, _, value = match[1].partition("=")
        text = ",".join(texts_of(value))
        as_text = for_shell(f"{key}={quoted(text)}")
        return f"{key}={text}: several values make a sweep, which needs -m; quote a text with a comma: {as_text}"
    if match := re.search(r"Could not delete from config. '([^']+)'", text):
        return f"~{match[1]}: no such key to remove"
    if match := re.search(r"Multiple values for (\S+?)\. ", text):
        return f"{match[1]}: chosen twice; in the defaults of your file write `override /{match[1]}: OPTION`"
    return _about_file(error, config_name)


def _about_yaml(error: YAMLError) -> str:
    reason = " ".join(str(getattr(error, "problem", None) or error).split())
    mark = error.problem_mark if isinstance(error, MarkedYAMLError) else None
    where = "" if mark is None else f"{mark.name}, line {mark.line + 1}: "
    return f"{where}invalid YAML: {reason}"


def _about_override(key: str, overrides: list[str], config_name: str) -> str:
    """An override of an unknown key or of an unknown entry in the defaults list."""
    node = re.split(r"[.@/]", key)[0]
    if node == "hydra":
        return f"{key}: unknown key; {_owner(key)}`cifar-exp --cfg hydra` lists Hydra's own settings"
    group = key.rpartition("@")[2].rpartition(".")[2]
    if "@" in key and group in GROUPS and not any(override.startswith(key) for override in overrides):
        # In a file, Hydra looks for a group below the file's own.
        return (
            f"override {group}: not found from the file's position; start your file in {node}/ with "
            f"`# @package _global_`, and write `override /{group}: OPTION` in its defaults"
        )
    # The choices of groups decide which keys exist, so compose with those of the overrides.
    choices = [override for override in overrides if re.fullmatch(r"[\w/]+=\w+", override)]
    known = _known_keys(choices, config_name)
    return f"{key}: unknown key{suggest_key(key, known)}; `cifar-exp --cfg job` lists all"


def _owner(key: str) -> str:
    """Advice to add the launcher or sweeper that has a setting, such as ``hydra.sweeper.pruner``; may be empty."""
    group, _, name = key.removeprefix("hydra.").partition(".")
    if group not in ("launcher", "sweeper"):
        return ""
    shipped = files(CONFIG_MODULE).joinpath("hydra", group).iterdir()
    owners = sorted(file.name[:-5] for file in shipped if f"\n{name}:" in file.read_text(encoding="utf-8"))
    return f"add {' or '.join(f'hydra/{group}={owner}' for owner in owners)}, which has it; " if owners else ""


def _about_file(error: Exception, config_name: str) -> str:
    """A file that does not match the schema: its name, the key, and what is wrong with the value."""
    text = str(error)
    file = next(iter(re.findall(r"^In '([^']+)': ", text)), "")
    prefix = f"{file}.yaml: " if file else ""
    full_key = next(iter(re.findall(r"full_key: (.+)", text)), "")
    if file.startswith("experiment/") and full_key.split(".")[0] == "experiment":
        return f"{prefix}its first line must be `# @package _global_`, so that its keys are those of the experiment"
    if (match := re.search(r"Key '([^']+)' (?:is )?not in", text)) is not None:
        key = full_key or match[1]
        node = key.split(".")[0]
        if file.startswith("experiment/") and node in GROUPS:
            return f"{prefix}sets {key}, which the chosen {node} does not have; choose another {node}, or leave it out"
        return f"{prefix}{key}: unknown key{suggest_key(key, _known_keys([], config_name))}"
    if match := re.search(r"raised while composing config:\n(.+)", text):
        return f"{prefix}{full_key}{': ' * bool(full_key)}{match[1]}"
    return first_line(error)


def _known_keys(choices: list[str], config_name: str) -> list[str]:
    """Every key of the composed config, including inner nodes."""
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
    except COMPOSITION_ERRORS:
        return None
    return container if isinstance(container, dict) else None
