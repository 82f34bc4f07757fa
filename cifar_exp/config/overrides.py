"""Overrides of the command line in the form that Hydra's grammar accepts."""

import re
from collections.abc import Sequence
from typing import get_type_hints

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from cifar_exp.config.schema import SCHEMAS
from cifar_exp.errors import RequestError

_OVERRIDE = re.compile(r"([~+]*[\w./@:-]+)=(.*)", re.DOTALL)
# A list, a mapping, a quoted text or a function of the grammar: written for the grammar, so left unchanged.
_IN_GRAMMAR = re.compile(
    r"\s*(?:['\"\[{]|(?:choice|range|interval|glob|shuffle|sort|tag|int|float|str|bool|json_str|extend_list)\()"
)
_COMMA = re.compile(r"(?<!\\),")
_TEXT_TYPES = (str, str | None)


def quoted(text: str) -> str:
    """A text quoted for Hydra's grammar."""
    # Quotes and the backslashes before them are escaped; the grammar takes other backslashes literally.
    return "'" + re.sub(r"(\\*)('|$)", lambda found: found[1] * 2 + (r"\'" if found[2] else ""), text) + "'"


def with_quotes(overrides: Sequence[str]) -> list[str]:
    """Overrides with quotes around values that the grammar would refuse (a path with a space) or change (a name 1e5).

    Values of a sweep, separated by commas, are quoted one by one. The function is idempotent.

    >>> with_quotes(["data.root=~/my images", "name=1e5", "max_lr=1e-3"])
    ["data.root='~/my images'", "name='1e5'", 'max_lr=1e-3']
    """
    parser = OverridesParser.create()
    return [_with_quotes(override, parser) for override in overrides]


def _with_quotes(override: str, parser: OverridesParser) -> str:
    match = _OVERRIDE.fullmatch(override)
    if match is None or _IN_GRAMMAR.match(match[2]):
        return override
    key, value = match.groups()
    is_text = key.lstrip("+~") in _text_keys()

    def is_kept(part: str) -> bool:
        try:
            read = parser.parse_override(f"{key}={part}").value()
        except (HydraException, ValueError):  # ValueError: an integer of thousands of digits
            return False
        return not (is_text and isinstance(read, int | float))

    if not is_text and is_kept(value):
        return override
    return f"{key}={','.join(part if is_kept(part) else quoted(part) for part in _COMMA.split(value))}"


def _text_keys() -> set[str]:
    """The keys whose values are texts, where 1e5 is not a number."""
    return {
        f"{node}.{name}".lstrip(".")
        for node, schemas in SCHEMAS.items()
        for schema in schemas
        for name, kind in get_type_hints(schema).items()
        if kind in _TEXT_TYPES
    }


def split_trust(settings: Sequence[str]) -> tuple[list[str], list[str]]:
    """The packages of ``trust=[PACKAGE,...]`` among overrides, and the other overrides.

    Raises:
        RequestError: the value is not a list of packages.
    """
    trusted: list[str] = []
    others: list[str] = []
    for setting in settings:
        if not setting.startswith("trust="):
            others.append(setting)
            continue
        names = [name.strip(" '\"") for name in setting.removeprefix("trust=").strip("[] ").split(",")]
        if not all(name.isidentifier() for name in names if name):
            raise RequestError(f"{setting}: must be a list of packages: trust=[PACKAGE]")
        trusted += filter(None, names)
    return trusted, others
