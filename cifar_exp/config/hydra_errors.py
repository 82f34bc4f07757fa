"""Hydra's and OmegaConf's errors in one or two lines: what is wrong, where, and the nearest valid name."""

import re
from importlib.resources import files

from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException
from yaml import MarkedYAMLError, YAMLError

from cifar_exp.config.resolved import first_line
from cifar_exp.config.schema import GROUPS
from cifar_exp.config.suggestions import suggest_option, unknown_key

CONFIG_MODULE = "cifar_exp.conf"
# Hydra raises ValueError if a group's option is a number, and does not wrap YAML's own errors.
COMPOSITION_ERRORS = (HydraException, OmegaConfBaseException, ValueError, YAMLError)


def explain(error: Exception) -> str:
    """The message of an error in one or two lines, with the nearest valid name."""
    text = str(error)
    if isinstance(error, YAMLError):
        reason = " ".join(str(getattr(error, "problem", None) or error).split())
        mark = error.problem_mark if isinstance(error, MarkedYAMLError) else None
        return f"{'' if mark is None else f'{mark.name}, line {mark.line + 1}: '}invalid YAML: {reason}"
    if match := re.search(r"Could not override '([^']+)'", text):
        return _about_override(match[1])
    if match := re.search(r"Could not (?:find|load) '([^']+)'\.?\n", text):
        group, _, option = match[1].rpartition("/")
        # Without the schemas that the options start from.
        options = [
            name for name in GlobalHydra.instance().config_loader().get_group_options(group) if name[:5] != "base_"
        ]
        parent, _, inner = group.rpartition("/")
        if not options and parent and inner in GROUPS:  # Hydra looks for it below the file's own group
            return f"{group}={option}: no such group; in the defaults of your file write `override /{inner}: {option}`"
        listed = f"{group} has {', '.join(options)}" if options else f"no such group {group!r}"
        return f"{group}={option}: no such option{suggest_option(group, option, options)}; {listed}"
    if match := re.search(r"Error merging override (\S+)", text):
        reason = first_line(error.__cause__) if isinstance(error.__cause__, Exception) else text.splitlines()[-1]
        reason = re.sub(r"^(\S+: )?(Cannot merge .*)?", "", reason)
        return f"{match[1]}: {reason or 'the value has another type'}"
    if match := re.search(r"Ambiguous value for argument '(.+)'", text):
        key = match[1].partition("=")[0]
        quotes = f"quote a text with a comma twice: \"{key}='A, B'\""
        return f"{match[1]}: several values make a sweep, which needs -m; {quotes}"
    if match := re.search(r"Could not delete from config. '([^']+)'", text):
        return f"~{match[1]}: no such key to remove"
    if match := re.search(r"Multiple values for (\S+?)\. ", text):
        return f"{match[1]}: chosen twice; in the defaults of your file write `override /{match[1]}: OPTION`"
    file = re.match(r"In '([^']+)': ", text)
    return (f"{file[1]}.yaml: " if file else "") + first_line(error).removeprefix(file[0] if file else "")


def _about_override(key: str) -> str:
    """An override of an unknown key or of an unknown entry in the defaults list."""
    node, group = re.split(r"[.@/]", key)[0], key.rpartition("@")[2].rpartition(".")[2]
    if node == "hydra":
        return f"{key}: unknown key; {_owner(key)}`cifar-exp --cfg hydra` lists Hydra's own settings"
    if "@" in key and group in GROUPS:  # in a file, Hydra looks for a group below the file's own
        return (
            f"override {group}: not found from the file's position; start your file in {node}/ with "
            f"`# @package _global_`, and write `override /{group}: OPTION` in its defaults"
        )
    return unknown_key(key)


def _owner(key: str) -> str:
    """Advice to add the launcher or sweeper that has a setting, such as ``hydra.sweeper.pruner``; may be empty."""
    group, _, name = key.removeprefix("hydra.").partition(".")
    if group not in ("launcher", "sweeper"):
        return ""
    shipped = files(CONFIG_MODULE).joinpath("hydra", group).iterdir()
    owners = sorted(file.name[:-5] for file in shipped if f"\n{name}:" in file.read_text(encoding="utf-8"))
    return f"add {' or '.join(f'hydra/{group}={owner}' for owner in owners)}, which has it; " if owners else ""
