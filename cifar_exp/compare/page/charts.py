"""The page's charts beside the curves: settings against the metric, differences with their intervals, classes."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, islice
from typing import Any

import numpy as np
import pandas as pd

from cifar_exp.compare.discover import natural
from cifar_exp.compare.draw import MOST_LEVELS, are_numbers, main_groups
from cifar_exp.compare.naming import heading, one_line
from cifar_exp.compare.ordering import is_lower_better
from cifar_exp.compare.page.table import finite, kind_of, number_or_text, setting, written
from cifar_exp.compare.pairs import Pair
from cifar_exp.compare.tables import Comparison
from cifar_exp.evaluation.statistics import SIGNIFICANCE
from cifar_exp.reports.figures.comparison import LOG_FROM
from cifar_exp.reports.figures.fixed_and_broken import Change
from cifar_exp.reports.html import charts
from cifar_exp.reports.html.charts import Chart
from cifar_exp.reports.html.interval_chart import Interval, interval_chart

MOST_LINES = 1_000
MOST_AXES = 7
_MOST_CATEGORIES = 30
_LONG_LABEL = 14  # letters
_MANY_LINES = 150  # from which single ones no longer show
_MOST_MAPS = 4
_MOST_DIFFERENCES = 50
_MOST_IN_MAPS = 20  # numbers that are looked at for them, each with every other
_MOST_LEVELS_AS_NAMES = 12  # up to which the values of a number stand evenly spaced on their axis
_MOST_NUMBERED_CELLS = 144
# An axis' labels stand among the lines.
_READABLE = {"backgroundColor": "var(--surface)", "padding": [1, 3], "borderRadius": 3}


def parallel_coordinates(comparison: Comparison, most_rows: int) -> tuple[Chart | None, list[int], list[str]]:
    """A line for each run through its settings to the metric, the best drawn last, on top.

    Returns:
        The chart, or None where nothing varies; the table's row of each line; headings of keys left out.
    """
    runs = comparison.runs.head(most_rows)
    wanted = (
        (runs["usable"] & (runs["data_set"] == runs["data_set"].iloc[0])).to_numpy().nonzero()[0][:MOST_LINES][::-1]
    )
    here = runs.iloc[wanted]
    varied = [column for column in comparison.varied if len(here[column].unique()) > 1]
    axes: list[dict[str, Any]] = []
    values, left_out = [], []
    for column in varied:
        axis, places = _axis(heading(column), here[column])
        if len(axes) == MOST_AXES or axis is None:
            left_out.append(heading(column))
            continue
        axes.append(axis)
        values.append(places)
    if not axes or len(here) < 2:
        return None, [], left_out
    metric, figures = comparison.metric, here["value"].tolist()
    axes.append(
        {"name": metric, "scale": True, "axisLabel": {"formatter": f"{kind_of(metric)}Axis"} | _READABLE, "z": 5}
        | ({"inverse": True} if is_lower_better(metric) else {})
    )
    names = [f"{name}: {written(metric, value)}" for name, value in zip(here["name"], here["value"], strict=True)]
    sign = -1 if is_lower_better(metric) else 1
    chart = charts.parallel(
        axes,
        list(zip(*values, figures, strict=True)),
        [one_line(name) for name in names],
        [sign * value for value in figures],
        f"{len(here)} runs through {', '.join(axis['name'] for axis in axes[:-1])} to {metric}; strong lines are good.",
    )
    if len(here) > _MANY_LINES:
        chart.option["series"][0]["lineStyle"] = {"width": 1, "opacity": 0.35}
    return chart, [int(row) for row in wanted], left_out


def _axis(name: str, column: pd.Series) -> tuple[dict[str, Any] | None, list[Any]]:
    """An axis and each run's place on it; no axis where there are too many different texts."""
    few = column.nunique(dropna=False) <= _MOST_LEVELS_AS_NAMES
    if are_numbers(column) and not few:
        numbers = [float(value) for value in column]
        low, high = min(numbers), max(numbers)
        axis: dict[str, Any] = {"name": name, "scale": True, "axisLabel": {"formatter": "rate"} | _READABLE, "z": 5}
        return axis | ({"type": "log"} if low > 0 and high / low >= LOG_FROM else {}), numbers
    values = [str(setting(value)) for value in column]
    kinds = sorted(set(values), key=natural) if not are_numbers(column) else sorted(set(values), key=float)
    if len(kinds) > _MOST_CATEGORIES:
        return None, []
    long = max(map(len, kinds)) > _LONG_LABEL
    label = _READABLE | ({"width": 90, "overflow": "truncate"} if long else {})
    return {"name": name, "type": "category", "data": kinds, "axisLabel": label, "z": 5}, values


@dataclass(frozen=True)
class HeatMap:
    """A heat map, and which columns and values its cells stand for.

    Attributes:
        chart: what is drawn.
        title: of it.
        note: what a cell shows.
        keys: columns of the rows and of the columns.
        levels: values of both, as the table has them.
    """

    chart: Chart
    title: str
    note: str
    keys: tuple[str, str]
    levels: tuple[list[Any], list[Any]]


def heat_maps(comparison: Comparison) -> list[HeatMap]:
    """The mean of the metric over pairs of the first numbers that vary, at most ``_MOST_MAPS`` maps."""
    if not len(comparison.groups):
        return []
    groups, numbers, others = main_groups(comparison)
    few = [column for column in numbers if 2 <= groups[column].nunique() <= MOST_LEVELS]
    pairs = (pair for pair in combinations(few[:_MOST_IN_MAPS], 2) if len(groups[list(pair)].drop_duplicates()) > 3)
    return [_heat_map(comparison, groups, pair, len(numbers) + len(others) > 2) for pair in islice(pairs, _MOST_MAPS)]


def _heat_map(comparison: Comparison, groups: pd.DataFrame, pair: tuple[str, str], others: bool) -> HeatMap:
    metric = comparison.metric
    table = groups.assign(**{column: groups[column].astype(np.float64) for column in pair})
    mean = table.pivot_table(index=pair[0], columns=pair[1], values="mean")
    count = table.pivot_table(index=pair[0], columns=pair[1], values="mean", aggfunc="size")
    values = mean.to_numpy()
    known = ~np.isnan(values)
    best = np.nanmin(values) if is_lower_better(metric) else np.nanmax(values)
    at = np.argwhere(values == best)[0]
    labels = None
    if values.size <= _MOST_NUMBERED_CELLS:
        labels = [[written(metric, value) for value in row] for row in values]
    rows, columns = ([number_or_text(repr(value)) for value in axis] for axis in (mean.index, mean.columns))
    names = heading(pair[0]), heading(pair[1])
    chart = charts.heat_map(
        values,
        [f"{value:g}" for value in mean.index],
        [f"{value:g}" for value in mean.columns],
        f"Mean {metric} at each of {int(known.sum())} combinations of {names[0]} and {names[1]}; the best is "
        f"{written(metric, best)} at {names[0]} {rows[at[0]]} and {names[1]} {columns[at[1]]}.",
        row_name=names[0],
        column_name=names[1],
        labels=labels,
        shade=-values if is_lower_better(metric) else values,
        value_format=kind_of(metric),
        value_name=f"mean {metric}",
        height=min(560, 120 + 44 * len(rows)),
    )
    most = int(np.nanmax(count.to_numpy()))
    note = "The stronger the shade, the better. Each cell is the mean over "
    note += (
        f"{'up to ' if count.nunique().max() > 1 else ''}{most} settings of what else varies." if others else "seeds."
    )
    return HeatMap(chart, f"{metric} by {names[0]} and {names[1]}", note, pair, (rows, columns))


def run_differences(comparison: Comparison, pairs: Sequence[Pair]) -> Chart | None:
    """The difference of each tested run from the baseline, with its interval; None where none was tested."""
    return _differences(
        [
            (
                comparison.runs["name"].iloc[pair.position],
                pair.counts.accuracy_difference,
                pair.interval,
                pair.p_value_corrected,
            )
            for pair in pairs
            if pair.counts
        ],
        "runs",
    )


def setting_differences(comparison: Comparison) -> Chart | None:
    """The same of each setting from the baseline's, in means over their repetitions; None without an interval."""
    pairs = comparison.verdicts.pairs[:_MOST_DIFFERENCES] if comparison.verdicts else []
    if not any(pair.result for pair in pairs):
        return None
    names = comparison.groups["name"]
    return _differences(
        [(names.iloc[pair.position], pair.difference, pair.interval, pair.p_value_corrected) for pair in pairs],
        "settings",
    )


def _differences(drawn: Sequence[tuple[str, float, tuple[float, float], float]], what: str) -> Chart | None:
    """A chart of name, difference, interval and corrected p-value of each."""
    if not drawn:
        return None
    intervals = []
    for name, middle, (low, high), p_value in drawn:
        colour = "var(--gray)"
        if p_value < SIGNIFICANCE:
            colour = "var(--right)" if middle > 0 else "var(--wrong)"
        intervals.append(Interval(one_line(name), middle, finite(low), finite(high), colour))
    most, least = (100 * end(one.value for one in intervals) for end in (max, min))
    return interval_chart(
        intervals,
        f"Difference of test accuracy from the baseline for {len(drawn)} {what}, from {least:+.2f} to {most:+.2f} "
        "points, each with its 95% interval; the table beside it has the numbers.",
        "points of test accuracy",
    )


def by_class(change: Change) -> Chart:
    """Of each class, how many images run B fixes and how many it breaks."""
    net = change.fixed_by_class - change.broken_by_class
    order = np.argsort(-net, kind="stable")
    names = [one_line(change.classes[position]) for position in order]
    best, worst = order[0], order[-1]
    series = [
        {"type": "bar", "name": name, "stack": "all", "data": list(values[order]), "itemStyle": {"color": colour}}
        for name, values, colour in (
            ("fixed", change.fixed_by_class, "var(--right)"),
            ("broken", -change.broken_by_class, "var(--wrong)"),
        )
    ]
    option = {
        "grid": {"left": 8, "right": 10, "top": 26, "bottom": 10, "containLabel": True},
        "tooltip": {"trigger": "axis", "valueFormatter": "integer", "confine": True},
        "legend": {"show": False},
        "xAxis": {
            "type": "category",
            "data": names,
            "axisTick": {"show": False},
            "axisLabel": {"rotate": 40, "width": 90, "overflow": "truncate", "hideOverlap": True},
        },
        "yAxis": {"type": "value", "name": "images", "minInterval": 1, "axisLabel": {"formatter": "integer"}},
        "series": series,
    }
    description = (
        f"Images fixed and broken in each of {len(names)} classes. Most gained: {change.classes[best]} "
        f"({int(net[best]):+d}); least: {change.classes[worst]} ({int(net[worst]):+d})."
    )
    return Chart(option, description, height=280)
