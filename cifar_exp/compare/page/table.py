"""The runs as the page's table: what differs first, what all share on request."""

import math
import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd

from cifar_exp.compare.naming import heading, one_line
from cifar_exp.compare.ordering import TEST
from cifar_exp.compare.pairs import Pair
from cifar_exp.compare.render import ALSO, NETWORKS, NOTES, verdict_in_words
from cifar_exp.compare.tables import Comparison
from cifar_exp.reports.html import formats
from cifar_exp.reports.html.table import Column, Table

MOST_ROWS = 2_000  # more, and the page would take longer to open than to read; comparison.csv holds all
_INNER = {"path", "run", "label", "name", "state", "error", "problem", "best", "group", "value", "usable", "data_set"}
_WHOLE = ("epochs_completed", "best_epoch", "misclassified", "parameters", "memory", "steps")


def runs_table(comparison: Comparison, pairs: Sequence[Pair], out: Path) -> Table:
    """A row per run, in the comparison's order, up to ``MOST_ROWS``.

    Args:
        comparison: of the runs.
        pairs: the baseline against the others.
        out: the folder that the page will lie in, which links start from.
    """
    runs = comparison.runs.head(MOST_ROWS)
    usable = runs[runs["usable"]] if runs["usable"].any() else runs
    columns: list[Column] = [Column("run", note="its path below the folder that all runs share")]
    cells: list[Sequence[Any]] = [_links(runs, out)]

    def add(column: Column, values: Sequence[Any]) -> None:
        columns.append(column)
        cells.append(values)

    add(Column("state", constant=_is_constant(runs["state"])), list(runs["state"]))
    shown = dict.fromkeys(name for name in comparison.differing if name in runs.columns)
    for name in shown:
        add(Column(heading(name), note=name), [setting(value) for value in runs[name]])
    measured = [name for name in runs.columns if name not in _INNER and not name.startswith("config.")]
    first = [name for name in (comparison.metric, *ALSO) if name in measured]

    def add_measured(name: str) -> None:
        values = [number_or_text(value) for value in runs[name]]
        hidden = name not in first
        constant = hidden and _is_constant(usable[name])
        is_metric = name == comparison.metric
        key = is_metric or name == TEST
        add(Column(name, kind_of(name), hidden and not constant, constant, bar=is_metric, key=key), values)

    left = [n for n in dict.fromkeys([*first, *measured]) if n not in shown and not runs[n].isna().all()]
    for name in left[:1]:
        add_measured(name)
    _add_verdicts(comparison, runs, pairs, add)
    for name in left[1:]:
        add_measured(name)
    for name in runs.columns:
        if name.startswith("config.") and name not in shown:
            constant = _is_constant(runs[name])
            hidden = not constant and name not in NOTES
            add(Column(name[7:], hidden=hidden, constant=constant), [setting(value) for value in runs[name]])
    marks = {position: "best" for position, best in enumerate(runs["best"]) if best}
    rows = list(zip(*cells, strict=True))
    return Table(columns, rows, marks=marks, choose=True, differing_first=True, shown=50)


def _add_verdicts(comparison: Comparison, runs: pd.DataFrame, pairs: Sequence[Pair], add: Any) -> None:
    by_position = {pair.position: pair for pair in pairs}
    differences, verdicts = [], []
    for position in range(len(runs)):
        pair = by_position.get(position)
        differences.append(None if pair is None or pair.counts is None else pair.counts.accuracy_difference)
        verdicts.append(verdict_in_words(comparison, position, pair))
    if any(pair.counts for pair in pairs):
        add(Column("difference", "points", note="test accuracy less the baseline's, in percentage points"), differences)
    add(
        Column(NETWORKS, note="verdict about this network and the baseline's: McNemar's exact test, corrected (Holm)"),
        verdicts,
    )
    groups = comparison.group_numbers[: len(runs)]
    add(Column("group", "integer", hidden=True, note="row of groups.csv: runs that repeat one setting"), groups)


def _links(runs: pd.DataFrame, out: Path) -> list[Any]:
    """Each run's name, leading to its own page where it has one."""
    here = os.path.abspath(out)
    return [link(label, path, here) for label, path in zip(runs["label"], runs["path"], strict=True)]


def link(label: str, path: str, here: str) -> Any:
    """A cell that leads from a page in the folder ``here`` to the run's own page, if there is one."""
    page = f"{path}/report.html"
    if not os.path.isfile(page):
        return one_line(label)
    return {"value": one_line(label), "href": quote(os.fsencode(os.path.relpath(page, here)))}


def _is_constant(column: pd.Series) -> bool:
    return len(column.unique()) == 1


def kind_of(name: str) -> str:
    """How the values of a measured column are written."""
    if "accuracy" in name or name == "generalization_gap":
        return "percent"
    if name.endswith("seconds"):
        return "seconds"
    return "integer" if any(part in name for part in _WHOLE) else "number"


def written(name: str, value: float) -> str:
    """A value of the measured column ``name`` as the page writes it; empty where there is none."""
    return "" if math.isnan(value) else formats.FILTERS[kind_of(name)](value)


def setting(value: Any) -> Any:
    """A config's value as typed; a number as one, so that it sorts as one."""
    if not isinstance(value, str):
        return "(none)"  # the run's config has no such key
    return "null" if value == "" else number_or_text(value)


@lru_cache(2**16)  # most cells of a column say the same
def number_or_text(value: Any) -> Any:
    """A cell of a CSV: a number that a browser writes as it stands, text otherwise, None where empty."""
    if not isinstance(value, str) or not value:
        return None
    try:
        number = float(value)
    except ValueError:
        return one_line(value)
    # `1_000`, ` 5` and `0010` are numbers to Python, and names to whoever typed them.
    plain = value[-1].isdigit() and value[0] in "-.0123456789" and "_" not in value
    if not (plain and math.isfinite(number)) or (value[0] == "0" and value[1:2].isdigit()):
        return one_line(value)
    return int(number) if number.is_integer() and abs(number) < 2**53 else number


def finite(value: float) -> float | None:
    """The value, or None where there is none."""
    return None if math.isnan(value) else value
