"""The LR range test against a loop written by hand; that it changes no state; its end and its suggestion."""

import copy
import math
import random

import numpy as np
import pandas as pd
import pytest
import torch
from composing import TINY, composed
from range_tests import AUTO, curve_of, noisy
from torch import nn
from torch.nn import functional as F

from cifar_exp.build import build
from cifar_exp.run_dir import tables
from cifar_exp.training.lr_range_test import LRRange, neighbours, read_lr_range_test, run_lr_range_test


def losses_of(parts, config, steps=12, model=None):
    step, lr_range = parts.learner.training_step, LRRange(1e-3, 1.0, steps)
    return run_lr_range_test(config, model or parts.learner.model, parts.batches, step, lr_range).losses


@pytest.mark.parametrize(
    ("override", "momentum"), [("scheduler=one_cycle", 0.85), ("scheduler=cosine", 0.9)], ids=["one_cycle", "cosine"]
)
def test_the_losses_are_those_of_a_loop_written_by_hand(override, momentum):
    exact = ("precision=float32", "label_smoothing=0.1", "optimizer.decay_norms_and_biases=true")
    config = composed(*TINY, override, *exact)
    parts = build(config)
    losses = losses_of(parts, config, steps=5)
    model = copy.deepcopy(parts.learner.model).train()
    decay = config.optimizer.weight_decay
    optimizer = torch.optim.SGD(model.parameters(), lr=1, momentum=momentum, nesterov=True, weight_decay=decay)
    # Two full batches of 128 in 270 images: the third of each epoch has 14 and is left out.
    for step, (epoch, batch) in enumerate([(1, 0), (1, 1), (2, 0), (2, 1), (3, 0)]):
        places = parts.batches.order(epoch)[128 * batch : 128 * (batch + 1)]
        images = parts.batches.images(epoch, batch, places)
        # The very input: a last bit that differs grows a hundredfold while the learning rate rises to 1.
        logits = model(parts.normalize(torch.from_numpy(images)))
        loss = F.cross_entropy(logits, torch.tensor(parts.splits.train.labels[places]), label_smoothing=0.1)
        assert loss.item() == pytest.approx(losses[step], rel=1e-5)
        optimizer.zero_grad()
        loss.backward()
        optimizer.param_groups[0]["lr"] = 1e-3 * 1000 ** (step / 4)
        optimizer.step()


class Restless(nn.Module):
    """A network that draws from every generator, and has state of its own."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.calls = inner, 0

    def forward(self, images):
        self.calls += 1
        shift = random.random() + np.random.rand()  # noqa: NPY002
        return F.dropout(self.inner(images), 0.1) + 1e-3 * shift


def everything(parts, model):
    """All state that an LR range test could change."""
    return {
        "state": copy.deepcopy(model.state_dict()),
        "mode": [module.training for module in model.modules()],
        "gradients": [parameter.grad for parameter in model.parameters()],
        "optimizer": copy.deepcopy(parts.learner.optimizer.state_dict()),
        "scheduler": copy.deepcopy(parts.learner.scheduler.state_dict()),
        "torch": torch.get_rng_state(),
        "numpy": np.random.get_state(),  # noqa: NPY002
        "python": random.getstate(),
    }


def same(a, b):
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, np.ndarray):
        return np.array_equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def test_it_changes_no_state_and_repeats():
    config = composed(*TINY)
    parts = build(config)
    model = Restless(parts.learner.model)
    before = everything(parts, model)
    losses = losses_of(parts, config, model=model)
    after = everything(parts, model)
    assert [key for key in before if not same(before[key], after[key])] == []
    assert model.calls == 0
    assert losses[-1] != losses[0]
    # Whatever the generators' state is when it comes to the test.
    torch.manual_seed(99)
    plain = parts.learner.model
    assert losses_of(parts, config, model=plain) == losses_of(parts, config, model=plain)


def test_it_depends_on_the_seed_and_neither_on_max_lr_nor_on_epochs():
    found = [build(composed(*AUTO, *more)).lr_range_test for more in ((), ("epochs=3",), ("seed=1",))]
    assert found[0].losses == found[1].losses
    assert found[0].losses != found[2].losses


def test_a_batch_larger_than_the_data_is_the_whole_data():
    config = composed(*TINY, "batch_size=1000", "epochs=4")
    assert len(losses_of(build(config), config, steps=4)) == 4


def test_adams_first_beta_is_its_momentum():
    from cifar_exp.training.optimizer import read_momentum, set_momentum

    optimizer = torch.optim.AdamW([nn.Parameter(torch.zeros(1))])
    set_momentum(optimizer, 0.85)
    assert optimizer.param_groups[0]["betas"] == (0.85, 0.999)
    assert read_momentum(optimizer) == 0.85


# --- end and suggestion ---
def test_smoothing_is_pandas_adjusted_exponential_mean():
    losses = noisy(2.3, 60, spread=0.5)
    expected = pd.Series(losses).ewm(alpha=0.1, adjust=True).mean()
    np.testing.assert_allclose(curve_of(losses).smoothed, expected, rtol=1e-12)


def test_the_suggestion_on_a_straight_descent_agrees_with_the_smoothing_lag():
    # Flat at 4 for 10 steps, then 0.01 a step down to 2, then away. An exponential mean with weight 0.9 follows a
    # straight line 0.9 / 0.1 = 9 steps behind: lowest 2.09 at step 210, half of the fall at 4 - 1.91 / 2 = 3.045.
    losses = [4.0] * 10 + [4 - 0.01 * n for n in range(1, 201)] + [9.0] * 5
    curve = curve_of(losses)
    found = curve.suggest()
    assert curve.smoothed[209] == pytest.approx(2.09, abs=1e-6)
    assert found.lowest == curve.learning_rates[209]
    step = 10 + math.ceil((4 - 3.045) / 0.01 + 9)
    assert found.max_lr == pytest.approx(curve.learning_rates[step - 1], rel=0.05)  # two digits
    assert "Half of the loss's fall from 4 to 2.09" in found.reason
    assert found.cautions == ()


@pytest.mark.parametrize(
    ("losses", "reason"),
    [
        ([math.nan], "is nan at the first step"),
        ([*noisy(2.3, 3), math.inf], "diverged at once"),
        ([2.3, *(2.3 * 2.0**n for n in range(1, 12))], "diverged at once"),
        (noisy(2.3, 100), "did not fall at any learning rate from 1e-05 to 10"),
        ([*noisy(2.3, 60), 4, 9, 30], "did not fall"),
    ],
)
def test_a_range_test_without_a_fall_gives_a_reason_instead_of_a_suggestion(losses, reason):
    found = curve_of(losses).suggest()
    assert found.max_lr is None
    assert reason in found.reason


def test_a_loss_that_falls_to_the_end_is_a_caution():
    found = curve_of([*noisy(2.3, 50), *np.linspace(2.3, 1, 50)]).suggest()
    assert found.max_lr is not None
    assert "--max-lr" in found.cautions[0]


def test_a_loss_that_falls_from_the_start_is_a_caution():
    found = curve_of([*np.linspace(2.3, 0.5, 15), *np.linspace(0.5, 0.3, 50), 2, 3, 4, 5]).suggest()
    assert "--min-lr" in found.cautions[0]


def test_the_range_test_stops_after_losing_half_of_the_fall_and_not_by_noise():
    assert not any(curve_of(noisy(2.3, n, seed=n)).diverged for n in range(11, 100))
    fallen = [*noisy(2.3, 30), *np.linspace(2.3, 1.3, 60)]
    lowest = min(curve_of(fallen).smoothed)
    for risen in range(1, 40):
        curve = curve_of([*fallen, *[2.6] * risen])
        assert curve.diverged == (curve.smoothed[-1] - lowest > (curve.initial_loss - lowest) / 2)
    assert curve.diverged
    assert curve_of([*fallen, math.nan]).diverged


def test_an_infinite_last_loss_keeps_the_suggestion():
    losses = [*noisy(2.3, 30), *np.linspace(2.3, 1.3, 60)]
    assert curve_of([*losses, math.inf]).suggest().max_lr is not None


def test_range_tests_are_read_back_and_damaged_files_refused(tmp_path):
    curve, path = curve_of([*noisy(2.3, 40), 5.0, math.nan]), tmp_path / "lr_find.csv"
    tables.write_table(path, tables.LR_FIND_COLUMNS, curve.rows())
    again = read_lr_range_test(path)
    np.testing.assert_array_equal(again.losses, curve.losses)
    np.testing.assert_array_equal(again.smoothed, curve.smoothed)
    assert again.learning_rates == curve.learning_rates
    for text in (
        "step,loss\n1,2\n",
        "step,learning_rate,loss,smoothed_loss\n",
        "step,learning_rate,loss,smoothed_loss\n1,",
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match="it has"):
            read_lr_range_test(path)


def test_neighbours_are_a_third_and_three_times_the_suggestion():
    assert neighbours(0.1).tolist() == [0.033, 0.1, 0.3]
