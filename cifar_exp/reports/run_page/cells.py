"""Parts of findings: cells of a run's records, and intervals in words."""

from typing import Any

import pandas as pd

from cifar_exp.evaluation.statistics import wilson_interval
from cifar_exp.reports.html.formats import integer, percent
from cifar_exp.reports.html.parts import Source
from cifar_exp.run_dir.read import RunDirectory


def summary_cells(run: RunDirectory, *columns: str) -> tuple[Source, ...]:
    """The cells of ``summary.csv`` in these columns, without empty ones."""
    values = ((column, run.summary.get(column)) for column in columns)
    return tuple(
        Source("summary.csv", "the only one", column, f"{value:.6g}" if isinstance(value, float) else str(value))
        for column, value in values
        if value is not None
    )


def metrics_cell(row: "pd.Series[Any]", column: str) -> Source:
    """The cell of ``metrics.csv`` in this row and column."""
    return Source("metrics.csv", f"epoch {integer(row['epoch'])}", column, f"{row[column]:.6g}")


def wilson_in_words(right: float, n: float) -> str:
    """The interval of the accuracy of ``right`` among ``n`` predictions."""
    low, high = wilson_interval(int(right), int(n))
    return f"95% interval {percent(low)} to {percent(high)}"
