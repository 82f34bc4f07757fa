"""Which setting is better, for the page: sentences, the table of settings, and what more seeds would show."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from cifar_exp.compare.group_pairs import GroupPair, outcomes, probability_b_better
from cifar_exp.compare.naming import heading, one_line
from cifar_exp.compare.ordering import TEST
from cifar_exp.compare.page.table import finite, kind_of, setting, written
from cifar_exp.compare.render import repetitions, shows_mean_test_accuracy
from cifar_exp.compare.tables import Comparison
from cifar_exp.evaluation.statistics import p_in_words
from cifar_exp.reports.html import formats
from cifar_exp.reports.html.table import Column, Table

_MOST_NAMES = 2
_MOST_GROUPS = 1_000


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


def about_settings(comparison: Comparison) -> list[Statement]:
    """The baseline setting, and what the tests over repetitions found about the others."""
    verdicts = comparison.verdicts
    if verdicts is None:
        return []
    found = outcomes(verdicts.pairs)
    baseline = one_line(comparison.groups["name"].iloc[verdicts.baseline])
    told = [_baseline(comparison, baseline, found)] if comparison.has_repeats else []
    for word in ("better", "worse"):
        if found[word]:
            largest = max(found[word], key=lambda pair: abs(pair.difference))
            told.append(
                Statement(
                    "good" if word == "better" else "plain",
                    f"{_count(found[word], verdicts.pairs)} {word} than {baseline}",
                    f"{_names(comparison, found[word])}. The largest difference: {in_words(comparison, largest)}",
                    "group_pairs.csv",
                )
            )
    if found["no evidence"]:
        told.append(
            Statement(
                "note",
                f"No evidence of a difference from {baseline}: {_count(found['no evidence'], verdicts.pairs)}",
                f"{in_words(comparison, found['no evidence'][0])} That is no proof that they are equal; more seeds can "
                "settle it (below).",
                "group_pairs.csv",
            )
        )
    if few := found["too few seeds"]:
        told.append(
            Statement(
                "note",
                "Too few seeds for a verdict about settings",
                f"{_count(few, verdicts.pairs)} cannot be judged: a verdict needs three seeds of both. One network "
                "against another says nothing about their settings.",
                "group_pairs.csv",
            )
        )
    return told


def _baseline(comparison: Comparison, name: str, found: dict[str, list[GroupPair]]) -> Statement:
    verdicts = comparison.verdicts
    assert verdicts is not None
    group = comparison.groups.iloc[verdicts.baseline]
    decided = not (found["better"] or found["no evidence"] or found["too few seeds"])
    if verdicts.by:
        title = f"Best setting: {name}" if decided else f"Setting with the best mean {verdicts.by}: {name}"
        text = f"Its mean {verdicts.by} is the best of {len(verdicts.pairs) + 1} settings. " * (verdicts.by != TEST)
    else:
        title, text = f"Baseline setting: {name}", "It is the setting of the run named as the baseline. "
    text += f"Mean test accuracy {formats.percent(group['mean_test_accuracy'])} over {group['n']} runs."
    if verdicts.by == TEST:
        text += " It was chosen by this very figure, which is therefore optimistic."
    return Statement("good" if decided else "note", title, text, "groups.csv")


def in_words(comparison: Comparison, pair: GroupPair) -> str:
    """What the test found about one setting, in a sentence or two."""
    name = one_line(comparison.groups["name"].iloc[pair.position])
    size = f"{abs(100 * pair.difference):.2f} points"
    if pair.outcome in ("better", "worse"):
        told = f"{name} is {size} {pair.outcome} ({p_in_words(pair.p_value_corrected)})"
    else:
        told = f"{name} is {size} {'above' if pair.difference > 0 else 'below'}: {pair.verdict}"
    if pair.result:
        low, high = (formats.signed(100 * end, 2) for end in pair.interval)
        told += f"; 95% interval {low} to {high}"
    return f"{told}. A run of it has the higher test accuracy in {probability_b_better(pair):.0%} of the pairs of runs."


def listed(words: Sequence[str]) -> str:
    """The first few, and how many more there are."""
    more = f"; and {len(words) - _MOST_NAMES} more" if len(words) > _MOST_NAMES else ""
    return "; ".join(words[:_MOST_NAMES]) + more


def _names(comparison: Comparison, pairs: Sequence[GroupPair]) -> str:
    return listed([one_line(comparison.groups["name"].iloc[pair.position]) for pair in pairs])


def _count(some: Sequence[GroupPair], of: Sequence[GroupPair]) -> str:
    return f"{len(some):,} of {len(of):,} settings"


def settings_table(comparison: Comparison) -> Table | None:
    """Each setting over its repetitions, with the verdict about it; None where none was run more than once."""
    groups, verdicts = comparison.groups, comparison.verdicts
    if not comparison.has_repeats:
        return None
    kind = kind_of(comparison.metric)
    columns = [
        Column("setting", note="what differs between the settings"),
        *(
            [Column("verdict", note="Welch's t test against the baseline setting, corrected (Holm)", key=True)]
            * bool(verdicts)
        ),
        Column("n", "integer", note="repetitions"),
        Column(f"mean {comparison.metric}", kind, bar=True, key=True),
        Column("std", kind, note="standard deviation, n - 1"),
        Column("mean low", kind, note="lower end of the 95% t interval of the mean"),
        Column("mean high", kind, note="upper end of it"),
        Column(f"mean {TEST}", "percent", hidden=not shows_mean_test_accuracy(comparison), key=True),
    ]
    if verdicts:
        columns += [
            Column("difference", "points", note="mean test accuracy less the baseline's, in percentage points"),
            Column("low", "points", note="lower end of its 95% interval (Welch)"),
            Column("high", "points", note="upper end of it"),
            Column(
                "P(better)", "number", note="share of the pairs of runs in which this one has the higher test accuracy"
            ),
            Column("p corrected", "number", note="Welch's t test, corrected for several comparisons (Holm)"),
            Column(
                "detectable", "points", note="smallest true difference that these seeds find with a probability of 80%"
            ),
            Column(
                "seeds needed", "integer", note="of each setting, to find the difference seen with a probability of 80%"
            ),
        ]
    columns += [
        *(Column(heading(name), note=name, hidden=True) for name in comparison.varied),
        Column(repetitions(comparison)),
        Column("not averaged", "integer", hidden=not groups["not_averaged"].any()),
    ]
    pairs = {pair.position: pair for pair in verdicts.pairs} if verdicts else {}
    rows = []
    for position, group in groups.head(_MOST_GROUPS).iterrows():
        row: list[Any] = [one_line(group["name"])]
        pair = pairs.get(int(str(position)))
        if verdicts:
            row.append(pair.verdict if pair else "baseline" if position == verdicts.baseline else "")
        row.append(group["n"])
        row += [
            finite(float(group[name]))
            for name in ("mean", "std", "interval_low", "interval_high", "mean_test_accuracy")
        ]
        row += _of_pair(pair) if verdicts else []
        row += [setting(group[name]) for name in comparison.varied]
        row += [group["seeds"], None if pd.isna(group["not_averaged"]) else int(group["not_averaged"])]
        rows.append(row)
    marks = {position: "best" for position, best in enumerate(groups["best"].head(_MOST_GROUPS)) if best}
    return Table(columns, rows, marks=marks, choose=len(columns) > 8, find=len(rows) > 10, shown=20)


def _of_pair(pair: GroupPair | None) -> list[float | None]:
    if pair is None:
        return [None] * 7
    plan = pair.plan
    return [
        pair.difference,
        *(finite(end) for end in pair.interval),
        probability_b_better(pair),
        finite(pair.p_value_corrected),
        plan.detectable if plan else None,
        plan.seeds if plan else None,
    ]


def settings_tiles(comparison: Comparison) -> list[tuple[str, str, str]]:
    """Label, value and note of the page's figures about settings."""
    verdicts = comparison.verdicts
    if verdicts is None or not comparison.has_repeats:
        return []
    group = comparison.groups.iloc[verdicts.baseline]
    mean = written(TEST, float(group["mean_test_accuracy"]))
    label = "Test accuracy of the best setting" if verdicts.by else "Test accuracy of the baseline setting"
    found = outcomes(verdicts.pairs)
    told = ", ".join(f"{len(pairs):,} {word}" for word, pairs in found.items() if pairs)
    return [
        (label, mean, f"{one_line(group['name'])}; mean of {group['n']} runs"),
        ("Settings against it", f"{len(verdicts.pairs):,}", told),
    ]
