"""The data of a comparison's figures, prepared once for the PNGs and for the page."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cifar_exp.compare.comparison import Comparison
from cifar_exp.evaluation.statistics import LARGEST
from cifar_exp.run_dir import tables

LOG_FROM = 8.0  # ratio of largest to smallest value from which an axis is logarithmic
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
    found = {}
    try:
        rows = tables.metrics_rows(path)
        for column in _COLUMNS:
            cells = [(row["epoch"], row.get(column)) for row in rows]
            found[column] = [(float(x), float(y)) for x, y in cells if x is not None and y is not None]
    except (OSError, ValueError, KeyError, OverflowError):
        return {}
    numbers = (abs(number) for points in found.values() for point in points for number in point)
    if any(LARGEST < number < math.inf for number in numbers):  # infinite is what a diverging run measures
        return {}
    return {column: points for column, points in found.items() if points}


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
