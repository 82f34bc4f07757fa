"""Tables that a reader can sort, filter and reduce to some columns (``table.js``), and the same tables as text."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from cifar_exp.reports.html import formats

KINDS = ("text", "rate", *formats.FILTERS)


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        label: its heading.
        kind: format of its values, one of ``KINDS``: ``percent`` takes fractions in [0, 1], ``points`` differences of
            such fractions, ``rate`` learning rates and the like.
        hidden: whether the page shows it on request only.
        constant: whether all rows have the same value, for the switch that hides such columns.
        note: its meaning in a sentence; the page shows it as a tooltip.
        bar: whether a bar in the cell shows the value between the smallest and the largest of the column.
        key: whether it follows the first column on a narrow screen, where it is visible without scrolling.
        from_zero: whether that bar starts at zero rather than at the smallest value.
        printed: 0 if the table as text omits it; its columns with 1 come before those with 2.
    """

    label: str
    kind: str = "text"
    hidden: bool = False
    constant: bool = False
    note: str = ""
    bar: bool = False
    key: bool = False
    from_zero: bool = False
    printed: int = 0

    def __post_init__(self) -> None:
        assert self.kind in KINDS


@dataclass(frozen=True)
class Table:
    """Columns and rows.

    Attributes:
        columns: in order.
        rows: a value for each column; None is an empty cell. A cell can be ``{"value": ...}`` with a link as ``href``
            (relative) or a confidence interval as ``interval`` (low, high).
        sort: position of the column to sort by at first, and whether descending; None keeps the order of the rows.
        marks: a class of ``base.css`` (``best``) for some rows, by position.
        find: whether there is a field to filter the rows by text.
        choose: whether columns can be hidden.
        differing_first: whether columns that are the same in all rows are hidden at first.
        shown: number of rows shown at first.
    """

    columns: Sequence[Column]
    rows: Sequence[Sequence[Any]]
    sort: tuple[int, bool] | None = None
    marks: dict[int, str] = field(default_factory=dict)
    find: bool = True
    choose: bool = False
    differing_first: bool = False
    shown: int = 100

    def as_data(self) -> dict[str, Any]:
        """The input of ``table.js``."""
        return vars(self) | {"columns": [vars(one) for one in self.columns]}
