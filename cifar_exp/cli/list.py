"""``cifar-exp list [PATH...]``: the runs under some paths, newest first."""

import argparse
import difflib
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from cifar_exp.compare.differences import differing_columns, result_columns
from cifar_exp.compare.naming import cut, heading
from cifar_exp.compare.ordering import SELECTION, is_lower_better
from cifar_exp.compare.output import as_csv
from cifar_exp.compare.render import as_text
from cifar_exp.compare.typed_runs import raw_runs, typed
from cifar_exp.errors import DONE, RequestError
from cifar_exp.reports.html.formats import percent
from cifar_exp.safe_io.console import complain, for_terminal
from cifar_exp.safe_io.plural import duration

_MOST_DIFFERENCES = 5  # settings of a run
_SHOWN = ("run", "name", "state", "epochs", "val_accuracy", "test_accuracy", "differs", "note", "tags")


def main(options: argparse.Namespace) -> int:
    """Run the command; returns the exit code.

    Raises:
        RequestError: a path does not exist or holds no run, or there is no such column to sort by.
    """
    raw, remarks = raw_runs(options.paths or [Path("outputs")])
    runs = _listed(raw, options.sort)
    if options.format == "csv":
        print(as_csv(runs.astype(object)), end="")
    elif options.format == "json":
        print(runs.to_json(orient="records", date_format="iso", indent=1))
    else:
        print(as_text(_table(runs)))
    for remark in remarks:
        complain(remark)
    sys.stdout.flush()
    return DONE


def _listed(raw: pd.DataFrame, sort: str | None) -> pd.DataFrame:
    """The columns of the list, in order."""
    runs = typed(raw)
    shown = {"epochs_completed": "epochs", "config.name": "name", "config.note": "note", "config.tags": "tags"}
    listed = runs.rename(columns=shown).assign(differs=_differences(raw)).reindex(columns=[*_SHOWN, "started_at"])
    listed["tags"] = listed["tags"].map(lambda cell: str(cell).strip("[]").replace("'", ""), "ignore")
    if sort is None:
        return listed.sort_values("started_at", ascending=False, kind="stable")
    key = next((name for name in (sort, f"config.{sort}") if name in runs), None)
    by = listed[sort] if sort in listed else None if key is None else runs[key]
    if by is None:
        near = difflib.get_close_matches(
            sort, [*listed, *runs.columns, *(str(name).removeprefix("config.") for name in runs)], n=1
        )
        raise RequestError(f"--sort {sort}: no such column{f' (did you mean {near[0]}?)' if near else ''}")
    is_setting = sort not in listed and key is not None and key.startswith("config.")
    is_score = pd.api.types.is_float_dtype(by) and not is_setting and not is_lower_better(sort)
    descending = is_score or sort == "started_at"
    return listed.loc[by.sort_values(ascending=not descending, kind="stable").index]


def _differences(raw: pd.DataFrame) -> list[str]:
    """For each run, the settings in which it is not like most of the runs."""
    keys = [key for key in result_columns(raw, SELECTION) if key.startswith("config.")]
    columns = differing_columns(raw.assign(usable=raw["state"] == "completed"), keys)
    found: list[list[str]] = [[] for _ in range(len(raw))]
    for column in columns:
        values = raw[column]
        for place in (values.notna() & (values != values.mode().iloc[0])).to_numpy().nonzero()[0]:
            found[place].append(f"{heading(column)}={values.iloc[place] or 'null'}")
    return [
        ", ".join(parts[:_MOST_DIFFERENCES]) + (", ..." if len(parts) > _MOST_DIFFERENCES else "") for parts in found
    ]


def _table(runs: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    now = datetime.now(UTC)
    columns = [name for name in _SHOWN if name in ("run", "state") or runs[name].replace("", None).notna().any()]
    rows = runs.to_dict("records")
    cells = [[*(_cell(name, row[name]) for name in columns), _age(row["started_at"], now)] for row in rows]
    return [*columns, "age"], cells


def _cell(name: str, value: Any) -> str:
    if pd.isna(value):
        return ""
    return percent(float(value)) if name.endswith("accuracy") else for_terminal(cut(value))


def _age(started: Any, now: datetime) -> str:
    """Time since the start."""
    return "" if pd.isna(started) else duration(max(0.0, (now - started).total_seconds()))
