"""Cautions about a comparison: what is not comparable, not known, or optimistic."""

import pandas as pd

from cifar_exp.compare.ordering import SELECTION, column_of


def remarks_about(runs: pd.DataFrame, metric: str, paths: pd.Series) -> list[str]:
    """Cautions about the comparison; ``paths`` are those of completed runs without a validation accuracy."""
    without = runs[runs["path"].isin(paths)]
    remarks = []
    usable = runs[runs["usable"]]
    if (count := usable["data_set"].nunique()) > 1:
        remarks.append(
            f"These runs are on {count} different data sets: values of {metric} are comparable only within one. "
            "The best of each is marked; runs on other data than the baseline's come after it."
        )
    unknown = usable[column_of(usable, "data_fingerprint").isna()]
    if len(unknown) and len(usable) > 1:
        remarks.append(
            f"{_some(unknown, usable)} recorded no data fingerprint (an older version?): whether the training data "
            "is the same is not known."
        )
    if len(usable) < 2:
        return remarks
    on_test = usable[column_of(usable, "selection_split") == "test"]
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
    """The runs by name, the first three of them; all of them by their number."""
    if len(runs) == len(among):
        return f"All {len(runs):,} runs"
    named = list(runs["name"])
    return "; ".join(named[:3]) + (f" and {len(named) - 3:,} more" if len(named) > 3 else "")
