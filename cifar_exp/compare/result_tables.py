"""The tables of runs, settings and pairs, made once for the page, the terminal and Markdown."""

import math
import os
from collections.abc import Mapping, Sequence
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
from cifar_exp.reports.html.table import Column, Table

# Shown beside the metric if they were measured; everything else is in comparison.csv.
_MAIN_COLUMNS = (TEST, "val_accuracy", "test_loss", "train_seconds")
_NOTES = ("config.note", "config.tags")
_MOST_GROUPS = 1_000
MOST_SETTINGS = 12  # that differ, in a printed table; comparison.csv and the page have all
DIFFERENCE = "difference [95% interval]"
NETWORKS = "these two networks"  # a verdict about a run and the baseline, not about their settings

# Columns with their cells.
_Columns = list[tuple[Column, Sequence[Any]]]


def runs_table(comparison: Comparison, rows: Sequence[int], pairs: Sequence[Pair], out: Path | None = None) -> Table:
    """Runs with their settings, measurements and verdicts.

    Args:
        comparison: the comparison of the runs.
        rows: positions of the runs to show.
        pairs: the baseline against the others.
        out: the folder of the page, from which links to the runs' pages start; None for no links.
    """
    runs = comparison.runs.iloc[list(rows)]
    names = [link(run["label"], run["path"], out) for _, run in runs[["label", "path"]].iterrows()]
    made: _Columns = [(Column("run", note="its path below the folder that all runs share", printed=1), names)]
    made.append((Column("state", constant=_is_constant(runs["state"])), list(runs["state"])))
    if comparison.experiments:
        made.append((Column("experiment", note="the key name of its config", printed=1), list(runs["config.name"])))
        made += _settings(runs, comparison.over)
        made += _settings(runs, comparison.varied, hidden=True, printed=False)
    else:
        made += _settings(runs, comparison.differing)
    for name in _NOTES:
        if name in runs.columns and any(notes := [_note(value) for value in runs[name]]):
            made.append((Column(heading(name), printed=1), notes))
    measured = [
        n for n in runs.columns if n not in NOT_MEASURED and not n.startswith("config.") and runs[n].notna().any()
    ]
    measured = [name for name in measured if name not in comparison.differing]
    main = [name for name in dict.fromkeys((comparison.metric, *_MAIN_COLUMNS)) if name in measured]
    usable = runs[runs["usable"]] if runs["usable"].any() else runs
    columns: _Columns = []
    for name in dict.fromkeys((*main, *measured)):
        constant = name not in main and _is_constant(usable[name])
        look = Column(
            name,
            kind_of(name),
            hidden=name not in main and not constant,
            constant=constant,
            bar=name == comparison.metric,
            key=name in (comparison.metric, TEST),
            printed=int(name in main),
        )
        columns.append((look, [number_or_text(value) for value in runs[name]]))
    made += [*columns[:1], *_verdicts(comparison, rows, pairs), *columns[1:]]
    for name in runs.columns:
        if name.startswith("config.") and name not in (*comparison.differing, *_NOTES):
            constant = _is_constant(runs[name])
            column = Column(name[7:], hidden=not constant, constant=constant)
            made.append((column, [setting(value) for value in runs[name]]))
    return _table(made, runs["best"], choose=True, differing_first=True, shown=50)


def _table(made: _Columns, best: pd.Series, **options: Any) -> Table:
    columns, cells = zip(*made, strict=True)
    marks = {place: "best" for place, is_best in enumerate(best) if is_best}
    return Table(columns, list(zip(*cells, strict=True)), marks=marks, **options)


def _settings(table: pd.DataFrame, columns: Sequence[str], *, hidden: bool = False, printed: bool = True) -> _Columns:
    """A column for each setting that differs."""
    names = [name for name in columns if name in table.columns]
    few = len(names) <= MOST_SETTINGS + 1
    return [
        (
            Column(heading(name), note=name, hidden=hidden, printed=int(printed and (few or place < MOST_SETTINGS))),
            [setting(value) for value in table[name]],
        )
        for place, name in enumerate(names)
    ]


def _verdicts(comparison: Comparison, rows: Sequence[int], pairs: Sequence[Pair]) -> _Columns:
    by_position = {pair.position: pair for pair in pairs}
    found = [by_position.get(row) for row in rows]
    groups = comparison.group_numbers
    note = "test accuracy minus the baseline's, in percentage points"
    difference = Column(DIFFERENCE, "points", note=note, printed=2)
    note = "verdict about this network and the baseline's: McNemar's exact test, corrected (Holm)"
    verdict = Column(NETWORKS, note=note, printed=2)
    group = Column("group", "integer", hidden=True, note="row of groups.csv: runs that repeat one setting")
    made: _Columns = [
        (difference, [with_interval(pair.difference, pair.interval) if pair else None for pair in found]),
        (verdict, [verdict_in_words(comparison, row, pair) for row, pair in zip(rows, found, strict=True)]),
        (group, [groups[row] for row in rows]),
    ]
    return made if any(pair.counts for pair in pairs) else made[1:]


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
    groups, metric = comparison.groups.head(most), comparison.metric
    kind = kind_of(metric)
    left_out = bool(comparison.groups["not_averaged"].any())
    test = metric != TEST and bool(comparison.groups["mean_test_accuracy"].notna().any())
    repetitions = "seeds" if comparison.repetition == "seed" else "/".join(map(heading, comparison.over))
    verdicts = _group_verdicts(comparison, len(groups))
    made: _Columns = [
        (
            Column("setting", note="what differs between the settings", printed=int(comparison.experiments)),
            [one_line(name) for name in groups["name"]],
        ),
        *verdicts[:1],
        *_settings(groups, comparison.varied, hidden=True, printed=not comparison.experiments),
        (Column("n", "integer", note="repetitions", printed=1), list(groups["n"])),
        (Column(f"mean {metric}", kind, bar=True, key=True, printed=1), list(groups["mean"])),
        (Column("std", kind, note="standard deviation, n - 1", printed=1), list(groups["std"])),
        (
            Column("95% interval", note="t interval of the mean", printed=1),
            [_range(metric, *ends) for ends in zip(groups["interval_low"], groups["interval_high"], strict=True)],
        ),
        (
            Column(f"mean {TEST}", "percent", hidden=not test, key=True, printed=int(test)),
            list(groups["mean_test_accuracy"]),
        ),
        *verdicts[1:],
        (Column(repetitions, printed=2), list(groups["seeds"])),
        (
            Column("not averaged", "integer", hidden=not left_out, printed=2 * left_out, note="runs without a value"),
            [None if pd.isna(count) or not count else int(count) for count in groups["not_averaged"]],
        ),
    ]
    return _table(made, groups["best"], choose=True, find=len(groups) > 10, shown=20)


def _range(metric: str, low: float, high: float) -> str:
    write = percent if kind_of(metric) == "percent" else "{:.6g}".format
    return "" if math.isnan(low) else f"[{write(low)},\u00a0{write(high)}]"


def _group_verdicts(comparison: Comparison, most: int) -> _Columns:
    verdicts = comparison.verdicts
    if verdicts is None:
        return []
    by_position = {pair.position: pair for pair in verdicts.pairs}
    columns = (
        Column("verdict", printed=2, key=True, note="Welch's t test against the baseline, corrected (Holm)"),
        Column(DIFFERENCE, "points", printed=1, note="mean test accuracy minus the baseline's, in percentage points"),
        Column("P(better)", printed=1, note="fraction of the pairs of runs in which this setting's run is better"),
        Column("p corrected", "number", note="Welch's t test, corrected for several comparisons (Holm)"),
        Column("detectable", "points", note="smallest true difference that these seeds detect with probability 80%"),
        Column("seeds needed", "integer", note="of each setting, to detect the measured difference (probability 80%)"),
    )
    rows = []
    for position in range(most):
        pair = by_position.get(position)
        verdict = "baseline" if position == verdicts.baseline else ""
        rows.append(_group_cells(pair) if pair else [verdict, None, "", None, None, None])
    return list(zip(columns, zip(*rows, strict=True), strict=True))


def _group_cells(pair: GroupPair) -> list[Any]:
    difference, probability = with_interval(pair.difference, pair.interval), f"{pair.probability_b_better:.2f}"
    planned = [pair.plan.detectable, pair.plan.seeds] if pair.plan else [None, None]
    return [pair.verdict, difference, probability, pair.p_value_corrected, *planned]


def pairs_table(comparison: Comparison, pairs: Sequence[Pair], out: Path) -> Table:
    """Each tested run against the baseline."""
    columns = [
        Column("run"),
        Column(NETWORKS),
        Column(DIFFERENCE, "points", note="test accuracy minus the baseline's, in percentage points"),
        Column("only baseline right", "integer", note="test images"),
        Column("only this right", "integer", note="test images"),
        Column("p", "number", note="McNemar's exact test"),
        Column("p corrected", "number", note="corrected for several comparisons (Holm)"),
    ]
    rows = []
    for pair in pairs:
        run, counts = comparison.runs.iloc[pair.position], pair.counts
        alone = [counts.only_a, counts.only_b] if counts else [None, None]
        cells = [link(run["name"], run["path"], out), pair.verdict, with_interval(pair.difference, pair.interval)]
        rows.append([*cells, *alone, pair.p_value, pair.p_value_corrected])
    return Table(columns, rows, find=len(rows) > 10, shown=30)


def with_interval(value: float, interval: tuple[float, float]) -> Mapping[str, Any] | None:
    """A cell with a value and its interval, if it has one; None without a value."""
    if math.isnan(value):
        return None
    return {"value": value} | ({} if math.isnan(interval[0]) else {"interval": interval})


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
    try:
        number = float(value)
    except ValueError:
        return one_line(value)
    # `1_000`, ` 5` and `0010` are numbers for Python, but the user wrote them as names.
    plain = value[-1].isdigit() and value[0] in "-.0123456789" and "_" not in value
    if not (plain and math.isfinite(number)) or (value[0] == "0" and value[1:2].isdigit()):
        return one_line(value)
    return int(number) if number.is_integer() and abs(number) < 2**53 else number
