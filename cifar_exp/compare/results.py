"""The results of a comparison, which the command writes and prints, and the names of its files."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cifar_exp.compare.comparison import Comparison
from cifar_exp.compare.pairs import Pair

TABLES = ("comparison.csv", "groups.csv", "group_pairs.csv", "pairs.csv")
FIGURES = ("curves.png", "line.png", "heat_map.png", "max_lr.png", "fixed_and_broken.png")
PAGE = "comparison.html"
MARK = "comparison.json"  # marks the folder as a comparison's, and has the request


@dataclass(frozen=True)
class Results:
    """A comparison with the tests of its runs."""

    comparison: Comparison
    shown: list[int]  # rows of the runs to print
    pairs: list[Pair]  # the baseline against the other usable runs shown
    range_tests: list[Path]  # directories with the curve of an LR range test
    request: dict[str, Any]  # arguments of the command, for the mark
    command: str  # repeats the comparison
    remarks: list[str]  # cautions, and notes on unreadable files and missing figures
    files: list[str] = field(default_factory=list)  # names of the files written
