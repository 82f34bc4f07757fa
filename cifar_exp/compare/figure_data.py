"""The data of a comparison's figures, prepared once for the PNGs and for the page."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cifar_exp.compare.comparison import Comparison
from cifar_exp.evaluation.statistics import LARGEST
from cifar_exp.safe_io import untrusted

MOST_LEVELS = 20  # values of one number up to which a heat map is readable
Points = list[tuple[float, float]]
_COLUMNS = ("train_loss", "val_accuracy", "test_accuracy")


@dataclass(frozen=True)
class Curves:
    """Curves of runs, by the runs' rows in the comparison."""

    loss: dict[int, Points]  # (epoch, training loss)
    accuracy: dict[int, Points]  # (epoch, accuracy), on the split that more of the runs measured
    split: str  # ``Validation`` or ``Test``
    unreadable: list[int]  # rows of the runs without any curve


def read_curves(comparison: Comparison, rows: Iterable[int]) -> Curves:
    """Read ``metrics.csv`` of the runs in these rows."""
    found: dict[str, dict[int, Points]] = {column: {} for column in _COLUMNS}
    unreadable = []
    for row in rows:
        curves = _read(Path(comparison.runs["path"].iloc[row]) / "metrics.csv")
        if not curves:
            unreadable.append(row)
        for column, points in curves.items():
            found[column][row] = points
    split = "val" if len(found["val_accuracy"]) >= len(found["test_accuracy"]) else "test"
    name = "Validation" if split == "val" else "Test"
    return Curves(found["train_loss"], found[f"{split}_accuracy"], name, unreadable)


def _read(path: Path) -> dict[str, Points]:
    """(epoch, value) of the columns that have values; {} if the file is missing or damaged."""
    try:
        header, *rows = untrusted.read_rows(path)
        epoch = header.index("epoch")
        found = {}
        for column in _COLUMNS:
            if column in header:
                place = header.index(column)
                found[column] = [(_number(row[epoch]), _number(row[place])) for row in rows if row[place]]
    except (OSError, ValueError, IndexError):
        return {}
    return {column: points for column, points in found.items() if points}


def _number(cell: str) -> float:
    value = float(cell)
    if abs(value) > LARGEST and cell[-1].isdigit():  # `inf` is what a diverging run measures
        raise ValueError("not a measured number")
    return value


def main_groups(comparison: Comparison) -> tuple[pd.DataFrame, list[str], list[str]]:
    """The groups on the baseline's data, the numbers that vary between them, and the other settings that do."""
    groups = comparison.groups[comparison.groups["data_set"] == comparison.runs["data_set"].iloc[0]]
    varied = [column for column in comparison.varied if len(groups[column].unique()) > 1]
    numbers = {column: are_numbers(groups[column]) for column in varied}
    return groups, [c for c in varied if numbers[c]], [c for c in varied if not numbers[c]]


def are_numbers(column: pd.Series) -> bool:
    """Whether every value of a config's column is a finite number of plausible size."""
    try:
        return bool((column.astype(np.float64).abs() <= LARGEST).all())
    except (TypeError, ValueError):
        return False


def by_two_numbers(groups: pd.DataFrame, pair: tuple[str, str], value: str, how: Any = "mean") -> pd.DataFrame:
    """A column of the groups by two numbers: a row and a column for each of their values, ascending."""
    table = groups.astype(dict.fromkeys(pair, np.float64))
    return table.pivot_table(index=pair[0], columns=pair[1], values=value, aggfunc=how, dropna=False)
