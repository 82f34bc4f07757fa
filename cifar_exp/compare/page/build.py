"""The page of a comparison: tables, charts, findings and images."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cifar_exp.compare.changed_images import Change
from cifar_exp.compare.comparison import Comparison
from cifar_exp.compare.figure_data import Curves, Points
from cifar_exp.compare.more_seeds import advice
from cifar_exp.compare.naming import one_line
from cifar_exp.compare.ordering import TEST
from cifar_exp.compare.output import MARK, Results
from cifar_exp.compare.page import charts
from cifar_exp.compare.page.findings import accuracy_of, findings, run_in_words
from cifar_exp.compare.render import groups_legend, headline, legend
from cifar_exp.compare.result_tables import pairs_table, runs_table, settings_table
from cifar_exp.reports.html import page
from cifar_exp.reports.html.formats import FILTERS, kind_of, percent
from cifar_exp.reports.html.parts import thinned
from cifar_exp.safe_io.plural import plural

MOST_IMAGES = 24  # of each kind
MOST_ROWS = 2_000  # more would make the page slow to open; comparison.csv has all
_MOST_CURVES = 1_000
_MOST_DIFFERENCES = 50  # of settings, in the chart
_MOST_POINTS = 120  # of a curve
_SHOWN_FIRST = 10  # curves


def curve_rows(comparison: Comparison) -> list[int]:
    """The rows of the runs whose curves the page holds. The curves of other data are not comparable."""
    return [int(row) for row in comparison.on_main_data.to_numpy()[:MOST_ROWS].nonzero()[0][:_MOST_CURVES]]


def comparison_page(results: Results, curves: Curves, change: Change | None, out: Path) -> str:
    """The text of ``comparison.html`` in the folder ``out``, with ``curves`` of at least the runs in ``curve_rows``."""
    comparison, pairs, runs = results.comparison, results.pairs, results.comparison.runs
    table = runs_table(comparison, range(min(len(runs), MOST_ROWS)), pairs, out)
    tested = [pair for pair in pairs if pair.counts]
    tables = {
        "runs": table,
        "groups": settings_table(comparison),
        "pairs": pairs_table(comparison, pairs, out) if tested else None,
    }
    settings = comparison.verdicts.pairs[:_MOST_DIFFERENCES] if comparison.verdicts else []
    has_intervals = any(not math.isnan(pair.interval[0]) for pair in settings)
    rows = curve_rows(comparison)
    with_curves = [row for row in rows if row not in curves.unreadable]
    best_on_top = rows[::-1]
    lines, left_out = charts.parallel_coordinates(comparison, best_on_top)
    maps = charts.heat_maps(comparison)
    drawn = {
        **charts.curve_charts(curves),
        "settings": lines,
        **{f"map_{number}": chart for number, (_, _, chart) in enumerate(maps)},
        "setting_differences": charts.differences(comparison.groups, settings, "settings") if has_intervals else None,
        "differences": charts.differences(runs, tested, "runs") if tested else None,
        "by_class": charts.by_class(change) if change else None,
    }
    return page.render(
        "comparison",
        title=f"{plural(len(runs), 'run')} compared",
        charts=drawn,
        tables=tables,
        data={
            "curves": _curve_data(comparison, curves, with_curves),
            "lines": best_on_top if lines else [],
        },
        scripts=("comparison.js",),
        headline=headline(comparison, "★"),
        metric=comparison.metric,
        tiles=_tiles(comparison),
        findings=findings(comparison, pairs),
        remarks=[one_line(remark) for remark in results.remarks],
        baseline=None if comparison.baseline is None else one_line(runs["name"].iloc[comparison.baseline]),
        repetition=comparison.repetition,
        groups_legend=groups_legend(comparison),
        advice=advice(comparison),
        legend=legend(comparison, pairs),
        split=curves.split,
        maps=maps,
        left_out=left_out,
        hidden=len(runs) - len(table.rows),
        verdicts=[run_in_words(comparison, pair) for pair in pairs],
        change=change,
        files=[*results.files, MARK],
        command=results.command,
    )


def _tiles(comparison: Comparison) -> list[tuple[str, str, str]]:
    """Label, value and note of the page's main numbers."""
    runs, metric, verdicts, tiles = comparison.runs, comparison.metric, comparison.verdicts, []
    if verdicts and comparison.has_repeats:
        group = comparison.groups.iloc[verdicts.baseline]
        label = f"Test accuracy of the {'best' if verdicts.by else 'baseline'} setting"
        note = f"{one_line(group['name'])}; mean of {group['n']} runs"
        tiles.append((label, percent(group["mean_test_accuracy"]), note))
        counts = ", ".join(f"{len(some):,} {outcome}" for outcome, some in verdicts.by_outcome().items() if some)
        tiles.append(("Settings against it", f"{len(verdicts.pairs):,}", counts))
    if runs["usable"].iloc[0]:
        accuracy = accuracy_of(comparison, runs.iloc[:1])
        note = one_line(runs["name"].iloc[0]) + (f", {TEST} {accuracy}" if accuracy else "")
        tiles.append((f"Best {metric}", FILTERS[kind_of(metric)](runs["value"].iloc[0]), note))
    return tiles


def _curve_data(comparison: Comparison, curves: Curves, rows: Sequence[int]) -> dict[str, Any]:
    """The input of ``comparison.js``."""
    runs = comparison.runs.iloc[list(rows)]

    def short(points: Points) -> Points:
        return [(x, float(f"{y:.6g}")) for x, y in thinned(points, _MOST_POINTS)]

    return {
        "rows": rows,
        "names": [one_line(name) for name in runs["name"]],
        "groups": list(runs["group"]),
        "loss": [short(curves.loss.get(row, [])) for row in rows],
        "accuracy": [short(curves.accuracy.get(row, [])) for row in rows],
        "first": _SHOWN_FIRST,
    }
