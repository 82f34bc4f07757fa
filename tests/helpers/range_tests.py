"""The experiment that range tests are tried on, and curves of losses made by hand."""

import numpy as np
from composing import TINY

from cifar_exp.training.lr_curve import RangeCurve

SMALL = (*TINY, "batch_size=32")  # a hundred steps in a second
AUTO = (*SMALL, "max_lr=auto")


def curve_of(losses, low=1e-5, high=10.0):
    """A curve over all losses, whether or not a test would have stopped before the last."""
    curve = RangeCurve()
    for rate, loss in zip(np.geomspace(low, high, len(losses)), losses, strict=True):
        curve.add(float(rate), float(loss))
    return curve


def noisy(level, steps, seed=0, spread=0.02):
    return level + spread * np.random.default_rng(seed).standard_normal(steps)
