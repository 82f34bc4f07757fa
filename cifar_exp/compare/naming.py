"""Names of runs and groups by their settings: ``max_lr 0.02, epochs 3, seed 1``."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pandas as pd

NAME = "config.name"
_MOST_PARTS = 4
_LONGEST_PART = 40
_LONGEST_CELL = 80


def heading(column: str) -> str:
    """A column's name in a table or a figure: ``config.model.name`` is ``model``."""
    return column.removeprefix("config.").removesuffix(".name")


def names(table: pd.DataFrame, columns: Sequence[str], labels: Sequence[str]) -> list[str]:
    """A name for each row of runs or groups, from the values of the first columns that differ.

    The value of the config's own name (``NAME``) stands alone, without its key. Rows that the settings do not
    distinguish are named by their label.
    """
    leaves = Counter(heading(column).rpartition(".")[2] for column in columns)
    parts = []
    for column in columns[:_MOST_PARTS]:
        leaf = heading(column).rpartition(".")[2]
        key = "" if column == NAME else f"{leaf if leaves[leaf] == 1 else heading(column)} "
        # A missing value: the config has no such key.
        parts.append([f"{key}{cut(v or 'null', _LONGEST_PART)}" if isinstance(v, str) else "" for v in table[column]])
    words = [", ".join(filter(None, row)) for row in zip(*parts, strict=True)] or [""] * len(table)
    if len(columns) > _MOST_PARTS:
        words = [f"{one}, …" if one else "" for one in words]
    usable = list(table["usable"])
    count = Counter(one for one, counts in zip(words, usable, strict=True) if counts)
    return [
        label if not one else one if count[one] == counts else f"{one} ({label})"
        for one, label, counts in zip(words, labels, usable, strict=True)
    ]


def are_experiments(runs: pd.DataFrame, varied: Sequence[str]) -> bool:
    """Whether the configs' names identify the runs' groups, and more keys (``varied``) differ than a name has parts."""
    if len(varied) <= _MOST_PARTS or NAME not in runs:
        return False
    pairs = runs[["group", NAME]].drop_duplicates()
    return len(pairs) > 1 and bool(pairs["group"].is_unique and pairs[NAME].is_unique and pairs[NAME].notna().all())


def one_line(text: Any) -> str:
    """Text from a run's files without line breaks and other characters that do not print."""
    return "".join(letter if letter.isprintable() else " " for letter in str(text))


def cut(text: Any, longest: int = _LONGEST_CELL) -> str:
    """The same, cut to a length."""
    line = one_line(text)
    return line if len(line) <= longest else line[: longest - 1] + "…"
