"""Mixing, averaging, clipping, accumulation, class weights, selection and early stopping, against libraries."""

import copy
import json

import numpy as np
import pytest
import sklearn.metrics
import torch
from composing import TINY, composed
from runs import measured
from sklearn.utils.class_weight import compute_class_weight
from torch import nn
from torch.nn import functional as F
from torchvision.transforms import v2

from cifar_exp.compute.device import Compute
from cifar_exp.data.batches import balanced_order
from cifar_exp.data.normalize import Normalizer, Statistics
from cifar_exp.errors import RequestError
from cifar_exp.evaluation.metrics import Evaluation, selection_score
from cifar_exp.run_dir import tables
from cifar_exp.run_dir.checkpoint import load
from cifar_exp.runner import run
from cifar_exp.training.ema import WeightAverage
from cifar_exp.training.loss import Loss, compute_class_weights
from cifar_exp.training.mixing import Mixing
from cifar_exp.training.step import TrainingStep

CPU = Compute(torch.device("cpu"), torch.float32, torch.contiguous_format)
NORMALIZE = Normalizer(Statistics((0.5, 0.4, 0.3), (0.2, 0.2, 0.2)), CPU)
ALL = (
    *TINY, "batch_size=16", "accumulate=2", "mixing.mixup_alpha=0.4", "mixing.cutmix_alpha=1.0", "averaging=ema",
    "averaging.every_steps=2", "optimizer.clip_grad_norm=0.5", "loss.class_weights=balanced", "data.sampler=balanced",
    "selection_metric=val_macro_f1", "evaluate_test_each_epoch=true",
)  # fmt: skip


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))


def batch(images: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (images, 8, 8, 3), dtype=torch.uint8, generator=generator)
    return pixels, torch.randint(0, 3, (images,), generator=generator)


# --- mixing ---
@pytest.mark.parametrize(("alphas", "kind"), [((0.4, None), v2.MixUp), ((None, 1.0), v2.CutMix)])
def test_mixing_is_torchvisions_and_depends_on_its_numbers_alone(alphas, kind):
    inputs, labels = torch.rand(16, 3, 8, 8), torch.arange(16) % 3
    mixing = Mixing(*alphas, 1.0, classes=3, seed=5)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    mixed, targets = mixing(inputs, labels, 7, 0)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(mixing(inputs, labels, 7, 0)[0], mixed)
    assert not torch.equal(mixing(inputs, labels, 8, 0)[1], targets)
    rolled = F.one_hot(labels.roll(1), 3)
    share = ((targets - rolled) / (F.one_hot(labels, 3) - rolled)).nanmean().item()  # lambda, from the targets
    torch.testing.assert_close(targets, share * F.one_hot(labels, 3) + (1 - share) * rolled)
    if kind is v2.MixUp:
        torch.testing.assert_close(mixed, share * inputs + (1 - share) * inputs.roll(1, 0))
    else:
        kept = (mixed == inputs).all(dim=1).float().mean().item()
        assert kept == pytest.approx(share, abs=1e-6)
    never, same = Mixing(*alphas, 0.0, classes=3, seed=5)(inputs, labels, 7, 0)
    assert torch.equal(never, inputs)
    assert torch.equal(same, labels)


def test_the_accuracy_of_a_mixed_batch_is_that_of_the_dominant_label():
    pixels, labels = batch(12)
    mixing = Mixing(0.4, None, 1.0, classes=3, seed=0)
    model, step = network(), TrainingStep(CPU, NORMALIZE, mixing=mixing)
    inputs, targets = mixing(NORMALIZE(pixels), labels, 3, 0)
    logits = model(inputs)
    result = step(model, torch.optim.SGD(model.parameters(), lr=0.1), [(pixels, labels)], number=3)
    assert int(result.correct) == int((logits.argmax(1) == targets.argmax(1)).sum())
    torch.testing.assert_close(result.loss, F.cross_entropy(logits, targets).detach())


# --- averaging ---
def test_the_average_is_the_formulas():
    model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.BatchNorm1d(1))
    average, weights, expected = WeightAverage(model, decay=0.5, every_steps=2), [3.0, 5.0, 6.0, 8.0, 9.0, 1.0], None
    for step, weight in enumerate(weights, start=1):
        with torch.no_grad():
            model[0].weight.fill_(weight)
            model[1].running_mean.fill_(10 * weight)
            model[1].num_batches_tracked.fill_(step)
        average.after_step(model, step)
        if step % 2 == 0:
            updates = step // 2 - 1
            decay = min(0.5, (1 + updates) / (10 + updates))
            expected = weight if expected is None else decay * expected + (1 - decay) * weight
            assert average.model[0].weight.item() == pytest.approx(expected)
            assert average.model[1].running_mean.item() == pytest.approx(10 * expected)
            assert average.model[1].num_batches_tracked.item() == step
    assert model[0].weight.item() == 1.0


# --- clipping and accumulation ---
def test_clipping_is_torchs():
    model, other = network(), network()
    first, second = batch(16), batch(8, seed=1)
    step = TrainingStep(CPU, NORMALIZE, clip_grad_norm=0.1, accumulate=2)
    result = step(model, torch.optim.SGD(model.parameters(), lr=0.5), [first, second])
    optimizer = torch.optim.SGD(other.parameters(), lr=0.5)
    inputs, labels = torch.cat([NORMALIZE(first[0]), NORMALIZE(second[0])]), torch.cat([first[1], second[1]])
    loss = F.cross_entropy(other(inputs), labels)
    loss.backward()
    norm = nn.utils.clip_grad_norm_(other.parameters(), 0.1)
    optimizer.step()
    assert norm > 0.1
    torch.testing.assert_close(result.gradient_norm, norm)
    torch.testing.assert_close(result.loss, loss.detach())
    assert result.images == 24
    for ours, theirs in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)


# --- class weights, sampler, selection ---
def test_class_weights_are_scikit_learns_and_their_loss_is_the_formulas():
    labels = np.array([0] * 10 + [1] * 4 + [2] * 1)
    weights = compute_class_weights("balanced", labels, 3, CPU.device)
    np.testing.assert_allclose(weights, compute_class_weight("balanced", classes=np.arange(3), y=labels), rtol=1e-6)
    logits, targets = torch.randn(15, 3, generator=torch.Generator().manual_seed(0)), torch.from_numpy(labels)
    expected = (weights[targets] * F.cross_entropy(logits, targets, reduction="none")).mean()
    torch.testing.assert_close(Loss(0.0, weights)(logits, targets), expected)
    soft = Loss(0.1, weights)(logits, F.one_hot(targets, 3).float())  # the same for labels and for probabilities
    torch.testing.assert_close(Loss(0.1, weights)(logits, targets), soft)
    with pytest.raises(RequestError, match="has 2 weights, but the data has 3 classes"):
        compute_class_weights([1.0, 2.0], labels, 3, CPU.device)
    with pytest.raises(RequestError, match="a class has no training image"):
        compute_class_weights("balanced", labels, 4, CPU.device)


def test_a_balanced_epoch_has_as_many_images_of_each_class():
    labels = np.array([0] * 90 + [1] * 8 + [2] * 3)
    order = balanced_order(labels, np.random.default_rng(0))
    assert len(order) == 101
    assert sorted(np.bincount(labels[order])) == [33, 34, 34]
    times = np.bincount(order, minlength=101)
    for label in range(3):
        assert np.ptp(times[labels == label]) <= 1  # each image of a class nearly as often
    assert not np.array_equal(order, balanced_order(labels, np.random.default_rng(1)))


def test_scores_are_scikit_learns():
    generator = np.random.default_rng(0)
    labels, predictions = generator.integers(0, 4, 50), generator.integers(0, 5, 50)
    probabilities = np.eye(5, dtype=np.float32)[predictions]
    evaluation = Evaluation(labels, probabilities, generator.random(50))
    with pytest.warns(UserWarning, match="y_pred contains classes not in y_true"):
        balanced = sklearn.metrics.balanced_accuracy_score(labels, predictions)
    assert selection_score(evaluation, "val_balanced_accuracy") == pytest.approx(balanced)
    f1 = sklearn.metrics.f1_score(labels, predictions, average="macro")
    assert selection_score(evaluation, "val_macro_f1") == pytest.approx(f1)
    assert selection_score(evaluation, "val_accuracy") == evaluation.accuracy
    assert selection_score(evaluation, "val_loss") == -evaluation.loss


# --- runs ---
@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    out_dir = tmp_path_factory.mktemp("recipes") / "run"
    return out_dir, run(composed(*ALL), out_dir)


def test_a_run_records_what_it_uses(whole):
    out_dir, row = whole
    metrics, steps = (tables.read_table(out_dir / name) for name in ("metrics.csv", "steps.csv"))
    assert (steps["gradient_norm"] > 0).all()
    assert len(steps) == 2 * 9  # 270 images in steps of 32
    best = int(row["best_epoch"]) - 1
    assert metrics["val_macro_f1"].max() == metrics["val_macro_f1"][best]
    assert row["best_val_accuracy"] == metrics["val_accuracy"][best]
    assert metrics[["val_accuracy_raw", "test_accuracy_raw"]].notna().all(axis=None)
    last = load(out_dir / "checkpoints" / "last.pt", CPU.device)
    assert last["average"] == {"updates": 9}
    assert any(not torch.equal(last["model"][name], raw) for name, raw in last["raw_model"].items())
    predictions = tables.read_table(out_dir / "predictions.csv")
    assert predictions["correct"].mean() == row["test_accuracy"] == metrics["test_accuracy"].iloc[-1]


@pytest.mark.parametrize("step", [3, 14])
def test_an_interrupted_run_resumes_to_the_same_bits(whole, tmp_path, at_step, step):
    at_step(step)
    with pytest.raises(KeyboardInterrupt):
        run(composed(*ALL), tmp_path / "run")
    run(composed(*ALL), tmp_path / "run", resume=True)
    assert measured(tmp_path / "run") == measured(whole[0])


def test_training_stops_early_and_stays_stopped(tmp_path):
    options = (*TINY, "scheduler=plateau", "scheduler.patience=1", "early_stopping.patience=2", "epochs=30")
    config = composed(*options, "max_lr=1e-9", "data.validation_fraction=0.1")  # nothing is learned
    row = run(config, tmp_path / "run")
    metrics = tables.read_table(tmp_path / "run" / "metrics.csv")
    assert row["epochs_completed"] == len(metrics) == row["best_epoch"] + 2 < 30
    assert metrics["test_accuracy"].iloc[-1] == row["test_accuracy"]
    assert metrics["test_accuracy"].iloc[:-1].isna().all()
    assert "Early stopping: no better val_accuracy since epoch" in (tmp_path / "run" / "run.log").read_text()
    assert tables.read_table(tmp_path / "run" / "steps.csv")["learning_rate"].iloc[-1] == pytest.approx(1e-9)
    status = json.loads((tmp_path / "run" / "status.json").read_text())
    assert status["state"] == "completed"


def test_a_plateau_schedule_is_torchs(tmp_path):
    options = (*TINY, "scheduler=plateau", "scheduler.patience=1", "scheduler.factor=0.5", "epochs=6")
    run(composed(*options, "max_lr=1e-9"), tmp_path / "run")
    metrics = tables.read_table(tmp_path / "run" / "metrics.csv")
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1e-9)
    reference = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, mode="max", factor=0.5, patience=1, threshold=0.0, threshold_mode="abs", eps=0.0
    )
    rates = []
    for accuracy in metrics["val_accuracy"]:
        rates.append(optimizer.param_groups[0]["lr"])
        reference.step(accuracy)
    assert metrics["learning_rate"].tolist() == pytest.approx(rates)
    assert rates[-1] < rates[0]


@pytest.mark.parametrize(
    ("overrides", "error"),
    [
        (
            ["early_stopping.patience=3"],
            "early_stopping.patience=3: scheduler=one_cycle plans the learning rate",
        ),
        (["early_stopping.patience=3", "scheduler=cosine"], "scheduler=cosine plans the learning rate up to the last"),
        (["scheduler=plateau", "data.validation_fraction=0"], "scheduler=plateau: needs an accuracy to select by"),
        (["scheduler=plateau", "scheduler.interval=epoch"], "scheduler.interval=epoch: must be one of step"),
        (["loss.class_weights=heavy"], "loss.class_weights=heavy: must be null, balanced or a list of numbers"),
        (["selection_metric=accuracy"], "selection_metric=accuracy: must be one of val_accuracy"),
        (["mixing.mixup_alpha=0"], "mixing.mixup_alpha=0: must be a finite number above 0"),
        (["accumulate=0"], "accumulate=0: must be between 1 and"),
    ],
)
def test_contradictions_are_refused(overrides, error):
    with pytest.raises(RequestError) as caught:
        composed(*TINY, *overrides)
    assert error in str(caught.value)


def test_a_step_without_recipes_is_the_plain_one():
    pixels, labels = batch(16)
    model, other = network(), copy.deepcopy(network())
    TrainingStep(CPU, NORMALIZE)(model, torch.optim.SGD(model.parameters(), lr=0.1), [(pixels, labels)])
    F.cross_entropy(other(NORMALIZE(pixels)), labels).backward()
    torch.optim.SGD(other.parameters(), lr=0.1).step()
    for ours, theirs in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(ours, theirs)
