"""A sentence about a run, and the cells of its records that it was read from."""

from dataclasses import dataclass
from typing import Any

import pandas as pd

from cifar_exp.reports.html.formats import integer
from cifar_exp.run_dir.read import RunDirectory


@dataclass(frozen=True)
class Source:
    """Where a number stands: file, row and column as a person would look them up, and what is there."""

    file: str
    row: str
    column: str
    value: str


@dataclass(frozen=True)
class Statement:
    """A sentence or two about the run.

    Attributes:
        kind: ``good``, ``bad``, ``note`` (worth a thought) or ``plain``.
        title: the point in a few words.
        text: the point with its numbers.
        sources: at least one.
    """

    kind: str
    title: str
    text: str
    sources: tuple[Source, ...]


def summary_cells(run: RunDirectory, *columns: str) -> tuple[Source, ...]:
    """The cells of ``summary.csv`` in these columns; empty ones are left out."""
    values = ((column, run.summary.get(column)) for column in columns)
    return tuple(
        Source("summary.csv", "the only one", column, f"{value:.6g}" if isinstance(value, float) else str(value))
        for column, value in values
        if value is not None
    )


def metrics_cell(row: "pd.Series[Any]", column: str) -> tuple[Source, ...]:
    """The cell of ``metrics.csv`` in this row and column."""
    return (Source("metrics.csv", f"epoch {integer(row['epoch'])}", column, f"{row[column]:.6g}"),)
