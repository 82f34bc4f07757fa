"""A comparison as text on the terminal and in Markdown."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cifar_exp.compare.comparison import Comparison
from cifar_exp.compare.naming import cut, one_line
from cifar_exp.compare.ordering import SELECTION, TEST, is_lower_better
from cifar_exp.compare.pairs import Pair
from cifar_exp.reports.html.formats import FILTERS, is_missing
from cifar_exp.reports.html.table import Table
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
    return (
        f"{plural(len(comparison.runs), 'run')} under {one_line(_from_here(comparison.shared))}: {states}. "
        f"By {comparison.metric}, {direction} is better; {mark} is the best."
    )


def _from_here(folder: str) -> str:
    """A folder, relative to the current one if it lies below it."""
    path = Path(folder)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else folder


def groups_legend(comparison: Comparison) -> str:
    """The meaning of the verdicts about settings; empty if there are none."""
    verdicts = comparison.verdicts
    if verdicts is None:
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
    tested = sum(pair.counts is not None for pair in pairs)
    if not tested:
        return ""
    by = comparison.baseline_by
    chosen = f"with the best {by}" if by else "named with --baseline"
    every = ": every pair of runs counts, because the baseline was not chosen by validation accuracy"
    return (
        f"Baseline: {comparison.runs['name'].iloc[comparison.baseline or 0]}, the run {chosen}. Difference: test "
        "accuracy minus the baseline's, in points. Verdict: McNemar's exact test on the same test images"
        f"{_corrected(comparison.comparisons(tested))}{every if by not in ('', SELECTION) else ''}. It is about these "
        "two networks, not about their settings."
    )


def _corrected(comparisons: int) -> str:
    return f", corrected for {comparisons:,} comparisons (Holm)" if comparisons > 1 else ""
