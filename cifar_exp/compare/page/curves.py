"""Each run's curves for the page: read at once, thinned to what a screen shows."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cifar_exp.compare.naming import one_line
from cifar_exp.compare.tables import Comparison
from cifar_exp.evaluation.statistics import LARGEST
from cifar_exp.reports.html import charts
from cifar_exp.reports.html.charts import Chart, Line
from cifar_exp.safe_io import untrusted

MOST_RUNS = 1_000
SHOWN_FIRST = 10
_MOST_POINTS = 120
_SPLITS = {"val": "Validation", "test": "Test"}

Points = list[tuple[float, float]]


@dataclass(frozen=True)
class Curves:
    """What the page draws lines of.

    Attributes:
        loss: (epoch, training loss) of each run, by its row in the table.
        accuracy: (epoch, accuracy) of each run on the split that more of the runs measured.
        split: ``Validation`` or ``Test``.
        names: of each run, in words.
        groups: of each run; runs of one group look alike.
    """

    loss: dict[int, Points]
    accuracy: dict[int, Points]
    split: str
    names: dict[int, str]
    groups: dict[int, int]

    def as_data(self) -> dict[str, Any]:
        """What ``comparison.js`` takes."""
        rows = sorted(self.names)
        return {
            "rows": rows,
            "names": [self.names[row] for row in rows],
            "groups": [self.groups[row] for row in rows],
            "loss": [self.loss.get(row, []) for row in rows],
            "accuracy": [self.accuracy.get(row, []) for row in rows],
            "first": SHOWN_FIRST,
        }


def read_curves(comparison: Comparison, most_rows: int) -> Curves:
    """Read ``metrics.csv`` of the best runs on the baseline's data; a run whose file is damaged has no curve."""
    runs = comparison.runs.head(most_rows)
    # Losses of other data in the same axes would invite a comparison that means nothing.
    wanted = runs["usable"] & (runs["data_set"] == runs["data_set"].iloc[0])
    rows = [int(row) for row in wanted.to_numpy().nonzero()[0][:MOST_RUNS]]
    found: dict[str, dict[int, Points]] = {"train_loss": {}, "val_accuracy": {}, "test_accuracy": {}}
    for row in rows:
        for column, points in _read(Path(runs["path"].iloc[row]) / "metrics.csv", tuple(found)).items():
            found[column][row] = points
    split = "val" if len(found["val_accuracy"]) >= len(found["test_accuracy"]) else "test"
    accuracy = found[f"{split}_accuracy"]
    drawn = [row for row in rows if row in found["train_loss"] or row in accuracy]
    names = {row: one_line(runs["name"].iloc[row]) for row in drawn}
    groups = {row: int(runs["group"].iloc[row]) for row in drawn}
    return Curves(found["train_loss"], accuracy, _SPLITS[split], names, groups)


def _read(path: Path, columns: Sequence[str]) -> dict[str, Points]:
    """(epoch, value) of the columns that hold something; nothing of a file that is missing or not whole."""
    try:
        header, *rows = untrusted.read_rows(path)
        places = {column: header.index(column) for column in columns if column in header}
        epoch = header.index("epoch")
        found = {
            column: [(_number(row[epoch]), _number(row[place])) for row in rows if row[place]]
            for column, place in places.items()
        }
    except (OSError, ValueError, IndexError):
        return {}
    return {column: _thinned(points) for column, points in found.items() if points}


def _number(cell: str) -> float:
    value = float(cell)
    if math.isfinite(value) and abs(value) > LARGEST:
        raise ValueError("not a measured number")
    return value


def _thinned(points: Points) -> Points:
    step = math.ceil(len(points) / _MOST_POINTS)
    kept = points[::step] if (len(points) - 1) % step == 0 else [*points[::step], points[-1]]
    return [(x, float(f"{y:.6g}")) for x, y in kept]


def curve_charts(curves: Curves) -> dict[str, Chart]:
    """Training loss and accuracy of the first runs; the page's script draws others as the table changes."""
    shown = list(curves.names)[:SHOWN_FIRST]
    numbers = {group: number for number, group in enumerate(dict.fromkeys(curves.groups[row] for row in shown))}
    made = {}
    for name, points, label, y_format in (
        ("loss", curves.loss, "nats per image", "number"),
        ("accuracy", curves.accuracy, "", "percent"),
    ):
        drawn = []
        for row in shown:
            colour, dash = charts.look(numbers[curves.groups[row]])
            if row in points:
                drawn.append(Line(curves.names[row], points[row], colour, dash))
        if not drawn:
            continue
        what = "Training loss" if name == "loss" else f"{curves.split} accuracy"
        last = [line.points[-1][1] for line in drawn if line.points[-1][1] is not None]
        description = (
            f"{what} over the epochs of the first {len(drawn)} runs of the table; it ends between {min(last):.4g} and "
            f"{max(last):.4g}."
        )
        made[name] = charts.lines(
            drawn, description, x_name="epoch", y_name=label, y_format=y_format, height=340, toggles=True
        )
    return made
