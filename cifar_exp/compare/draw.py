"""The PNG figures of a comparison: which of them apply, and their content."""

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator, PercentFormatter

from cifar_exp.compare.changed_images import Change, fixed_and_broken
from cifar_exp.compare.comparison import Comparison
from cifar_exp.compare.differences import SEED, partition, result_columns
from cifar_exp.compare.discover import fingerprint_of, read_config
from cifar_exp.compare.figure_data import LOG_FROM, MOST_LEVELS, Curves, by_two_numbers, main_groups
from cifar_exp.compare.naming import heading, one_line
from cifar_exp.compare.ordering import is_lower_better, numbers_of
from cifar_exp.compare.output import FIGURES
from cifar_exp.config.fields import AUTO
from cifar_exp.reports.figures.lr_range_test import draw_over_lr_range_tests
from cifar_exp.reports.figures.style import DARK, PALETTE, new_figure
from cifar_exp.safe_io.plural import plural
from cifar_exp.training.lr_range_test import FILE, LRRangeTest, read_lr_range_test

_DASHES: tuple[Any, ...] = ("solid", (0, (5, 2)), (0, (1, 1.3)))
_LABEL_LENGTH = 44
_MOST_TICKS = 10
_MAX_LR = "config.max_lr"
_MOST_NAMED = 8  # settings in a line's label

# Keys that an LR range test does not depend on; any seed will do.
_NOT_IN_A_TEST = {_MAX_LR, SEED, "config.epochs", "config.evaluate_test_each_epoch", "precision"}


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
        lambda path: _over_range_tests(comparison, range_tests, path),
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
    """Training loss and accuracy over the epochs, the best run on top. Runs of a group share colour and dash."""
    runs = comparison.runs
    here = [row for row in shown if comparison.on_main_data.iloc[row]]
    remarks = ["The figures show the runs on the baseline's data only."] if len(here) < len(shown) else []
    group_names = dict(zip(comparison.groups["group"], comparison.groups["name"], strict=True))
    labels = {
        group: members["name"].iloc[0] if len(members) == 1 else f"{group_names[group]}, {len(members)} runs"
        for group, members in runs.iloc[here].groupby("group", sort=False)
    }
    if rows := [row for row in here if row not in curves.unreadable]:
        without = sum(row not in curves.accuracy for row in rows)
        note = f" ({plural(without, 'run')} without one)" if without else ""
        with new_figure(path, 11, 4.2) as figure:
            figure.suptitle(f"{plural(len(rows), 'run')}, ordered by {comparison.metric}", fontsize=11)
            loss, accuracy = figure.subplots(1, 2)
            loss.set(title="Training loss", ylabel="cross-entropy, nats per image")
            accuracy.set(title=f"{curves.split} accuracy{note}")
            accuracy.yaxis.set_major_formatter(PercentFormatter(1.0))
            drawn: dict[Any, Any] = {}
            for axes, points_of in ((loss, curves.loss), (accuracy, curves.accuracy)):
                for order, row in reversed(list(enumerate(rows))):
                    if points := points_of.get(row):
                        group = runs["group"].iloc[row]
                        look = _look(list(labels).index(group), len(points))
                        height = 3 + (len(rows) - order) / len(rows)
                        [drawn[group]] = axes.plot(*zip(*points, strict=True), zorder=height, **look)
                axes.set_xlabel("epoch")
                axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
                axes.margins(x=0.05)
            if len(drawn) > 1:
                handles = {
                    fill(label, _LABEL_LENGTH): drawn[group] for group, label in labels.items() if group in drawn
                }
                place = {"loc": "outside right upper", "fontsize": 8, "title": "best first", "alignment": "left"}
                figure.legend(handles.values(), handles, **place)
    if missing := [runs["label"].iloc[row] for row in here if row in curves.unreadable]:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        remarks.append(f"No curve of {', '.join(missing[:3])}{more}: metrics.csv is missing or damaged.")
    return " ".join(remarks)


def _look(number: int, points: int) -> dict[str, Any]:
    return {
        "color": PALETTE[number % len(PALETTE)],
        "linestyle": _DASHES[number // len(PALETTE) % len(_DASHES)],
        "marker": "o" if points <= 12 else None,
        "markersize": 5 if points == 1 else 3.5,
        "linewidth": 1.5,
        "alpha": 0.9,
    }


def _line(comparison: Comparison, path: Path) -> None:
    """The metric against the one number that varies; a line for each value of at most one other setting."""
    groups, numbers, others = main_groups(comparison)
    if len(numbers) != 1 or len(others) > 1 or (others and groups[others[0]].nunique(dropna=False) > len(PALETTE)):
        return
    runs, metric, x_name = comparison.runs[comparison.on_main_data], comparison.metric, heading(numbers[0])
    groups, runs = (table.assign(x=table[numbers[0]].astype(np.float64)) for table in (groups, runs))
    spread = groups["interval_low"].notna().any()
    with new_figure(path, 7.5, 4.2) as figure:
        axes = figure.subplots()
        series = groups.groupby(others[0], dropna=False, sort=False) if others else [("", groups)]
        for colour, (value, members) in zip(PALETTE, series, strict=False):
            lines = members.sort_values("x")
            known = lines.dropna(subset=["interval_low"])
            ends = (known["mean"] - known["interval_low"], known["interval_high"] - known["mean"])
            bars = {"fmt": "none", "ecolor": colour, "elinewidth": 1.2, "capsize": 4, "alpha": 0.7}
            axes.errorbar(known["x"], known["mean"], ends, **bars)
            label = f"{heading(others[0])} {str(value) or 'null'}" if others else ""
            axes.plot(lines["x"], lines["mean"], color=colour, marker="o", markersize=5, linewidth=1.8, label=label)
            if spread:
                single = runs[runs["group"].isin(members["group"])]
                points = {"facecolor": "white", "edgecolor": colour, "linewidth": 0.9, "zorder": 3}
                axes.scatter(single["x"], single["value"], s=16, **points)
        values = np.unique(groups["x"])
        if values[0] > 0 and values[-1] / values[0] >= LOG_FROM:
            axes.set_xscale("log")
        if len(values) <= _MOST_TICKS:
            axes.xaxis.set_major_locator(FixedLocator(list(values)))
            axes.xaxis.set_minor_locator(NullLocator())
            axes.set_xticks(values, [f"{value:g}" for value in values])
        if metric.endswith("accuracy"):
            axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        described = "mean, its 95% interval (t), and each run" if spread else "one run each"
        axes.set(xlabel=x_name, ylabel=metric, title=f"{metric} by {x_name}: {described}")
        if others and groups[others[0]].nunique(dropna=False) > 1:
            figure.legend(loc="outside right upper")


def _heat_map(comparison: Comparison, path: Path) -> str | None:
    """The metric at every combination of two numbers. A combination without runs is gray."""
    groups, numbers, others = main_groups(comparison)
    if len(numbers) != 2 or others:
        return None
    if groups[numbers].nunique().max() > MOST_LEVELS:
        return f"No heat map: {' or '.join(map(heading, numbers))} has more than {MOST_LEVELS} values."
    metric, lower = comparison.metric, is_lower_better(comparison.metric)
    mean = by_two_numbers(groups, (numbers[0], numbers[1]), "mean")
    values, spread = mean.to_numpy(), by_two_numbers(groups, (numbers[0], numbers[1]), "std").to_numpy()
    with new_figure(path, 2.6 + max(1.0 * values.shape[1], 2.4), 1.6 + max(0.55 * values.shape[0], 1.4)) as figure:
        axes = figure.subplots()
        drawn = axes.imshow(values, cmap="Blues_r" if lower else "Blues", aspect="auto")
        axes.set_xticks(range(values.shape[1]), [f"{value:g}" for value in mean.columns])
        axes.set_yticks(range(values.shape[0]), [f"{value:g}" for value in mean.index])
        axes.set(xlabel=heading(numbers[1]), ylabel=heading(numbers[0]), facecolor="#d9d9d9")
        axes.grid(visible=False)
        best = np.nanmin(values) if lower else np.nanmax(values)
        for row, column in np.argwhere(~np.isnan(values)):
            value = values[row, column]
            dark = float(sum(drawn.cmap(drawn.norm(value))[:3])) < 1.6
            look = {"fontweight": "bold" if value == best else "normal", "color": "white" if dark else DARK}
            text = _cell_text(value, spread[row, column], metric)
            axes.text(column, row, text, ha="center", va="center", fontsize=8, **look)
        note = "" if np.isnan(spread).all() else " (mean ± standard deviation)"
        figure.suptitle(f"{metric}{note}; the best in bold", fontsize=10, fontweight="bold")
        bar = figure.colorbar(drawn, ax=axes, shrink=0.9)
        if metric.endswith("accuracy"):
            bar.ax.yaxis.set_major_formatter(PercentFormatter(1.0))
    return None


def _cell_text(value: float, std: float, metric: str) -> str:
    if metric.endswith("accuracy"):
        return f"{100 * value:.2f}%" + ("" if np.isnan(std) else f"\n± {100 * std:.2f}")
    return f"{value:.4g}" + ("" if np.isnan(std) else f"\n± {std:.2g}")


def _over_range_tests(comparison: Comparison, directories: Sequence[Path], path: Path) -> str:
    """The metric against ``max_lr`` over the LR range tests of the same experiment."""
    runs = comparison.runs[comparison.on_main_data]
    if not directories or not len(runs) or _MAX_LR not in comparison.varied:
        return ""
    used = numbers_of(runs, "max_lr_used").fillna(numbers_of(runs, _MAX_LR))  # older versions did not record it
    runs = runs.assign(max_lr=used.where(used > 0), auto=runs[_MAX_LR] == AUTO).dropna(subset=["max_lr"])
    if runs["max_lr"].nunique() < 2:
        return ""
    keys = [key for key in result_columns(runs, comparison.metric) if not key.startswith("config.evaluation.")]
    experiments = runs[[key for key in keys if key not in _NOT_IN_A_TEST]].drop_duplicates().to_dict("records")
    curves: dict[tuple[float, ...], LRRangeTest] = {}  # each once: runs that differ by their epochs have the same curve
    others, remarks = 0, []
    for directory in directories:
        try:
            curve = read_lr_range_test(directory / FILE)
        except (OSError, ValueError, TypeError, OverflowError) as error:
            remarks.append(f"{directory / FILE}: cannot be read ({error}).")
            continue
        config: dict[Any, str] = read_config(str(directory)) | fingerprint_of(directory)
        # By the keys that both have.
        if config and any(
            all(config.get(key, value) == value for key, value in one.items() if isinstance(value, str))
            for one in experiments
        ):
            curves[tuple(curve.losses)] = curve
        else:
            others += 1
    if others:
        are = "is" if others == 1 else "are"
        remarks.append(f"{plural(others, 'LR range test')} of other experiments {are} not drawn.")
    varied = [column for column in comparison.varied if column != _MAX_LR and len(runs[column].unique()) > 1]
    series = {}
    for _, members in runs.groupby(partition(runs, varied), sort=False):
        parts = [f"{heading(column)} {members[column].iloc[0] or 'null'}" for column in varied[:_MOST_NAMED]]
        series[", ".join([*parts, *("…" for _ in varied[_MOST_NAMED : _MOST_NAMED + 1])])] = members
    if curves and len(series) > len(PALETTE):
        remarks.append(f"No {path.name}: the settings other than max_lr have more than {len(PALETTE)} combinations.")
    elif curves:
        draw_over_lr_range_tests(series, list(curves.values()), comparison.metric, path)
    return " ".join(remarks)
