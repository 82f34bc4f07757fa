"""Pairs of runs, image by image: which images each got right, and whether that difference means anything."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cifar_exp.compare.tables import Comparison
from cifar_exp.evaluation.statistics import (
    SIGNIFICANCE,
    Paired,
    difference_interval,
    holm,
    mcnemar_exact,
    p_in_words,
    paired,
)
from cifar_exp.run_dir import tables

PAIRS_COLUMNS = (
    "run_a",
    "run_b",
    "n",
    "both_correct",
    "only_a",
    "only_b",
    "both_wrong",
    "accuracy_difference",
    "p_value",
    "p_value_corrected",
)


@dataclass(frozen=True)
class Pair:
    """Run A (the baseline) and run B on the same test images.

    Attributes:
        position: row of B in the comparison's runs.
        counts: None where the two cannot be compared.
        interval: 95% confidence interval of ``counts.accuracy_difference``.
        p_value: of McNemar's exact test.
        p_value_corrected: the same, corrected for several comparisons (Holm).
        reason: why the two cannot be compared; empty where they can.
    """

    position: int
    counts: Paired | None = None
    interval: tuple[float, float] = (float("nan"), float("nan"))
    p_value: float = float("nan")
    p_value_corrected: float = float("nan")
    reason: str = ""

    @property
    def verdict(self) -> str:
        """In plain words, whether B is better than A."""
        if self.counts is None:
            return f"not comparable: {self.reason}"
        if self.p_value_corrected >= SIGNIFICANCE:
            return f"within noise ({p_in_words(self.p_value_corrected)})"
        better = self.counts.accuracy_difference > 0
        return f"{'better' if better else 'worse'} ({p_in_words(self.p_value_corrected)})"


class UnreadableError(ValueError):
    """``predictions.csv`` is missing or not whole; the message says which."""


def read_predictions(directory: Path, misclassified: float | None = None) -> pd.DataFrame:
    """Read a run's ``predictions.csv`` in the order of its images, ``correct`` as bool.

    Args:
        directory: of the run.
        misclassified: how many wrong predictions its summary counted, if known.

    Raises:
        UnreadableError: there is no such file, it is cut off, or it is not of the same evaluation as the summary.
    """
    path = directory / "predictions.csv"
    try:
        table = tables.read_table(path)
    except FileNotFoundError:
        raise UnreadableError("no predictions.csv") from None
    except (OSError, ValueError) as error:
        raise UnreadableError(f"predictions.csv cannot be read ({error})") from error
    needed = list(tables.PREDICTIONS_COLUMNS)
    if absent := [column for column in needed if column not in table.columns]:
        raise UnreadableError(f"predictions.csv has no column {', '.join(absent)}")
    if not len(table):
        raise UnreadableError("predictions.csv has no rows")
    whole = (
        table["correct"].dtype == bool
        and pd.api.types.is_integer_dtype(table["index"])
        and pd.api.types.is_numeric_dtype(table["confidence"])
        and table[["label", "prediction"]].notna().all(axis=None)
        and table["index"].is_unique
    )
    if not whole:
        raise UnreadableError("predictions.csv is cut off or damaged")
    wrong = int((~table["correct"]).sum())
    if misclassified is not None and not np.isnan(misclassified) and wrong != misclassified:
        raise UnreadableError(
            f"predictions.csv has {wrong:,} wrong predictions, the summary counted {misclassified:,.0f}"
        )
    return table.sort_values("index", ignore_index=True)


def predictions_of(runs: pd.DataFrame, position: int) -> pd.DataFrame:
    """``read_predictions`` of a row of the comparison's runs, checked against its summary.

    Raises:
        UnreadableError: as ``read_predictions``, or the summary has no number to check against.
    """
    row = runs.iloc[position]
    counted = row.get("misclassified")
    try:
        misclassified = float(counted) if isinstance(counted, str) else None
    except ValueError:
        raise UnreadableError("misclassified in summary.csv is not a number") from None
    return read_predictions(Path(row["path"]), misclassified)


def why_not_comparable(runs: pd.DataFrame, a: int, b: int, in_a: pd.DataFrame, in_b: pd.DataFrame) -> str:
    """Why the predictions of two runs cannot be set against each other; empty where they can."""
    if "data_fingerprint" in runs.columns:
        print_a, print_b = runs["data_fingerprint"].iloc[[a, b]]
        if isinstance(print_a, str) and isinstance(print_b, str) and print_a != print_b:
            return "other data"
    if len(in_a) != len(in_b):
        return f"other test images ({len(in_b):,}, the baseline has {len(in_a):,})"
    if not all(in_a[column].equals(in_b[column]) for column in ("index", "label", "source")):
        return "other test images"
    return ""


def against_baseline(comparison: Comparison, others: Sequence[int]) -> list[Pair]:
    """Test runs against the baseline.

    Args:
        comparison: of the runs.
        others: positions of the runs to be B.
    """
    runs, baseline = comparison.runs, comparison.baseline
    if baseline is None:
        return []
    try:
        in_a = predictions_of(runs, baseline)
    except UnreadableError as error:
        return [Pair(position, reason=f"the baseline: {error}") for position in others]
    pairs = []
    for position in others:
        try:
            in_b = predictions_of(runs, position)
        except UnreadableError as error:
            pairs.append(Pair(position, reason=str(error)))
            continue
        if reason := why_not_comparable(runs, baseline, position, in_a, in_b):
            pairs.append(Pair(position, reason=reason))
            continue
        counts = paired(in_a["correct"].to_numpy(), in_b["correct"].to_numpy())
        pairs.append(Pair(position, counts, difference_interval(counts), mcnemar_exact(counts)))
    tested = [number for number, pair in enumerate(pairs) if pair.counts is not None]
    p_values = holm([pairs[number].p_value for number in tested], comparison.comparisons(len(tested)))
    for number, corrected in zip(tested, p_values, strict=True):
        pairs[number] = replace(pairs[number], p_value_corrected=corrected)
    return pairs


def pair_rows(runs: pd.DataFrame, baseline: int, pairs: Sequence[Pair]) -> list[dict[str, Any]]:
    """Rows of ``pairs.csv``. A pair that cannot be compared keeps its row, with nothing measured."""
    rows: list[dict[str, Any]] = []
    for pair in pairs:
        row: dict[str, Any] = {"run_a": runs["run"].iloc[baseline], "run_b": runs["run"].iloc[pair.position]}
        if pair.counts is not None:
            row |= {
                "n": pair.counts.n,
                "both_correct": pair.counts.both_correct,
                "only_a": pair.counts.only_a,
                "only_b": pair.counts.only_b,
                "both_wrong": pair.counts.both_wrong,
                "accuracy_difference": pair.counts.accuracy_difference,
                "p_value": pair.p_value,
                "p_value_corrected": pair.p_value_corrected,
            }
        rows.append(row)
    return rows
