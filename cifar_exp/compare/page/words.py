"""What a comparison says, in sentences that name the file they were read from."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from cifar_exp.compare.page.table import written
from cifar_exp.compare.pairs import Pair, p_in_words
from cifar_exp.compare.render import one_line, settings_in_words
from cifar_exp.compare.tables import TEST, Comparison, is_number
from cifar_exp.reports.html import formats

_MOST_NAMES = 4


@dataclass(frozen=True)
class Statement:
    """A sentence or two.

    Attributes:
        kind: ``good``, ``bad``, ``note`` or ``plain``.
        title: the point.
        text: what it rests on.
        file: that it was read from.
    """

    kind: str
    title: str
    text: str
    file: str


def statements(comparison: Comparison, pairs: Sequence[Pair]) -> list[Statement]:
    """The best run, what the tests found, and which setting is best over its seeds."""
    told = []
    runs = comparison.runs
    if comparison.baseline is not None and runs["usable"].iloc[0]:
        told.append(_best(comparison, runs.iloc[0]))
    told += _verdicts(comparison, pairs)
    told += _settings(comparison)
    return told


def name_of(comparison: Comparison, position: int) -> str:
    """A run by its short name and, where they are few, its settings."""
    run = comparison.runs.iloc[position]
    words = settings_in_words(run, comparison.differing)
    return one_line(f"{run['label']} ({words})" if words else run["label"])


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
        f"{name_of(comparison, 0)} has the best {metric}, {value}, of {int(others.sum()):,} completed runs on its data."
    )
    return Statement("good", f"Best run: {one_line(run['label'])}", f"{text}{gap}{also}", "comparison.csv")


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
    baseline = one_line(comparison.runs["label"].iloc[comparison.baseline])
    noise, worse, better = sorted_out["within"], sorted_out["worse"], sorted_out["better"]
    told = []
    if noise:
        told.append(
            Statement(
                "note",
                f"{len(noise)} of {len(tested)} runs cannot be told apart from run {baseline}",
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
                    "good" if word == "better" else "plain",
                    f"{len(found)} of {len(tested)} runs: {word} than run {baseline}",
                    f"{_names(comparison, found)}. The largest difference: {in_words(comparison, largest)}",
                    "pairs.csv",
                )
            )
    return told


def _names(comparison: Comparison, pairs: Sequence[Pair]) -> str:
    labels = [one_line(comparison.runs["label"].iloc[pair.position]) for pair in pairs]
    more = f" and {len(labels) - _MOST_NAMES} more" if len(labels) > _MOST_NAMES else ""
    return ", ".join(labels[:_MOST_NAMES]) + more


def in_words(comparison: Comparison, pair: Pair) -> str:
    """What the test found about one run, in a sentence."""
    label = one_line(comparison.runs["label"].iloc[pair.position])
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


def _settings(comparison: Comparison) -> list[Statement]:
    """Which setting is best over its seeds, and whether its interval meets the next one's."""
    groups = comparison.groups
    here = groups[groups["data_set"] == comparison.runs["data_set"].iloc[0]] if len(groups) else groups
    here = here[here["n"] > 1]
    if len(here) < 2:
        return []
    best, metric = here.iloc[0], comparison.metric

    def told(group: pd.Series) -> str:
        words = settings_in_words(group, comparison.varied) or "these settings"
        mean = f"{written(metric, group['mean'])} (mean of {group['n']} seed{'s' if group['n'] > 1 else ''}"
        if pd.notna(group["interval_low"]):
            low, high = (written(metric, group[end]) for end in ("interval_low", "interval_high"))
            mean += f", 95% interval {low} to {high}"
        return one_line(f"{words}: {mean})")

    second = here.iloc[1]
    known = pd.notna(best["interval_low"]) and pd.notna(second["interval_low"])
    apart = known and (best["interval_low"] > second["interval_high"] or best["interval_high"] < second["interval_low"])
    meaning = "" if not known else " The two intervals do not meet." if apart else " The two intervals overlap."
    few = " Intervals from so few seeds are wide: run more." if known and best["n"] < 4 else ""
    return [
        Statement(
            "good" if apart else "note",
            f"Best setting over its seeds: {one_line(settings_in_words(best, comparison.varied) or 'group 1')}",
            f"{told(best)}; next {told(second)}.{meaning}{few}",
            "groups.csv",
        )
    ]
