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
        table: of runs or of groups, with the column ``usable``.
        columns: that differ.
        labels: of the rows, which stand in or behind where the settings do not name a row alone.
    """
    leaves = Counter(_leaf(column) for column in columns)
    shown = {c: _leaf(c) if leaves[_leaf(c)] == 1 else heading(c) for c in columns[:_MOST_PARTS]}
    parts = [[_part(word, value) for value in table[column]] for column, word in shown.items()]
    words = [", ".join(filter(None, row)) for row in zip(*parts, strict=True)] or [""] * len(table)
    if len(columns) > _MOST_PARTS:
        words = [f"{one}, …" if one else "" for one in words]
    count = Counter(one for one, usable in zip(words, table["usable"], strict=True) if usable)  # a retry keeps its name
    return [
        (one if count[one] == usable else f"{one} ({label})") if one else label
        for one, label, usable in zip(words, labels, table["usable"], strict=True)
    ]


def _leaf(column: str) -> str:
    """``weight_decay`` of ``config.optimizer.weight_decay``; ``model`` of ``config.model.name``."""
    return heading(column).rpartition(".")[2]


def _part(word: str, value: Any) -> str:
    if not isinstance(value, str):
        return ""  # the config has no such key
    value = one_line(value or "null")
    return f"{word} {value if len(value) <= _LONGEST_PART else value[: _LONGEST_PART - 1] + '…'}"


def one_line(text: Any) -> str:
    """Text from a run's files without line breaks and other letters that do not print."""
    return "".join(letter if letter.isprintable() else " " for letter in str(text))
