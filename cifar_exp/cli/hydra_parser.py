"""Hydra's command line, with flags anywhere between overrides, also under Python 3.14."""

import argparse
from typing import Any, NoReturn

from cifar_exp.config.overrides import split_trust, with_quotes
from cifar_exp.config.suggestions import suggest_for_flag
from cifar_exp.errors import RequestError

# Hydra's flags with a value, and those without.
_WITH_VALUE = ("cfg", "package", "config_name", "config_dir", "info")
_SWITCHES = ("resolve", "run", "multirun", "shell_completion", "hydra_help")


def parse(arguments: list[str]) -> argparse.Namespace:
    """The flags, and as ``overrides`` the rest.

    Raises:
        RequestError: an unknown flag, or one without its value.
    """
    from hydra._internal.utils import get_args_parser  # Hydra has no public parser; its flags must be its own

    def refuse(message: str) -> NoReturn:
        raise RequestError(message)

    patch_help_check()
    parser = get_args_parser()
    parser.allow_abbrev = False  # --experiment=quickstart would mean --experimental-rerun
    parser.add_argument("--trust", action="append", default=[])
    parser.error = refuse  # type: ignore[method-assign]
    flags, unknown = parser.parse_known_intermixed_args(arguments)
    if unknown:
        flag, _, value = unknown[0].partition("=")
        hint = suggest_for_flag(flag, value)
        raise RequestError(f"{flag}: unknown flag; {hint}; `cifar-exp --hydra-help` lists all flags")
    if flags.trust:
        trusted, others = split_trust(flags.overrides)
        flags.overrides = [*others, f"trust=[{','.join([*trusted, *flags.trust])}]"]
    if not flags.help:
        flags.overrides = with_quotes(flags.overrides)
    return flags


def as_arguments(flags: argparse.Namespace) -> list[str]:
    """The arguments in the order that Hydra itself can parse: flags first."""
    switches = [f"--{name.replace('_', '-')}" for name in _SWITCHES if getattr(flags, name)]
    valued = [f"--{name.replace('_', '-')}={getattr(flags, name)}" for name in _WITH_VALUE if getattr(flags, name)]
    return [*switches, *valued, *flags.overrides]


def patch_help_check() -> None:
    """Make argparse check only help texts that are strings; does nothing before Python 3.14, nor when called again.

    Hydra 1.3 passes one help text as an object that becomes a string when it is shown. Python 3.14 checks every help
    text when the option is added, and raises (facebookresearch/hydra#3121).
    """
    check = getattr(argparse.ArgumentParser, "_check_help", None)
    if check is None or getattr(check, "only_strings", False):
        return

    def check_string(parser: argparse.ArgumentParser, action: argparse.Action) -> Any:
        return check(parser, action) if isinstance(action.help, str) else None

    check_string.only_strings = True  # type: ignore[attr-defined]
    argparse.ArgumentParser._check_help = check_string  # type: ignore[attr-defined]
