"""The learning rates that a range test goes through."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Range:
    """``steps`` learning rates from ``low`` to ``high``, in equal ratios."""

    low: float = 1e-5
    high: float = 10.0
    steps: int = 100
