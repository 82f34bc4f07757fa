"""Which figures a comparison calls for, and what goes into them."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from cifar_exp.compare.files import CURVES, FIXED_AND_BROKEN, HEAT_MAP, LINE, MAX_LR
from cifar_exp.compare.naming import heading, one_line
from cifar_exp.compare.ordering import is_lower_better
from cifar_exp.compare.range_tests import draw_over_range_tests, with_numbers
from cifar_exp.compare.tables import Comparison
from cifar_exp.evaluation.statistics import LARGEST
from cifar_exp.reports.figures.comparison import PALETTE, Curve, Varied, heat_map, line, overlaid_curves
from cifar_exp.reports.figures.fixed_and_broken import COLUMNS, Change, fixed_and_broken
from cifar_exp.run_dir import tables

MOST_LEVELS = 20  # values of one number up to which a heat map can be read


# Whether a figure was made, and what to say about it.
_Outcome = tuple[bool, str]


def draw(
    comparison: Comparison, shown: Sequence[int], change: Change | None, range_tests: Sequence[Path], folder: Path
) -> tuple[list[str], list[str]]:
    """Make the figures for the runs shown.

    Args:
        comparison: what there is to compare.
        shown: positions of the usable runs to draw curves of.
        change: the baseline against one of the others, image by image, if any could be tested.
        range_tests: directories with a range test's curve.
        folder: where the figures go.

    Returns:
        Names of the figures made, and remarks about those that could not be.
    """
    made: list[str] = []
    remarks: list[str] = []
    numeric = with_numbers(comparison)
    parts: list[tuple[str, Callable[[Path], _Outcome]]] = [
        (CURVES, lambda path: _curves(comparison, shown, path)),
        (LINE, lambda path: _line(numeric, path)),
        (HEAT_MAP, lambda path: _heat_map(numeric, path)),
        (MAX_LR, lambda path: draw_over_range_tests(comparison, range_tests, path)),
        (FIXED_AND_BROKEN, lambda path: _fixed_and_broken(change, path)),
    ]
    for name, part in parts:
        drawn, remark = _guarded(part, folder / name)
        made += [name] if drawn else []
        remarks += [remark] if remark else []
    return made, remarks


def _guarded(part: Callable[[Path], _Outcome], path: Path) -> _Outcome:
    """Make a figure, or say why not: numbers that anybody may have written can be more than Matplotlib can place.

    Raises:
        OSError: it cannot be written.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of numbers that overflow
            return part(path)
    except OSError:
        raise
    except Exception as error:
        return False, f"No {path.name}: it cannot be drawn ({type(error).__name__}: {one_line(error)})."


def _curves(comparison: Comparison, shown: Sequence[int], path: Path) -> _Outcome:
    runs = comparison.runs.iloc[list(shown)]
    if not len(runs):
        return False, ""
    # Losses of other data in the same axes would invite a comparison that means nothing.
    here = runs[runs["data_set"] == runs["data_set"].iloc[0]]
    remarks = ["The figures show the runs on the baseline's data only."] if len(here) < len(runs) else []
    named = dict(zip(comparison.groups["group"], comparison.groups["name"], strict=True))
    labels = {
        group: members["name"].iloc[0] if len(members) == 1 else f"{named[group]}, {len(members)} runs"
        for group, members in here.groupby("group", sort=False)
    }
    looks = {group: look for look, group in enumerate(labels)}
    curves: list[Curve] = []
    missing: list[str] = []
    for directory, label, group in zip(here["path"], here["label"], here["group"], strict=True):
        try:
            metrics = tables.read_table(Path(directory) / "metrics.csv").apply(pd.to_numeric, errors="raise")
            if metrics["epoch"].isna().any():
                raise ValueError("cut off")
            if (np.isfinite(metrics) & (metrics.abs() > LARGEST)).any(axis=None):
                raise ValueError("not a measured number")
        except (OSError, ValueError, KeyError, TypeError, OverflowError):
            missing.append(label)
            continue
        curves.append(Curve(labels[group], looks[group], metrics))
    if curves:
        title = f"{len(curves)} run{'' if len(curves) == 1 else 's'}, ordered by {comparison.metric}"
        overlaid_curves(curves, title, path)
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        remarks.append(f"No curve of {', '.join(missing[:3])}{more}: metrics.csv is missing or damaged.")
    return bool(curves), " ".join(remarks)


def main_groups(comparison: Comparison) -> tuple[pd.DataFrame, list[str], list[str]]:
    """The groups on the baseline's data; which numbers vary between them, and what else does."""
    groups = comparison.groups[comparison.groups["data_set"] == comparison.runs["data_set"].iloc[0]]
    varied = [column for column in comparison.varied if len(groups[column].unique()) > 1]
    numbers = [column for column in varied if are_numbers(groups[column])]
    others = set(varied) - set(numbers)
    return groups, numbers, [column for column in varied if column in others]


def are_numbers(column: pd.Series) -> bool:
    """Whether every value of a config's column is a finite number of a size to reckon with."""
    try:
        return bool((column.astype(np.float64).abs() <= LARGEST).all())
    except (TypeError, ValueError):
        return False


def _line(comparison: Comparison, path: Path) -> _Outcome:
    groups, numbers, others = main_groups(comparison)
    if len(numbers) != 1 or len(others) > 1 or (others and groups[others[0]].nunique(dropna=False) > len(PALETTE)):
        return False, ""
    x = numbers[0]
    runs = comparison.runs[comparison.runs["usable"]]
    series = []
    for label, members in groups.groupby(others, dropna=False, sort=False) if others else [("", groups)]:
        points = members.assign(x=members[x].astype(np.float64)).sort_values("x")
        values = runs[runs["group"].isin(points["group"])]
        series.append(
            Varied(
                label=f"{heading(others[0])} {label[0] or 'null'}" if others else "",
                x=points["x"].to_numpy(),
                mean=points["mean"].to_numpy(),
                low=points["interval_low"].to_numpy(),
                high=points["interval_high"].to_numpy(),
                runs=list(zip(values[x].astype(np.float64), values["value"], strict=True)),
            )
        )
    line(series, heading(x), comparison.metric, path)
    return True, ""


def _heat_map(comparison: Comparison, path: Path) -> _Outcome:
    groups, numbers, others = main_groups(comparison)
    if len(numbers) != 2 or others:
        return False, ""
    table = groups.assign(**{column: groups[column].astype(np.float64) for column in numbers})
    if table[numbers].nunique().max() > MOST_LEVELS:
        return False, f"No heat map: {' or '.join(map(heading, numbers))} has more than {MOST_LEVELS} values."
    mean = table.pivot_table(index=numbers[0], columns=numbers[1], values="mean")
    std = table.set_index(numbers)["std"].unstack().reindex(index=mean.index, columns=mean.columns)  # noqa: PD010
    heat_map(
        mean.to_numpy(),
        std.to_numpy(),
        (heading(numbers[0]), [f"{value:g}" for value in mean.index]),
        (heading(numbers[1]), [f"{value:g}" for value in mean.columns]),
        comparison.metric,
        is_lower_better(comparison.metric),
        path,
    )
    return True, ""


def _fixed_and_broken(change: Change | None, path: Path) -> _Outcome:
    if change is None:
        return False, ""
    fixed_and_broken(replace(change, fixed=change.fixed[:COLUMNS], broken=change.broken[:COLUMNS]), path)
    return True, ""
