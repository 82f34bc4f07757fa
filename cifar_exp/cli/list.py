"""``cifar-exp list [PATH...]``: the runs under some paths, newest first."""

import argparse
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
from cifar_exp.config.suggestions import suggest_key
from cifar_exp.errors import DONE, RequestError
from cifar_exp.reports.html.formats import percent
from cifar_exp.safe_io.console import complain, for_terminal
from cifar_exp.safe_io.plural import duration

_MOST_DIFFERENCES = 5  # settings of a run
_SHOWN = ("run", "name", "state", "epochs", "val_accuracy", "test_accuracy", "differs", "note", "tags")


def main(options: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
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
    by = listed.get(sort, runs.get(sort, runs.get(f"config.{sort}")))
    if by is None:
        known = [*listed, *runs, *(str(name).removeprefix("config.") for name in runs)]
        raise RequestError(f"--sort {sort}: no such column{suggest_key(sort, known)}")
    is_setting = str(by.name).startswith("config.")
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
    def cell(name: str, value: Any) -> str:
        if pd.isna(value):
            return ""
        return percent(float(value)) if name.endswith("accuracy") else for_terminal(cut(value))

    now = datetime.now(UTC)
    columns = [name for name in _SHOWN if name in ("run", "state") or runs[name].replace("", None).notna().any()]
    rows = runs.to_dict("records")
    return [*columns, "age"], [
        [*(cell(name, row[name]) for name in columns), _age(row["started_at"], now)] for row in rows
    ]


def _age(started: Any, now: datetime) -> str:
    """Time since the start."""
    return "" if pd.isna(started) else duration(max(0.0, (now - started).total_seconds()))
