"""The data of a page's charts; ``templates/options.js`` has a function for each kind that draws it.

Formats of numbers have names (``percent``, ``number``, ...; see ``base.js``), and so have colours: ``train`` is the
custom property ``--train`` of ``base.css``. So one chart serves both themes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Chart:
    """A chart of a page.

    Attributes:
        kind: name of the function in ``options.js``.
        data: its argument.
        description: the content in a sentence or two with the main numbers, for readers who cannot see the chart.
        height: height in CSS pixels.
    """

    kind: str
    data: dict[str, Any]
    description: str
    height: int = 310


@dataclass(frozen=True)
class Line:
    """A line of a chart.

    Attributes:
        name: any text.
        points: (x, y), ascending in x; y may be None.
        colour: name of a custom property.
        dash: ``solid``, ``dashed`` or ``dotted``, so that lines differ by more than colour.
        symbol: symbol of the points (``circle``, ``rect``, ``triangle``, ``diamond``, ``none``).
        width: width in pixels.
        faint: drawn thin and translucent, as a background.
    """

    name: str
    points: Sequence[tuple[float, float | None]]
    colour: str
    dash: str = "solid"
    symbol: str = "circle"
    width: float = 2.0
    faint: bool = False


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
    """Lines by a whole number (epochs, steps), with values on hover, and zoom.

    Args:
        drawn: may be empty if the page's script adds lines.
        description: see ``Chart``.
        x_name: name of the x axis.
        y_name: name of the y axis.
        y_format: format of the y values.
        from_zero: whether the y axis starts at 0.
        height: height in pixels.
    """
    data = {"lines": [vars(one) for one in drawn], "from_zero": from_zero}
    return Chart("lines", data | {"x_name": x_name, "y_name": y_name, "format": y_format}, description, height)


def heat_map(
    values: NDArray[np.float64],
    rows: tuple[str, Sequence[str]],
    columns: tuple[str, Sequence[str]],
    value: tuple[str, str],
    description: str,
    *,
    labels: Sequence[Sequence[str]] | None = None,
    shade: NDArray[np.float64] | None = None,
    height: int = 420,
) -> Chart:
    """A matrix in shades, the first row on top.

    Args:
        values: (rows, columns), shown on hover; NaN leaves the cell out.
        rows: name of the y axis and of each row.
        columns: name of the x axis and of each column.
        value: name and format of the values.
        description: see ``Chart``.
        labels: text in the cells; None for none.
        shade: (rows, columns) basis of the shades, NaN for no shade; None takes the values.
        height: height in pixels.
    """
    data = {"values": values, "labels": labels, "shade": shade, "value_name": value[0], "format": value[1]}
    names = {"row_name": rows[0], "rows": rows[1], "column_name": columns[0], "columns": columns[1]}
    return Chart("heat_map", data | names, description, height)


def thinned(points: Any, most: int) -> list[tuple[float, float]]:
    """About ``most`` evenly spaced points (x, y); the last one is kept."""
    places = {*range(0, len(points), -(-len(points) // most) or 1), len(points) - 1} - {-1}
    return [(float(points[place][0]), float(points[place][1])) for place in sorted(places)]
