"""``augment_backend=device``, run on a CPU: its batches, and runs that use it."""

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from composing import TINY, composed
from runs import measured
from torch import nn
from torchrun_runs import NOTHING_DRAWN, PROGRAM, table, torchrun

from cifar_exp.build import build
from cifar_exp.cli.main import main
from cifar_exp.compute.distributed.shard import WHOLE_BATCH, Shard
from cifar_exp.config.parse import changed, plain
from cifar_exp.config.resolved import load_saved
from cifar_exp.data import device_batches
from cifar_exp.data.augment.backend import choose
from cifar_exp.data.augment.policy import Augmentation, LowResolution, shrunk_as_floats
from cifar_exp.data.batches import TrainingBatches
from cifar_exp.data.dataset import Split
from cifar_exp.data.device_batches import DeviceBatches, DeviceSplit
from cifar_exp.run_dir import lifecycle, tables
from cifar_exp.run_dir.environment import changes
from cifar_exp.runner import run
from cifar_exp.safe_io import atomic
from cifar_exp.training.lr_range_test import LRRange, run_lr_range_test
from cifar_exp.training.progress import EpochProgress, PendingMetrics

COUNT, SHAPE = 43, (16, 16, 3)
CROP_FLIP = {
    "pad": {"_target_": "albumentations.Pad", "padding": 4, "fill": "dataset_mean"},
    "crop": {"_target_": "albumentations.RandomCrop", "height": 16, "width": 16},
    "flip": {"_target_": "albumentations.HorizontalFlip", "p": 0.5},
}
ON_DEVICE = (*TINY, "augment=crop_flip_cutout", "augment_backend=device")


def made(
    transforms: dict | None = None,
    *,
    seed: int = 0,
    shard: Shard = WHOLE_BATCH,
    on_device: bool = True,
    device: str = "cpu",
    **options,
) -> TrainingBatches:
    """Batches of 8 of 43 noisy images; the label of each is its position."""
    images = np.random.default_rng(0).integers(0, 256, (COUNT, *SHAPE), dtype=np.uint8)
    split = Split(images, np.arange(COUNT), np.array([str(i) for i in range(COUNT)]))
    augmentation = Augmentation(transforms or {}, (1.0, 2.0, 3.0), SHAPE)
    if not on_device:
        return TrainingBatches(split, augmentation, 8, seed, shard, **options)
    pipeline = choose("device", augmentation, torch.device("cpu"), 0).on_device
    assert pipeline is not None
    resident = DeviceSplit(split, torch.device(device))
    return DeviceBatches(split, augmentation, 8, seed, shard, on_device=pipeline, resident=resident, **options)


def epoch_of(batches: TrainingBatches, epoch: int, first: int = 0) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return list(batches.loader(0, pin_memory=False).epoch(epoch, first))


def check_same(one: list, other: list) -> None:
    for (images, labels), (other_images, other_labels) in zip(one, other, strict=True):
        assert torch.equal(images, other_images)
        assert torch.equal(labels, other_labels)


# --- batches -------------------------------------------------------------------------------------------
@pytest.mark.parametrize("shard", [WHOLE_BATCH, Shard(0, 2), Shard(1, 2), Shard(2, 3)])
@pytest.mark.parametrize(
    "options", [{}, {"alternating_flip": True}, {"low_resolution": LowResolution(9, 0.5, epochs=3)}]
)
def test_without_transforms_the_batches_are_those_of_the_other_backend(shard, options):
    ours, theirs = made(shard=shard, **options), made(shard=shard, on_device=False, **options)
    before = ours.split.images.copy()
    for epoch in (1, 2, 3):
        check_same(epoch_of(ours, epoch), epoch_of(theirs, epoch))
    np.testing.assert_array_equal(ours.split.images, before)


def test_images_come_in_the_same_order_and_are_drawn_apart_by_batch_epoch_and_seed():
    ours, theirs = made(CROP_FLIP), made(CROP_FLIP, on_device=False)
    for epoch in (1, 2):
        for (_, labels), (_, expected) in zip(epoch_of(ours, epoch), epoch_of(theirs, epoch), strict=True):
            assert torch.equal(labels, expected)
    drawn = {
        made(CROP_FLIP, seed=seed).images(epoch, batch, np.arange(8)).tobytes()
        for seed in range(3)
        for epoch in (1, 2, 3)
        for batch in range(3)
    }
    assert len(drawn) == 27


def test_a_batch_does_not_depend_on_those_before_it():
    whole = epoch_of(made(CROP_FLIP, alternating_flip=True), 2)
    for first in (1, 5):
        check_same(epoch_of(made(CROP_FLIP, alternating_flip=True), 2, first), whole[first:])


@pytest.mark.parametrize("shard", [WHOLE_BATCH, Shard(0, 2), Shard(1, 2)])
def test_as_seen_is_what_the_loader_yields(shard):
    options = {"alternating_flip": True, "low_resolution": LowResolution(12, 0.5, epochs=2)}
    batches, anyone = (
        made(CROP_FLIP, shard=shard, **options),
        made(CROP_FLIP, shard=Shard(0, shard.world_size), **options),
    )
    for epoch in (1, 2):
        for images, labels in epoch_of(batches, epoch):
            for image, label in zip(images.numpy(), labels.tolist(), strict=True):
                np.testing.assert_array_equal(anyone.as_seen(label, epoch), image)


@pytest.mark.parametrize("together", [1, 2, 4])
@pytest.mark.parametrize(
    "shard", [WHOLE_BATCH, Shard(1, 3), Shard(3, 4)]
)  # of the last three images, the fourth has none
def test_how_many_batches_are_made_together_changes_none(monkeypatch, shard, together):
    options = {"alternating_flip": True, "low_resolution": LowResolution(12, 0.5, epochs=2)}
    batches = made(CROP_FLIP, shard=shard, **options)
    own = batches.own_rows(0)
    for epoch in (1, 2):
        expected = [(batches.images(epoch, b, batches.order(epoch)[batches.own_rows(b)]), b) for b in range(6)]
        with monkeypatch.context() as patch:
            patch.setattr(device_batches, "_PIXELS_AT_ONCE", together * (own.stop - own.start) * 16 * 16)
            for first in (0, 1, 3):
                found = epoch_of(batches, epoch, first)
                for (images, labels), (alone, batch) in zip(found, expected[first:], strict=True):
                    np.testing.assert_array_equal(images, alone)
                    assert labels.tolist() == batches.order(epoch)[batches.own_rows(batch)].tolist()


def test_ranks_draw_independently_on_shards_of_the_images():
    shards = [made(CROP_FLIP, shard=Shard(rank, 2)) for rank in (0, 1)]
    assert not np.array_equal(*(batches.images(1, 0, np.arange(4)) for batches in shards))
    both = [epoch_of(batches, 1) for batches in shards]
    seen = []
    for batch, parts in enumerate(zip(*both, strict=True)):
        counts = [batches.sizes(batch)[0] for batches in shards]
        seen += [int(i) for (_, labels), count in zip(parts, counts, strict=True) for i in labels[:count]]
    assert seen == made().order(1).tolist()


def test_no_batch_is_waited_for():
    """The meta device has shapes and no values, so whatever would make the program wait for a value fails."""
    options = {"alternating_flip": True, "low_resolution": LowResolution(12, 0.5, epochs=2)}
    shapes = [tuple(images.shape) for images, _ in epoch_of(made(CROP_FLIP, device="meta", **options), 1)]
    assert shapes == [(8, 12, 12, 3)] * 5 + [(3, 12, 12, 3)]


@pytest.mark.parametrize(("whole", "size"), [(32, 24), (32, 31), (32, 8), (17, 5), (64, 7)])
def test_low_resolution_elsewhere_is_nearly_that_of_a_cpu(whole, size):
    images = np.random.default_rng(whole).integers(0, 256, (50, whole, whole, 3), dtype=np.uint8)
    images[:10] = (images[:10] > 127) * 255  # the steepest there can be
    on_bytes = LowResolution(size, 1.0, 1)(images)
    as_floats = shrunk_as_floats(torch.from_numpy(images).permute(0, 3, 1, 2), size).permute(0, 2, 3, 1).numpy()
    difference = on_bytes.astype(int) - as_floats
    assert np.abs(difference).max() <= 2
    # Rounded once, at the end, up to a quarter of the pixels differ, and those of 24x24 are darker by 0.16.
    assert (difference != 0).mean() < 0.05
    assert abs(difference.mean()) < 0.02


# --- figures of an epoch in progress --------------------------------------------------------------------
class Slow(PendingMetrics):
    """Metrics that are ready at the third look, as from a GPU that is behind."""

    made = 0

    def __init__(self, *arguments) -> None:
        super().__init__(*arguments)
        self.looks = 0
        Slow.made += 1

    @property
    def ready(self) -> bool:
        self.looks += 1
        return self.looks == 3


def test_figures_are_shown_when_they_have_arrived(monkeypatch, tmp_path):
    shown: list[tuple[int, PendingMetrics]] = []
    monkeypatch.setattr("cifar_exp.training.progress.PendingMetrics", Slow)
    monkeypatch.setattr(EpochProgress, "due", property(lambda _progress: True))
    monkeypatch.setattr(EpochProgress, "show", lambda progress, figures: shown.append((progress._done, figures)))
    run(composed(*TINY, "batch_size=50", "epochs=1"), tmp_path / "run")
    assert [done for done, _ in shown] == [150, 270]  # 6 steps: asked for in the first and fourth
    assert Slow.made == 2
    losses = tables.read_table(tmp_path / "run" / "steps.csv")["loss"]
    assert [figures.loss for _, figures in shown] == pytest.approx([losses[0], losses[3]])
    assert all(0 <= figures.accuracy <= 1 for _, figures in shown)


# --- runs ----------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    out_dir = tmp_path_factory.mktemp("whole") / "run"
    run(composed(*ON_DEVICE, "augment.low_resolution.size=16", "augment.alternating_flip=true"), out_dir)
    return out_dir


def test_a_run_says_who_augments(whole):
    assert atomic.read_json(whole / "environment.json")["augment_backend"] == "device"
    assert yaml.safe_load((whole / "config_resolved.yaml").read_text())["augment_backend"] == "device"
    assert "augmented by the device" in (whole / "run.log").read_text()
    assert len(tables.read_table(whole / "metrics.csv")) == 2


@pytest.mark.parametrize("step", [1, 2, 4])
def test_a_run_interrupted_in_an_epoch_goes_on_to_the_same_bits(whole, tmp_path, at_step, step):
    at_step(step)
    with pytest.raises(KeyboardInterrupt):
        run(load_saved(whole / "config_resolved.yaml"), tmp_path / "run")
    assert torch.load(tmp_path / "run" / "checkpoints" / "last.pt", weights_only=True)["step"] == step
    assert main(["resume", str(tmp_path / "run")]) == 0
    assert measured(tmp_path / "run") == measured(whole)


def test_auto_on_a_cpu_is_albumentations_to_the_last_bit(whole, tmp_path):
    for backend in ("auto", "albumentations"):
        run(composed(*ON_DEVICE, f"augment_backend={backend}"), tmp_path / backend)
        assert atomic.read_json(tmp_path / backend / "environment.json")["augment_backend"] == "albumentations"
        assert "augmented by Albumentations" in (tmp_path / backend / "run.log").read_text()
    assert measured(tmp_path / "auto") == measured(tmp_path / "albumentations")


def test_without_transforms_both_backends_make_the_same_run(tmp_path):
    options = (*TINY, "augment=none", "augment.alternating_flip=true", "augment.low_resolution.size=20")
    for backend in ("device", "albumentations"):
        run(composed(*options, f"augment_backend={backend}", "data.validation_fraction=0"), tmp_path / backend)
    assert measured(tmp_path / "device") == measured(tmp_path / "albumentations")


def test_a_transform_without_an_equivalent_is_left_to_albumentations(tmp_path, capsys):
    blur = "+augment.transforms.blur={_target_: albumentations.Blur}"
    assert main([*ON_DEVICE, "epochs=1", blur, f"hydra.run.dir={tmp_path / 'run'}"]) == 0
    said = (tmp_path / "run" / "run.log").read_text()
    assert "Albumentations augments on the CPU: the device cannot apply augment.transforms.blur (Blur" in said
    assert atomic.read_json(tmp_path / "run" / "environment.json")["augment_backend"] == "albumentations"
    capsys.readouterr()
    assert main([*ON_DEVICE, "augment_backend=gpu", f"hydra.run.dir={tmp_path / 'run'}"]) == 2
    assert "augment_backend=gpu: must be one of auto, albumentations, device" in capsys.readouterr().err


def test_a_range_test_sees_the_same_batches():
    config = composed(*ON_DEVICE)
    parts = build(config)
    parts.learner.model.eval()  # the test trains a copy of its own
    lr_range = LRRange(low=1e-9, high=2e-9, steps=3)  # next to nothing: the losses are the untrained network's
    curve = run_lr_range_test(config, parts.learner.model, parts.batches, parts.learner.training_step, lr_range)
    trained = copy.deepcopy(parts.learner.model).train()
    # Two full batches of 128 in 270 images: the third of each epoch is left out.
    for row, (epoch, batch) in zip(curve.rows(), [(1, 0), (1, 1), (2, 0)], strict=True):
        indices = parts.batches.order(epoch)[128 * batch : 128 * (batch + 1)]
        pixels = torch.from_numpy(parts.batches.images(epoch, batch, indices))
        labels = torch.from_numpy(parts.splits.train.labels[indices])
        with parts.compute.autocast(), torch.no_grad():
            logits = trained(parts.normalize(pixels)).float()
        assert row["loss"] == pytest.approx(float(nn.functional.cross_entropy(logits, labels)), rel=1e-4)


# --- the same, and other, machines ---------------------------------------------------------------------
def reproduced(run_dir: Path, out: Path) -> tuple[int, dict]:
    code = main(["reproduce", str(run_dir), "--out", str(out)])
    return code, json.loads((out / "reproduction.json").read_text())


def test_a_run_on_the_device_is_reproduced(whole, tmp_path):
    code, verdict = reproduced(whole, tmp_path / "again")
    assert (code, verdict["same"], verdict["changes"]) == (0, True, [])


def test_auto_that_comes_to_something_else_is_named(tmp_path, capsys):
    """As on a machine with a GPU: there auto came to the device, and here it does not."""
    run(composed(*ON_DEVICE, "augment_backend=auto", "epochs=1"), tmp_path / "run")
    path = tmp_path / "run" / "environment.json"
    path.write_text(json.dumps(atomic.read_json(path) | {"augment_backend": "device"}))
    _, verdict = reproduced(tmp_path / "run", tmp_path / "again")
    assert verdict["changes"] == [{"what": "augment_backend", "then": "device", "now": "albumentations"}]
    assert "augment_backend" in capsys.readouterr().out


def test_a_run_from_before_there_was_a_choice_was_made_by_albumentations(whole, tmp_path):
    then = {"packages": {}}
    assert not changes(tmp_path, then, then | {"augment_backend": "albumentations"}, None)
    [change] = changes(tmp_path, then, then | {"augment_backend": "device"}, None)
    assert (change.what, change.then, change.now) == ("augment_backend", "albumentations", "device")
    saved = yaml.safe_load((whole / "config_resolved.yaml").read_text())
    del saved["augment_backend"]
    (tmp_path / "config_resolved.yaml").write_text(yaml.safe_dump(saved, sort_keys=False))
    assert load_saved(tmp_path / "config_resolved.yaml").augment_backend == "auto"
    # A sweep that is repeated finds its jobs done.
    (tmp_path / "status.json").write_text('{"config_hash": "of another text"}')
    assert lifecycle.same_config(
        tmp_path, changed(load_saved(whole / "config_resolved.yaml"), {"augment_backend": "auto"})
    )


# --- several processes ---------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def shared(tmp_path_factory) -> Path:
    """Runs of two processes: one that draws nothing, and one that draws, twice."""
    out = tmp_path_factory.mktemp("shared")
    drawing = plain(composed(*NOTHING_DRAWN, "augment=crop_flip_cutout", "augment_backend=device", "epochs=1"))
    runs = [
        ("nothing_drawn", plain(composed(*NOTHING_DRAWN, "augment_backend=device")), False),
        ("drawn", drawing, False),
        ("drawn_again", drawing, False),
    ]
    (out / "runs.json").write_text(json.dumps(runs))
    with torchrun(str(PROGRAM), str(out / "runs.json"), str(out)) as process:
        output = process.communicate(timeout=300)[0]
    assert process.returncode == 0, output
    return out


def test_two_processes_train_as_one(shared, tmp_path):
    run(composed(*NOTHING_DRAWN, "augment_backend=device"), tmp_path / "one")
    for name in ("metrics.csv", "steps.csv"):
        one, two = table(tmp_path, "one", name), table(shared, "nothing_drawn", name)
        np.testing.assert_allclose(one.to_numpy(float), two.to_numpy(float), rtol=0, atol=1e-5)


def test_two_processes_repeat_what_they_draw(shared):
    assert measured(shared / "drawn") == measured(shared / "drawn_again")
    assert measured(shared / "drawn")["steps.csv"] != measured(shared / "nothing_drawn")["steps.csv"][:29]
    assert atomic.read_json(shared / "drawn" / "environment.json")["augment_backend"] == "device"
