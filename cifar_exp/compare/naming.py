"""Runs and groups named by what differs: ``max_lr 0.02, epochs 3, seed 1``."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pandas as pd

_MOST_PARTS = 4
_LONGEST_PART = 40


def heading(column: str) -> str:
    """A column's name as a table or a figure shows it: ``config.model.name`` is ``model``."""
    return column.removeprefix("config.").removesuffix(".name")


def names(table: pd.DataFrame, columns: Sequence[str], labels: Sequence[str]) -> list[str]:
    """A name for each row, from the values of the first columns that differ.

    Args:
        table: of runs or of groups.
        columns: that differ.
        labels: of the rows, which stand in or behind where the settings do not name a row alone.
    """
    parts = [[_part(column, value) for value in table[column]] for column in columns[:_MOST_PARTS]]
    words = [", ".join(filter(None, row)) for row in zip(*parts, strict=True)] or [""] * len(table)
    if len(columns) > _MOST_PARTS:
        words = [f"{one}, …" if one else "" for one in words]
    count = Counter(words)
    return [
        (one if count[one] == 1 else f"{one} ({label})") if one else label
        for one, label in zip(words, labels, strict=True)
    ]


def _part(column: str, value: Any) -> str:
    if not isinstance(value, str):
        return ""  # the config has no such key
    value = one_line(value or "null")
    return f"{heading(column)} {value if len(value) <= _LONGEST_PART else value[: _LONGEST_PART - 1] + '…'}"


def one_line(text: Any) -> str:
    """Text from a run's files without line breaks and other letters that do not print."""
    return "".join(letter if letter.isprintable() else " " for letter in str(text))
