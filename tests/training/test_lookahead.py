"""Lookahead against averages worked by hand, and its state through a checkpoint."""

import pytest
import torch
from torch import nn

from cifar_exp.run_dir import checkpoint
from cifar_exp.training.lookahead import Lookahead


class One(nn.Module):
    """A weight, a frozen one, a running statistic and a counter."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(1.0))
        self.frozen = nn.Parameter(torch.tensor(7.0), requires_grad=False)
        self.register_buffer("running", torch.tensor(0.0))
        self.register_buffer("seen", torch.tensor(0))

    def to(self, weight: float, running: float) -> None:  # type: ignore[override]
        with torch.no_grad():
            self.weight.fill_(weight)
            self.running.fill_(running)
            self.seen += 1


def test_averages_by_hand():
    model = One()
    lookahead = Lookahead(model, every_steps=2, decay=0.8, power=1.0, total_steps=5)
    model.to(3.0, 1.0)
    lookahead.after_step(1)  # not yet
    assert (model.weight.item(), model.running.item()) == (3.0, 1.0)
    model.to(5.0, 2.0)
    lookahead.after_step(2)  # decay 0.8 * 2/5 = 0.32
    slow, running = 0.32 * 1 + 0.68 * 5, 0.68 * 2
    assert (model.weight.item(), model.running.item()) == pytest.approx((slow, running))
    lookahead.after_step(3)
    model.to(6.0, 2.0)
    lookahead.after_step(4)  # decay 0.8 * 4/5 = 0.64
    slow, running = 0.64 * slow + 0.36 * 6, 0.64 * running + 0.36 * 2
    assert (model.weight.item(), model.running.item()) == pytest.approx((slow, running))
    model.to(100.0, 100.0)
    lookahead.after_step(5)  # the end: what came after the last average is given up
    assert (model.weight.item(), model.running.item()) == pytest.approx((slow, running))
    assert (model.frozen.item(), model.seen.item()) == (7.0, 4)


def test_the_papers_decay():
    model = One()
    lookahead = Lookahead(model, every_steps=5, decay=0.95**5, power=3.0, total_steps=100)
    model.to(2.0, 0.0)
    lookahead.after_step(50)
    decay = 0.95**5 * 0.5**3
    assert model.weight.item() == pytest.approx(decay * 1 + (1 - decay) * 2)


def test_the_state_goes_through_a_checkpoint(tmp_path):
    def trained(steps: range, model: One, lookahead: Lookahead) -> None:
        for step in steps:
            with torch.no_grad():
                model.weight.mul_(1.5)
            lookahead.after_step(step)

    options = {"every_steps": 3, "decay": 0.9, "power": 1.0, "total_steps": 20}
    model = One()
    lookahead = Lookahead(model, **options)
    trained(range(1, 9), model, lookahead)
    checkpoint.save(tmp_path / "last.pt", model, averaging=lookahead.state_dict())
    trained(range(9, 21), model, lookahead)

    state = checkpoint.load(tmp_path / "last.pt", torch.device("cpu"))
    again = One()
    resumed = Lookahead(again, **options)
    again.load_state_dict(state["model"])
    resumed.load_state_dict(state["averaging"])
    trained(range(9, 21), again, resumed)
    assert torch.equal(again.weight, model.weight)


def test_what_is_frozen_on_the_way_stays_where_it_is():
    model = One()
    lookahead = Lookahead(model, every_steps=1, decay=0.0, power=1.0, total_steps=3)
    model.to(2.0, 0.0)
    lookahead.after_step(1)
    model.weight.requires_grad_(False)
    lookahead.after_step(2)
    assert model.weight.item() == 2.0
