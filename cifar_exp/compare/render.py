"""A comparison as text: on the terminal, as Markdown, as CSV."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from cifar_exp.compare.group_pairs import GroupPair, probability_b_better
from cifar_exp.compare.naming import heading, one_line
from cifar_exp.compare.ordering import SELECTION, TEST, is_lower_better
from cifar_exp.compare.pairs import Pair
from cifar_exp.compare.tables import Comparison

# Shown beside the metric where they were measured; everything else is in comparison.csv.
ALSO = ("test_accuracy", "val_accuracy", "test_loss", "train_seconds")
NOTES = ("config.note", "config.tags")
_LONGEST_CELL = 60
_MOST_SETTINGS = 12  # that differ, in a printed table; comparison.csv and the page have all
_RIGHT = frozenset("0123456789+-.")
_DIFFERENCE = "difference [95% interval]"
NETWORKS = "these two networks"  # a verdict about a run and the baseline, and not about their settings

Table = tuple[list[str], list[list[str]]]


def runs_table(comparison: Comparison, shown: Sequence[int], pairs: Sequence[Pair]) -> Table:
    """Headings and cells: what differs, what was measured, and the verdict."""
    metrics = [comparison.metric, *(name for name in ALSO if name != comparison.metric)]
    metrics = [name for name in metrics if name in comparison.runs.columns and comparison.runs[name].notna().any()]
    by_position = {pair.position: pair for pair in pairs}
    difference = any(pair.counts for pair in pairs)
    settings, more = _settings_to_show(comparison.differing)
    notes = [name for name in NOTES if name in comparison.runs and any(comparison.runs[name].map(_note))]
    headings = ["", "run", *map(heading, settings), *more, *map(heading, notes), *metrics]
    headings += [_DIFFERENCE] * difference + [NETWORKS]
    rows = []
    for position in shown:
        run = comparison.runs.iloc[position]
        cells = ["*" if run["best"] else "", printable(run["label"])]
        cells += [_setting(run[column]) for column in settings] + ["..."] * len(more)
        cells += [_note(run[column]) for column in notes]
        cells += [_measured(name, run[name]) for name in metrics]
        pair = by_position.get(position)
        if difference:
            cells.append(_difference(pair))
        cells.append(verdict_in_words(comparison, position, pair))
        rows.append(cells)
    return headings, rows


def _note(value: Any) -> str:
    """A note or a list of tags, as saved; empty if there is none."""
    return printable(value.strip("[]").replace("'", "")) if isinstance(value, str) else ""


def verdict_in_words(comparison: Comparison, position: int, pair: Pair | None) -> str:
    """What the test against the baseline found about a run; of a run without a value, its state and what went wrong."""
    if position == comparison.baseline:
        return "baseline"
    if comparison.runs["usable"].iloc[position]:
        return pair.verdict if pair else ""
    run = comparison.runs.iloc[position]
    why = run["problem"] or run["error"]
    if run["state"] == "completed" and not why:
        why = f"no finite {comparison.metric}"
    return run["state"] + (f": {printable(why)}" if why else "")


def groups_table(comparison: Comparison, most: int) -> Table | None:
    """The settings over their repetitions, with the verdict about each; None where none was run more than once."""
    if not comparison.has_repeats:
        return None
    settings, more = _settings_to_show(comparison.varied)
    with_test, verdicts = shows_mean_test_accuracy(comparison), comparison.verdicts
    pairs = {pair.position: pair for pair in verdicts.pairs} if verdicts else {}
    left_out = bool(comparison.groups["not_averaged"].any())
    headings = ["", *map(heading, settings), *more, "n", f"mean {comparison.metric}", "std", "95% interval"]
    headings += [f"mean {TEST}"] * with_test + [_DIFFERENCE, "P(better)", "verdict"] * bool(verdicts)
    headings += [repetitions(comparison)] + ["not averaged"] * left_out
    rows = []
    for position, group in comparison.groups.head(most).iterrows():
        cells = ["*" if group["best"] else "", *(_setting(group[column]) for column in settings), *["..."] * len(more)]
        cells += _mean_and_spread(comparison.metric, group)
        cells += [number_in_words(TEST, group["mean_test_accuracy"])] * with_test
        if verdicts and position == verdicts.baseline:
            cells += ["", "", "baseline"]
        elif verdicts:
            cells += _of_group_pair(pairs.get(int(str(position))))
        rows.append([*cells, group["seeds"], *[str(group["not_averaged"] or "")] * left_out])
    return headings, rows


def _mean_and_spread(metric: str, group: pd.Series) -> list[str]:
    low, high = group["interval_low"], group["interval_high"]
    interval = "" if math.isnan(low) else f"[{number_in_words(metric, low)}, {number_in_words(metric, high)}]"
    return [str(group["n"]), number_in_words(metric, group["mean"]), number_in_words(metric, group["std"]), interval]


def _of_group_pair(pair: GroupPair | None) -> list[str]:
    if pair is None:  # on other data, or without a test accuracy
        return ["", "", ""]
    return [_points(pair.difference, pair.interval), f"{probability_b_better(pair):.2f}", pair.verdict]


def repetitions(comparison: Comparison) -> str:
    """The heading over what the repetitions of a setting differ by."""
    return "seeds" if comparison.repetition == "seed" else "/".join(map(heading, comparison.over))


def groups_legend(comparison: Comparison) -> str:
    """What the verdicts about settings mean; empty where there is none."""
    verdicts = comparison.verdicts
    if verdicts is None:
        return ""
    chosen = (
        f"the setting with the best mean {verdicts.by}"
        if verdicts.by
        else "the setting of the run named with --baseline"
    )
    count = verdicts.comparisons
    corrected = f", corrected for {count:,} comparisons (Holm)" if count > 1 else ""
    if verdicts.by == TEST:
        corrected += (
            ". The baseline was chosen by test accuracy, so its mean is optimistic and every pair of settings counts"
        )
    return (
        f"Baseline: {comparison.groups['name'].iloc[verdicts.baseline]}, {chosen}. Difference: mean test accuracy less "
        "the baseline's, in points. P(better): share of the pairs of one run of each in which the setting has the "
        f"higher test accuracy. Verdict: Welch's t test on the test accuracies of the repetitions{corrected}."
    )


def shows_mean_test_accuracy(comparison: Comparison) -> bool:
    """Whether the groups' test accuracy is shown beside their means of another metric."""
    return comparison.metric != TEST and bool(comparison.groups["mean_test_accuracy"].notna().any())


def headline(comparison: Comparison, mark: str = "*") -> str:
    """How many runs there are, in which state, and how they are ordered; ``mark`` is what the best one bears."""
    states = comparison.runs["state"].value_counts()
    told = ", ".join(f"{count:,} {state}" for state, count in states.items())
    direction = "lower" if is_lower_better(comparison.metric) else "higher"
    total = len(comparison.runs)
    return (
        f"{total:,} run{'' if total == 1 else 's'} under {one_line(from_here(comparison.shared))}: {told}. "
        f"By {comparison.metric}, {direction} is better; {mark} is the best."
    )


def from_here(folder: str) -> str:
    """A folder relative to the current one where it lies below it."""
    path = Path(folder)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else folder


def legend(comparison: Comparison, pairs: Sequence[Pair]) -> str:
    """What difference and verdict mean; empty if no pair was tested."""
    tested = sum(pair.counts is not None for pair in pairs)
    if not tested:
        return ""
    by, count = comparison.baseline_by, comparison.comparisons(tested)
    baseline = f"the run with the best {by}" if by else "the run named with --baseline"
    baseline = f"{comparison.runs['name'].iloc[comparison.baseline or 0]}, {baseline}"
    corrected = f", corrected for {count:,} comparisons (Holm)" if count > 1 else ""
    if by not in ("", SELECTION):
        corrected += ": every pair of runs counts, because the baseline was not chosen by validation accuracy"
    return (
        f"Baseline: {baseline}. Difference: test accuracy less the baseline's, in points. Verdict: McNemar's exact "
        f"test on the same test images{corrected}. It is about these two networks, not about their settings."
    )


def as_text(table: Table) -> str:
    """Columns in line, numbers to the right."""
    headings, rows = table
    columns = list(zip(headings, *rows, strict=True))
    lines = []
    widths = [max(map(len, column)) for column in columns]
    right = [all(not cell or set(cell[:1]) <= _RIGHT for cell in column[1:]) for column in columns]
    for row in (headings, *rows):
        cells = [
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(row, widths, right, strict=True)
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def as_markdown(table: Table) -> str:
    """A table of GitHub's Markdown."""
    headings, rows = table
    escaped = [[cell.replace("|", r"\|") for cell in row] for row in (headings, ["---"] * len(headings), *rows)]
    return "\n".join(f"| {' | '.join(row)} |" for row in escaped)


def printable(text: Any) -> str:
    """Text from a run's files on one line, without what could steer a terminal."""
    line = one_line(text)
    return line if len(line) <= _LONGEST_CELL else line[: _LONGEST_CELL - 1] + "…"


def _settings_to_show(columns: Sequence[str]) -> tuple[Sequence[str], list[str]]:
    """The settings that get a column each, and the heading of the column that stands for two or more others."""
    left_out = len(columns) - _MOST_SETTINGS
    return (columns[:_MOST_SETTINGS], [f"and {left_out:,} more"]) if left_out > 1 else (columns, [])


def _setting(value: Any) -> str:
    if not isinstance(value, str):
        return "(none)"  # the run's config has no such key
    return printable(value) if value else "null"


def _measured(name: str, text: Any) -> str:
    try:
        return number_in_words(name, float(text)) if isinstance(text, str) else ""
    except ValueError:
        return printable(text)


def number_in_words(name: str, value: float) -> str:
    """A value of the measured column ``name`` as a person reads it; empty where there is none."""
    if math.isnan(value):
        return ""
    if "accuracy" in name or name == "generalization_gap":
        return f"{100 * value:.2f}%"
    if name.endswith("seconds"):
        return f"{value:,.1f}"
    return f"{value:.4f}" if "loss" in name else f"{value:.6g}"


def _difference(pair: Pair | None) -> str:
    return "" if pair is None or pair.counts is None else _points(pair.counts.accuracy_difference, pair.interval)


def _points(difference: float, interval: tuple[float, float]) -> str:
    low, high = interval
    return f"{100 * difference:+.2f}" + ("" if math.isnan(low) else f" [{100 * low:+.2f}, {100 * high:+.2f}]")
