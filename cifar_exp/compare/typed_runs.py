"""All runs under some paths as one typed table, for the Python API and ``cifar-exp list``."""

import re
from functools import cache
from pathlib import Path
from typing import Any, get_type_hints

import pandas as pd

from cifar_exp.compare import discover
from cifar_exp.compare.ordering import column_of
from cifar_exp.config.schema import SCHEMAS

# Columns that stay text: a commit such as 12e4567 is not a number.
_TEXT = {"path", "run", "state", "error", "problem", "started_at"}
_TEXT |= {"selection_split", "schedule", "device", "precision", "git_commit", "data_fingerprint"}
_WHOLE = re.compile(r"-?[0-9]{1,18}")
_BOOLEANS = {"True": True, "False": False}


def read_runs(*paths: str | Path) -> pd.DataFrame:
    """Read status, results and config of every run at or under the paths.

    Args:
        paths: run directories, sweeps, or folders above them; without one, the current folder.

    Returns:
        A row per run, in natural order of the paths: ``path``, ``run``, ``state``, ``error``, ``problem`` (why its
        files cannot be read), ``started_at``, the columns of ``summary.csv``, and the config as ``config.KEY``. Numbers
        and booleans are typed, ``started_at`` is a time in UTC, everything else is text (lists too). A cell is missing
        if it was not measured, is null, or if the run has no such column.

    Raises:
        RequestError: a path does not exist, or there is no run.
    """
    return typed(raw_runs([Path(path) for path in paths or (".",)])[0])


def raw_runs(paths: list[Path]) -> tuple[pd.DataFrame, list[str]]:
    """The runs as text with the epochs completed so far, and remarks about unreadable folders.

    Raises:
        RequestError: a path does not exist, or there is no run.
    """
    directories, _, remarks = discover.find_runs(paths)
    runs = discover.read_runs(directories)
    # A run without a summary has its epochs in the status.
    epochs = column_of(runs, "epochs_completed").fillna(runs.pop("epochs_in_status"))
    return runs.assign(epochs_completed=epochs), remarks


def typed(runs: pd.DataFrame) -> pd.DataFrame:
    """The same table with typed columns."""
    return pd.DataFrame({name: _typed(name, runs[name]) for name in runs.columns}, index=runs.index)


def _typed(name: str, cells: "pd.Series[Any]") -> "pd.Series[Any]":
    if name == "started_at":
        return pd.to_datetime(cells, utc=True, errors="coerce", format="ISO8601")
    known = cells.where(cells.notna() & (cells != ""), None)
    if name in _TEXT or name in _text_keys():
        return known.astype("string")
    values = known.dropna()
    if values.isin(_BOOLEANS).all() and len(values):
        return known.map(_BOOLEANS).astype("bool" if len(values) == len(known) else "boolean")
    if values.map(lambda cell: _WHOLE.fullmatch(cell) is not None).all() and len(values):
        return known.map(int, na_action="ignore").astype("int64" if len(values) == len(known) else "Int64")
    numbers = pd.to_numeric(known, errors="coerce")
    complete = numbers.notna() | known.isna() | known.isin(["nan", "NaN"])
    return numbers.astype("float64") if complete.all() else known.astype("string")


@cache
def _text_keys() -> frozenset[str]:
    """Config columns that the schema declares as text: a name such as 0010 is not a number."""
    return frozenset(
        f"config.{node}.{key}".replace("config..", "config.")
        for node, schemas in SCHEMAS.items()
        for schema in schemas
        for key, hint in get_type_hints(schema).items()
        if hint in (str, str | None)
    )
