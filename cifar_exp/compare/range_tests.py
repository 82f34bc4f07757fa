"""LR range tests of the compared runs: their curves under the runs' accuracies."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cifar_exp.compare.comparison import Comparison
from cifar_exp.compare.differences import SEED, partition, result_columns
from cifar_exp.compare.discover import fingerprint_of, read_config
from cifar_exp.compare.naming import heading
from cifar_exp.compare.ordering import numbers_of
from cifar_exp.config.fields import AUTO
from cifar_exp.reports.figures.lr_range_test import draw_over_lr_range_tests
from cifar_exp.reports.figures.style import PALETTE
from cifar_exp.safe_io.plural import plural
from cifar_exp.training.lr_range_test import FILE, LRRangeTest, read_lr_range_test

MAX_LR = "config.max_lr"
_MOST_NAMED = 8  # settings in a line's label

# Keys that an LR range test does not depend on; any seed will do.
_NOT_IN_A_TEST = {MAX_LR, SEED, "config.epochs", "config.evaluate_test_each_epoch", "precision"}


def draw_over_range_tests(comparison: Comparison, directories: Sequence[Path], path: Path) -> str:
    """Draw the metric against ``max_lr`` over the LR range tests of the same experiment; returns a remark."""
    runs = comparison.runs[comparison.on_main_data]
    if not directories or not len(runs) or MAX_LR not in comparison.varied:
        return ""
    used = numbers_of(runs, "max_lr_used").fillna(numbers_of(runs, MAX_LR))  # older versions did not record it
    runs = runs.assign(max_lr=used.where(used > 0), auto=runs[MAX_LR] == AUTO).dropna(subset=["max_lr"])
    if runs["max_lr"].nunique() < 2:
        return ""
    keys = [
        key
        for key in result_columns(runs, comparison.metric)
        if key not in _NOT_IN_A_TEST and not key.startswith("config.evaluation.")
    ]
    experiments = runs[keys].drop_duplicates().to_dict("records")
    curves, others, remarks = _curves(directories, experiments)
    if others:
        remarks.append(
            f"{plural(others, 'LR range test')} of other experiments {'is' if others == 1 else 'are'} not drawn."
        )
    varied = [column for column in comparison.varied if column != MAX_LR and len(runs[column].unique()) > 1]
    series = {}
    for _, members in runs.groupby(partition(runs, varied), sort=False):
        parts = [f"{heading(column)} {members[column].iloc[0] or 'null'}" for column in varied[:_MOST_NAMED]]
        series[", ".join([*parts, *("…" for _ in varied[_MOST_NAMED : _MOST_NAMED + 1])])] = members
    if curves and len(series) > len(PALETTE):
        remarks.append(f"No {path.name}: the settings other than max_lr have more than {len(PALETTE)} combinations.")
    elif curves:
        draw_over_lr_range_tests(series, curves, comparison.metric, path)
    return " ".join(remarks)


def _curves(directories: Sequence[Path], experiments: list[dict[Any, Any]]) -> tuple[list[LRRangeTest], int, list[str]]:
    """The curves of the runs' experiments, the number of other LR range tests, and remarks about unreadable ones."""
    curves: dict[tuple[float, ...], LRRangeTest] = {}  # each once: runs that differ by their epochs have the same curve
    others, remarks = 0, []
    for directory in directories:
        try:
            curve = read_lr_range_test(directory / FILE)
        except (OSError, ValueError, TypeError, OverflowError) as error:
            remarks.append(f"{directory / FILE}: cannot be read ({error}).")
            continue
        config = read_config(str(directory)) | fingerprint_of(directory)
        # By the keys that both have.
        if config and any(
            all(config.get(key, value) == value for key, value in one.items() if isinstance(value, str))
            for one in experiments
        ):
            curves[tuple(curve.losses)] = curve
        else:
            others += 1
    return list(curves.values()), others, remarks
