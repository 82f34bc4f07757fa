"""Pairs of groups: whether one setting is better than another, by the test accuracies of their seeds."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from cifar_exp.evaluation import group_tests
from cifar_exp.evaluation.statistics import SIGNIFICANCE, p_in_words

# fmt: off
GROUP_PAIRS_COLUMNS = (
    "group_a", "group_b", "n_a", "n_b", "mean_a", "mean_b", "difference", "ci_low", "ci_high", "p_value",
    "p_value_corrected", "probability_a_better", "detectable_difference", "seeds_needed",
)
# fmt: on
OUTCOMES = ("better", "worse", "no evidence", "too few seeds")


@dataclass(frozen=True)
class Plan:
    """What more seeds could show about a pair of groups, with a probability of 80%."""

    detectable: float  # the smallest true difference that the existing seeds could have shown
    seeds: int | None  # seeds of each group that would show the measured difference; None if too many
    seeds_for_relevant: int | None  # the same for half a percentage point


@dataclass(frozen=True)
class GroupPair:
    """Group A (the baseline) and group B."""

    position: int  # row of B in the comparison's groups
    a: tuple[float, ...]  # test accuracies of A's seeds
    b: tuple[float, ...]  # and of B's
    difference: float  # mean test accuracy of B minus that of A
    probability_a_better: float  # fraction of the pairs of seeds in which A has the higher test accuracy than B
    test: group_tests.Welch | None  # of B minus A; None if a group has one seed or no group has any spread
    interval: tuple[float, float]  # 95% confidence interval of the difference; NaN without a test
    p_value_corrected: float = math.nan  # see ``group_tests.corrected``; NaN without a verdict
    plan: Plan | None = None  # None if there is a significant difference, or too few seeds for a plan

    @property
    def has_enough_seeds(self) -> bool:
        """Whether both groups have enough seeds for a verdict."""
        return min(len(self.a), len(self.b)) >= group_tests.ENOUGH_SEEDS

    @property
    def outcome(self) -> str:
        """Of B against A: one of ``OUTCOMES``."""
        if not self.has_enough_seeds:
            return "too few seeds"
        if not self.p_value_corrected < SIGNIFICANCE:
            return "no evidence"
        return "better" if self.difference > 0 else "worse"

    @property
    def verdict(self) -> str:
        """The outcome in words, with its p-value."""
        if not self.has_enough_seeds:
            return "too few seeds for a verdict"
        if self.test is None:
            return "no verdict: all seeds have the same accuracy"
        words = "no evidence of a difference" if self.outcome == "no evidence" else self.outcome
        return f"{words} ({p_in_words(self.p_value_corrected)})"


@dataclass(frozen=True)
class GroupVerdicts:
    """The groups on the baseline's data against one of them."""

    baseline: int  # row of group A in the comparison's groups
    by: str  # column whose best mean chose A; empty if the user named it
    pairs: list[GroupPair]  # A against each other group, in the order of the groups
    comparisons: int  # how many the p-values are corrected for

    @property
    def candidates(self) -> tuple[int, str]:
        """From how many groups ``by`` chose the baseline, and in words which ones, if not from all of them."""
        able = sum(pair.has_enough_seeds for pair in self.pairs) + 1
        if able > len(self.pairs) or len(self.pairs[0].a) < group_tests.ENOUGH_SEEDS:
            return len(self.pairs) + 1, ""
        return able, f" among those with at least {group_tests.ENOUGH_SEEDS} seeds"

    def by_outcome(self) -> dict[str, list[GroupPair]]:
        """The pairs by their outcome."""
        return {outcome: [pair for pair in self.pairs if pair.outcome == outcome] for outcome in OUTCOMES}


def against_baseline_group(groups: pd.DataFrame, by: str, named: int | None) -> GroupVerdicts | None:
    """Test all groups (see ``groups.grouped``) on the first one's data set against the baseline group.

    The best mean of ``by`` (``val_accuracy`` or ``test_accuracy``) chooses the baseline group, unless the user named
    the group of this number.

    Returns:
        None if fewer than two groups have a test accuracy.
    """
    here = groups[groups["data_set"] == groups["data_set"].iloc[0]] if len(groups) else groups
    here = here[here["tests"].map(len) > 0]
    baseline = _baseline(here, by, named)
    if baseline is None or len(here) < 2:
        return None
    pairs = [
        _pair(int(str(position)), here["tests"][baseline], tests)
        for position, tests in here["tests"].items()
        if position != baseline
    ]
    tests = {number: pair.test for number, pair in enumerate(pairs) if pair.has_enough_seeds and pair.test}
    chosen_of = int((here["tests"].map(len) >= group_tests.ENOUGH_SEEDS).sum()) if named is None else None
    for (number, test), p_value in zip(
        tests.items(), group_tests.corrected(list(tests.values()), chosen_of), strict=True
    ):
        pair = replace(pairs[number], p_value_corrected=p_value)
        if not p_value < SIGNIFICANCE:
            pair = replace(pair, plan=_plan(pair, group_tests.single_level(len(tests), chosen_of, test.df)))
        pairs[number] = pair
    return GroupVerdicts(baseline, "" if named is not None else by, pairs, len(tests))


def _pair(position: int, a: Sequence[float], b: Sequence[float]) -> GroupPair:
    """A pair before the correction of its p-value."""
    test = group_tests.welch(a, b)
    return GroupPair(
        position,
        tuple(a),
        tuple(b),
        difference=float(np.mean(b) - np.mean(a)),
        probability_a_better=group_tests.probability_better(a, b),
        test=test,
        interval=(test.low, test.high) if test else (math.nan, math.nan),
    )


def _baseline(here: pd.DataFrame, by: str, named: int | None) -> int | None:
    """The named group, or the best of those with enough seeds, or of all if none has enough."""
    if named is not None:
        own = here.index[here["group"] == named]
        return int(str(own[0])) if len(own) else None
    enough = here[here["tests"].map(len) >= group_tests.ENOUGH_SEEDS]
    choice = (enough if len(enough) else here)["selection" if by == "val_accuracy" else "mean_test_accuracy"]
    return int(str(choice.idxmax())) if choice.notna().any() else None


def _plan(pair: GroupPair, level: float) -> Plan:
    """What more seeds would show, at the level that the correction leaves to a single comparison."""
    spread, n = (float(np.std(pair.a, ddof=1)), float(np.std(pair.b, ddof=1))), (len(pair.a), len(pair.b))
    needed = (
        group_tests.seeds_needed(difference, spread, level)
        for difference in (pair.difference, group_tests.RELEVANT_DIFFERENCE)
    )
    return Plan(group_tests.detectable_difference(spread, n, level), *needed)


def group_pair_rows(baseline: int, pairs: Sequence[GroupPair]) -> list[dict[str, Any]]:
    """Rows of ``group_pairs.csv``; groups by their row in ``groups.csv``, from 1."""
    rows = []
    for pair in pairs:
        row: dict[str, Any] = {"group_a": baseline + 1, "group_b": pair.position + 1}
        for name, values in (("a", pair.a), ("b", pair.b)):
            row |= {f"n_{name}": len(values), f"mean_{name}": float(np.mean(values))}
        row |= {"difference": pair.difference, "ci_low": pair.interval[0], "ci_high": pair.interval[1]}
        if pair.test and pair.has_enough_seeds:
            row |= {"p_value": pair.test.p_value, "p_value_corrected": pair.p_value_corrected}
        row["probability_a_better"] = pair.probability_a_better
        if pair.plan:
            row |= {"detectable_difference": pair.plan.detectable, "seeds_needed": pair.plan.seeds}
        rows.append({name: None if value is None or math.isnan(value) else value for name, value in row.items()})
    return rows
