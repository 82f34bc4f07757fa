"""Runs, ordered, grouped and named by the settings that differ between them."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cifar_exp.compare.differences import SEED, differing_columns, partition, result_columns
from cifar_exp.compare.discover import OWN_COLUMNS, short_names
from cifar_exp.compare.group_pairs import GroupVerdicts, against_baseline_group
from cifar_exp.compare.groups import grouped
from cifar_exp.compare.naming import NAME, are_experiments, heading, names
from cifar_exp.compare.ordering import (
    SELECTION,
    TEST,
    best_of_each,
    column_of,
    in_order,
    is_lower_better,
    metric_values,
    numbers_of,
)
from cifar_exp.config.suggestions import suggest_key
from cifar_exp.errors import RequestError
from cifar_exp.evaluation.statistics import LARGEST

# Columns of ``Comparison.runs`` that are not measured.
NOT_MEASURED = {*OWN_COLUMNS, "label", "name", "best", "group", "value", "usable", "data_set", "without_selection"}


@dataclass(frozen=True)
class Comparison:
    """Runs, ordered and grouped, before their predictions are compared."""

    metric: str  # name of the column that the runs are ordered by
    # A row per run, best first; those without a value, or on other data than the baseline, come last. Beside the
    # columns of ``read_runs``: ``label`` (short name), ``value`` (the metric as a float), ``usable`` (completed,
    # readable, with a finite value of plausible size), ``data_set`` and ``group`` (numbers), ``best``, and ``name``
    # (its settings that differ).
    runs: pd.DataFrame
    over: Sequence[str]  # columns whose values make repetitions of one setting: the seed, unless the user named others
    differing: list[str]  # the columns that differ between the runs' configs, those of ``over`` included
    experiments: bool  # whether each setting is named by its config's ``name``, because too many keys differ
    # A row per group of usable runs that are equal except for ``over``, best first; see ``groups.grouped``.
    groups: pd.DataFrame
    verdicts: GroupVerdicts | None  # the groups against one of them; None if there are fewer than two
    baseline: int | None  # position of the baseline in ``runs``; None if no run is usable
    baseline_by: str  # column whose best value chose the baseline; empty if the user named it
    shared: str  # the folder that the labels are relative to
    remarks: list[str]  # cautions about the comparison

    @property
    def varied(self) -> list[str]:
        """The columns that differ between groups."""
        return [column for column in self.differing if column not in self.over]

    @property
    def repetition(self) -> str:
        """The keys by which repetitions of one setting differ, in words."""
        return " and ".join(map(heading, self.over))

    @property
    def on_main_data(self) -> pd.Series:
        """Whether each run is usable and on the baseline's data. Others are not comparable with it."""
        return self.runs["usable"] & (self.runs["data_set"] == self.runs["data_set"].iloc[0])

    def comparisons(self, tested: int) -> int:
        """How many comparisons the p-values of ``tested`` pairs must be corrected for.

        A baseline chosen without the test split is compared with each of the others. A baseline with the best test
        accuracy is part of the result: any two runs could have been the pair with the largest difference.
        """
        candidates = max(int(self.on_main_data.sum()), tested + 1)
        if self.baseline_by not in ("", SELECTION):
            return candidates * (candidates - 1) // 2
        return tested if self.metric == SELECTION else candidates - 1

    @property
    def has_repeats(self) -> bool:
        """Whether any setting was run more than once."""
        return bool((self.groups["runs"] >= 2).any())

    @property
    def group_numbers(self) -> list[int | None]:
        """For each run, the row of ``groups``, from 1, that it is averaged in; None for a run that is not usable."""
        places = {group: place for place, group in enumerate(self.groups["group"], start=1)}
        return [
            places[group] if usable else None
            for group, usable in zip(self.runs["group"], self.runs["usable"], strict=True)
        ]


def compare(
    runs: pd.DataFrame, metric: str | None = None, baseline: str | None = None, over: Sequence[str] = ("seed",)
) -> Comparison:
    """Order, group and describe runs.

    Args:
        runs: the result of ``read_runs``.
        metric: column to order by; None takes ``val_accuracy`` if all completed runs have it, otherwise
            ``test_accuracy``.
        baseline: path of the run to compare with, one of ``runs``; None takes the best by ``val_accuracy`` (by
            ``metric`` unless all completed runs have it) on the data set that most runs share.
        over: keys of the config whose values make repetitions of one setting.

    Raises:
        RequestError: no such metric, no such key, or a baseline without a value.
    """
    runs, repeated = runs.copy(), _columns_over(runs, over)
    shared, runs["label"] = short_names(list(runs["path"]))
    complete = (runs["state"] == "completed") & runs["problem"].isna()
    validation = numbers_of(runs, SELECTION)
    runs["without_selection"] = complete & validation.isna()
    by_validation = complete.any() and not runs["without_selection"].any()
    metric = metric or (SELECTION if by_validation else TEST)
    runs["value"] = metric_values(runs, metric)
    runs["usable"] = complete & (runs["value"].abs() <= LARGEST)
    runs["data_set"] = _data_sets(runs)
    keys = result_columns(runs, metric)
    runs["group"] = partition(runs, keys, repeated)
    differing = differing_columns(runs, keys, repeated)

    if baseline is not None:
        chosen: int | None = _named_baseline(runs, baseline, metric)
    elif by_validation:
        chosen = _best_run(runs, validation)
    else:
        chosen = _best_run(runs, -runs["value"] if is_lower_better(metric) else runs["value"])
    order = in_order(runs, int(runs["data_set"].iloc[chosen or 0]), is_lower_better(metric))
    runs = runs.iloc[order].reset_index(drop=True)
    runs["best"] = best_of_each(runs)
    chosen = None if chosen is None else order.index(chosen)
    varied = [column for column in differing if column not in repeated]
    experiments = are_experiments(runs[runs["usable"]], varied)
    naming = [NAME] if experiments else varied
    runs["name"] = names(runs, [*naming, *(column for column in repeated if column in differing)], list(runs["label"]))
    groups, remarks = grouped(runs, varied, naming, repeated, metric)
    named = int(runs["group"].iloc[chosen]) if chosen is not None and baseline is not None else None
    verdicts = against_baseline_group(groups, SELECTION if by_validation else TEST, named)
    return Comparison(
        metric=metric,
        runs=runs,
        over=repeated,
        differing=differing,
        experiments=experiments,
        groups=groups,
        verdicts=verdicts,
        baseline=chosen,
        baseline_by="" if baseline is not None else SELECTION if by_validation else metric,
        shared=shared,
        remarks=[*remarks, *_cautions(runs, metric)],
    )


def _columns_over(runs: pd.DataFrame, over: Sequence[str]) -> tuple[str, ...]:
    """The columns of the keys that count as repetitions."""
    columns = tuple(dict.fromkeys(f"config.{key}" for key in over))
    for column in columns:
        if column not in runs.columns and columns != (SEED,):
            key = column.removeprefix("config.")
            known = [name.removeprefix("config.") for name in runs.columns if name.startswith("config.")]
            raise RequestError(f"--over {key}: no run has such a config key{suggest_key(key, known)}")
    return columns


def _data_sets(runs: pd.DataFrame) -> NDArray[np.int64]:
    """A number for each run's data. A run without fingerprint is assigned to the data of the same name."""
    names, fingerprints = column_of(runs, "config.data.name"), column_of(runs, "data_fingerprint")
    pairs = [tuple(None if pd.isna(cell) else cell for cell in pair) for pair in zip(names, fingerprints, strict=True)]
    usual = {name: fingerprint for (name, fingerprint), _ in reversed(Counter(pairs).most_common()) if fingerprint}
    return pd.factorize(
        np.array([fingerprint or usual.get(name, name) for name, fingerprint in pairs], dtype=object),
        use_na_sentinel=False,
    )[0].astype(np.int64)


def _best_run(runs: pd.DataFrame, values: pd.Series) -> int | None:
    """Position of the usable run with the largest value on the data set that most usable runs share."""
    usable = runs["usable"]
    if not usable.any():
        return None
    main = np.bincount(runs.loc[usable, "data_set"]).argmax()
    return int(np.where(usable & (runs["data_set"] == main), values, -np.inf).argmax())


def _named_baseline(runs: pd.DataFrame, path: str, metric: str) -> int:
    position = int((runs["path"] == path).to_numpy().argmax())
    row = runs.iloc[position]
    if not row["usable"]:
        reason = row["problem"] or (row["state"] if row["state"] != "completed" else f"it has no {metric}")
        raise RequestError(f"--baseline {row['run']}: cannot be the baseline ({reason}); name a completed run")
    return position


def _cautions(runs: pd.DataFrame, metric: str) -> list[str]:
    """What is not comparable, not known, or optimistic, in sentences."""
    remarks = []
    usable = runs[runs["usable"]]
    if (count := usable["data_set"].nunique()) > 1:
        remarks.append(
            f"These runs are on {count} different data sets: values of {metric} are comparable only within one. "
            "The best of each is marked; runs on other data than the baseline's come last."
        )
    if len(usable) < 2:
        return remarks
    unknown = usable[column_of(usable, "data_fingerprint").isna()]
    if len(unknown):
        remarks.append(
            f"{_names(unknown, usable)} recorded no data fingerprint (older version), so the training data may differ."
        )
    on_test = usable[column_of(usable, "selection_split") == "test"]
    if len(on_test):
        remarks.append(
            f"{_names(on_test, usable)} selected the best epoch on the test split (no validation split was held out): "
            "the winner's test accuracy is optimistic."
        )
    if metric.startswith("test_"):
        without = usable[usable["without_selection"]]
        reason = f"{_names(without, usable)} {'has' if len(without) == 1 else 'have'} no {SELECTION}."
        reason = reason if len(without) else f"Omit --metric to select by {SELECTION}."
        remarks.append(
            f"{reason} The best of {len(usable):,} runs by {metric} is selected on the test split, so the winner's "
            f"{metric} is optimistic."
        )
    return remarks


def _names(runs: pd.DataFrame, among: pd.DataFrame) -> str:
    """The first three names of runs, and how many more there are."""
    if len(runs) == len(among):
        return f"All {len(runs):,} runs"
    return "; ".join(runs["name"].iloc[:3]) + (f" and {len(runs) - 3:,} more" if len(runs) > 3 else "")
