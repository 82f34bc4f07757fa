"""The results of a comparison, which the command writes and prints."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cifar_exp.compare.comparison import Comparison
from cifar_exp.compare.pairs import Pair


@dataclass(frozen=True)
class Results:
    """A comparison with the tests of its runs.

    Attributes:
        comparison: the comparison of the runs.
        shown: rows of the runs to print.
        pairs: the baseline against the other usable runs shown.
        range_tests: directories with the curve of an LR range test.
        request: arguments of the command, for the mark.
        command: the command that repeats the comparison.
        remarks: cautions, and notes on unreadable files and missing figures.
        files: names of the files written.
    """

    comparison: Comparison
    shown: list[int]
    pairs: list[Pair]
    range_tests: list[Path]
    request: dict[str, Any]
    command: str
    remarks: list[str]
    files: list[str] = field(default_factory=list)
