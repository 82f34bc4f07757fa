"""Pairs of groups: whether one setting is better than another, by the test accuracies of their seeds."""

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
    result: group_tests.Welch | None  # B minus A; None if a group has one seed or no group has any spread
    p_value_corrected: float = float("nan")  # see ``group_tests.corrected``; NaN without a verdict
    plan: Plan | None = None  # None if there is a significant difference, or too few seeds for a plan

    @property
    def difference(self) -> float:
        """Mean test accuracy of B minus that of A."""
        return float(np.mean(self.b) - np.mean(self.a))

    @property
    def interval(self) -> tuple[float, float]:
        """Its 95% confidence interval; NaN without a result."""
        return (self.result.low, self.result.high) if self.result else (float("nan"), float("nan"))

    @property
    def probability_b_better(self) -> float:
        """Fraction of the pairs of seeds in which B has the higher test accuracy than A."""
        return 1 - group_tests.probability_better(self.a, self.b)

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
        if self.result is None:
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
    a = tuple(here["tests"][baseline])
    pairs = [
        GroupPair(int(str(position)), a, tuple(tests), group_tests.welch(a, tests))
        for position, tests in here["tests"].items()
        if position != baseline
    ]
    tests = {number: pair.result for number, pair in enumerate(pairs) if pair.has_enough_seeds and pair.result}
    chosen_of = int((here["tests"].map(len) >= group_tests.ENOUGH_SEEDS).sum()) if named is None else None
    for (number, test), p_value in zip(
        tests.items(), group_tests.corrected(list(tests.values()), chosen_of), strict=True
    ):
        pair = replace(pairs[number], p_value_corrected=p_value)
        if not p_value < SIGNIFICANCE:
            pair = replace(pair, plan=_plan(pair, group_tests.single_level(len(tests), chosen_of, test.df)))
        pairs[number] = pair
    return GroupVerdicts(baseline, "" if named is not None else by, pairs, len(tests))


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
        row: dict[str, Any] = {
            "group_a": baseline + 1,
            "group_b": pair.position + 1,
            "n_a": len(pair.a),
            "n_b": len(pair.b),
            "mean_a": float(np.mean(pair.a)),
            "mean_b": float(np.mean(pair.b)),
            "difference": pair.difference,
            "probability_a_better": group_tests.probability_better(pair.a, pair.b),
        }
        if pair.result:
            row |= {"ci_low": pair.result.low, "ci_high": pair.result.high}
        if pair.result and pair.has_enough_seeds:
            row |= {"p_value": pair.result.p_value, "p_value_corrected": pair.p_value_corrected}
        if pair.plan:
            row |= {"detectable_difference": pair.plan.detectable, "seeds_needed": pair.plan.seeds}
        rows.append(row)
    return rows
