"""The measured columns as numbers, and the order of runs and groups by them."""

import difflib
import math

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cifar_exp.errors import RequestError
from cifar_exp.evaluation.statistics import LARGEST
from cifar_exp.run_dir import tables

_LOWER_IS_BETTER = ("loss", "seconds", "gap", "misclassified", "memory", "parameters", "ece", "brier")
SELECTION = "val_accuracy"  # column that chooses the winner; the test split takes no part in the choice
TEST = "test_accuracy"
_NOT_METRICS = ("path", "run", "label", "state", "error", "problem")


def is_lower_better(metric: str) -> bool:
    """Whether a smaller value of the metric is the better one (losses, times, sizes)."""
    return any(part in metric for part in _LOWER_IS_BETTER)


def metric_values(runs: pd.DataFrame, metric: str) -> NDArray[np.float64]:
    """The metric's column as floats, NaN where there is no number."""
    if metric in _NOT_METRICS:
        raise RequestError(f"--metric {metric}: is text, not a number; a metric is test_accuracy, val_loss or the like")
    measured = [column for column in runs.columns if not column.startswith("config.") and column not in _NOT_METRICS]
    if metric in measured:
        values = np.array([_number(text) for text in runs[metric]])
        if not np.isnan(values).all() or runs[metric].isna().all():
            return values
        raise RequestError(f"--metric {metric}: is text, not a number; a metric is test_accuracy, val_loss or the like")
    numeric = [c for c in measured if any(not math.isnan(_number(text)) for text in runs[c].dropna().iloc[:1])]
    if metric in tables.SUMMARY_COLUMNS or not numeric:  # not measured yet: the states are still worth a table
        return np.full(len(runs), np.nan)
    near = difflib.get_close_matches(metric, numeric, n=1)
    raise RequestError(
        f"--metric {metric}: no such measured column{f'; did you mean {near[0]}?' if near else ';'} "
        f"there are {', '.join(numeric)}"
    )


def numbers_of(runs: pd.DataFrame, name: str) -> pd.Series:
    """A column as floats, NaN where it is absent, no number, or too large for one."""
    values = pd.Series([_number(text) for text in column_of(runs, name)], index=runs.index, dtype=np.float64)
    return values.where(values.abs() <= LARGEST)


def is_number(text: object) -> bool:
    """Whether a cell holds a number that can be reckoned with."""
    return abs(_number(text)) <= LARGEST


def _number(text: object) -> float:
    try:
        return float(text) if isinstance(text, str) else math.nan
    except ValueError:
        return math.nan


def column_of(runs: pd.DataFrame, name: str) -> pd.Series:
    """A column, of missing values where there is no such column."""
    return runs[name] if name in runs.columns else pd.Series(None, index=runs.index, dtype=object)


def in_order(runs: pd.DataFrame, main: int, lower_is_better: bool) -> list[int]:
    """Positions of the runs, best first; then other data; then those without a value, by state and name."""
    value = runs["value"] if lower_is_better else -runs["value"]
    keys = pd.DataFrame(
        {
            "unusable": ~runs["usable"],
            "other": runs["data_set"] != main,
            "data_set": runs["data_set"],
            "value": value.where(runs["usable"], 0.0),
            "state": runs["state"].where(~runs["usable"], ""),
        }
    )
    # Ties keep the natural order that the runs came in.
    return [int(i) for i in keys.sort_values(list(keys.columns), kind="stable").index]


def best_of_each(runs: pd.DataFrame) -> pd.Series:
    """Whether each run has the best value of the runs on its data; equals are all best."""
    usable = runs[runs["usable"]]
    firsts = usable.groupby("data_set")["value"].first()
    return runs["usable"] & (runs["value"] == runs["data_set"].map(firsts))
