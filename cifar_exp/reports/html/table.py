"""The table that a reader can sort, filter and cut down to some columns; ``templates/table.js`` draws it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

FORMATS = ("text", "integer", "number", "percent", "points", "seconds", "rate")


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        label: its head.
        kind: how its values are shown and sorted, one of ``FORMATS``: ``percent`` takes fractions in [0, 1],
            ``points`` differences of such fractions, ``seconds`` seconds, ``rate`` learning rates and the like.
        hidden: whether the reader has to ask for it.
        constant: whether it is the same in all rows, for the switch that hides such columns.
        note: a sentence on what it means, shown when pointed at.
        bar: whether a bar in the cell shows the value between the smallest and the largest of the column.
        key: whether it follows the first column on a narrow screen, so that it is seen without scrolling.
        from_zero: whether that bar starts at zero rather than at the smallest value.
    """

    label: str
    kind: str = "text"
    hidden: bool = False
    constant: bool = False
    note: str = ""
    bar: bool = False
    key: bool = False
    from_zero: bool = False

    def __post_init__(self) -> None:
        assert self.kind in FORMATS


@dataclass(frozen=True)
class Table:
    """Columns and rows.

    Attributes:
        columns: in their order.
        rows: a value for each column; None is an empty cell. A cell that leads somewhere is
            ``{"value": ..., "href": "relative/path"}``.
        sort: position of the column to sort by at first, and whether descending; None keeps the order of the rows.
        marks: for some rows, by position, a class of ``base.css`` (``best``).
        find: whether there is a field to filter the rows by text.
        choose: whether columns can be hidden.
        differing_first: whether columns that are the same in all rows wait until the reader asks for them.
        shown: rows until the reader asks for more.
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
        """What ``table.js`` takes."""
        return {
            "columns": [vars(column) for column in self.columns],
            "rows": [list(row) for row in self.rows],
            "sort": self.sort,
            "marks": self.marks,
            "find": self.find,
            "choose": self.choose,
            "differingFirst": self.differing_first,
            "shown": self.shown,
        }
