"""Learning-rate range tests beside the runs compared: which belong to which runs, and accuracy over their curves."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from cifar_exp.compare.differences import SEED, partition, result_columns
from cifar_exp.compare.discover import config_as_row, fingerprint_of
from cifar_exp.compare.naming import heading
from cifar_exp.compare.tables import Comparison
from cifar_exp.config.fields import AUTO
from cifar_exp.evaluation.statistics import LARGEST
from cifar_exp.reports.figures.comparison import PALETTE
from cifar_exp.reports.figures.lr_range_test import MeasuredAt, draw_over_lr_range_tests
from cifar_exp.training.lr_range_test import FILE, LRRangeTest, read_lr_range_test

MAX_LR, USED = "config.max_lr", "max_lr_used"

# What no range test depends on, beside the seed, of which any will do.
_NOT_IN_A_TEST = (MAX_LR, SEED, "config.epochs", "config.evaluate_test_each_epoch")
_MOST_NAMED = 8  # settings in a line's label
_NOT_IN_A_TEST_UNDER = ("config.evaluation.",)


@dataclass(frozen=True)
class _Test:
    """A curve, and the config (and data) that it is of, as text by column."""

    directory: Path
    curve: LRRangeTest
    of: dict[str, str]


def draw_over_range_tests(comparison: Comparison, directories: Sequence[Path], path: Path) -> tuple[bool, str]:
    """Draw the metric against ``max_lr`` over the range tests of the same experiment.

    Args:
        comparison: of the runs.
        directories: that hold an ``lr_find.csv``.
        path: of the PNG.

    Returns:
        Whether there was something to draw, and a remark.
    """
    runs = comparison.runs[comparison.runs["usable"]]
    if not directories or not len(runs) or MAX_LR not in comparison.varied:
        return False, ""
    runs = runs[runs["data_set"] == runs["data_set"].iloc[0]]
    runs = runs.assign(max_lr=_numbers(runs)).dropna(subset=["max_lr"])
    if runs["max_lr"].nunique() < 2:
        return False, ""
    tests, remarks = _read(directories)
    keys = [key for key in result_columns(runs, comparison.metric) if not _is_no_part(key)]
    fitting = [
        test for test in tests if any(_fits(test, run, keys) for _, run in runs[keys].drop_duplicates().iterrows())
    ]
    if others := len(tests) - len(fitting):
        remarks.append(
            f"{others} range test{'s are' if others > 1 else ' is'} of another experiment than the runs and not drawn."
        )
    # Jobs that differ by their epochs find the same curve.
    curves = list({tuple(test.curve.losses): test.curve for test in fitting}.values())
    others_varied = [column for column in comparison.varied if column != MAX_LR and len(runs[column].unique()) > 1]
    groups = [members for _, members in runs.groupby(partition(runs, others_varied), sort=False)]
    if curves and len(groups) > len(PALETTE):
        remarks.append(f"No {path.name}: what varies beside max_lr has more than {len(PALETTE)} combinations.")
    if not curves or len(groups) > len(PALETTE):
        return False, " ".join(remarks)
    series = []
    for members in groups:
        first = members.iloc[0]
        label = ", ".join(f"{heading(column)} {first[column] or 'null'}" for column in others_varied[:_MOST_NAMED])
        label += ", …" if len(others_varied) > _MOST_NAMED else ""
        found = members[MAX_LR] == AUTO
        series.append(MeasuredAt(label, members["max_lr"].to_numpy(), members["value"].to_numpy(), found.to_numpy()))
    draw_over_lr_range_tests(series, curves, comparison.metric, path)
    return True, " ".join(remarks)


def with_numbers(comparison: Comparison) -> Comparison:
    """The comparison with ``auto`` replaced by the learning rate that was found: a place on an axis of numbers.

    A group of several seeds, which can have found different ones, stands at their geometric mean. Where a number is
    not known, or another group was run at it by name, everything stays as it is.
    """
    runs, groups = comparison.runs, comparison.groups
    if MAX_LR not in groups.columns or not (groups[MAX_LR] == AUTO).any():
        return comparison
    usable = runs[runs["usable"]]
    used = np.log(_numbers(usable)).groupby(usable["group"]).mean()
    found = groups["group"].map(used)[groups[MAX_LR] == AUTO]
    if found.isna().any():
        return comparison
    numbers = groups[MAX_LR].where(groups[MAX_LR] != AUTO, np.exp(groups["group"].map(used)).map("{:.6g}".format))
    replaced = groups.assign(**{MAX_LR: numbers})
    if replaced.duplicated(["data_set", *comparison.varied]).any():
        return comparison
    by_group = replaced.set_index("group")[MAX_LR]
    auto = runs[MAX_LR] == AUTO
    return replace(
        comparison,
        groups=replaced,
        runs=runs.assign(**{MAX_LR: runs[MAX_LR].where(~auto, runs["group"].map(by_group))}),
    )


def _numbers(runs: pd.DataFrame) -> pd.Series:
    """The learning rate that each run used: what it recorded, or else (an older version) what was typed."""
    typed = pd.to_numeric(runs[MAX_LR], errors="coerce")
    used = pd.to_numeric(runs[USED], errors="coerce") if USED in runs.columns else typed
    numbers = used.fillna(typed)
    return numbers.where((numbers > 0) & (numbers <= LARGEST))


def _is_no_part(key: str) -> bool:
    return key in _NOT_IN_A_TEST or key.startswith(_NOT_IN_A_TEST_UNDER) or key == "precision"


def _read(directories: Sequence[Path]) -> tuple[list[_Test], list[str]]:
    tests, remarks = [], []
    for directory in directories:
        try:
            curve = read_lr_range_test(directory / FILE)
        except (OSError, ValueError, TypeError, OverflowError) as error:
            remarks.append(f"{directory / FILE}: cannot be read ({error}).")
            continue
        header, row = config_as_row(str(directory))
        of = dict(zip(header, row, strict=True))
        if fingerprint := fingerprint_of(directory):
            of["data_fingerprint"] = fingerprint
        tests.append(_Test(directory, curve, of))
    return tests, remarks


def _fits(test: _Test, run: pd.Series, keys: Sequence[str]) -> bool:
    """Whether the test is of the run's experiment, by the keys that both know."""
    return bool(test.of) and all(
        test.of[key] == run[key] for key in keys if key in test.of and isinstance(run[key], str)
    )
