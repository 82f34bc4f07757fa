"""The learning-rate range test: the losses of a loop written by hand, and that it leaves no trace."""

import copy
import random

import numpy as np
import pytest
import torch
from composing import TINY, composed
from range_tests import AUTO
from torch import nn
from torch.nn import functional as F

from cifar_exp.build import build
from cifar_exp.config.schema import Range
from cifar_exp.training.lr_range_test import range_test


def losses_of(parts, config, steps=12, model=None):
    over = Range(1e-3, 1.0, steps)
    curve = range_test(config, model or parts.learner.model, parts.batches, parts.compute, parts.normalize, over)
    return curve.losses


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
    """All that a range test could leave a trace in."""
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


def test_it_leaves_no_trace_and_is_the_same_again():
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
    found = [build(composed(*AUTO, *more)).range_curve for more in ((), ("epochs=3",), ("seed=1",))]
    assert found[0].losses == found[1].losses
    assert found[0].losses != found[2].losses


def test_a_batch_larger_than_the_data_is_the_whole_data():
    config = composed(*TINY, "batch_size=1000", "epochs=4")
    assert len(losses_of(build(config), config, steps=4)) == 4


def test_adams_first_beta_is_its_momentum():
    from cifar_exp.training.optimizer import momentum_of, set_momentum

    optimizer = torch.optim.AdamW([nn.Parameter(torch.zeros(1))])
    set_momentum(optimizer, 0.85)
    assert optimizer.param_groups[0]["betas"] == (0.85, 0.999)
    assert momentum_of(optimizer) == 0.85
