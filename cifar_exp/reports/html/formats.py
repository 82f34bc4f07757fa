"""Numbers as a person reads them, the same in text (Jinja's filters) as ``base.js`` writes in charts and tables.

No line breaks between a number and its unit: the space there is U+00A0.
"""

import math
from collections.abc import Callable
from typing import Any

EMPTY = "–"  # noqa: RUF001 - a dash is meant


def percent(value: float | None, decimals: int = 2) -> str:
    r"""A fraction in [0, 1] as per cent.

    >>> percent(0.986), percent(None)
    ('98.60%', '–')
    """
    return EMPTY if is_missing(value) else f"{100 * value:.{decimals}f}%"  # type: ignore[operator] # not None


def points(value: float | None) -> str:
    r"""A difference of two fractions in percentage points.

    >>> points(0.0123)
    '+1.23\xa0points'
    """
    return EMPTY if is_missing(value) else signed(100 * value, 2) + "\u00a0points"  # type: ignore[operator]


def signed(value: float, decimals: int) -> str:
    """With a sign, and never a negative zero.

    >>> signed(-0.001, 2), signed(3, 1)
    ('+0.00', '+3.0')
    """
    return f"{round(value, decimals) + 0.0:+.{decimals}f}".replace("-", "−")  # noqa: RUF001 - a minus is meant


def number(value: float | None) -> str:
    """Four significant digits.

    >>> number(0.123456), number(1234567.0), number(3e-7)
    ('0.1235', '1,234,567', '3e-07')
    """
    if is_missing(value):
        return EMPTY
    assert value is not None
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def integer(value: float | None) -> str:
    """With a comma between thousands."""
    return EMPTY if is_missing(value) else f"{int(value):,}"  # type: ignore[arg-type]


def seconds(value: float | None) -> str:
    r"""A duration in its two largest units.

    >>> seconds(0.25), seconds(59.94), seconds(3725), seconds(7e5)
    ('0.25\xa0s', '59.9\xa0s', '1\xa0h 2\xa0min', '8\xa0d 2\xa0h')
    """
    if is_missing(value):
        return EMPTY
    assert value is not None
    if value < 60:
        return f"{value:.2f}\u00a0s" if value < 10 else f"{value:.1f}\u00a0s"
    for unit, size, smaller, small in (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if value >= size:
            return f"{int(value // size)}\u00a0{unit} {int(value % size // small)}\u00a0{smaller}"
    raise AssertionError(value)


def memory(value: float | None) -> str:
    r"""Bytes in the binary unit that suits them.

    >>> memory(3 * 2**30)
    '3.00\xa0GiB'
    """
    if is_missing(value):
        return EMPTY
    assert value is not None
    return f"{value / 2**30:.2f}\u00a0GiB" if value >= 2**30 else f"{value / 2**20:.0f}\u00a0MiB"


def is_missing(value: Any) -> bool:
    """Whether there is no finite number."""
    return value is None or (isinstance(value, float) and not math.isfinite(value))


FILTERS: dict[str, Callable[..., str]] = {
    "percent": percent,
    "points": points,
    "number": number,
    "integer": integer,
    "seconds": seconds,
    "memory": memory,
}
