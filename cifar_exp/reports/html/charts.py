"""Options for Apache ECharts: what is drawn, said in data. ``templates/charts.js`` hands them to the library.

Numbers are formatted by name (``percent``, ``number``, ``integer``, ``rate``, ``seconds``; see ``base.js``), colours
are custom properties of ``base.css`` (``var(--train)``), so that the same option does for both themes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cifar_exp.reports.html.embed import plain

SERIES_COLOURS = tuple(f"var(--series-{number})" for number in range(7))
_DASHES: tuple[Any, ...] = ("solid", [6, 3], [2, 2])


@dataclass(frozen=True)
class Chart:
    """A chart of a page.

    Attributes:
        option: of ECharts, with plain values only. ``formatter`` and ``valueFormatter`` may name a format.
        description: what it shows, in a sentence or two with the numbers that matter: for whoever cannot see it.
        height: in CSS pixels.
        toggles: whether buttons above it switch its series on and off.
        zoom: whether its x axis can be zoomed into (a button takes it back).
    """

    option: dict[str, Any]
    description: str
    height: int = 300
    toggles: bool = False
    zoom: bool = False

    def as_data(self) -> dict[str, Any]:
        """What ``charts.js`` takes."""
        aria = {"enabled": True, "label": {"description": self.description}}
        return {
            "option": {"animation": False, "aria": aria} | plain(self.option),
            "height": self.height,
            "toggles": self.toggles,
            "zoom": self.zoom,
        }


@dataclass(frozen=True)
class Line:
    """A line of a chart: points (x, y) in the order of x; y may be None.

    Attributes:
        name: any text.
        points: what is drawn.
        colour: a custom property.
        dash: ``solid``, ``dashed`` or ``dotted``, so that lines differ by more than colour.
        symbol: of the points (``circle``, ``rect``, ``triangle``, ``diamond``, ``none``).
        width: in pixels.
        faint: drawn thin and translucent, as a background.
    """

    name: str
    points: Sequence[tuple[float, float | None]]
    colour: str
    dash: Any = "solid"
    symbol: str = "circle"
    width: float = 2.0
    faint: bool = False


def look(number: int) -> tuple[str, Any]:
    """Colour and dash of the n-th of many lines: 21 looks that can be told apart."""
    return SERIES_COLOURS[number % len(SERIES_COLOURS)], _DASHES[number // len(SERIES_COLOURS) % len(_DASHES)]


def lines(
    drawn: Sequence[Line],
    description: str,
    *,
    x_name: str,
    y_name: str,
    y_format: str = "number",
    from_zero: bool = False,
    logarithmic: bool = False,
    height: int = 300,
    toggles: bool = True,
) -> Chart:
    """Lines over a number (epochs, steps), with values on hover, and zoom by wheel, pinch or the bar below.

    Args:
        drawn: at least one.
        description: see ``Chart``.
        x_name: of the x axis, whose values are whole numbers.
        y_name: of the y axis.
        y_format: how its values are written.
        from_zero: whether the y axis starts at 0.
        logarithmic: whether the y axis is.
        height: in pixels.
        toggles: see ``Chart``.
    """
    xs = [x for line in drawn for x, _ in line.points]
    # One epoch is a point, which needs room on both sides.
    low, high = (min(xs) - 0.5, max(xs) + 0.5) if len(set(xs)) == 1 else (min(xs, default=0), max(xs, default=1))
    option = {
        "grid": {"left": 8, "right": 20, "top": 30, "bottom": 48, "outerBoundsMode": "same", "containLabel": True},
        "tooltip": {"trigger": "axis", "valueFormatter": y_format, "confine": True, "order": "seriesAsc"},
        "legend": {"show": False},
        "xAxis": {
            "type": "value",
            "name": x_name,
            "nameLocation": "middle",
            "nameGap": 26,
            "min": low,
            "max": high,
            "minInterval": 1,
            "axisLabel": {"formatter": "whole", "showMinLabel": True, "hideOverlap": True},
            "axisPointer": {"label": {"formatter": f"{x_name} {{value}}", "precision": 0}, "snap": True},
            "splitLine": {"show": False},
        },
        "yAxis": {
            "type": "log" if logarithmic else "value",
            "name": y_name,
            "nameTextStyle": {"align": "left"},
            "scale": not from_zero,
            "axisLabel": {"formatter": f"{y_format}Axis"},
        },
        "dataZoom": [
            {"type": "inside", "filterMode": "none", "zoomOnMouseWheel": "ctrl", "moveOnMouseMove": True},
            {"type": "slider", "filterMode": "none", "height": 14, "bottom": 4, "showDetail": False},
        ],
        "series": [_line(one) for one in drawn],
    }
    return Chart(option, description, height=height, toggles=toggles and len(drawn) > 1, zoom=True)


def _line(one: Line) -> dict[str, Any]:
    few = len(one.points) <= 40
    return {
        "type": "line",
        "name": one.name,
        "data": [[x, y] for x, y in one.points],
        "symbol": one.symbol,
        "showSymbol": few and one.symbol != "none",
        "symbolSize": 9 if len(one.points) == 1 else 6,
        "itemStyle": {"color": one.colour},
        "lineStyle": {
            "color": one.colour,
            "type": one.dash,
            "width": 1 if one.faint else one.width,
            "opacity": 0.45 if one.faint else 1,
        },
        "emphasis": {"focus": "series"},
        "connectNulls": True,
    }


def heat_map(
    values: NDArray[np.float64],
    rows: Sequence[str],
    columns: Sequence[str],
    description: str,
    *,
    row_name: str,
    column_name: str,
    labels: Sequence[Sequence[str]] | None = None,
    shade: NDArray[np.float64] | None = None,
    value_format: str = "number",
    value_name: str = "value",
    height: int = 420,
) -> Chart:
    """A matrix in shades, the first row on top. A cell without a value is left out.

    Args:
        values: (rows, columns), NaN where there is none; what hovering shows.
        rows: names.
        columns: names.
        description: see ``Chart``.
        row_name: of the y axis.
        column_name: of the x axis.
        labels: text in the cells; None for none.
        shade: (rows, columns) what the shade follows, where that is not the value itself; NaN for no shade.
        value_format: how the value is written.
        value_name: what the value is, for hovering.
        height: in pixels.
    """
    shown = values if shade is None else shade
    known = ~np.isnan(values)
    cells = [
        {
            # ECharts draws nothing for a cell without a number, even one that takes no shade.
            "value": [int(column), int(row), float(np.nan_to_num(shown[row, column])), float(values[row, column])],
            **({"name": labels[row][column]} if labels else {}),
            **(_UNSHADED if np.isnan(shown[row, column]) else {}),
        }
        for row, column in np.argwhere(known)
    ]
    shades = shown[known & ~np.isnan(shown)]
    low, high = (float(shades.min()), float(shades.max())) if shades.size else (0.0, 1.0)
    axis = {"type": "category", "splitArea": {"show": False}, "axisTick": {"show": False}, "nameLocation": "middle"}
    option = {
        "grid": {"left": 26, "right": 10, "top": 8, "bottom": 30, "containLabel": True},
        "tooltip": {"formatter": "cell", "confine": True},
        "xAxis": axis
        | {
            "name": column_name,
            "data": list(columns),
            "nameGap": 12,
            "axisLabel": {"rotate": 45, "interval": 0 if len(columns) <= 40 else "auto", "width": 90} | _CUT,
            "nameMoveOverlap": True,
        },
        "yAxis": axis
        | {
            "name": row_name,
            "data": list(rows),
            "inverse": True,
            "nameGap": 12,
            "axisLabel": {"interval": 0 if len(rows) <= 40 else "auto", "width": 90} | _CUT,
            "nameMoveOverlap": True,
        },
        "visualMap": {
            "show": False,
            "dimension": 2,
            "min": low,
            "max": high if high > low else low + 1,
            "inRange": {"color": [f"var(--shade-{step})" for step in range(6)]},
        },
        "series": [
            {
                "type": "heatmap",
                "name": value_name,
                "data": cells,
                "format": value_format,
                "label": {"show": labels is not None, "formatter": "{b}", "fontSize": 11, "color": "inherit"},
                "itemStyle": {"borderWidth": 1 if values.size <= 1600 else 0, "borderColor": "var(--surface)"},
                "emphasis": {"itemStyle": {"borderColor": "var(--text)", "borderWidth": 2}},
            }
        ],
    }
    return Chart(option, description, height=height)


_UNSHADED = {"visualMap": False, "itemStyle": {"color": "transparent"}, "label": {"color": "var(--quiet)"}}
_CUT = {"overflow": "truncate", "ellipsis": "…"}


def parallel(
    axes: Sequence[dict[str, Any]],
    rows: Sequence[Sequence[Any]],
    names: Sequence[str],
    values: Sequence[float],
    description: str,
    *,
    height: int = 380,
) -> Chart:
    """Parallel coordinates: a line for each row through its value on each axis; dragging along an axis selects.

    Args:
        axes: for each column, ``{"name": ...}`` and, for texts, ``{"type": "category", "data": [...]}``; others are
            numbers (``{"type": "log"}`` for a logarithmic axis; ``axisLabel.formatter`` may name a format).
        rows: a value for each axis.
        names: of the rows, for hovering.
        values: what colours the rows, dark for the largest.
        description: see ``Chart``.
        height: in pixels.
    """
    finite = [value for value in values if value == value]
    low, high = (min(finite), max(finite)) if finite else (0.0, 1.0)
    option = {
        "tooltip": {"formatter": "named", "confine": True},
        "parallel": {"left": 40, "right": 60, "top": 40, "bottom": 24},
        "parallelAxis": [{"dim": number, "nameGap": 14} | axis for number, axis in enumerate(axes)],
        "visualMap": {
            "show": False,
            "dimension": len(axes),
            "min": low,
            "max": high if high > low else low + 1,
            "inRange": {"color": [f"var(--shade-{step})" for step in range(2, 6)]},
        },
        "series": [
            {
                "type": "parallel",
                "lineStyle": {"width": 1.5, "opacity": 0.6},
                "emphasis": {"lineStyle": {"width": 3, "opacity": 1}},
                "data": [
                    {"name": name, "value": [*row, value]} for name, row, value in zip(names, rows, values, strict=True)
                ],
            }
        ],
    }
    return Chart(option, description, height=height)
