"""Hydra's command line, parsed as a person writes it, and under Python 3.14, too."""

import argparse
from typing import Any, NoReturn

from cifar_exp.config.overrides import split_trust, with_quotes
from cifar_exp.config.suggestions import suggest_for_flag
from cifar_exp.errors import RequestError

# Flags of Hydra's with a value, and those without.
_WITH_VALUE = ("cfg", "package", "config_name", "config_dir", "info")
_SWITCHES = ("resolve", "run", "multirun", "shell_completion", "hydra_help")


def parse(arguments: list[str]) -> argparse.Namespace:
    """The flags, and as ``overrides`` the rest; flags may stand anywhere between overrides.

    Raises:
        RequestError: an unknown flag, or one without its value.
    """
    from hydra._internal.utils import get_args_parser

    make_parsable()
    parser = get_args_parser()
    parser.add_argument("--trust", action="append", default=[])
    parser.error = _refuse  # type: ignore[method-assign]
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


def _refuse(message: str) -> NoReturn:
    raise RequestError(message)


def as_arguments(flags: argparse.Namespace) -> list[str]:
    """What ``parse`` read, in the order in which Hydra itself can read it: flags first."""
    switches = [f"--{name.replace('_', '-')}" for name in _SWITCHES if getattr(flags, name)]
    valued = [f"--{name.replace('_', '-')}={getattr(flags, name)}" for name in _WITH_VALUE if getattr(flags, name)]
    return [*switches, *valued, *flags.overrides]


def make_parsable() -> None:
    """Have argparse look only into a help that is text.

    Hydra 1.3 gives one of its options a help that becomes text only when it is shown. Python 3.14 looks into every help
    as soon as the option is added, and raises (facebookresearch/hydra#3121). Hydra prints its help itself.

    Does nothing where argparse does not look (before Python 3.14). Calling it again is harmless.
    """
    check = getattr(argparse.ArgumentParser, "_check_help", None)
    if check is None or getattr(check, "only_text", False):
        return

    def check_text(parser: argparse.ArgumentParser, action: argparse.Action) -> Any:
        return check(parser, action) if isinstance(action.help, str) else None

    check_text.only_text = True  # type: ignore[attr-defined]
    argparse.ArgumentParser._check_help = check_text  # type: ignore[attr-defined]
