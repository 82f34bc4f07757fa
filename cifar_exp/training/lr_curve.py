"""The curve of a learning-rate range test: loss against a rising learning rate, and which ``max_lr`` it suggests.

Knows nothing of training, so that comparing runs can read a curve without loading PyTorch.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cifar_exp.run_dir import tables

FILE, FIGURE = "lr_find.csv", "lr_find.png"

_SMOOTHING = 0.9  # weight of the past: a value is about the mean of the last ten batches
FIRST = 10  # steps, whose learning rates are too small to change anything: where the loss starts, how it scatters
_AT_ONCE = 1.5  # times the untrained network's loss
# Times the scatter of single batches; a hundred smoothed losses that do not fall lie within about 1.5 of it.
_FALL, _RISE = 2.0, 3.0
_DIGITS = 2  # of a suggestion; batch noise alone moves it by more than a third digit would


@dataclass(frozen=True)
class Suggestion:
    """A learning rate for the peak of a schedule, and why.

    Attributes:
        max_lr: to two digits; None where the curve has none to give.
        reason: a sentence.
        cautions: what makes the suggestion doubtful, and what to do about it.
        lowest: learning rate at which the smoothed loss is lowest; None where it never fell.
    """

    max_lr: float | None
    reason: str
    cautions: tuple[str, ...] = ()
    lowest: float | None = None


@dataclass
class RangeCurve:
    """The losses of a range test, step by step.

    Attributes:
        learning_rates: of each step so far, rising.
        losses: of each step's batch, before the step; the last can be infinite or not a number.
        smoothed: exponentially weighted means of the losses, corrected for their start at zero (as Adam's moments are;
            Gugger 2018, "How do you find a good learning rate").
    """

    learning_rates: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    smoothed: list[float] = field(default_factory=list)
    _average: float = 0.0
    _lowest: float = np.inf

    def add(self, learning_rate: float, loss: float) -> None:
        """Append a step."""
        self.learning_rates.append(learning_rate)
        self.losses.append(loss)
        self._average = _SMOOTHING * self._average + (1 - _SMOOTHING) * loss
        self.smoothed.append(self._average / (1 - _SMOOTHING ** len(self.losses)))
        if len(self.losses) >= FIRST:
            self._lowest = min(self._lowest, self.smoothed[-1])

    @property
    def start(self) -> float:
        """Mean loss of the first steps."""
        return float(np.mean(self.losses[:FIRST]))

    @property
    def noise(self) -> float:
        """Standard deviation of the first steps' losses: how much one batch differs from another."""
        return float(np.std(self.losses[:FIRST]))

    @property
    def diverged(self) -> bool:
        """Whether there is nothing to learn from a larger learning rate.

        The loss is not finite, or it has risen from its lowest by half of what it had fallen, and by more than chance.
        (A multiple of the lowest loss, as some use, is never reached by networks with batch normalization, which come
        back from a first divergence and would show a second, false valley.)
        """
        if not np.isfinite(self.losses[-1]):
            return True
        if len(self.losses) <= FIRST:
            return False
        return self.smoothed[-1] - self._lowest > max(0.5 * (self.start - self._lowest), _RISE * self.noise)

    def suggest(self) -> Suggestion:
        """Suggest a ``max_lr``: where half of the loss's fall is done, in the middle of the descent.

        There the network learns fast, with a distance to the lowest loss, beyond which training becomes unstable.
        The half-way point moves less from seed to seed than the steepest slope or a tenth of the minimum's learning
        rate, which hang on single batches.
        """
        smoothed = np.array(self.smoothed)
        finite = np.isfinite(smoothed)
        if not finite.any():
            return Suggestion(None, f"The loss is {self.losses[0]} at the first step: the network cannot be trained.")
        rates = np.array(self.learning_rates)
        if not finite[:FIRST].all() or self.start > _AT_ONCE * self.losses[0]:
            return Suggestion(
                None, f"The loss diverged at once, at learning rates from {rates[0]:.2g} on: start lower (--min-lr)."
            )
        smoothed = np.where(finite, smoothed, np.inf)
        begin = FIRST - 1  # what comes before is of few batches, not yet smooth
        lowest = begin + int(smoothed[begin:].argmin())
        fall = self.start - smoothed[lowest]
        if not fall > _FALL * self.noise:
            return Suggestion(
                None,
                f"The loss did not fall at any learning rate from {rates[0]:.2g} to {rates[-1]:.2g}: take more steps "
                "(--steps) or another range (--min-lr, --max-lr).",
            )
        half = begin + int(np.argmax(smoothed[begin:] <= self.start - fall / 2))
        reason = (
            f"Half of the loss's fall from {self.start:.3g} to {smoothed[lowest]:.3g} is done at {rates[half]:.2g}; "
            f"it is lowest at {rates[lowest]:.2g}, {rates[lowest] / rates[half]:.1f} times that."
        )
        cautions = []
        if half < 2 * FIRST:
            cautions.append("The loss fell from the first steps on: a smaller learning rate may do; try --min-lr.")
        if lowest == len(smoothed) - 1 and not self.diverged:
            cautions.append(
                "The loss was still falling at the largest learning rate: a larger one may do; try --max-lr."
            )
        return Suggestion(rounded(rates[half]), reason, tuple(cautions), float(rates[lowest]))

    def rows(self) -> list[Mapping[str, Any]]:
        """The rows of ``lr_find.csv``."""
        columns = zip(self.learning_rates, self.losses, self.smoothed, strict=True)
        return [
            dict(zip(tables.LR_FIND_COLUMNS, (step, *values), strict=True)) for step, values in enumerate(columns, 1)
        ]


def rounded(learning_rate: float) -> float:
    """A learning rate to the digits that a suggestion has.

    >>> rounded(0.051234)
    0.051
    """
    return float(f"{learning_rate:.{_DIGITS - 1}e}")


def read_curve(path: Path) -> RangeCurve:
    """Read a ``lr_find.csv``; the smoothed losses are made anew from the losses.

    Raises:
        OSError: there is no such file.
        ValueError: it is not one, or is cut off.
    """
    table = tables.read_table(path)
    if absent := [name for name in tables.LR_FIND_COLUMNS if name not in table.columns]:
        raise ValueError(f"it has no column {absent[0]}")
    if table.empty:
        raise ValueError("it has no rows")
    rates, losses = (pd.to_numeric(table[name]).tolist() for name in ("learning_rate", "loss"))
    curve = RangeCurve()
    for rate, loss in zip(rates, losses, strict=True):
        if not 0 < rate < np.inf:
            raise ValueError("it has a step without a learning rate")
        curve.add(rate, loss)
    return curve


def neighbours(max_lr: float) -> NDArray[np.float64]:
    """(3,) a suggestion between a third and three times itself: what a sweep should try."""
    return np.array([rounded(max_lr / 3), max_lr, rounded(3 * max_lr)])
