"""Differences with their confidence intervals: a point with whiskers for each, from top to bottom."""

from collections.abc import Sequence
from dataclasses import dataclass

from cifar_exp.reports.html.charts import Chart

_LABEL_WIDTH, _LETTERS_A_LINE, _MOST_LINES = 140, 22, 6


@dataclass(frozen=True)
class Interval:
    """A difference of accuracies and the ends of its interval, as fractions; the ends are None where there is none."""

    name: str
    value: float
    low: float | None
    high: float | None
    colour: str


def interval_chart(drawn: Sequence[Interval], description: str, x_name: str) -> Chart:
    """Draw the intervals around a line at 0; names are wrapped, never cut to less than six lines.

    Args:
        drawn: from top to bottom.
        description: see ``Chart``.
        x_name: of the axis, in percentage points.
    """
    data = [
        {
            "name": one.name,
            "value": [_or(one.low, one.value), one.value, _or(one.high, one.value), row],
            "itemStyle": {"color": one.colour},
        }
        for row, one in enumerate(drawn)
    ]
    lines = min(max(-(-len(one.name) // _LETTERS_A_LINE) for one in drawn), _MOST_LINES)
    option = {
        "grid": {"left": 10, "right": 24, "top": 10, "bottom": 34, "containLabel": True},
        "tooltip": {"trigger": "item", "formatter": "interval", "confine": True},
        "xAxis": {
            "type": "value",
            "name": x_name,
            "nameLocation": "middle",
            "nameGap": 26,
            "axisLabel": {"formatter": "pointsAxis", "hideOverlap": True},
            "axisPointer": {"show": False},
        },
        "yAxis": {
            "type": "category",
            "data": [one.name for one in drawn],
            "inverse": True,
            "axisTick": {"show": False},
            "axisLabel": {"width": _LABEL_WIDTH, "overflow": "break", "interval": 0, "lineHeight": 13},
        },
        "series": [
            {
                "type": "custom",
                "name": "difference",
                "renderItem": "whiskers",
                "encode": {"x": [0, 1, 2], "y": 3},
                "data": data,
                "markLine": {
                    "silent": True,
                    "symbol": "none",
                    "label": {"show": False},
                    "lineStyle": {"color": "var(--quiet)", "type": "solid", "width": 1},
                    "data": [{"xAxis": 0}],
                },
            }
        ],
    }
    return Chart(option, description, height=70 + max(26, 13 * lines + 9) * len(drawn))


def _or(end: float | None, value: float) -> float:
    return value if end is None else end
