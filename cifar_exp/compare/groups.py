"""Groups of runs that are equal except for their seed: mean, spread and interval of each."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from cifar_exp.compare.differences import partition, result_columns
from cifar_exp.compare.discover import natural
from cifar_exp.compare.naming import names
from cifar_exp.compare.ordering import SELECTION, TEST, best_of_each, column_of, in_order, is_lower_better, numbers_of
from cifar_exp.evaluation.statistics import t_interval


def grouped(
    runs: pd.DataFrame, varied: Sequence[str], naming: Sequence[str], over: Sequence[str], metric: str
) -> tuple[pd.DataFrame, list[str]]:
    """Mean, spread and interval of each group of usable runs, and remarks about runs that repeat another's seed.

    ``runs`` are in order, with the columns of ``Comparison.runs``. The columns ``varied`` differ between groups,
    ``naming`` name a group, and ``over`` differ within one: the seed, or other keys of repetitions.

    Returns:
        A row per group, best first. Beside the columns of ``groups.csv``: ``name``, ``group`` and ``data_set`` (numbers
        of ``runs``), ``selection`` (mean validation accuracy) and ``tests`` (test accuracy of each seed).
    """
    usable = runs[runs["usable"]].copy()
    usable["seed"] = _repetitions(usable, over)
    usable["test"], usable["selection"] = numbers_of(usable, TEST), numbers_of(usable, SELECTION)
    # A second run of the same config and seed is not independent: such runs are averaged and count once.
    per_seed = usable.groupby(["group", "seed"], sort=False).agg(
        value=("value", "mean"), test=("test", "mean"), selection=("selection", "mean"), repeats=("value", "size")
    )
    table = (
        per_seed.reset_index()
        .groupby("group", sort=False)
        .agg(
            n=("value", "size"),
            mean=("value", "mean"),
            std=("value", "std"),
            mean_test_accuracy=("test", "mean"),
            selection=("selection", "mean"),
            runs=("repeats", "sum"),
        )
    )
    interval = t_interval(table["mean"].to_numpy(), table["std"].to_numpy(), table["n"].to_numpy())
    table["interval_low"], table["interval_high"] = np.clip(interval, 0, 1) if metric.endswith("accuracy") else interval
    seeds: dict[int, list[str]] = {}  # a Python loop is ten times as fast as pandas at making lists
    tests: dict[int, list[float]] = {}
    for (group, one), test in zip(per_seed.index, per_seed["test"], strict=True):
        seeds.setdefault(group, []).append(one)
        tests.setdefault(group, []).extend([] if np.isnan(test) else [float(test)])
    table["seeds"] = [" ".join(sorted(seeds[group], key=natural)) for group in table.index]
    table["tests"] = pd.Series(tests, dtype=object)
    firsts = usable.drop_duplicates("group").set_index("group")
    named = [column for column in naming if column not in varied]
    table = table.join(
        firsts[["data_set", *varied, *named]]
    )  # at once: thousands of columns set one by one take minutes
    config = [column for column in runs.columns if column.startswith("config.")]
    table["not_averaged"] = _not_averaged(runs, config, over, metric).reindex(table.index).to_numpy()
    table = table.assign(metric=metric, value=table["mean"], usable=True, state="").reset_index()
    main = int(runs["data_set"].iloc[0])
    table = table.iloc[in_order(table, main, is_lower_better(metric))].reset_index(drop=True)
    table["best"] = best_of_each(table)
    table["name"] = names(table, naming, [f"setting {number}" for number in range(1, len(table) + 1)])
    return table, _about_repeats(usable, metric)


def _repetitions(runs: pd.DataFrame, over: Sequence[str]) -> pd.Series:
    """The seed of each run, or the values of all keys of repetitions."""
    values = zip(*(column_of(runs, key).fillna("") for key in over), strict=True)
    return pd.Series(["/".join(row) for row in values], index=runs.index, dtype=object)


def _about_repeats(usable: pd.DataFrame, metric: str) -> list[str]:
    repeated = usable[usable.duplicated(["group", "seed"], keep=False)]
    if not len(repeated):
        return []
    extra = int(repeated.duplicated(["group", "seed"]).sum())
    by_seed = repeated.groupby(["group", "seed"], sort=False)
    example = next(iter(by_seed))[1]["label"]
    same = "the same" if by_seed["value"].nunique().max() == 1 else "not always the same"
    return [
        f"{extra} run{'s repeat' if extra > 1 else ' repeats'} the config and the seed of another (such as "
        f"{example.iloc[1]} that of {example.iloc[0]}), with {same} {metric}: repeats are averaged and count once."
    ]


def _not_averaged(runs: pd.DataFrame, config: list[str], over: Sequence[str], metric: str) -> pd.Series:
    """For each group, how many runs of the same config have no value to average: failed, diverged, unfinished."""
    # By the config alone, because a failed run has no measured columns.
    keys = [*result_columns(runs[config], metric), *(key for key in config if key == "config.precision")]
    same = pd.Series(partition(runs, keys, over), index=runs.index)
    missing = same.map((~runs["usable"]).groupby(same).sum())
    return missing.groupby(runs["group"]).first()
