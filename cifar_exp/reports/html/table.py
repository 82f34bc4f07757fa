"""Tables that a reader can sort, filter and reduce to some columns (``table.js``), and the same tables as text."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from cifar_exp.reports.html import formats

KINDS = ("text", "rate", *formats.FILTERS)


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
