"""The parts of a page: charts, tables and findings, which the macros of ``templates/parts.html`` place.

``templates/options.js`` has a function for each kind of chart that draws it; ``table.js`` sorts and filters tables.
Formats of numbers have names (``percent``, ``number``, ...; see ``base.js``), and so have colours: ``train`` is the
custom property ``--train`` of ``base.css``. So one chart serves both themes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from cifar_exp.reports.html import formats

KINDS = ("text", "rate", *formats.FILTERS)


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


@dataclass(frozen=True)
class Column:
    """A column of a table."""

    label: str  # its heading
    # Format of its values: ``percent`` takes fractions in [0, 1], ``points`` differences of such fractions, ``rate``
    # learning rates and the like.
    kind: str = "text"
    hidden: bool = False  # whether the page shows it on request only
    constant: bool = False  # whether all rows have the same value, for the switch that hides such columns
    note: str = ""  # its meaning in a sentence; the page shows it as a tooltip
    bar: bool = False  # whether a bar in the cell shows the value between the smallest and the largest of the column
    key: bool = False  # whether it follows the first column on a narrow screen, where it is visible without scrolling
    from_zero: bool = False  # whether that bar starts at zero rather than at the smallest value
    printed: int = 0  # 0 if the table as text omits it; its columns with 1 come before those with 2

    def __post_init__(self) -> None:
        assert self.kind in KINDS


@dataclass(frozen=True)
class Table:
    """Columns and rows."""

    columns: Sequence[Column]
    # A value for each column; None is an empty cell. A cell can be ``{"value": ...}`` with a link as ``href``
    # (relative) or a confidence interval as ``interval`` (low, high).
    rows: Sequence[Sequence[Any]]
    sort: tuple[int, bool] | None = None  # column to sort by at first, and whether descending; None keeps the order
    marks: dict[int, str] = field(default_factory=dict)  # a class of ``base.css`` (``best``) for some rows
    find: bool = True  # whether there is a field to filter the rows by text
    choose: bool = False  # whether columns can be hidden
    differing_first: bool = False  # whether columns that are the same in all rows are hidden at first
    shown: int = 100  # number of rows shown at first


@dataclass(frozen=True)
class Source:
    """A file, or a cell of it: row and column as a person finds them, and the value. Empty texts are not shown."""

    file: str
    row: str = ""
    column: str = ""
    value: str = ""


@dataclass(frozen=True)
class Finding:
    """A statement on a page."""

    kind: str  # ``good``, ``bad``, ``note`` (a caution) or ``plain``
    title: str  # the point in a few words
    text: str  # the point with its numbers
    sources: tuple[Source, ...]  # at least one
