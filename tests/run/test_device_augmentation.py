"""Runs with ``augment_backend=device``, on a CPU."""

import copy
import json
from pathlib import Path

import pytest
import torch
import yaml
from composing import TINY, composed
from runs import measured
from torch import nn

from cifar_exp.build import build
from cifar_exp.cli.main import main
from cifar_exp.config.parse import changed
from cifar_exp.config.resolved import load_saved
from cifar_exp.run_dir import lifecycle, tables
from cifar_exp.run_dir.environment import list_changes
from cifar_exp.runner import run
from cifar_exp.safe_io.untrusted import read_json
from cifar_exp.training.lr_range_test import LRRange, run_lr_range_test

ON_DEVICE = (*TINY, "augment=crop_flip_cutout", "augment_backend=device")


# --- runs ----------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    out_dir = tmp_path_factory.mktemp("whole") / "run"
    run(composed(*ON_DEVICE, "augment.low_resolution.size=16", "augment.alternating_flip=true"), out_dir)
    return out_dir


def test_a_run_records_its_augmentation_backend(whole):
    assert read_json(whole / "environment.json")["augment_backend"] == "device"
    assert yaml.safe_load((whole / "config_resolved.yaml").read_text())["augment_backend"] == "device"
    assert "augmented by the device" in (whole / "run.log").read_text()
    assert len(tables.read_table(whole / "metrics.csv")) == 2


def test_a_run_interrupted_in_an_epoch_is_resumed_bit_identically(whole, tmp_path, at_step):
    at_step(2)
    with pytest.raises(KeyboardInterrupt):
        run(load_saved(whole / "config_resolved.yaml"), tmp_path / "run")
    assert torch.load(tmp_path / "run" / "checkpoints" / "last.pt", weights_only=True)["step"] == 2
    assert main(["resume", str(tmp_path / "run")]) == 0
    assert measured(tmp_path / "run") == measured(whole)


def test_auto_on_a_cpu_is_albumentations_to_the_last_bit(tmp_path):
    for backend in ("auto", "albumentations"):
        run(composed(*ON_DEVICE, f"augment_backend={backend}", "explain.images=0"), tmp_path / backend)
        assert read_json(tmp_path / backend / "environment.json")["augment_backend"] == "albumentations"
        assert "augmented by Albumentations" in (tmp_path / backend / "run.log").read_text()
    assert measured(tmp_path / "auto") == measured(tmp_path / "albumentations")


def test_without_transforms_both_backends_make_the_same_run(tmp_path):
    options = (*TINY, "augment=none", "augment.alternating_flip=true", "augment.low_resolution.size=20")
    for backend in ("device", "albumentations"):
        run(composed(*options, f"augment_backend={backend}", "data.validation_fraction=0"), tmp_path / backend)
    assert measured(tmp_path / "device") == measured(tmp_path / "albumentations")


def test_a_transform_without_an_equivalent_is_applied_by_albumentations(tmp_path, capsys):
    blur = "+augment.transforms.blur={_target_: albumentations.Blur}"
    assert main([*ON_DEVICE, "epochs=1", blur, f"hydra.run.dir={tmp_path / 'run'}"]) == 0
    log = (tmp_path / "run" / "run.log").read_text()
    assert "Albumentations augments on the CPU: the device cannot apply augment.transforms.blur (Blur" in log
    assert read_json(tmp_path / "run" / "environment.json")["augment_backend"] == "albumentations"
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


def test_auto_that_chooses_another_backend_is_reported(tmp_path, capsys):
    """As on a machine with a GPU: auto chose the device there, and does not here."""
    run(composed(*ON_DEVICE, "augment_backend=auto", "epochs=1"), tmp_path / "run")
    path = tmp_path / "run" / "environment.json"
    path.write_text(json.dumps(read_json(path) | {"augment_backend": "device"}))
    _, verdict = reproduced(tmp_path / "run", tmp_path / "again")
    assert verdict["changes"] == [{"what": "augment_backend", "then": "device", "now": "albumentations"}]
    assert "augment_backend" in capsys.readouterr().out


def test_a_run_without_a_recorded_backend_was_augmented_by_albumentations(whole, tmp_path):
    then = {"packages": {}}
    assert not list_changes(tmp_path, then, then | {"augment_backend": "albumentations"}, None)
    [change] = list_changes(tmp_path, then, then | {"augment_backend": "device"}, None)
    assert (change.what, change.then, change.now) == ("augment_backend", "albumentations", "device")
    saved = yaml.safe_load((whole / "config_resolved.yaml").read_text())
    del saved["augment_backend"]
    (tmp_path / "config_resolved.yaml").write_text(yaml.safe_dump(saved, sort_keys=False))
    assert load_saved(tmp_path / "config_resolved.yaml").augment_backend == "auto"
    # A repeated sweep finds its jobs completed.
    (tmp_path / "status.json").write_text('{"config_hash": "of another text"}')
    assert lifecycle.same_config(
        tmp_path, changed(load_saved(whole / "config_resolved.yaml"), {"augment_backend": "auto"})
    )
