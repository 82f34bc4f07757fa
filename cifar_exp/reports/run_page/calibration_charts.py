"""The reliability diagram and the histogram of confidences, as charts of the run page."""

from itertools import pairwise
from typing import Any

import numpy as np

from cifar_exp.reports.html.charts import Chart
from cifar_exp.reports.html.formats import integer, percent
from cifar_exp.run_dir.read import RunDirectory

_STEPS = 20  # of the histogram
_AXIS = {"nameLocation": "middle", "axisLabel": {"formatter": "percentAxis", "hideOverlap": True}}


def reliability(run: RunDirectory) -> Chart | None:
    """Accuracy over confidence for the groups of ``calibration.csv``, with a 95% interval each."""
    columns = ["mean_confidence", "accuracy", "accuracy_low", "accuracy_high", "images"]
    rows = None if run.calibration is None else run.calibration[columns].dropna()
    if rows is None or rows.empty:
        return None
    values = rows.to_numpy(dtype=np.float64).tolist()
    start = float(np.clip(rows[columns[:3]].to_numpy().min() - 0.03, 0, 0.95))
    start = np.floor(10 * start) / 10
    ideal = [{"coord": [start, start], "lineStyle": {"type": "dashed", "color": "#888888"}}, {"coord": [1, 1]}]
    whiskers = [[{"coord": [x, low]}, {"coord": [x, high]}] for x, _, low, high, _ in values]
    axis = _AXIS | {"type": "value", "min": start, "max": 1}
    option = {
        "grid": {"left": 30, "right": 24, "top": 14, "bottom": 34, "containLabel": True},
        "tooltip": {"trigger": "item", "formatter": "reliability", "confine": True, "valueFormatter": "percent"},
        "xAxis": axis | {"name": "confidence", "nameGap": 26, "valueFormat": "percent", "splitLine": {"show": False}},
        "yAxis": axis | {"name": "accuracy", "nameGap": 44},
        "series": [
            {
                "type": "line",
                "name": "accuracy",
                "data": values,
                "symbol": "circle",
                "symbolSize": 8,
                "itemStyle": {"color": "var(--test)"},
                "lineStyle": {"color": "var(--test)", "width": 1.5},
                "markLine": {
                    "silent": True,
                    "symbol": "none",
                    "animation": False,
                    "label": {"show": False},
                    "lineStyle": {"type": "solid", "width": 1.5, "color": "var(--test)"},
                    "data": [ideal, *whiskers],
                },
            }
        ],
    }
    first, last = values[0], values[-1]
    description = (
        f"Accuracy by confidence in {len(values)} groups of equal size: from {percent(first[1])} right at "
        f"{percent(first[0])} mean confidence to {percent(last[1])} right at {percent(last[0])}."
    )
    return Chart(option, description, height=340)


def confidences(run: RunDirectory) -> Chart | None:
    """How the confidence is spread among the right and among the wrong predictions."""
    if run.predictions is None or not run.predictions["confidence"].between(0, 1).all():
        return None
    confidence, correct = run.predictions["confidence"], run.predictions["correct"]
    edges = np.linspace(0, 1, _STEPS + 1)
    first = min(int(confidence.min() * _STEPS), _STEPS - 1)
    series: list[dict[str, Any]] = []
    for inside, name, colour in ((correct, "right", "var(--right)"), (~correct, "wrong", "var(--wrong)")):
        counts = np.histogram(confidence[inside], bins=edges)[0]
        series.append(
            {
                "type": "bar",
                "name": f"{name} ({integer(counts.sum())})",
                "data": (counts / max(int(counts.sum()), 1))[first:].tolist(),
                "itemStyle": {"color": colour},
                "lineStyle": {"color": colour},  # for the button that switches the series
                "barGap": "0%",
                "barCategoryGap": "20%",
            }
        )
    steps = [f"{100 * low:.0f}-{100 * high:.0f}%" for low, high in pairwise(edges)][first:]
    option = {
        "grid": {"left": 12, "right": 20, "top": 14, "bottom": 34, "containLabel": True},
        "tooltip": {"trigger": "axis", "valueFormatter": "percent", "confine": True},
        "legend": {"show": False},
        "xAxis": {
            "type": "category",
            "name": "confidence",
            "nameLocation": "middle",
            "nameGap": 26,
            "data": steps,
            "axisLabel": {"hideOverlap": True, "showMaxLabel": True},
        },
        "yAxis": {"type": "value", "axisLabel": {"formatter": "percentAxis"}},
        "series": series,
    }
    description = (
        f"Confidences: mean {percent(confidence[correct].mean())} of the {integer(correct.sum())} right predictions, "
        f"{percent(confidence[~correct].mean())} of the {integer((~correct).sum())} wrong ones."
    )
    return Chart(option, description, height=310, toggles=True)
