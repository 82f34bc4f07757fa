"""How many more seeds a comparison of settings needs, with the commands that run them."""

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from math import prod
from pathlib import Path

import pandas as pd

from cifar_exp.compare.comparison import Comparison
from cifar_exp.compare.naming import one_line
from cifar_exp.evaluation.group_tests import ENOUGH_SEEDS, MOST_SEEDS, RELEVANT_DIFFERENCE
from cifar_exp.run_dir.read import read_overrides

_SUGGESTED_SEEDS = 5  # of each setting, if there are too few for any verdict
_MOST_PAIRS = 3
_OVERRIDE = re.compile(r"(\+{0,2}[A-Za-z_][\w.@/-]*)=(.*)")
_LONGEST_COMMAND = 2_000


@dataclass(frozen=True)
class Advice:
    """A sentence on what more seeds would show, and the commands that run them (may be empty)."""

    text: str
    commands: Sequence[str] = ()


def advice(comparison: Comparison) -> list[Advice]:
    """Advice on the settings with too few seeds, and on the best ones without evidence of a difference."""
    verdicts = comparison.verdicts
    if verdicts is None:
        return []
    found = []
    baseline, sizes = verdicts.baseline, {pair.position: len(pair.b) for pair in verdicts.pairs}
    sizes[baseline] = len(verdicts.pairs[0].a)
    if lacking := sorted(position for position, size in sizes.items() if size < ENOUGH_SEEDS):
        more = _SUGGESTED_SEEDS - min(sizes[position] for position in lacking)
        what = "setting has" if len(lacking) == 1 else "settings have"
        text = f"{len(lacking):,} {what} fewer than {ENOUGH_SEEDS} seeds, too few for a verdict."
        found.append(Advice(f"{text} {more} more seeds of each:", commands(comparison, lacking, more)))
    names = comparison.groups["name"]
    for pair, plan in [(pair, pair.plan) for pair in verdicts.pairs if pair.plan][:_MOST_PAIRS]:
        text = f"{names.iloc[pair.position]} against {names.iloc[baseline]}: these seeds detect a true difference of "
        found.append(Advice(f"{text}{100 * plan.detectable:.2f} points with a probability of 80%."))
        for difference, seeds, which in (
            (abs(pair.difference), plan.seeds, "the measured difference"),
            (RELEVANT_DIFFERENCE, plan.seeds_for_relevant, "half a point"),
        ):
            text = f"For {which} ({100 * difference:.2f} points):"
            if seeds is None:
                found.append(Advice(f"{text} more than {MOST_SEEDS} seeds of each."))
            elif (more := seeds - min(len(pair.a), len(pair.b))) > 0:
                text += f" {seeds} seeds of each, so {more} more:"
                found.append(Advice(text, commands(comparison, [baseline, pair.position], more)))
    return found


def commands(comparison: Comparison, positions: Sequence[int], more: int) -> list[str]:
    """Commands that run ``more`` seeds of each of the groups at these positions.

    One command is enough if every combination of the settings' values is one of the settings.
    """
    numbers = comparison.groups["group"].iloc[list(positions)]
    members = comparison.runs[comparison.runs["usable"] & comparison.runs["group"].isin(numbers)]
    used = [pd.to_numeric(members[key], errors="coerce") for key in comparison.over if key in members]
    seeds = pd.concat(used) if used else pd.Series(dtype=float)
    if seeds.isna().any() or not len(seeds):
        return []
    first = int(seeds.max()) + 1
    keys = [key.removeprefix("config.") for key in comparison.over]
    repeated = [f"{keys[0]}=range({first},{first + more})", *(f"{key}=${{{keys[0]}}}" for key in keys[1:])]
    firsts = members.drop_duplicates("group").set_index("group").loc[list(numbers)]
    start, settings = ["cifar-exp", "-m"], []
    for path in firsts["path"]:
        overrides = _overrides(Path(path))
        if overrides is None:  # the user replaces `...` by what all runs share
            start, columns = [*start, "..."], [c for c in comparison.varied if c.startswith("config.")]
            rows = firsts[columns].to_dict("records")
            settings = [{str(c)[7:]: v or "null" for c, v in row.items() if isinstance(v, str)} for row in rows]
            break
        settings.append({key: value for key, value in overrides.items() if key not in keys})
    typed = [[*start, *(f"{key}={value}" for key, value in one.items()), *repeated] for one in _combined(settings)]
    made = [one_line(shlex.join(words)) for words in typed]
    return made if sum(map(len, made)) <= _LONGEST_COMMAND else []


def _overrides(run: Path) -> dict[str, str] | None:
    """The overrides that the run was started with; None if they are unknown or unsafe to copy."""
    overrides = read_overrides(run / ".hydra" / "overrides.yaml")
    if overrides is None:
        return None
    matches = [_OVERRIDE.fullmatch(one) for one in overrides]
    found = {match[1]: match[2] for match in matches if match and match[2].isprintable()}
    # A copied command must neither extend the targets that a saved run may call nor redirect Hydra's output.
    if len(found) < len(matches) or any(key.lstrip("+").startswith(("hydra", "trust")) for key in found):
        return None
    return found


def _combined(settings: Sequence[dict[str, str]]) -> Sequence[dict[str, str]]:
    """One sweep over all settings if every combination of their values is one of them; otherwise one for each."""
    keys = list(dict.fromkeys(chain.from_iterable(settings)))
    values = {key: list(dict.fromkeys(one.get(key, "") for one in settings)) for key in keys}
    different = len({tuple(one.items()) for one in settings})
    if prod(map(len, values.values())) != different or any(set(one) != set(keys) for one in settings):
        return settings
    return [{key: ",".join(values[key]) for key in keys}]
