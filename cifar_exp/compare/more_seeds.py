"""How many more seeds would settle a comparison of settings, with the command that runs them."""

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import pandas as pd

from cifar_exp.compare.group_pairs import GroupPair
from cifar_exp.compare.naming import one_line
from cifar_exp.compare.tables import Comparison
from cifar_exp.evaluation.group_tests import ENOUGH_SEEDS, MOST_SEEDS, RELEVANT_DIFFERENCE
from cifar_exp.safe_io import untrusted

_SUGGESTED_SEEDS = 5  # of each setting, where there are too few for any verdict
_MOST_PAIRS = 3
_OVERRIDE = re.compile(r"(\+{0,2}[A-Za-z_][\w.@/-]*)=(.*)")
_LONGEST_COMMAND = 2_000


@dataclass(frozen=True)
class Advice:
    """What more seeds would show.

    Attributes:
        text: a sentence.
        commands: that run them; empty where there is nothing to run.
    """

    text: str
    commands: list[str]


def advice(comparison: Comparison) -> list[Advice]:
    """For the settings without a verdict for want of seeds, and for the best ones without evidence of a difference."""
    verdicts = comparison.verdicts
    if verdicts is None:
        return []
    few = [pair for pair in verdicts.pairs if not pair.has_enough_seeds]
    found = [_for_too_few(comparison, verdicts.baseline, few)] if few else []
    for pair in [pair for pair in verdicts.pairs if pair.plan][:_MOST_PAIRS]:
        found += _for_no_evidence(comparison, verdicts.baseline, pair)
    return found


def _for_too_few(comparison: Comparison, baseline: int, few: Sequence[GroupPair]) -> Advice:
    sizes = {pair.position: len(pair.b) for pair in few} | {baseline: len(few[0].a)}
    lacking = [position for position, size in sizes.items() if size < ENOUGH_SEEDS]
    more = _SUGGESTED_SEEDS - min(sizes[position] for position in lacking)
    what = "setting has" if len(lacking) == 1 else "settings have"
    return Advice(
        f"{len(lacking):,} {what} fewer than {ENOUGH_SEEDS} seeds, too few for a verdict. {more} more seeds of each:",
        commands(comparison, sorted(lacking), more),
    )


def _for_no_evidence(comparison: Comparison, baseline: int, pair: GroupPair) -> list[Advice]:
    assert pair.plan is not None
    plan, have = pair.plan, min(len(pair.a), len(pair.b))
    a, b = (comparison.groups["name"].iloc[position] for position in (baseline, pair.position))
    needed = [
        Advice(
            f"{b} against {a}: these seeds find a true difference of {_points(plan.detectable)} with a probability "
            "of 80%.",
            [],
        )
    ]
    for difference, seeds, which in (
        (abs(pair.difference), plan.seeds, "the difference seen"),
        (RELEVANT_DIFFERENCE, plan.seeds_for_relevant, "half a point"),
    ):
        if seeds is None:
            needed.append(Advice(f"For {which} ({_points(difference)}): more than {MOST_SEEDS} seeds of each.", []))
        elif seeds > have:
            text = f"For {which} ({_points(difference)}): {seeds} seeds of each, so {seeds - have} more:"
            needed.append(Advice(text, commands(comparison, [baseline, pair.position], seeds - have)))
    return needed


def _points(difference: float) -> str:
    return f"{100 * difference:.2f} points"


def commands(comparison: Comparison, positions: Sequence[int], more: int) -> list[str]:
    """Commands that run settings with so many more seeds: one for all where their values combine to these settings.

    Args:
        comparison: of the runs.
        positions: of the groups.
        more: seeds of each.
    """
    runs = comparison.runs[comparison.runs["usable"]]
    numbers = comparison.groups["group"].iloc[list(positions)]
    members = runs[runs["group"].isin(numbers)]
    used = [pd.to_numeric(members[key], errors="coerce") for key in comparison.over if key in members]
    seeds = pd.concat(used) if used else pd.Series(dtype=float)
    if seeds.isna().any() or not len(seeds):
        return []
    first = int(seeds.max()) + 1
    keys = [key.removeprefix("config.") for key in comparison.over]
    repeated = [f"{keys[0]}=range({first},{first + more})", *(f"{key}=${{{keys[0]}}}" for key in keys[1:])]
    firsts = members.drop_duplicates("group").set_index("group").loc[list(numbers)]
    settings = [_overrides(Path(path), keys) for path in firsts["path"]]
    start = ["cifar-exp", "-m"]
    if any(one is None for one in settings):  # the reader puts in what all runs share
        start.append("...")
        columns = [c for c in comparison.varied if c.startswith("config.")]
        settings = [{c.removeprefix("config."): row[c] or "null" for c in columns if isinstance(row[c], str)}
                    for _, row in firsts.iterrows()]  # fmt: skip
    made = [
        shlex.join([*start, *(f"{key}={value}" for key, value in one.items()), *repeated])
        for one in _combined([one for one in settings if one is not None])
    ]
    return [one_line(command) for command in made] if sum(map(len, made)) <= _LONGEST_COMMAND else []


def _overrides(run: Path, repeated: Sequence[str]) -> dict[str, str] | None:
    """What the run was started with, without what makes repetitions; None where that is not known or not plain."""
    try:
        typed = untrusted.read_yaml(run / ".hydra" / "overrides.yaml")
    except (OSError, ValueError):
        return None
    matches = [_OVERRIDE.fullmatch(str(one)) for one in typed] if isinstance(typed, list) else [None]
    found = {match[1]: match[2] for match in matches if match and match[2].isprintable()}
    # A command to copy must not widen what a saved run may call, nor steer where Hydra writes.
    if len(found) < len(matches) or any(key.lstrip("+").startswith(("hydra", "trust")) for key in found):
        return None
    return {key: value for key, value in found.items() if key not in repeated}


def _combined(settings: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    """One sweep over all settings where every combination of their values is one of them; else one for each."""
    keys = list(dict.fromkeys(chain.from_iterable(settings)))
    values = {key: list(dict.fromkeys(one.get(key, "") for one in settings)) for key in keys}
    combinations = 1
    for key in keys:
        combinations *= len(values[key])
    different = len({tuple(one.items()) for one in settings})
    if combinations != different or any(set(one) != set(keys) for one in settings):
        return list(settings)
    return [{key: ",".join(values[key]) for key in keys}]
