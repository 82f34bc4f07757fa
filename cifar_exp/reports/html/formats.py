"""Numbers as a person reads them: Jinja's filters, tables and ``base.js`` write them alike.

A no-break space (U+00A0) joins a number and its unit.
"""

import math
from collections.abc import Callable
from functools import wraps
from typing import Any

from cifar_exp.safe_io.plural import duration

EMPTY = "–"  # noqa: RUF001 - a dash is meant


def is_missing(value: Any) -> bool:
    """Whether there is no finite number."""
    return value is None or (isinstance(value, float) and not math.isfinite(value))


def _or_empty(write: Callable[..., str]) -> Callable[..., str]:
    """The format with a dash for a missing value."""

    @wraps(write)
    def written(value: float | None, *options: int) -> str:
        return EMPTY if is_missing(value) else write(value, *options)

    return written


@_or_empty
def percent(value: float, decimals: int = 2) -> str:
    r"""A fraction in [0, 1] as per cent.

    >>> percent(0.986), percent(None)
    ('98.60%', '–')
    """
    return f"{100 * value:.{decimals}f}%"


@_or_empty
def points(value: float) -> str:
    r"""A difference of two fractions in percentage points, without the unit.

    >>> points(0.0123), points(-0.00001)
    ('+1.23', '+0.00')
    """
    return f"{round(100 * value, 2) + 0.0:+.2f}".replace("-", "−")  # noqa: RUF001 - a minus is meant


@_or_empty
def points_with_unit(value: float) -> str:
    r"""The same with the unit.

    >>> points_with_unit(0.0123)
    '+1.23\xa0points'
    """
    return f"{points(value)}\u00a0points"


@_or_empty
def number(value: float) -> str:
    """Four significant digits.

    >>> number(0.123456), number(1234567.0), number(3e-7)
    ('0.1235', '1,234,567', '3e-07')
    """
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


@_or_empty
def loss(value: float) -> str:
    """Four decimals."""
    return f"{value:.4f}"


@_or_empty
def integer(value: float) -> str:
    """With a comma between thousands."""
    return f"{int(value):,}"


@_or_empty
def seconds(value: float) -> str:
    """A duration; see ``duration``."""
    return duration(value).replace(" ", "\u00a0")


@_or_empty
def memory(value: float) -> str:
    r"""Bytes in the binary unit that suits them.

    >>> memory(3 * 2**30)
    '3.00\xa0GiB'
    """
    return f"{value / 2**30:.2f}\u00a0GiB" if value >= 2**30 else f"{value / 2**20:.0f}\u00a0MiB"


FILTERS: dict[str, Callable[..., str]] = {
    "percent": percent,
    "points": points,
    "number": number,
    "loss": loss,
    "integer": integer,
    "seconds": seconds,
    "memory": memory,
}
_WHOLE = ("epochs_completed", "best_epoch", "misclassified", "parameters", "memory", "steps")


def kind_of(column: str) -> str:
    """The format of a measured column's values."""
    if "accuracy" in column or column == "generalization_gap":
        return "percent"
    if column.endswith("seconds"):
        return "seconds"
    if "loss" in column:
        return "loss"
    return "integer" if any(part in column for part in _WHOLE) else "number"
