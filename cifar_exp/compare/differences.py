"""What makes two runs different experiments, and which of it is worth a column."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

SEED = "config.seed"

# Keys of the config that never make two runs different experiments: what a run is called and where its files lie.
_NAMES_AND_PLACES = ("name", "note", "tags", "trust", "data.root", "data.cache", "data.url")
# Nor do these, unless time or memory is what is compared: they say where and how fast the same arithmetic is done
# (metrics agree up to rounding), what is drawn, and what is kept.
_NO_PART_OF_THE_RESULT = (
    "device",
    "threads",
    "memory_format",
    "compile",
    "deterministic",
    "data.workers",
    "figures",
    "explain.",
    "evaluation.batch_size",
    "evaluation.gallery_images",
    "evaluation.published_loss",
    "checkpoint.",
    "tracker.",
)
# Where a group's option is named, these say nothing beyond the name.
_IMPLIED_BY_NAME = ("_target_", "sha256")

_COSTS = ("seconds", "images_per_second", "memory")


def result_columns(runs: pd.DataFrame, metric: str) -> list[str]:
    """The columns that make runs different experiments, seed included."""
    cost = any(part in metric for part in _COSTS)
    skipped = _NAMES_AND_PLACES if cost else _NAMES_AND_PLACES + _NO_PART_OF_THE_RESULT
    keys = [
        column
        for column in runs.columns
        if column.startswith("config.")
        and not any(
            column[7:] == skip or (skip.endswith(".") and column[7:].startswith(skip))
            for skip in (*skipped, "precision")
        )
    ]
    # What `precision: auto` turned out to be, and which images lay at the path, count rather than what was typed.
    keys += [column for column in ("precision", "data_fingerprint") if column in runs.columns]
    return [*keys, "device"] if cost and "device" in runs.columns else keys


def partition(runs: pd.DataFrame, keys: Sequence[str], over: Sequence[str] = (SEED,)) -> NDArray[np.int64]:
    """Number the runs so that two have the same number where they agree in all keys but those in ``over``."""
    group = np.zeros(len(runs), np.int64)
    for key in keys:
        if key not in over:
            group = _divided(group, runs, key)
    return group


def _divided(group: NDArray[np.int64], runs: pd.DataFrame, key: str) -> NDArray[np.int64]:
    """The numbers of ``partition`` with one more key, in the order of the former and then of the key's values."""
    codes = pd.factorize(runs[key], use_na_sentinel=False)[0]
    if not codes.any():
        return group
    return np.unique(group * (int(codes.max()) + 1) + codes, return_inverse=True)[1].astype(np.int64)


def differing_columns(runs: pd.DataFrame, keys: Sequence[str], over: Sequence[str] = (SEED,)) -> list[str]:
    """The keys to show: those with at least two values, without what another shown one implies.

    A key that only some runs have (another option of a group, or an older version) is shown only where nothing else
    tells those runs apart.
    """
    completed = runs["usable"] if runs["usable"].any() else pd.Series(True, index=runs.index)
    shown: list[str] = []
    for key in keys:
        # What a run that never got that far measured cannot tell it apart.
        values = runs[key] if key.startswith("config.") else runs.loc[completed, key]
        if values.nunique() < 2:
            continue
        folder, _, leaf = key.rpartition(".")
        if leaf in _IMPLIED_BY_NAME and _implies(runs, [f"{folder}.name"], key):
            continue
        if key == "data_fingerprint" and _implies(runs, [k for k in shown if k.startswith("config.data.")], key):
            continue
        shown.append(key)
    within = runs.loc[completed]
    group = partition(within, shown, over)
    wanted, told_apart = _parts(partition(within, keys, over)), _parts(group)
    already = set(shown)
    for key in keys:
        if told_apart == wanted:
            break
        if key in over or key in already or within[key].notna().all() or within[key].isna().all():
            continue
        if (parts := _parts(divided := _divided(group, within, key))) > told_apart:
            shown.append(key)
            group, told_apart = divided, parts
    return shown


def _parts(numbers: NDArray[np.int64]) -> int:
    return len(np.unique(numbers))


def _implies(runs: pd.DataFrame, columns: list[str], key: str) -> bool:
    """Whether runs that agree in ``columns`` always agree in ``key``."""
    if not columns or not all(column in runs.columns for column in columns):
        return False
    known = runs.loc[runs[key].notna(), [*columns, key]]
    group = partition(known, columns)
    return _parts(_divided(group, known, key)) == _parts(group)
