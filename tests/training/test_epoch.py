"""An epoch of training, against a loop written the plain way."""

import numpy as np
import pytest
import torch
from composing import TINY, composed
from torch import nn
from torch.nn import functional as F

from cifar_exp.compute.device import Compute
from cifar_exp.data.augment.pipeline import Augmentation
from cifar_exp.data.batches import TrainingBatches
from cifar_exp.data.dataset import Split
from cifar_exp.data.normalize import Normalizer, Statistics
from cifar_exp.errors import DivergedError
from cifar_exp.run_dir import tables
from cifar_exp.runner import run
from cifar_exp.training.epoch import EpochState, train_epoch
from cifar_exp.training.learner import Learner
from cifar_exp.training.loss import Loss
from cifar_exp.training.progress import EpochProgress
from cifar_exp.training.schedule import one_cycle
from cifar_exp.training.step import TrainingStep

CPU = Compute(torch.device("cpu"), torch.float32, torch.contiguous_format)
MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.2, 0.2)
IMAGES, BATCH, EPOCHS = 70, 16, 2
TOTAL = EPOCHS * 5


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))


@pytest.fixture
def batches():
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (IMAGES, 8, 8, 3), dtype=np.uint8)
    split = Split(images, generator.integers(0, 3, IMAGES), np.array(["x"] * IMAGES))
    return TrainingBatches(split, Augmentation({}, (0, 0, 0), (8, 8, 3)), BATCH, seed=4)


def learner(max_lr: float = 0.1, interval: str = "step", compute: Compute = CPU, **options) -> Learner:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=max_lr, momentum=0.9, nesterov=True)
    scheduler = one_cycle(optimizer, max_lr=max_lr, total_steps=TOTAL)
    step = TrainingStep(compute, Normalizer(Statistics(MEAN, STD), CPU), loss=Loss(**options))
    return Learner(model, model, optimizer, scheduler, interval, TOTAL, step)


def train(who: Learner, batches: TrainingBatches) -> list:
    results = []
    for epoch in range(1, EPOCHS + 1):
        state = EpochState.start(CPU.device)
        results.append(train_epoch(who, batches.epoch(epoch), state, images=IMAGES, epochs=EPOCHS, sizes=batches.sizes))
        who.end_epoch()
    return results


def plainly(batches: TrainingBatches, label_smoothing: float = 0.0):
    """The same training as most people write it."""
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=TOTAL)
    epochs, rates = [], []
    for epoch in range(1, EPOCHS + 1):
        order = batches.order(epoch)
        losses, right = [], 0
        for start in range(0, IMAGES, BATCH):
            rows = order[start : start + BATCH]
            images = torch.from_numpy(batches.split.images[rows]).permute(0, 3, 1, 2).float() / 255
            images = (images - torch.tensor(MEAN).view(1, 3, 1, 1)) / torch.tensor(STD).view(1, 3, 1, 1)
            labels = torch.from_numpy(batches.split.labels[rows])
            logits = model(images)
            optimizer.zero_grad()
            F.cross_entropy(logits, labels, label_smoothing=label_smoothing).backward()
            optimizer.step()
            rates.append(optimizer.param_groups[0]["lr"])
            if len(rates) < TOTAL:
                scheduler.step()
            losses += F.cross_entropy(logits, labels, reduction="none").tolist()
            right += (logits.argmax(1) == labels).sum().item()
        epochs.append((sum(losses) / IMAGES, right / IMAGES))
    return model, epochs, rates


@pytest.mark.parametrize("label_smoothing", [0.0, 0.2])
def test_training_equals_a_plain_loop(batches, label_smoothing):
    who = learner(label_smoothing=label_smoothing)
    results = train(who, batches)
    model, epochs, rates = plainly(batches, label_smoothing)
    assert [result.loss for result in results] == pytest.approx([loss for loss, _ in epochs], rel=1e-4)
    assert [result.accuracy for result in results] == [accuracy for _, accuracy in epochs]
    for ours, theirs in zip(who.model.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
    rows = [row for result in results for row in result.steps]
    assert [row["learning_rate"] for row in rows] == pytest.approx(rates)
    assert [row["step"] for row in rows] == list(range(1, TOTAL + 1))
    assert [row["epoch"] for row in rows] == [1] * 5 + [2] * 5
    assert (who.step, who.epoch) == (TOTAL, EPOCHS)


def test_interval_epoch_advances_the_schedule_once_an_epoch(batches):
    rows = [row for result in train(learner(interval="epoch"), batches) for row in result.steps]
    reference = learner().scheduler
    first = reference.get_last_lr()[0]
    assert [row["learning_rate"] for row in rows[:5]] == [first] * 5
    assert len({row["learning_rate"] for row in rows}) == 2


def test_divergence_stops_at_the_step_and_keeps_the_rows(batches):
    who = learner(max_lr=1e38)
    with pytest.raises(
        DivergedError, match=r"the loss became (nan|inf) at step \d+ \(epoch 1.*smaller max_lr"
    ) as caught:
        train(who, batches)
    steps = caught.value.steps
    assert steps[-1]["step"] == len(steps) == who.step < 5
    assert all(np.isfinite(row["loss"]) for row in steps[:-1])
    assert not np.isfinite(steps[-1]["loss"])


def test_bfloat16_is_close_to_float32(batches):
    mixed = Compute(torch.device("cpu"), torch.bfloat16, torch.channels_last)
    losses = []
    for compute in (CPU, mixed):
        who = learner(compute=compute)
        epoch = batches.epoch(1)
        state = EpochState.start(compute.device)
        result = train_epoch(who, epoch, state, images=IMAGES, epochs=2, sizes=batches.sizes)
        assert next(who.model.parameters()).dtype is torch.float32
        losses.append(result.loss)
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], rel=0.05)


def test_progress_shows_the_metrics_of_the_steps(monkeypatch, tmp_path):
    shown = []
    monkeypatch.setattr("cifar_exp.training.progress._LINE_SECONDS", 0.0)
    monkeypatch.setattr(EpochProgress, "show", lambda progress, *metrics: shown.append((progress._processed, *metrics)))
    run(composed(*TINY, "batch_size=50", "epochs=1"), tmp_path / "run")
    steps, epoch = (tables.read_table(tmp_path / "run" / name).to_dict("list") for name in ("steps.csv", "metrics.csv"))
    done, losses, accuracies, rates = zip(*shown, strict=True)
    assert done == (50, 100, 150, 200, 250, 270)
    assert losses == pytest.approx(steps["loss"])
    assert accuracies[-1] == epoch["train_accuracy"][0]
    assert list(rates) == steps["learning_rate"]
