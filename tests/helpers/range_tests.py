"""The experiment that LR range tests are tried on, and tests with given losses."""

import numpy as np
from composing import TINY

from cifar_exp.training.lr_range_test import LRRangeTest

SMALL = (*TINY, "batch_size=32")  # a hundred steps in a second
AUTO = (*SMALL, "max_lr=auto")


def curve_of(losses, low=1e-5, high=10.0):
    """An LR range test with these losses, whether or not a real one would have stopped earlier."""
    curve = LRRangeTest()
    for rate, loss in zip(np.geomspace(low, high, len(losses)), losses, strict=True):
        curve.add(float(rate), float(loss))
    return curve


def noisy(level, steps, seed=0, spread=0.02):
    return level + spread * np.random.default_rng(seed).standard_normal(steps)
