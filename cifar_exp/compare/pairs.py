"""Pairs of runs, image by image: the difference of their accuracies, and whether it is significant."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from cifar_exp.compare.comparison import Comparison
from cifar_exp.evaluation import statistics
from cifar_exp.run_dir import tables

_COUNTS = ("n", "both_correct", "only_a", "only_b", "both_wrong", "accuracy_difference")
PAIRS_COLUMNS = ("run_a", "run_b", *_COUNTS, "p_value", "p_value_corrected")


@dataclass(frozen=True)
class Pair:
    """Run A (the baseline) and run B on the same test images."""

    position: int  # row of B in the comparison's runs
    counts: statistics.PairedCounts | None = None  # None if the two cannot be compared
    interval: tuple[float, float] = (float("nan"), float("nan"))  # 95% confidence interval of the difference
    p_value: float = float("nan")  # of McNemar's exact test
    p_value_corrected: float = float("nan")  # for several comparisons (Holm)
    reason: str = ""  # why the two cannot be compared

    @property
    def difference(self) -> float:
        """Accuracy of B minus that of A; NaN if the two cannot be compared."""
        return float("nan") if self.counts is None else self.counts.accuracy_difference

    @property
    def outcome(self) -> str:
        """Of B against A: ``better``, ``worse``, ``within noise`` or ``not comparable``."""
        if self.counts is None:
            return "not comparable"
        if self.p_value_corrected >= statistics.SIGNIFICANCE:
            return "within noise"
        return "better" if self.difference > 0 else "worse"

    @property
    def verdict(self) -> str:
        """The outcome with its p-value or reason."""
        reason = f": {self.reason}" if self.counts is None else f" ({statistics.p_in_words(self.p_value_corrected)})"
        return self.outcome + reason


class UnreadableError(ValueError):
    """``predictions.csv`` is missing, damaged, or of another evaluation."""


def read_predictions(directory: Path, misclassified: object = None) -> pd.DataFrame:
    """Read a run's ``predictions.csv`` in the order of its images, ``correct`` as bool.

    ``misclassified`` is the number of wrong predictions in its summary, as text; anything else is not checked.

    Raises:
        UnreadableError: there is no such file, it is cut off, or it is not of the same evaluation as the summary.
    """
    try:
        expected = float(misclassified) if isinstance(misclassified, str) else math.nan
    except ValueError:
        raise UnreadableError("misclassified in summary.csv is not a number") from None
    try:
        table = tables.read_table(directory / "predictions.csv", tables.PREDICTIONS_COLUMNS)
    except FileNotFoundError:
        raise UnreadableError("no predictions.csv") from None
    except (OSError, ValueError) as error:
        raise UnreadableError(f"predictions.csv cannot be read ({error})") from error
    if not len(table):
        raise UnreadableError("predictions.csv has no rows")
    complete = (
        table["correct"].dtype == bool
        and pd.api.types.is_integer_dtype(table["index"])
        and pd.api.types.is_numeric_dtype(table["confidence"])
        and table[["label", "prediction"]].notna().all(axis=None)
        and table["index"].is_unique
    )
    if not complete:
        raise UnreadableError("predictions.csv is cut off or damaged")
    wrong = int((~table["correct"]).sum())
    if not math.isnan(expected) and wrong != expected:
        raise UnreadableError(f"predictions.csv has {wrong:,} wrong predictions, but the summary {expected:,.0f}")
    return table.sort_values("index", ignore_index=True)


def predictions_of(runs: pd.DataFrame, position: int) -> pd.DataFrame:
    """``read_predictions`` of a row of the comparison's runs, checked against its summary."""
    row = runs.iloc[position]
    return read_predictions(Path(row["path"]), row.get("misclassified"))


def against_baseline(comparison: Comparison, others: Sequence[int]) -> list[Pair]:
    """Test the runs at these positions against the baseline."""
    runs, baseline = comparison.runs, comparison.baseline
    if baseline is None:
        return []
    try:
        in_a = predictions_of(runs, baseline)
    except UnreadableError as error:
        return [Pair(position, reason=f"the baseline: {error}") for position in others]
    pairs = [_pair(runs, baseline, position, in_a) for position in others]
    tested = [number for number, pair in enumerate(pairs) if pair.counts is not None]
    p_values = statistics.holm([pairs[number].p_value for number in tested], comparison.comparisons(len(tested)))
    for number, corrected in zip(tested, p_values, strict=True):
        pairs[number] = replace(pairs[number], p_value_corrected=corrected)
    return pairs


def _pair(runs: pd.DataFrame, baseline: int, position: int, in_a: pd.DataFrame) -> Pair:
    """A pair before the correction of its p-value."""
    try:
        in_b = predictions_of(runs, position)
    except UnreadableError as error:
        return Pair(position, reason=str(error))
    if "data_fingerprint" in runs and len(set(runs["data_fingerprint"].iloc[[baseline, position]].dropna())) > 1:
        return Pair(position, reason="other data")
    if len(in_a) != len(in_b):
        return Pair(position, reason=f"other test images ({len(in_b):,}, the baseline has {len(in_a):,})")
    if not all(in_a[column].equals(in_b[column]) for column in ("index", "label", "source")):
        return Pair(position, reason="other test images")
    counts = statistics.paired(in_a["correct"].to_numpy(), in_b["correct"].to_numpy())
    return Pair(position, counts, statistics.difference_interval(counts), statistics.mcnemar_exact(counts))


def pair_rows(comparison: Comparison, pairs: Sequence[Pair]) -> list[dict[str, Any]]:
    """Rows of ``pairs.csv``. A pair that cannot be compared has a row without values."""
    rows, runs = [], comparison.runs["run"]
    for pair in pairs:
        row: dict[str, Any] = {"run_a": runs.iloc[comparison.baseline or 0], "run_b": runs.iloc[pair.position]}
        if pair.counts is not None:
            row |= {column: getattr(pair.counts, column) for column in _COUNTS}
            row |= {"p_value": pair.p_value, "p_value_corrected": pair.p_value_corrected}
        rows.append(row)
    return rows
