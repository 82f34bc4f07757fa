"""What a comparison shows, in sentences with the file that they come from."""

import math
from collections.abc import Sequence

import pandas as pd

from cifar_exp.compare.comparison import Comparison
from cifar_exp.compare.group_pairs import GroupPair, GroupVerdicts
from cifar_exp.compare.naming import one_line
from cifar_exp.compare.ordering import TEST, numbers_of
from cifar_exp.compare.pairs import Pair
from cifar_exp.evaluation.statistics import p_in_words
from cifar_exp.reports.html import formats
from cifar_exp.reports.html.parts import Finding, Source

_MOST_NAMES = 2


def findings(comparison: Comparison, pairs: Sequence[Pair]) -> list[Finding]:
    """Which setting is better over its repetitions; then the best run, and the verdicts about pairs of networks."""
    return [*_about_settings(comparison), *_best_run(comparison), *_about_networks(comparison, pairs)]


def _about_settings(comparison: Comparison) -> list[Finding]:
    verdicts, groups = comparison.verdicts, comparison.groups
    if verdicts is None:
        return []
    baseline = one_line(groups["name"].iloc[verdicts.baseline])
    made = [_baseline_setting(comparison, verdicts, baseline)] if comparison.has_repeats else []
    for outcome, some in verdicts.by_outcome().items():
        count = f"{len(some):,} of {len(verdicts.pairs):,} settings"
        if not some:
            continue
        if outcome == "no evidence":
            title = f"No evidence of a difference from {baseline}: {count}"
            text = f"{_setting_in_words(comparison, some[0])} This does not prove that they are equal (see More seeds)."
        elif outcome == "too few seeds":
            title = "Too few seeds for a verdict about settings"
            text = f"{count} have no verdict: it needs three seeds of both settings. "
            text += "A comparison of two networks does not compare their settings."
        else:
            title, largest = f"{count} {outcome} than {baseline}", max(some, key=lambda pair: abs(pair.difference))
            text = f"{_names(groups, some)}. The largest difference: {_setting_in_words(comparison, largest)}"
        kind = {"better": "good", "worse": "plain"}.get(outcome, "note")
        made.append(Finding(kind, title, text, (Source("group_pairs.csv"),)))
    return made


def _baseline_setting(comparison: Comparison, verdicts: GroupVerdicts, name: str) -> Finding:
    group = comparison.groups.iloc[verdicts.baseline]
    decided = all(pair.outcome == "worse" for pair in verdicts.pairs)
    if verdicts.by:
        count, among = verdicts.candidates
        title = f"Best setting: {name}" if decided else f"Setting with the best mean {verdicts.by}{among}: {name}"
        text = f"Its mean {verdicts.by} is the best of {count} settings{among}. " * (verdicts.by != TEST)
    else:
        title, text = f"Baseline setting: {name}", "It is the setting of the run named as the baseline. "
    text += f"Mean test accuracy {formats.percent(group['mean_test_accuracy'])} over {group['n']} runs."
    if verdicts.by == TEST:
        text += " The setting was selected by this mean, which is therefore optimistic."
    return Finding("good" if decided else "note", title, text, (Source("groups.csv"),))


def _setting_in_words(comparison: Comparison, pair: GroupPair) -> str:
    """The test of one setting against the baseline setting, in a sentence or two."""
    name = one_line(comparison.groups["name"].iloc[pair.position])
    if pair.outcome in ("better", "worse"):
        result = f"{pair.outcome} ({p_in_words(pair.p_value_corrected)})"
    else:
        result = f"{'above' if pair.difference > 0 else 'below'} the baseline: {pair.verdict}"
    interval = f"; {_interval(pair.interval)}" if not math.isnan(pair.interval[0]) else ""
    return (
        f"{name} is {abs(100 * pair.difference):.2f} points {result}{interval}. "
        f"In {1 - pair.probability_a_better:.0%} of the pairs of one run each, its run has the higher test accuracy."
    )


def _best_run(comparison: Comparison) -> list[Finding]:
    runs, metric, write = comparison.runs, comparison.metric, formats.FILTERS[formats.kind_of(comparison.metric)]
    if comparison.baseline is None or not runs["usable"].iloc[0]:
        return []
    values, name = runs.loc[comparison.on_main_data, "value"], one_line(runs["name"].iloc[0])
    best = values.iloc[0]
    text = f"{name} has the best {metric}, {write(best)}, of {len(values):,} completed runs on its data."
    if equal := int((values == best).sum()) - 1:
        text += f" {equal:,} more {'has' if equal == 1 else 'have'} the same value."
    elif len(values) > 1:
        text += f" The next run has {write(values.iloc[1])}."
    if accuracy := accuracy_of(comparison, runs.iloc[:1]):
        text += f" Its test accuracy is {accuracy}."
    return [Finding("plain", f"Best run: {name}", text, (Source("comparison.csv"),))]


def accuracy_of(comparison: Comparison, run: pd.DataFrame) -> str:
    """A run's test accuracy; empty if it is unknown or the metric itself."""
    value = numbers_of(run, TEST).iloc[0]
    return "" if comparison.metric == TEST or pd.isna(value) else formats.percent(value)


def _about_networks(comparison: Comparison, pairs: Sequence[Pair]) -> list[Finding]:
    runs, made = comparison.runs, []
    tested = [pair for pair in pairs if pair.counts is not None]
    baseline = one_line(runs["name"].iloc[comparison.baseline or 0])
    for outcome in ("within noise", "better", "worse"):
        found = [pair for pair in tested if pair.outcome == outcome]
        if not found:
            continue
        kind, title, text = "plain", f"Single networks: {len(found)} of {len(tested)} runs", _names(runs, found)
        if outcome == "within noise":
            kind, title = "note", f"{title} do not differ significantly from {baseline}"
            text += ": on these test images the difference is within noise. This does not prove that they are equal; "
            text += "the intervals show which differences are still possible."
        else:
            title += f" {'is' if len(found) == 1 else 'are'} {outcome} than {baseline}"
            largest = max(found, key=lambda pair: abs(pair.difference))
            text += f". The largest difference: {run_in_words(comparison, largest)}"
        made.append(Finding(kind, title, text, (Source("pairs.csv"),)))
    return made


def run_in_words(comparison: Comparison, pair: Pair) -> str:
    """The test of one run against the baseline, in a sentence or two."""
    name = one_line(comparison.runs["name"].iloc[pair.position])
    if pair.counts is None:
        return f"{name} cannot be compared: {pair.reason}."
    counts, p = pair.counts, p_in_words(pair.p_value_corrected)
    size = f"{abs(100 * pair.difference):.2f} points"
    if pair.outcome == "within noise":
        found = f"{name} does not differ significantly from the baseline ({p})"
        found += f", {size} {'above' if pair.difference > 0 else 'below'} it" if pair.difference else ""
    else:
        found = f"{name} is {size} {pair.outcome} than the baseline ({p})"
    return (
        f"{found}; {_interval(pair.interval)}. Of {counts.n:,} test images, {counts.only_b:,} only this run gets "
        f"right and {counts.only_a:,} only the baseline."
    )


def _interval(interval: tuple[float, float]) -> str:
    low, high = map(formats.points, interval)
    return f"95% interval {low} to {high}"


def _names(table: pd.DataFrame, pairs: Sequence[Pair | GroupPair]) -> str:
    """The first names of runs or groups, and how many more there are."""
    names = [one_line(table["name"].iloc[pair.position]) for pair in pairs]
    more = f"; and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return "; ".join(names[:_MOST_NAMES]) + more
