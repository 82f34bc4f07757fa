"""What a comparison says, in sentences that name the file they were read from."""

from collections.abc import Sequence

import pandas as pd

from cifar_exp.compare.naming import one_line
from cifar_exp.compare.ordering import TEST, is_number
from cifar_exp.compare.page.settings import Statement, about_settings, listed
from cifar_exp.compare.page.table import written
from cifar_exp.compare.pairs import Pair
from cifar_exp.compare.tables import Comparison
from cifar_exp.evaluation.statistics import p_in_words
from cifar_exp.reports.html import formats


def statements(comparison: Comparison, pairs: Sequence[Pair]) -> list[Statement]:
    """Which setting is better over its repetitions; then the best run, and the verdicts about pairs of networks."""
    runs = comparison.runs
    told = about_settings(comparison)
    if comparison.baseline is not None and runs["usable"].iloc[0]:
        told.append(_best(comparison, runs.iloc[0]))
    return told + _verdicts(comparison, pairs)


def _best(comparison: Comparison, run: pd.Series) -> Statement:
    metric, runs = comparison.metric, comparison.runs
    value = written(metric, float(run["value"]))
    others = runs["usable"] & (runs["data_set"] == run["data_set"])
    values = runs.loc[others, "value"]
    equal = int((values == run["value"]).sum()) - 1
    also = f" {equal:,} more {'has' if equal == 1 else 'have'} the same value." if equal else ""
    beside = test_accuracy_of(comparison, run)
    also += f" Its test accuracy is {beside}." if beside else ""
    gap = f" The next run has {written(metric, float(values.iloc[1]))}." if len(values) > 1 and not equal else ""
    text = (
        f"{one_line(run['name'])} has the best {metric}, {value}, of {int(others.sum()):,} completed runs on its data."
    )
    return Statement("plain", f"Best run: {one_line(run['name'])}", f"{text}{gap}{also}", "comparison.csv")


def test_accuracy_of(comparison: Comparison, run: pd.Series) -> str:
    """A run's test accuracy, to be shown beside its value of another metric; empty if that is the metric itself."""
    value = run.get(TEST)
    return written(TEST, float(str(value))) if comparison.metric != TEST and is_number(value) else ""


def _verdicts(comparison: Comparison, pairs: Sequence[Pair]) -> list[Statement]:
    tested = [pair for pair in pairs if pair.counts is not None]
    if not tested or comparison.baseline is None:
        return []
    sorted_out: dict[str, list[Pair]] = {"better": [], "worse": [], "within": []}
    for pair in tested:
        sorted_out[pair.verdict.split()[0]].append(pair)
    baseline = one_line(comparison.runs["name"].iloc[comparison.baseline])
    noise, worse, better = sorted_out["within"], sorted_out["worse"], sorted_out["better"]
    told = []
    if noise:
        told.append(
            Statement(
                "note",
                f"These networks: {len(noise)} of {len(tested)} runs cannot be told apart from {baseline}",
                f"{_names(comparison, noise)}: on these test images the difference is within noise. That is no proof "
                "that they are equal; the intervals say what difference is still possible.",
                "pairs.csv",
            )
        )
    for found, word in ((better, "better"), (worse, "worse")):
        if found:
            largest = max(found, key=lambda pair: abs(pair.counts.accuracy_difference) if pair.counts else 0)
            told.append(
                Statement(
                    "plain",
                    f"These networks: {len(found)} of {len(tested)} runs: {word} than {baseline}",
                    f"{_names(comparison, found)}. The largest difference: {in_words(comparison, largest)}",
                    "pairs.csv",
                )
            )
    return told


def _names(comparison: Comparison, pairs: Sequence[Pair]) -> str:
    return listed([one_line(comparison.runs["name"].iloc[pair.position]) for pair in pairs])


def in_words(comparison: Comparison, pair: Pair) -> str:
    """What the test found about one run, in a sentence."""
    label = one_line(comparison.runs["name"].iloc[pair.position])
    if pair.counts is None:
        return f"{label} cannot be compared: {pair.reason}."
    counts, p = pair.counts, p_in_words(pair.p_value_corrected)
    low, high = (formats.signed(100 * end, 2) for end in pair.interval)
    size = f"{abs(100 * counts.accuracy_difference):.2f} points"
    above = counts.accuracy_difference > 0
    if pair.verdict.startswith("within"):
        found = f"{label} cannot be told apart from the baseline ({p})"
        found += f", {size} {'above' if above else 'below'} it" if counts.accuracy_difference else ""
    else:
        found = f"{label} is {size} {'better' if above else 'worse'} than the baseline ({p})"
    return (
        f"{found}; 95% interval {low} to {high}. Of {counts.n:,} test images, {counts.only_b:,} only this run gets "
        f"right and {counts.only_a:,} only the baseline."
    )
