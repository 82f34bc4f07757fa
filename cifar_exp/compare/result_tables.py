"""The tables of runs, settings and pairs, made once for the page, the terminal and Markdown."""

import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd

from cifar_exp.compare.comparison import NOT_MEASURED, Comparison
from cifar_exp.compare.group_pairs import GroupPair
from cifar_exp.compare.naming import heading, one_line
from cifar_exp.compare.ordering import TEST
from cifar_exp.compare.pairs import Pair
from cifar_exp.reports.html.formats import kind_of, percent
from cifar_exp.reports.html.parts import Column, Table

# Shown beside the metric if they were measured; everything else is in comparison.csv.
_MAIN_COLUMNS = (TEST, "val_accuracy", "test_loss", "train_seconds")
_NOTES = ("config.note", "config.tags")
# `1_000`, ` 5` and `0010` are numbers for Python, but the user wrote them as names.
_NUMBER = re.compile(r"-?(?!0[0-9])([0-9]+(\.[0-9]+)?|\.[0-9]+)(e[+-]?[0-9]+)?", re.ASCII | re.IGNORECASE)
_MOST_GROUPS = 1_000
MOST_SETTINGS = 12  # that differ, in a printed table; comparison.csv and the page have all
DIFFERENCE = "difference [95% interval]"
_MINUS_BASELINE = "minus the baseline's, in percentage points"
NETWORKS = "these two networks"  # a verdict about a run and the baseline, not about their settings


class _Builder:
    """A table under construction, column by column."""

    def __init__(self) -> None:
        self.columns: list[Column] = []
        self.cells: list[Sequence[Any]] = []

    def add(self, cells: Iterable[Any], label: str, kind: str = "text", **look: Any) -> None:
        """Add a column; ``look`` are fields of ``Column``."""
        self.columns.append(Column(label, kind, **look))
        self.cells.append(list(cells))

    def add_settings(self, table: pd.DataFrame, names: Sequence[str], *, hidden: bool, printed: bool) -> None:
        """Add a column for each setting that differs."""
        most = len(names) if len(names) <= MOST_SETTINGS + 1 else MOST_SETTINGS
        for place, name in enumerate(names):
            is_printed = int(printed and place < most)
            self.add(map(setting, table[name]), heading(name), note=name, hidden=hidden, printed=is_printed)

    def table(self, best: Iterable[bool] = (), **options: Any) -> Table:
        marks = {place: "best" for place, is_best in enumerate(best) if is_best}
        return Table(self.columns, list(zip(*self.cells, strict=True)), marks=marks, **options)


def runs_table(comparison: Comparison, rows: Sequence[int], pairs: Sequence[Pair], out: Path | None = None) -> Table:
    """The runs in these rows with their settings, measurements and verdicts.

    ``out`` is the folder of the page, from which links to the runs' pages start; None for no links.
    """
    runs, made = comparison.runs.iloc[list(rows)], _Builder()
    names = [link(label, path, out) for label, path in zip(runs["label"], runs["path"], strict=True)]
    made.add(names, "run", note="its path below the folder that all runs share", printed=1)
    made.add(runs["state"], "state", constant=_is_constant(runs["state"]))
    if comparison.experiments:
        made.add(runs["config.name"], "experiment", note="the key name of its config", printed=1)
        repeated = [name for name in comparison.over if name in runs.columns]
        made.add_settings(runs, repeated, hidden=False, printed=True)
        made.add_settings(runs, comparison.varied, hidden=True, printed=False)
    else:
        made.add_settings(runs, comparison.differing, hidden=False, printed=True)
    for name in _NOTES:
        if name in runs.columns and any(notes := [_note(value) for value in runs[name]]):
            made.add(notes, heading(name), printed=1)
    not_measured = {*NOT_MEASURED, *comparison.differing}
    measured = [
        name
        for name in runs.columns
        if name not in not_measured and not name.startswith("config.") and runs[name].notna().any()
    ]
    main = [name for name in dict.fromkeys((comparison.metric, *_MAIN_COLUMNS)) if name in measured]
    usable = runs[runs["usable"]] if runs["usable"].any() else runs

    def add_measured(name: str) -> None:
        constant = name not in main and _is_constant(usable[name])
        made.add(
            map(number_or_text, runs[name]),
            name,
            kind_of(name),
            hidden=name not in main and not constant,
            constant=constant,
            bar=name == comparison.metric,
            key=name in (comparison.metric, TEST),
            printed=int(name in main),
        )

    columns = list(dict.fromkeys((*main, *measured)))
    for name in columns[:1]:
        add_measured(name)
    _add_verdicts(made, comparison, rows, pairs)
    for name in columns[1:]:
        add_measured(name)
    for name in runs.columns:
        if name.startswith("config.") and name not in (*comparison.differing, *_NOTES):
            constant = _is_constant(runs[name])
            made.add(map(setting, runs[name]), name[7:], hidden=not constant, constant=constant)
    return made.table(runs["best"], choose=True, differing_first=True, shown=50)


def _add_verdicts(made: _Builder, comparison: Comparison, rows: Sequence[int], pairs: Sequence[Pair]) -> None:
    by_position = {pair.position: pair for pair in pairs}
    found = [by_position.get(row) for row in rows]
    if any(pair.counts for pair in pairs):
        made.add(map(_difference, found), DIFFERENCE, "points", note=f"test accuracy {_MINUS_BASELINE}", printed=2)
    verdicts = [verdict_in_words(comparison, row, pair) for row, pair in zip(rows, found, strict=True)]
    note = "verdict about this network and the baseline's: McNemar's exact test, corrected (Holm)"
    made.add(verdicts, NETWORKS, note=note, printed=2)
    groups, note = comparison.group_numbers, "row of groups.csv: runs that repeat one setting"
    made.add([groups[row] for row in rows], "group", "integer", hidden=True, note=note)


def verdict_in_words(comparison: Comparison, row: int, pair: Pair | None) -> str:
    """The verdict about a run and the baseline; of a run without a value, its state and problem or error."""
    if row == comparison.baseline:
        return "baseline"
    run = comparison.runs.iloc[row]
    if run["usable"]:
        return pair.verdict if pair else ""
    reason = run["problem"] or run["error"]
    if run["state"] == "completed" and not reason:
        reason = f"no finite {comparison.metric}"
    return run["state"] + (f": {one_line(reason)}" if reason else "")


def settings_table(comparison: Comparison, most: int = _MOST_GROUPS) -> Table | None:
    """Each setting over its repetitions, with the verdict about it; None if none was run more than once."""
    if not comparison.has_repeats:
        return None
    groups, metric, verdicts, made = comparison.groups.head(most), comparison.metric, comparison.verdicts, _Builder()
    kind = kind_of(metric)
    named = int(comparison.experiments)
    made.add(map(one_line, groups["name"]), "setting", note="what differs between the settings", printed=named)
    by_position = {pair.position: pair for pair in verdicts.pairs} if verdicts else {}
    pairs = [by_position.get(position) for position in range(len(groups))]
    if verdicts:
        made.add(map(_difference, pairs), DIFFERENCE, "points", printed=2, note=f"mean {TEST} {_MINUS_BASELINE}")
        better = [f"{1 - pair.probability_a_better:.2f}" if pair else "" for pair in pairs]
        note = "fraction of the pairs of runs in which this setting's run is better"
        made.add(better, "P(better)", printed=2, note=note)
        words = [pair.verdict if pair else "" for pair in pairs]
        words = ["baseline" if row == verdicts.baseline else word for row, word in enumerate(words)]
        note = "Welch's t test against the baseline, corrected for several comparisons"
        made.add(words, "verdict", printed=2, key=True, note=note)
    made.add_settings(groups, comparison.varied, hidden=True, printed=not named)
    made.add(groups["n"], "n", "integer", note="repetitions", printed=1)
    made.add(groups["mean"], f"mean {metric}", kind, bar=True, key=True, printed=1)
    made.add(groups["std"], "std", kind, note="standard deviation, n - 1", printed=1)
    write = percent if kind == "percent" else "{:.6g}".format
    ends = zip(groups["interval_low"], groups["interval_high"], strict=True)
    intervals = ["" if math.isnan(low) else f"[{write(low)},\u00a0{write(high)}]" for low, high in ends]
    made.add(intervals, "95% interval", note="t interval of the mean", printed=1)
    tested = int(metric != TEST and comparison.groups["mean_test_accuracy"].notna().any())
    means = groups["mean_test_accuracy"]
    made.add(means, f"mean {TEST}", "percent", hidden=not tested, key=True, printed=tested)
    if verdicts:
        _add_plans(made, pairs)
    repetitions = "seeds" if comparison.repetition == "seed" else "/".join(map(heading, comparison.over))
    made.add(groups["seeds"], repetitions, printed=2)
    left_out = bool(comparison.groups["not_averaged"].any())
    counts = [None if pd.isna(count) or not count else int(count) for count in groups["not_averaged"]]
    note = "runs without a value"
    made.add(counts, "not averaged", "integer", hidden=not left_out, printed=2 * left_out, note=note)
    return made.table(groups["best"], choose=True, find=len(groups) > 10, shown=20)


def _add_plans(made: _Builder, pairs: Sequence[GroupPair | None]) -> None:
    p_values = [pair.p_value_corrected if pair else None for pair in pairs]
    note = "Welch's t test, corrected for several comparisons"
    made.add(p_values, "p corrected", "number", hidden=True, note=note)
    plans = [pair.plan if pair else None for pair in pairs]
    hidden = not any(plans)
    note = "smallest true difference that these seeds detect with probability 80%"
    made.add([plan.detectable if plan else None for plan in plans], "detectable", "points", hidden=hidden, note=note)
    note = "of each setting, to detect the measured difference (probability 80%)"
    made.add([plan.seeds if plan else None for plan in plans], "seeds needed", "integer", hidden=hidden, note=note)


def pairs_table(comparison: Comparison, pairs: Sequence[Pair], out: Path) -> Table:
    """Each tested run against the baseline."""
    runs, made = comparison.runs.iloc[[pair.position for pair in pairs]], _Builder()
    counts = [pair.counts for pair in pairs]
    made.add([link(name, path, out) for name, path in zip(runs["name"], runs["path"], strict=True)], "run")
    made.add([pair.verdict for pair in pairs], NETWORKS)
    made.add(map(_difference, pairs), DIFFERENCE, "points", note=f"test accuracy {_MINUS_BASELINE}")
    made.add([one.only_a if one else None for one in counts], "only baseline right", "integer", note="test images")
    made.add([one.only_b if one else None for one in counts], "only this right", "integer", note="test images")
    made.add([pair.p_value for pair in pairs], "p", "number", note="McNemar's exact test")
    corrected = [pair.p_value_corrected for pair in pairs]
    made.add(corrected, "p corrected", "number", note="corrected for several comparisons (Holm)")
    return made.table(find=len(pairs) > 10, shown=30)


def _difference(pair: Pair | GroupPair | None) -> Mapping[str, Any] | None:
    """A cell with the difference and its interval, if it has one."""
    if pair is None or math.isnan(pair.difference):
        return None
    return {"value": pair.difference} | ({} if math.isnan(pair.interval[0]) else {"interval": pair.interval})


def link(label: str, path: str, out: Path | None) -> Any:
    """A cell with a link from the page in the folder ``out`` to the run's own page, if there is one."""
    page = f"{path}/report.html"
    if out is None or not os.path.isfile(page):
        return one_line(label)
    return {"value": one_line(label), "href": quote(os.fsencode(os.path.relpath(page, out)))}


def _note(value: Any) -> str:
    """A note or a list of tags, as saved; empty without one."""
    return one_line(value.strip("[]").replace("'", "")) if isinstance(value, str) else ""


def _is_constant(column: pd.Series) -> bool:
    return len(column.unique()) == 1


def setting(value: Any) -> Any:
    """A value of a config; numbers as such, for sorting."""
    if not isinstance(value, str):
        return "(none)"  # the run's config has no such key
    return "null" if value == "" else number_or_text(value)


@lru_cache(2**16)  # most cells of a column are equal
def number_or_text(value: Any) -> Any:
    """A cell of a CSV: a number if a browser writes it with the same digits, otherwise text; None if empty."""
    if not isinstance(value, str) or not value:
        return None
    if not _NUMBER.fullmatch(value) or not math.isfinite(number := float(value)):
        return one_line(value)
    return int(number) if number.is_integer() and abs(number) < 2**53 else number
