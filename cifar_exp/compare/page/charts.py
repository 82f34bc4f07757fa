"""The page's charts of curves, of differences with their intervals, and of classes."""

import math
from collections.abc import Sequence

from cifar_exp.compare.comparison import Comparison
from cifar_exp.compare.figure_data import Curves
from cifar_exp.compare.naming import one_line
from cifar_exp.compare.pairs import Pair
from cifar_exp.evaluation.statistics import SIGNIFICANCE
from cifar_exp.reports.figures.fixed_and_broken import Change
from cifar_exp.reports.html.charts import Chart, lines

_MOST_DIFFERENCES = 50
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


def run_differences(comparison: Comparison, pairs: Sequence[Pair]) -> Chart | None:
    """The difference of each tested run from the baseline, with its interval; None if none was tested."""
    names = comparison.runs["name"]
    tested = [pair for pair in pairs if pair.counts]
    drawn = [(names.iloc[one.position], one.difference, one.interval, one.p_value_corrected) for one in tested]
    return _differences(drawn, "runs") if drawn else None


def setting_differences(comparison: Comparison) -> Chart | None:
    """The difference of each setting's mean from the baseline's, with its interval; None if none has an interval."""
    pairs = comparison.verdicts.pairs[:_MOST_DIFFERENCES] if comparison.verdicts else []
    names = comparison.groups["name"]
    drawn = [(names.iloc[one.position], one.difference, one.interval, one.p_value_corrected) for one in pairs]
    return _differences(drawn, "settings") if any(pair.result for pair in pairs) else None


def _differences(drawn: Sequence[tuple[str, float, tuple[float, float], float]], what: str) -> Chart:
    """A chart of name, difference, interval and corrected p-value of each."""
    intervals = []
    for name, value, (low, high), p_value in drawn:
        colour = "gray" if not p_value < SIGNIFICANCE else "right" if value > 0 else "wrong"
        intervals.append({"name": one_line(name), "value": value, "low": low, "high": high, "colour": colour})
    least, most = (100 * end(value for _, value, *_ in drawn) for end in (min, max))
    description = (
        f"Difference of test accuracy from the baseline for {len(drawn)} {what}, from {least:+.2f} to {most:+.2f} "
        "points, each with its 95% interval; the table contains the numbers."
    )
    rows = min(max(math.ceil(len(name) / _LETTERS_PER_LINE) for name, *_ in drawn), _MOST_LINES)
    height = 70 + max(26, 13 * rows + 9) * len(drawn)
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
