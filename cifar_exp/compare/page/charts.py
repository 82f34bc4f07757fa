"""The page's charts: curves, settings against the metric, differences with their intervals, and classes."""

import math
from collections.abc import Sequence
from itertools import combinations, islice
from typing import Any

import numpy as np
import pandas as pd

from cifar_exp.compare.changed_images import Change
from cifar_exp.compare.comparison import Comparison
from cifar_exp.compare.discover import natural
from cifar_exp.compare.figure_data import LOG_FROM, MOST_LEVELS, Curves, are_numbers, by_two_numbers, main_groups
from cifar_exp.compare.group_pairs import GroupPair
from cifar_exp.compare.naming import heading, one_line
from cifar_exp.compare.ordering import is_lower_better
from cifar_exp.compare.pairs import Pair
from cifar_exp.compare.result_tables import number_or_text, setting
from cifar_exp.evaluation.statistics import SIGNIFICANCE
from cifar_exp.reports.html.formats import FILTERS, kind_of
from cifar_exp.reports.html.parts import Chart, lines

_LETTERS_PER_LINE, _MOST_LINES = 22, 6  # of the names beside intervals
_MOST_AXES = 7
_MOST_CATEGORIES = 30
_MOST_MAPS = 4
_MOST_IN_MAPS = 20  # numbers that are combined in pairs
_MOST_LEVELS_AS_NAMES = 12  # values of a number up to which its axis has them evenly spaced
_MOST_NUMBERED_CELLS = 144


def curve_charts(curves: Curves) -> dict[str, Chart]:
    """Training loss and accuracy; ``comparison.js`` draws the lines of the runs that the table shows."""
    made = {}
    for name, points, title, unit, y_format in (
        ("loss", curves.loss, "Training loss", "nats per image", "number"),
        ("accuracy", curves.accuracy, f"{curves.split} accuracy", "", "percent"),
    ):
        if points:
            last = [one[-1][1] for one in points.values()]
            description = f"{title} over the epochs; it ends between {min(last):.4g} and {max(last):.4g}."
            made[name] = lines([], description, x_name="epoch", y_name=unit, y_format=y_format, height=340)
    return made


def parallel_coordinates(comparison: Comparison, rows: Sequence[int]) -> tuple[Chart | None, list[str]]:
    """A line for each of these runs through its settings to the metric.

    Returns:
        The chart, or None if nothing varies, and headings of keys without an axis.
    """
    here, metric = comparison.runs.iloc[list(rows)], comparison.metric
    axes: list[dict[str, Any]] = []
    values, left_out = [], []
    for column in (column for column in comparison.varied if len(here[column].unique()) > 1):
        axis, places = _axis(here[column])
        if len(axes) == _MOST_AXES or axis is None:
            left_out.append(heading(column))
            continue
        axes.append({"name": heading(column)} | axis)
        values.append(places)
    if not axes or len(here) < 2:
        return None, left_out
    lower = is_lower_better(metric)
    drawn = [
        {
            "name": f"{one_line(name)}: {FILTERS[kind_of(metric)](value)}",
            "values": [*places, value],
            "shade": -value if lower else value,
        }
        for name, value, *places in zip(here["name"], here["value"], *values, strict=True)
    ]
    described = ", ".join(axis["name"] for axis in axes)
    axes.append({"name": metric, "format": kind_of(metric), "inverse": lower})
    description = f"{len(here)} runs through {described} to {metric}; strong lines are good."
    return Chart("parallel", {"axes": axes, "rows": drawn}, description, height=380), left_out


def _axis(column: pd.Series) -> tuple[dict[str, Any] | None, list[Any]]:
    """An axis and each run's place on it; no axis if there are too many different texts."""
    numeric = are_numbers(column)
    if numeric and column.nunique(dropna=False) > _MOST_LEVELS_AS_NAMES:
        numbers = column.astype(np.float64)
        low, high = numbers.min(), numbers.max()
        return {"format": "rate", "logarithmic": low > 0 and high / low >= LOG_FROM}, numbers.tolist()
    values = [str(setting(value)) for value in column]
    kinds = sorted({*values}, key=float if numeric else lambda text: (natural(text), text))
    return ({"categories": kinds}, values) if len(kinds) <= _MOST_CATEGORIES else (None, [])


def heat_maps(comparison: Comparison) -> list[tuple[str, str, Chart]]:
    """Titles, notes and charts of the mean of the metric by pairs of the first numbers that vary."""
    if not len(comparison.groups):
        return []
    groups, numbers, others = main_groups(comparison)
    few = [column for column in numbers if 2 <= groups[column].nunique() <= MOST_LEVELS]
    pairs = (pair for pair in combinations(few[:_MOST_IN_MAPS], 2) if len(groups[list(pair)].drop_duplicates()) > 3)
    several = len(numbers) + len(others) > 2
    return [_heat_map(comparison.metric, groups, pair, several=several) for pair in islice(pairs, _MOST_MAPS)]


def _heat_map(metric: str, groups: pd.DataFrame, pair: tuple[str, str], *, several: bool) -> tuple[str, str, Chart]:
    mean = by_two_numbers(groups, pair, "mean")
    values, sign, write = mean.to_numpy(), -1 if is_lower_better(metric) else 1, FILTERS[kind_of(metric)]
    rows, columns = ([number_or_text(repr(value)) for value in axis] for axis in (mean.index, mean.columns))
    row_name, column_name = map(heading, pair)
    row, column = np.unravel_index(int(np.nanargmax(sign * values)), values.shape)
    labels = np.vectorize(write)(values).tolist() if values.size <= _MOST_NUMBERED_CELLS else None
    data: dict[str, Any] = {"values": values, "labels": labels, "shade": sign * values}
    data |= {"value_name": f"mean {metric}", "format": kind_of(metric)}
    data |= {"row_name": row_name, "rows": [f"{value:g}" for value in mean.index]}
    data |= {"column_name": column_name, "columns": [f"{value:g}" for value in mean.columns]}
    data |= {"keys": pair, "levels": (rows, columns)}  # as in the table of runs, whose rows a click selects
    description = (
        f"Mean {metric} at each of {mean.notna().sum().sum()} combinations of {row_name} and {column_name}; the best "
        f"is {write(values[row, column])} at {row_name} {rows[row]} and {column_name} {columns[column]}."
    )
    count = by_two_numbers(groups, pair, "mean", "count").to_numpy()
    up_to = "up to " if len(np.unique(count[count > 0])) > 1 else ""
    some = f"{up_to}{int(np.nanmax(count))} settings of the other keys" if several else "seeds"
    note = f"The stronger the shade, the better. Each cell is the mean over {some}."
    chart = Chart("heat_map", data, description, height=min(560, 120 + 44 * len(mean)))
    return f"{metric} by {row_name} and {column_name}", note, chart


def differences(table: pd.DataFrame, pairs: Sequence[Pair | GroupPair], what: str) -> Chart:
    """The difference of each run or group of ``table`` from the baseline, with its interval."""
    intervals, names = [], [one_line(table["name"].iloc[pair.position]) for pair in pairs]
    for name, pair in zip(names, pairs, strict=True):
        significant, (low, high) = pair.p_value_corrected < SIGNIFICANCE, pair.interval
        colour = "gray" if not significant else "right" if pair.difference > 0 else "wrong"
        intervals.append({"name": name, "value": pair.difference, "low": low, "high": high, "colour": colour})
    least, most = (100 * end(pair.difference for pair in pairs) for end in (min, max))
    description = (
        f"Difference of test accuracy from the baseline for {len(pairs)} {what}, from {least:+.2f} to {most:+.2f} "
        "points, each with its 95% interval; the table contains the numbers."
    )
    rows = min(max(math.ceil(len(name) / _LETTERS_PER_LINE) for name in names), _MOST_LINES)
    height = 70 + max(26, 13 * rows + 9) * len(pairs)
    return Chart("intervals", {"intervals": intervals, "x_name": "points of test accuracy"}, description, height)


def by_class(change: Change) -> Chart:
    """The number of images of each class that run B fixes and breaks, by net change."""
    net = (change.by_class["fixed"] - change.by_class["broken"]).sort_values(ascending=False, kind="stable")
    classes = change.by_class.loc[net.index]
    bars = [
        {"name": "fixed", "values": classes["fixed"].to_numpy(), "colour": "right"},
        {"name": "broken", "values": -classes["broken"].to_numpy(), "colour": "wrong"},
    ]
    data = {"bars": bars, "categories": [one_line(name) for name in net.index], "stacked": True}
    names = {"x_name": "", "y_name": "images", "format": "integer"}
    description = (
        f"Images fixed and broken in each of {len(classes)} classes. Largest gain: {net.index[0]} ({net.iloc[0]:+d}); "
        f"largest loss: {net.index[-1]} ({net.iloc[-1]:+d})."
    )
    return Chart("bars", data | names, description, height=280)
