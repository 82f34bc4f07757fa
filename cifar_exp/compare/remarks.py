"""Cautions about a comparison: what is not comparable, not known, or optimistic."""

import pandas as pd

from cifar_exp.compare.ordering import SELECTION, column_of


def remarks_about(runs: pd.DataFrame, metric: str) -> list[str]:
    """Cautions about the comparison, in sentences."""
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
