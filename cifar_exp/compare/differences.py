"""Which columns make two runs different experiments, and which of them a table shows."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

SEED = "config.seed"

# Keys of the config that never make two runs different experiments: names, and paths of files.
_NAMES_AND_PLACES = (
    "name", "note", "tags", "trust", "precision", "data.root", "data.csv_file", "data.cache", "data.url",
)  # fmt: skip
# Nor do these, except where time or memory is compared: they change speed, figures and kept files, and metrics only
# up to rounding.
_NO_PART_OF_THE_RESULT = (
    "device", "threads", "memory_format", "compile", "cuda_graph", "deterministic", "data.workers", "figures",
    "explain.", "evaluation.batch_size", "evaluation.gallery_images", "evaluation.published_loss", "checkpoint.",
    "tracker.",
)  # fmt: skip
_IMPLIED_BY_NAME = ("_target_", "sha256")  # by the name of a group's option

_COSTS = ("seconds", "images_per_second", "memory")


def result_columns(runs: pd.DataFrame, metric: str) -> list[str]:
    """The columns that make runs different experiments, seed included."""
    cost = any(part in metric for part in _COSTS)
    skipped = _NAMES_AND_PLACES if cost else _NAMES_AND_PLACES + _NO_PART_OF_THE_RESULT
    exact = {f"config.{skip}" for skip in skipped}
    prefixes = tuple(f"config.{skip}" for skip in skipped if skip.endswith("."))
    keys = [c for c in runs.columns if c.startswith("config.") and c not in exact and not c.startswith(prefixes)]
    # The precision that `auto` chose and the images found at the path count, not the config's text.
    keys += [column for column in ("precision", "data_fingerprint") if column in runs.columns]
    return [*keys, "device"] if cost and "device" in runs.columns else keys


def partition(runs: pd.DataFrame, keys: Sequence[str], over: Sequence[str] = (SEED,)) -> NDArray[np.int64]:
    """Number the runs so that two have the same number if they agree in all keys except those in ``over``."""
    group = np.zeros(len(runs), np.int64)
    for key in keys:
        if key not in over:
            group = _divided(group, runs[key])
    return group


def _divided(group: NDArray[np.int64], values: pd.Series) -> NDArray[np.int64]:
    """Divide the groups of ``partition`` by one more key, keeping their order."""
    codes = pd.factorize(values, use_na_sentinel=False)[0]
    if not codes.any():
        return group
    return np.unique(group * (int(codes.max()) + 1) + codes, return_inverse=True)[1].astype(np.int64)


def differing_columns(runs: pd.DataFrame, keys: Sequence[str], over: Sequence[str] = (SEED,)) -> list[str]:
    """The keys to show: they have two or more values, and no key already shown determines them.

    A key that only some runs have (another option of a group, or an older version) is shown only if no other key
    distinguishes those runs.
    """
    completed = runs["usable"] if runs["usable"].any() else pd.Series(True, index=runs.index)
    within = runs.loc[completed]
    shown: list[str] = []
    for key in keys:
        # Measured columns are compared between completed runs only.
        if (runs if key.startswith("config.") else within)[key].nunique() < 2:
            continue
        folder, _, leaf = key.rpartition(".")
        if leaf in _IMPLIED_BY_NAME and _implies(runs, [f"{folder}.name"], key):
            continue
        if key == "data_fingerprint" and _implies(runs, [k for k in shown if k.startswith("config.data.")], key):
            continue
        shown.append(key)
    group = partition(within, shown, over)
    wanted, parts = _count(partition(within, keys, over)), _count(group)
    already = {*shown, *over}
    for key in keys:
        if parts == wanted:
            break
        if key in already or within[key].notna().all() or within[key].isna().all():
            continue
        divided = _divided(group, within[key])
        if _count(divided) > parts:
            shown.append(key)
            group, parts = divided, _count(divided)
    return shown


def _count(numbers: NDArray[np.int64]) -> int:
    return len(np.unique(numbers))


def _implies(runs: pd.DataFrame, columns: list[str], key: str) -> bool:
    """Whether runs that agree in ``columns`` always agree in ``key``."""
    if not columns or not all(column in runs.columns for column in columns):
        return False
    known = runs.loc[runs[key].notna(), [*columns, key]]
    group = partition(known, columns)
    return _count(_divided(group, known[key])) == _count(group)
