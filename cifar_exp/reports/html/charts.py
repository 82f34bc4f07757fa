"""The data of a page's charts; ``templates/options.js`` has a function for each kind that draws it.

Formats of numbers have names (``percent``, ``number``, ...; see ``base.js``), and so have colours: ``train`` is the
custom property ``--train`` of ``base.css``. So one chart serves both themes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Chart:
    """A chart of a page."""

    kind: str  # name of the function in ``options.js``
    data: dict[str, Any]  # its argument
    description: str  # the content in a sentence or two with the main numbers, for readers who cannot see the chart
    height: int = 310  # in CSS pixels


@dataclass(frozen=True)
class Line:
    """A line of a chart."""

    name: str  # any text
    points: Sequence[tuple[float, float | None]]  # (x, y), ascending in x
    colour: str  # name of a custom property
    dash: str = "solid"  # or ``dashed``, ``dotted``, so that lines differ by more than colour
    symbol: str = "circle"  # of the points: ``circle``, ``rect``, ``triangle``, ``diamond``, ``none``
    width: float = 2.0  # in pixels
    faint: bool = False  # drawn thin and translucent, as a background


def lines(
    drawn: Sequence[Line],
    description: str,
    *,
    x_name: str,
    y_name: str,
    y_format: str = "number",
    from_zero: bool = False,
    height: int = 310,
) -> Chart:
    """Lines by a whole number (epochs, steps), with values on hover, and zoom. The page's script may add lines."""
    data = {"lines": drawn, "from_zero": from_zero, "x_name": x_name, "y_name": y_name, "format": y_format}
    return Chart("lines", data, description, height)


def thinned(points: Any, most: int) -> list[tuple[float, float]]:
    """About ``most`` evenly spaced points (x, y); the last one is kept."""
    places = {*range(0, len(points), -(-len(points) // most) or 1), len(points) - 1} - {-1}
    return [(float(points[place][0]), float(points[place][1])) for place in sorted(places)]
