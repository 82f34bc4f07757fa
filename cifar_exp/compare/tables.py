"""Runs side by side: what differs between their configs, which is best, which differ by their seed only."""

import difflib
import math
from collections import Counter
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cifar_exp.compare.differences import SEED, differing_columns, partition, result_columns
from cifar_exp.compare.discover import natural, short_names
from cifar_exp.errors import RequestError
from cifar_exp.evaluation.statistics import LARGEST, t_interval
from cifar_exp.run_dir import tables

_LOWER_IS_BETTER = ("loss", "seconds", "gap", "misclassified", "memory", "parameters", "ece", "brier")
SELECTION = "val_accuracy"  # column that chooses the winner; the test split takes no part in the choice
TEST = "test_accuracy"
_NOT_METRICS = ("path", "run", "label", "state", "error", "problem")


@dataclass(frozen=True)
class Comparison:
    """What there is to say about a set of runs before their predictions are looked at.

    Attributes:
        metric: name of the column that the runs are ordered by.
        runs: a row per run, best first; those without a value, or on other data than the baseline, come after. Beside
            the columns of ``read_runs``: ``label`` (short name), ``value`` (the metric as a float), ``usable``
            (completed, readable, with a value that is finite and not absurd), ``data_set`` and ``group`` (numbers),
            ``best``.
        differing: the columns that differ between the runs' configs, the seed included.
        groups: a row per group of usable runs that are equal but for their seed, best first.
        baseline: position of the baseline in ``runs``; None where no run is usable.
        baseline_by: column whose best value chose the baseline; empty if the user named it.
        shared: the folder that the labels are relative to.
        remarks: sentences about what is not comparable, repeated, or to be read with care.
    """

    metric: str
    runs: pd.DataFrame
    differing: list[str]
    groups: pd.DataFrame
    baseline: int | None
    baseline_by: str
    shared: str
    remarks: list[str]

    @property
    def varied(self) -> list[str]:
        """The columns that differ, without the seed."""
        return [column for column in self.differing if column != SEED]

    def comparisons(self, tested: int) -> int:
        """How many comparisons the p-values of ``tested`` pairs must be corrected for.

        A baseline chosen without the test split is compared with each of the others. A baseline with the best test
        accuracy is part of the result: any two runs could have been the pair with the largest difference.
        """
        here = self.runs["usable"] & (self.runs["data_set"] == self.runs["data_set"].iloc[self.baseline or 0])
        candidates = max(int(here.sum()), tested + 1)
        if self.baseline_by not in ("", SELECTION):
            return candidates * (candidates - 1) // 2
        return tested if self.metric == SELECTION else candidates - 1

    @property
    def has_repeats(self) -> bool:
        """Whether any runs differ by their seed only."""
        return bool(len(self.groups)) and bool(self.groups["runs"].max() >= 2)

    @property
    def group_numbers(self) -> list[int | None]:
        """For each run, the row of ``groups``, from 1, that it is averaged in; None for a run that is not usable."""
        places = {group: place for place, group in enumerate(self.groups["group"], start=1)}
        return [
            places[group] if usable else None
            for group, usable in zip(self.runs["group"], self.runs["usable"], strict=True)
        ]


def is_lower_better(metric: str) -> bool:
    """Whether a smaller value of the metric is the better one (losses, times, sizes)."""
    return any(part in metric for part in _LOWER_IS_BETTER)


def heading(column: str) -> str:
    """A column's name as a table or a figure shows it: ``config.model.name`` is ``model``."""
    return column.removeprefix("config.").removesuffix(".name")


def compare(runs: pd.DataFrame, metric: str | None = None, baseline: str | None = None) -> Comparison:
    """Order, group and describe runs.

    Args:
        runs: what ``read_runs`` returned.
        metric: column to order by; None takes ``val_accuracy`` if all completed runs have it, else
            ``test_accuracy``.
        baseline: path of the run to compare with, one of ``runs``; None takes the best by ``val_accuracy`` (by
            ``metric`` unless all completed runs have it) on the data set that most runs share.

    Raises:
        RequestError: no such metric, or a baseline without a value.
    """
    runs = runs.copy()
    shared, runs["label"] = short_names(list(runs["path"]))
    whole = (runs["state"] == "completed") & runs["problem"].isna()
    validation = _numbers(runs, SELECTION)
    without = runs[whole & validation.isna()]
    by_validation = whole.any() and without.empty
    metric = metric or (SELECTION if by_validation else TEST)
    runs["value"] = _values(runs, metric)
    runs["usable"] = whole & (runs["value"].abs() <= LARGEST)
    data_set = _data_sets(runs)
    runs["data_set"] = data_set
    keys = result_columns(runs, metric)
    runs["group"] = partition(runs, keys)
    differing = differing_columns(runs, keys)

    chosen: int | None
    if baseline is not None:
        chosen, baseline_by = _named_baseline(runs, baseline, metric), ""
    elif by_validation:
        chosen, baseline_by = _best_run(runs, validation), SELECTION
    else:
        chosen, baseline_by = _best_run(runs, runs["value"] * (-1 if is_lower_better(metric) else 1)), metric
    main = data_set[chosen] if chosen is not None else _most_common(data_set)
    order = _order(runs, main, is_lower_better(metric))
    runs = runs.iloc[order].reset_index(drop=True)
    runs["best"] = _best_of_each(runs)
    if chosen is not None:
        chosen = int(np.flatnonzero(np.asarray(order) == chosen)[0])
    groups, repeats = _groups(runs, [column for column in differing if column != SEED], metric)
    remarks = [*repeats, *_remarks(runs, metric, without)]
    return Comparison(metric, runs, differing, groups, chosen, baseline_by, shared, remarks)


def _values(runs: pd.DataFrame, metric: str) -> NDArray[np.float64]:
    """The metric's column as floats, NaN where there is no number."""
    if metric in _NOT_METRICS:
        raise RequestError(f"--metric {metric}: is text, not a number; a metric is test_accuracy, val_loss or the like")
    measured = [column for column in runs.columns if not column.startswith("config.") and column not in _NOT_METRICS]
    if metric in measured:
        values = np.array([_number(text) for text in runs[metric]])
        if not np.isnan(values).all() or runs[metric].isna().all():
            return values
        raise RequestError(f"--metric {metric}: is text, not a number; a metric is test_accuracy, val_loss or the like")
    numeric = [c for c in measured if any(not math.isnan(_number(text)) for text in runs[c].dropna().iloc[:1])]
    if metric in tables.SUMMARY_COLUMNS or not numeric:  # not measured yet: the states are still worth a table
        return np.full(len(runs), np.nan)
    near = difflib.get_close_matches(metric, numeric, n=1)
    raise RequestError(
        f"--metric {metric}: no such measured column{f'; did you mean {near[0]}?' if near else ';'} "
        f"there are {', '.join(numeric)}"
    )


def _numbers(runs: pd.DataFrame, name: str) -> pd.Series:
    """A column as floats, NaN where it is absent, no number, or too large for one."""
    values = pd.Series([_number(text) for text in _column(runs, name)], index=runs.index, dtype=np.float64)
    return values.where(values.abs() <= LARGEST)


def is_number(text: object) -> bool:
    """Whether a cell holds a number that can be reckoned with."""
    return abs(_number(text)) <= LARGEST


def _number(text: object) -> float:
    try:
        return float(text) if isinstance(text, str) else math.nan
    except ValueError:
        return math.nan


def _data_sets(runs: pd.DataFrame) -> NDArray[np.int64]:
    """A number for each run's data. A run without fingerprint is put with those that name the same data set."""
    pairs = [
        (None if pd.isna(name) else name, None if pd.isna(fingerprint) else fingerprint)
        for name, fingerprint in zip(_column(runs, "config.data.name"), _column(runs, "data_fingerprint"), strict=True)
    ]
    usual = {name: fingerprint for (name, fingerprint), _ in reversed(Counter(pairs).most_common()) if fingerprint}
    numbers: dict[str | None, int] = {}
    return np.array(
        [numbers.setdefault(fingerprint or usual.get(name, name), len(numbers)) for name, fingerprint in pairs],
        dtype=np.int64,
    )


def _column(runs: pd.DataFrame, name: str) -> pd.Series:
    return runs[name] if name in runs.columns else pd.Series(None, index=runs.index, dtype=object)


def _most_common(numbers: NDArray[np.int64]) -> int:
    return int(np.bincount(numbers).argmax())


def _best_run(runs: pd.DataFrame, values: pd.Series) -> int | None:
    """Position of the usable run with the largest value on the data set that most usable runs share."""
    usable = runs["usable"].to_numpy()
    if not usable.any():
        return None
    on_main = usable & (runs["data_set"] == _most_common(runs.loc[usable, "data_set"].to_numpy())).to_numpy()
    return int(np.where(on_main, values, -np.inf).argmax())


def _named_baseline(runs: pd.DataFrame, path: str, metric: str) -> int:
    position = int((runs["path"] == path).to_numpy().argmax())
    row = runs.iloc[position]
    if not row["usable"]:
        reason = row["problem"] or (row["state"] if row["state"] != "completed" else f"it has no {metric}")
        raise RequestError(f"--baseline {row['run']}: cannot be compared with ({reason}); name a completed run")
    return position


def _order(runs: pd.DataFrame, main: int, lower_is_better: bool) -> list[int]:
    """Positions of the runs, best first; then other data; then those without a value, by state and name."""
    value = runs["value"] if lower_is_better else -runs["value"]
    keys = pd.DataFrame(
        {
            "unusable": ~runs["usable"],
            "other": runs["data_set"] != main,
            "data_set": runs["data_set"],
            "value": value.where(runs["usable"], 0.0),
            "state": runs["state"].where(~runs["usable"], ""),
        }
    )
    # Ties keep the natural order that the runs came in.
    return [int(i) for i in keys.sort_values(list(keys.columns), kind="stable").index]


def _best_of_each(runs: pd.DataFrame) -> pd.Series:
    """Whether each run has the best value of the runs on its data; equals are all best."""
    usable = runs[runs["usable"]]
    firsts = usable.groupby("data_set")["value"].first()
    return runs["usable"] & (runs["value"] == runs["data_set"].map(firsts))


def _groups(runs: pd.DataFrame, varied: list[str], metric: str) -> tuple[pd.DataFrame, list[str]]:
    """Mean, spread and interval of each group, and remarks about runs that repeat another's seed."""
    usable = runs[runs["usable"]].copy()
    seed = _column(usable, SEED).fillna("")
    usable["seed"] = seed
    usable["test"] = _numbers(usable, TEST)
    # A second run of the same config and seed is no independent draw: repeats are averaged and count once.
    per_seed = usable.groupby(["group", "seed"], sort=False).agg(
        value=("value", "mean"), test=("test", "mean"), repeats=("value", "size")
    )
    table = (
        per_seed.reset_index()
        .groupby("group", sort=False)
        .agg(
            n=("value", "size"),
            mean=("value", "mean"),
            std=("value", "std"),
            mean_test_accuracy=("test", "mean"),
            runs=("repeats", "sum"),
        )
    )
    low, high = t_interval(table["mean"].to_numpy(), table["std"].to_numpy(), table["n"].to_numpy())
    if metric.endswith("accuracy"):  # few seeds far apart: no accuracy lies outside
        low, high = np.clip(low, 0.0, 1.0), np.clip(high, 0.0, 1.0)
    table["interval_low"], table["interval_high"] = low, high
    seeds: dict[int, list[str]] = {}  # a Python loop is ten times as fast as pandas at making lists
    for group, one in per_seed.index:
        seeds.setdefault(group, []).append(one)
    table["seeds"] = [" ".join(sorted(seeds[group], key=natural)) for group in table.index]
    firsts = usable.drop_duplicates("group").set_index("group")
    table = table.join(firsts[["data_set", *varied]])  # at once: thousands of columns set one by one take minutes
    config = [column for column in runs.columns if column.startswith("config.")]
    table["not_averaged"] = _not_averaged(runs, config, metric).reindex(table.index).to_numpy()
    table["metric"] = metric
    table["value"], table["usable"] = table["mean"], True
    table["state"] = ""
    table = table.reset_index()
    main = int(runs["data_set"].iloc[0])
    table = table.iloc[_order(table, main, is_lower_better(metric))].reset_index(drop=True)
    table["best"] = _best_of_each(table)

    repeated = usable[usable.duplicated(["group", "seed"], keep=False)]
    remarks = []
    if len(repeated):
        extra = int(repeated.duplicated(["group", "seed"]).sum())
        _, example = next(iter(repeated.groupby(["group", "seed"], sort=False)))
        agree = repeated.groupby(["group", "seed"])["value"].nunique().max() == 1
        remarks.append(
            f"{extra} run{'s repeat' if extra > 1 else ' repeats'} the config and the seed of another (such as "
            f"{example['label'].iloc[1]} that of {example['label'].iloc[0]}), "
            f"{'with the same' if agree else 'not always with the same'} {metric}: repeats are averaged and count "
            "as one seed."
        )
    return table, remarks


def _not_averaged(runs: pd.DataFrame, config: list[str], metric: str) -> pd.Series:
    """For each group, how many runs of the same config have no value to average: failed, diverged, unfinished."""
    # By the config alone: what a run would have measured is not known of one that failed.
    keys = [*result_columns(runs[config], metric), *(key for key in config if key == "config.precision")]
    same = pd.Series(partition(runs, keys), index=runs.index)
    missing = same.map((~runs["usable"]).groupby(same).sum())
    return missing.groupby(runs["group"]).first()


def _remarks(runs: pd.DataFrame, metric: str, without: pd.DataFrame) -> list[str]:
    """Cautions about the comparison; ``without`` are the completed runs without a validation accuracy."""
    remarks = []
    usable = runs[runs["usable"]]
    if (count := usable["data_set"].nunique()) > 1:
        remarks.append(
            f"These runs are on {count} different data sets: values of {metric} are comparable only within one. "
            "The best of each is marked; runs on other data than the baseline's come after it."
        )
    unknown = usable[_column(usable, "data_fingerprint").isna()]
    if len(unknown) and len(usable) > 1:
        remarks.append(
            f"{_some(unknown, usable)} recorded no data fingerprint (an older version?): whether the training data "
            "is the same is not known."
        )
    if len(usable) < 2:
        return remarks
    on_test = usable[_column(usable, "selection_split") == "test"]
    if len(on_test):
        remarks.append(
            f"{_some(on_test, usable)} selected the best epoch on the test split (no validation split was held out): "
            "the winner's test accuracy is optimistic."
        )
    if metric.startswith("test_"):
        reason = (
            f"{_some(without, usable)} {'has' if len(without) == 1 else 'have'} no {SELECTION}. "
            if len(without)
            else f"Leave --metric out to select by {SELECTION}. "
        )
        remarks.append(
            f"{reason}The best of {len(usable):,} runs by {metric} is selected on the test split, so the winner's "
            "figure is optimistic."
        )
    return remarks


def _some(runs: pd.DataFrame, among: pd.DataFrame) -> str:
    """The runs by label, the first three of them; all of them by their number."""
    if len(runs) == len(among):
        return f"All {len(runs):,} runs"
    labels = list(runs["label"])
    return ", ".join(labels[:3]) + (f" and {len(labels) - 3:,} more" if len(labels) > 3 else "")
