"""The page's charts of curves, of differences with their intervals, and of classes."""

import math
from collections.abc import Sequence

import pandas as pd

from cifar_exp.compare.figure_data import Curves
from cifar_exp.compare.group_pairs import GroupPair
from cifar_exp.compare.naming import one_line
from cifar_exp.compare.pairs import Pair
from cifar_exp.evaluation.statistics import SIGNIFICANCE
from cifar_exp.reports.figures.fixed_and_broken import Change
from cifar_exp.reports.html.charts import Chart, lines

_LETTERS_PER_LINE, _MOST_LINES = 22, 6  # of the names beside intervals


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
