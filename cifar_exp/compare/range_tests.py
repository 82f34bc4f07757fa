"""LR range tests of the compared runs: their curves under the runs' accuracies."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

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
    runs = runs.assign(max_lr=_used(runs), auto=runs[MAX_LR] == AUTO).dropna(subset=["max_lr"])
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
    groups = [members for _, members in runs.groupby(partition(runs, varied), sort=False)]
    if curves and len(groups) > len(PALETTE):
        remarks.append(f"No {path.name}: the settings other than max_lr have more than {len(PALETTE)} combinations.")
    if not curves or len(groups) > len(PALETTE):
        return " ".join(remarks)
    series = {}
    for members in groups:
        first = members.iloc[0]
        label = ", ".join(f"{heading(column)} {first[column] or 'null'}" for column in varied[:_MOST_NAMED])
        series[label + (", …" if len(varied) > _MOST_NAMED else "")] = members
    draw_over_lr_range_tests(series, curves, comparison.metric, path)
    return " ".join(remarks)


def with_numbers(comparison: Comparison) -> Comparison:
    """The comparison with ``max_lr=auto`` replaced by the learning rate that was found, for an axis of numbers.

    A group of several seeds gets their geometric mean. The comparison is unchanged if a number is unknown or equals
    that of another group.
    """
    runs, groups = comparison.runs, comparison.groups
    if MAX_LR not in groups.columns or not (groups[MAX_LR] == AUTO).any():
        return comparison
    usable = runs[runs["usable"]]
    found = np.exp(np.log(_used(usable)).groupby(usable["group"]).mean())
    auto = groups["group"][groups[MAX_LR] == AUTO].map(found)
    if auto.isna().any():
        return comparison
    texts = dict(zip(groups["group"][auto.index], auto.map("{:.6g}".format), strict=True))
    replaced = groups.assign(**{MAX_LR: groups["group"].map(texts).fillna(groups[MAX_LR])})
    if replaced.duplicated(["data_set", *comparison.varied]).any():
        return comparison
    of_runs = runs["group"].map(texts).where(runs[MAX_LR] == AUTO).fillna(runs[MAX_LR])
    return replace(comparison, groups=replaced, runs=runs.assign(**{MAX_LR: of_runs}))


def _used(runs: pd.DataFrame) -> pd.Series:
    """The learning rate that each run used; of an older version, which did not record it, the config's."""
    used = numbers_of(runs, "max_lr_used").fillna(numbers_of(runs, MAX_LR))
    return used.where(used > 0)


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
        config: dict[str, str | None] = dict(read_config(str(directory)))
        if fingerprint := fingerprint_of(directory):
            config["data_fingerprint"] = fingerprint
        # By the keys that both have.
        if config and any(
            all(config.get(key, value) == value for key, value in one.items() if isinstance(value, str))
            for one in experiments
        ):
            curves[tuple(curve.losses)] = curve
        else:
            others += 1
    return list(curves.values()), others, remarks
