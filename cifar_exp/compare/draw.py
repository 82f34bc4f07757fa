"""The PNG figures of a comparison: which of them apply, and their content."""

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from cifar_exp.compare.comparison import Comparison
from cifar_exp.compare.figure_data import MOST_LEVELS, Curves, by_two_numbers, main_groups
from cifar_exp.compare.naming import heading, one_line
from cifar_exp.compare.ordering import is_lower_better
from cifar_exp.compare.output import FIGURES
from cifar_exp.compare.range_tests import draw_over_range_tests
from cifar_exp.reports.figures.comparison import Curve, heat_map, line, overlaid_curves
from cifar_exp.reports.figures.fixed_and_broken import Change, fixed_and_broken
from cifar_exp.reports.figures.style import PALETTE
from cifar_exp.safe_io.plural import plural


def draw(
    comparison: Comparison,
    shown: Sequence[int],
    curves: Curves,
    change: Change | None,
    range_tests: Sequence[Path],
    folder: Path,
) -> tuple[list[str], list[str]]:
    """Make the figures; ``shown`` are the rows of the usable runs to draw curves of.

    Returns:
        Names of the figures made, and remarks about those that could not be.
    """
    parts: tuple[Callable[[Path], str | None], ...] = (  # they return a remark
        lambda path: _curves(comparison, shown, curves, path),
        lambda path: _line(comparison, path),
        lambda path: _heat_map(comparison, path),
        lambda path: draw_over_range_tests(comparison, range_tests, path),
        lambda path: fixed_and_broken(change, path) if change else None,
    )
    paths = [folder / name for name in FIGURES]
    remarks = [_draw_or_remark(part, path) for part, path in zip(parts, paths, strict=True)]
    return [path.name for path in paths if path.exists()], [remark for remark in remarks if remark]


def _draw_or_remark(part: Callable[[Path], str | None], path: Path) -> str | None:
    """Make a figure instead of an earlier one, or a remark if Matplotlib cannot draw a run's numbers.

    Raises:
        OSError: it cannot be written.
    """
    path.unlink(missing_ok=True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about numbers that overflow
            return part(path)
    except OSError:
        raise
    except Exception as error:
        return f"No {path.name}: it cannot be drawn ({type(error).__name__}: {one_line(error)})."


def _curves(comparison: Comparison, shown: Sequence[int], curves: Curves, path: Path) -> str:
    runs = comparison.runs
    here = [row for row in shown if comparison.on_main_data.iloc[row]]
    remarks = ["The figures show the runs on the baseline's data only."] if len(here) < len(shown) else []
    group_names = dict(zip(comparison.groups["group"], comparison.groups["name"], strict=True))
    labels = {
        group: members["name"].iloc[0] if len(members) == 1 else f"{group_names[group]}, {len(members)} runs"
        for group, members in runs.iloc[here].groupby("group", sort=False)
    }
    looks = {group: look for look, group in enumerate(labels)}
    groups = runs["group"].to_numpy()
    drawn = [
        Curve(labels[groups[row]], looks[groups[row]], curves.loss.get(row, []), curves.accuracy.get(row, []))
        for row in here
        if row not in curves.unreadable
    ]
    if drawn:
        without = sum(not curve.accuracy for curve in drawn)
        note = f" ({plural(without, 'run')} without one)" if without else ""
        title = f"{plural(len(drawn), 'run')}, ordered by {comparison.metric}"
        overlaid_curves(drawn, (title, f"{curves.split} accuracy{note}"), path)
    if missing := [runs["label"].iloc[row] for row in here if row in curves.unreadable]:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        remarks.append(f"No curve of {', '.join(missing[:3])}{more}: metrics.csv is missing or damaged.")
    return " ".join(remarks)


def _line(comparison: Comparison, path: Path) -> None:
    groups, numbers, others = main_groups(comparison)
    if len(numbers) != 1 or len(others) > 1 or (others and groups[others[0]].nunique(dropna=False) > len(PALETTE)):
        return
    runs = comparison.runs[comparison.on_main_data]
    groups, runs = (table.assign(x=table[numbers[0]].astype(np.float64)) for table in (groups, runs))
    series = {}
    for value, members in groups.groupby(others[0], dropna=False, sort=False) if others else [("", groups)]:
        label = f"{heading(others[0])} {str(value) or 'null'}" if others else ""
        series[label] = members.sort_values("x"), runs[runs["group"].isin(members["group"])]
    line(series, heading(numbers[0]), comparison.metric, path)


def _heat_map(comparison: Comparison, path: Path) -> str | None:
    groups, numbers, others = main_groups(comparison)
    if len(numbers) != 2 or others:
        return None
    if groups[numbers].nunique().max() > MOST_LEVELS:
        return f"No heat map: {' or '.join(map(heading, numbers))} has more than {MOST_LEVELS} values."
    mean, std = (by_two_numbers(groups, (numbers[0], numbers[1]), column) for column in ("mean", "std"))
    mean = mean.rename_axis(index=heading(numbers[0]), columns=heading(numbers[1]))
    heat_map(mean, std, comparison.metric, is_lower_better(comparison.metric), path)
    return None
