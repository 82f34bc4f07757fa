"""A comparison as text on the terminal and in Markdown."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cifar_exp.compare.comparison import Comparison
from cifar_exp.compare.more_seeds import advice
from cifar_exp.compare.naming import cut, one_line
from cifar_exp.compare.ordering import SELECTION, TEST, is_lower_better
from cifar_exp.compare.output import Results, as_csv, runs_frame
from cifar_exp.compare.pairs import Pair
from cifar_exp.compare.result_tables import MOST_SETTINGS, runs_table, settings_table
from cifar_exp.reports.html.formats import FILTERS, is_missing
from cifar_exp.reports.html.parts import Table
from cifar_exp.safe_io.console import for_terminal
from cifar_exp.safe_io.plural import plural

_RIGHT = frozenset("0123456789+-.")

# Headings and cells.
TextTable = tuple[Sequence[str], Sequence[Sequence[str]]]


def printed(table: Table) -> TextTable:
    """The printed columns of a table as text; the best rows have a star."""
    places = [place for place, column in enumerate(table.columns) if column.printed]
    places.sort(key=lambda place: table.columns[place].printed)
    rows = [
        ["*" if number in table.marks else "", *(_cell_text(row[place], table.columns[place].kind) for place in places)]
        for number, row in enumerate(table.rows)
    ]
    return ["", *(table.columns[place].label for place in places)], rows


def _cell_text(cell: Any, kind: str) -> str:
    value, ends = (cell["value"], cell.get("interval", ())) if isinstance(cell, dict) else (cell, ())
    if is_missing(value):
        return ""
    if kind == "text" or isinstance(value, str):
        return cut(value)
    texts = [FILTERS[kind](one).replace("\u00a0", " ").replace("−", "-") for one in (value, *ends)]  # noqa: RUF001
    return texts[0] + (f" [{texts[1]}, {texts[2]}]" if ends else "")


def as_text(table: TextTable) -> str:
    """Aligned columns, numbers to the right."""
    headings, rows = table
    columns = list(zip(headings, *rows, strict=True))
    widths = [max(map(len, column)) for column in columns]
    right = [all(not cell or cell[0] in _RIGHT for cell in column[1:]) for column in columns]
    aligned = (
        (
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(row, widths, right, strict=True)
        )
        for row in (headings, *rows)
    )
    return "\n".join("  ".join(row).rstrip() for row in aligned)


def as_markdown(table: TextTable) -> str:
    """A table in GitHub's Markdown."""
    headings, rows = table
    escaped = [[cell.replace("|", r"\|") for cell in row] for row in (headings, ["---"] * len(headings), *rows)]
    return "\n".join(f"| {' | '.join(row)} |" for row in escaped)


def headline(comparison: Comparison, mark: str = "*") -> str:
    """The number of runs in each state, and their order; ``mark`` marks the best one."""
    states = ", ".join(f"{count:,} {state}" for state, count in comparison.runs["state"].value_counts().items())
    direction = "lower" if is_lower_better(comparison.metric) else "higher"
    folder = Path(comparison.shared)
    folder = folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder
    return (
        f"{plural(len(comparison.runs), 'run')} under {one_line(folder)}: {states}. "
        f"By {comparison.metric}, {direction} is better; {mark} is the best."
    )


def groups_legend(comparison: Comparison) -> str:
    """The meaning of the verdicts about settings; empty if there are none."""
    if (verdicts := comparison.verdicts) is None:
        return ""
    chosen = (
        f"with the best mean {verdicts.by}{verdicts.candidates[1]}"
        if verdicts.by
        else "of the run named with --baseline"
    )
    choice = " and for the choice of the baseline (Games-Howell)" if verdicts.by and verdicts.comparisons > 1 else ""
    optimistic = ". The baseline was chosen by test accuracy, so its mean is optimistic" if verdicts.by == TEST else ""
    return (
        f"Baseline: {comparison.groups['name'].iloc[verdicts.baseline]}, the setting {chosen}. Difference: mean test "
        "accuracy minus the baseline's, in points. P(better): fraction of the pairs of one run of each in which the "
        "setting has the higher test accuracy. Verdict: Welch's t test on the test accuracies of the repetitions"
        f"{_corrected(verdicts.comparisons)}{choice}{optimistic}."
    )


def legend(comparison: Comparison, pairs: Sequence[Pair]) -> str:
    """The meaning of difference and verdict; empty if no pair was tested."""
    if not (tested := sum(pair.counts is not None for pair in pairs)):
        return ""
    by = comparison.baseline_by
    every = ": every pair of runs counts, because the baseline was not chosen by validation accuracy"
    return (
        f"Baseline: {comparison.runs['name'].iloc[comparison.baseline or 0]}, the run "
        f"{f'with the best {by}' if by else 'named with --baseline'}. Difference: test accuracy minus the baseline's, "
        "in points. Verdict: McNemar's exact test on the same test images"
        f"{_corrected(comparison.comparisons(tested))}{every if by not in ('', SELECTION) else ''}. It is about these "
        "two networks, not about their settings."
    )


def _corrected(comparisons: int) -> str:
    return f", corrected for {comparisons:,} comparisons (Holm)" if comparisons > 1 else ""


def print_report(results: Results, out: Path, form: str) -> None:
    """Print a comparison as ``table``, ``markdown`` or ``csv`` (remarks go to stderr); ``out`` is its folder."""
    written = f"Written to {out}: {', '.join(results.files)}"
    if form == "csv":
        print(as_csv(runs_frame(results.comparison, results.pairs).iloc[results.shown]), end="", flush=True)
        print(for_terminal("\n".join([*results.remarks, written])), file=sys.stderr)
    else:
        parts = [*_report(results, as_markdown if form == "markdown" else as_text), written]
        print(for_terminal("\n\n".join(filter(None, parts))), flush=True)


def _report(results: Results, as_table: Callable[[TextTable], str]) -> list[str]:
    """The printed text: settings, runs, and the remarks."""
    comparison, top = results.comparison, results.request["top"]
    parts = [headline(comparison)]
    if settings := settings_table(comparison, top):
        parts += [f"Settings (runs that differ by {comparison.repetition} only):", as_table(printed(settings))]
        parts += [_hidden(len(comparison.groups) - top, "groups.csv", top), groups_legend(comparison)]
    parts.append("\n".join("\n    ".join([one.text, *one.commands]) for one in advice(comparison)))
    if settings:
        parts.append("Run by run (each verdict is about two networks, not about their settings):")
    parts.append(as_table(printed(runs_table(comparison, results.shown, results.pairs))))
    parts.append(_hidden(len(comparison.runs) - len(results.shown), "comparison.csv", top))
    if comparison.experiments:
        parts.append(f"The {len(comparison.varied):,} keys that differ between the experiments are in comparison.csv.")
    elif (more := len(comparison.differing) - MOST_SETTINGS) > 1:
        parts.append(f"{more:,} more settings that differ are in comparison.csv.")
    parts += [legend(comparison, results.pairs), "\n".join(f"- {remark}" for remark in results.remarks)]
    return parts


def _hidden(count: int, file: str, top: int) -> str:
    return f"{count:,} more in {file} (--top {top})." if count > 0 else ""
