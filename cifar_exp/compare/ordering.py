"""The measured columns as numbers, and the order of runs and groups by them."""

import difflib
import math

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cifar_exp.compare.discover import OWN_COLUMNS
from cifar_exp.errors import RequestError
from cifar_exp.evaluation.statistics import LARGEST
from cifar_exp.run_dir import tables

_LOWER_IS_BETTER = ("loss", "seconds", "gap", "misclassified", "memory", "parameters", "ece", "brier")
SELECTION = "val_accuracy"  # selects the winner; the test split plays no part in it
TEST = "test_accuracy"
_NOT_METRICS = ("label", *OWN_COLUMNS)


def is_lower_better(metric: str) -> bool:
    """Whether a smaller value of the metric is better (losses, times, sizes)."""
    return any(part in metric for part in _LOWER_IS_BETTER)


def metric_values(runs: pd.DataFrame, metric: str) -> NDArray[np.float64]:
    """The metric's column as floats, NaN where there is no number.

    Raises:
        RequestError: there is no such column, or it holds text.
    """
    measured = [column for column in runs.columns if not column.startswith("config.")]
    if metric in measured:
        values = np.array([_number(text) for text in runs[metric]])
        if metric in _NOT_METRICS or (np.isnan(values).all() and runs[metric].notna().any()):
            raise RequestError(
                f"--metric {metric}: is text, not a number; use test_accuracy, val_loss or another metric"
            )
        return values
    numeric = [c for c in measured if any(not math.isnan(_number(text)) for text in runs[c].dropna().iloc[:1])]
    numeric = [column for column in numeric if column not in _NOT_METRICS]
    if metric in tables.SUMMARY_COLUMNS or not numeric:  # no run has measured it yet: list the states
        return np.full(len(runs), np.nan)
    near = difflib.get_close_matches(metric, numeric, n=1)
    raise RequestError(
        f"--metric {metric}: no such measured column{f'; did you mean {near[0]}?' if near else ';'} "
        f"there are {', '.join(numeric)}"
    )


def numbers_of(runs: pd.DataFrame, name: str) -> pd.Series:
    """A column as floats, NaN where it is absent, not a number, or too large."""
    values = pd.Series([_number(text) for text in column_of(runs, name)], index=runs.index, dtype=np.float64)
    return values.where(values.abs() <= LARGEST)


def _number(text: object) -> float:
    try:
        return float(text) if isinstance(text, str) else math.nan
    except ValueError:
        return math.nan


def column_of(runs: pd.DataFrame, name: str) -> pd.Series:
    """A column, or missing values if there is no such column."""
    return runs[name] if name in runs.columns else pd.Series(None, index=runs.index, dtype=object)


def in_order(runs: pd.DataFrame, main: int, lower_is_better: bool) -> list[int]:
    """Positions of the runs, best first; then other data; then those without a value, by state."""
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
    # Equal runs keep their natural order.
    return [int(i) for i in keys.sort_values(list(keys.columns), kind="stable").index]


def best_of_each(runs: pd.DataFrame) -> pd.Series:
    """Whether each run has the best value of the runs on its data; equal ones are all best."""
    firsts = runs[runs["usable"]].groupby("data_set")["value"].first()
    return runs["usable"] & (runs["value"] == runs["data_set"].map(firsts))
