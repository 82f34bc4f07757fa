"""One run in several processes: real torchrun, two processes, gloo."""

import json
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from composing import TINY, composed
from runs import measured
from torchrun_runs import NOTHING_DRAWN, PLAIN, PROGRAM, table, torchrun

from cifar_exp.build import build
from cifar_exp.cli import main
from cifar_exp.compute.distributed.ranks import Ranks
from cifar_exp.config.parse import as_containers
from cifar_exp.data.augment.pipeline import Augmentation
from cifar_exp.data.batches import TrainingBatches
from cifar_exp.data.dataset import Split
from cifar_exp.errors import RequestError
from cifar_exp.evaluation.metrics import evaluate
from cifar_exp.run_dir.checkpoint import load
from cifar_exp.run_dir.environment import list_changes
from cifar_exp.runner import run
from cifar_exp.safe_io.untrusted import read_json

DRAWN = (*PLAIN, "data.limit_train=997", "+model.dropout=0.3", "epochs=4")  # 28 x 32 + 1: shared 1 to 0
NORMED = (*TINY, "epochs=3", "scheduler.pct_start=0.95", "max_lr=10", "evaluation.weights=best", "precision=float32")
ON_DEVICE = (*NOTHING_DRAWN, "augment_backend=device")
DRAWN_ON_DEVICE = (*ON_DEVICE, "augment=crop_flip_cutout", "epochs=1")
FAILING = (*NOTHING_DRAWN, "data.limit_train=990", "epochs=5")
FAILED_AT = 120  # a step that only this run has: 28 in each of 5 epochs
STOPPED_AFTER = 40  # steps: in the middle of the second of four epochs of 29 steps


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folder of this module's runs, made by two calls of torchrun.

    ``stopped``: torchrun is sent SIGTERM in the middle of an epoch and the run is then resumed; ``failed``: one process
    raises, and torchrun ends; the others run undisturbed, those ``on_device`` with ``augment_backend=device``.
    """
    out = tmp_path_factory.mktemp("parallel")

    def launch(name: str, *arguments: str, at: int, action: str) -> None:
        environment = {"TEST_AT": f"1:{at}", "TEST_DO": action, "TEST_NOTE": str(out / f"{name}_at")}
        with torchrun(*arguments, f"hydra.run.dir={out / name}", **environment) as process:
            output = process.communicate(timeout=300)[0]
        (out / f"{name}.txt").write_text(f"{time.time()}\n{process.returncode}\n{output}")

    launch("stopped", "-m", "cifar_exp", *DRAWN, at=STOPPED_AFTER, action="stop")
    (out / "status_when_stopped.json").write_bytes((out / "stopped" / "status.json").read_bytes())
    (out / "last_when_stopped.pt").write_bytes((out / "stopped" / "checkpoints" / "last.pt").read_bytes())

    runs = [
        ("stopped", as_containers(composed(*DRAWN)), True),
        ("drawn", as_containers(composed(*DRAWN)), False),
        ("nothing_drawn", as_containers(composed(*NOTHING_DRAWN)), False),
        ("normed", as_containers(composed(*NORMED)), False),
        ("on_device", as_containers(composed(*ON_DEVICE)), False),
        ("drawn_on_device", as_containers(composed(*DRAWN_ON_DEVICE)), False),
        ("drawn_on_device_again", as_containers(composed(*DRAWN_ON_DEVICE)), False),
    ]
    (out / "runs.json").write_text(json.dumps(runs))
    launch("failed", str(PROGRAM), str(out / "runs.json"), str(out), *FAILING, at=FAILED_AT, action="raise")
    return out


def ended(folder: Path, name: str) -> tuple[float, int, str]:
    """The time at which torchrun ended, its exit code and its output."""
    at, code, output = (folder / f"{name}.txt").read_text().split("\n", 2)
    return float(at), int(code), output


@pytest.mark.parametrize("world_size", [1, 2, 3, 5])
@pytest.mark.parametrize("batch_size", [5, 8, 43, 100])
def test_shards_of_all_ranks_make_up_the_batches(world_size, batch_size):
    split = Split(np.zeros((43, 4, 4, 3), dtype=np.uint8), np.arange(43), np.array([""] * 43))
    nothing = Augmentation({}, (0, 0, 0), (4, 4, 3))
    whole = TrainingBatches(split, nothing, batch_size, 0)
    shards = [TrainingBatches(split, nothing, batch_size, 0, Ranks(rank, world_size)) for rank in range(world_size)]
    made = [list(shard.epoch(2)) for shard in shards]
    for batch, (_, labels) in enumerate(whole.epoch(2)):
        counts = [shard.sizes(batch) for shard in shards]
        parts = [each[batch][1][:counted] for each, (counted, _) in zip(made, counts, strict=True)]
        assert torch.equal(torch.cat(parts), labels)
        assert {size for _, size in counts} == {len(labels)}
        assert max(len(part) for part in parts) - min(len(part) for part in parts) <= 1
        assert len(parts[0]) > 0  # its running statistics are the ones that are kept
        assert all(len(each[batch][1]) > 0 for each in made)  # all take part in every step


def test_each_process_draws_its_own_augmentation_and_the_figure_shows_it():
    images = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 3), dtype=np.uint8)
    split = Split(images, np.arange(20), np.array([""] * 20))
    crop = {"crop": {"_target_": "albumentations.RandomCrop", "height": 8, "width": 8, "pad_if_needed": True}}
    crop["crop"] |= {"height": 6, "width": 6}
    crop["up"] = {"_target_": "albumentations.Resize", "height": 8, "width": 8}
    shards = [TrainingBatches(split, Augmentation(crop, (0, 0, 0), (8, 8, 3)), 8, 3, Ranks(rank, 2)) for rank in (0, 1)]
    same = np.arange(4)
    assert not np.array_equal(shards[0].images(1, 0, same), shards[1].images(1, 0, same))
    for shard in shards:
        for pixels, labels in shard.epoch(1):
            for image, label in zip(pixels, labels, strict=True):
                np.testing.assert_array_equal(shards[0].as_seen(int(label), 1), image.numpy())


def test_two_processes_measure_what_one_does(folder, tmp_path):
    one = run(composed(*NOTHING_DRAWN), tmp_path / "one")
    two = table(folder, "nothing_drawn", "summary.csv").iloc[0]
    assert one["test_accuracy"] > 0.3  # it learned something that can differ
    for name in ("metrics.csv", "steps.csv", "predictions.csv"):
        pd.testing.assert_frame_equal(
            table(folder, "nothing_drawn", name), table(tmp_path, "one", name), rtol=0, atol=1e-5
        )
    for key in ("test_loss", "test_accuracy", "test_loss_as_published", "best_epoch", "parameters"):
        assert two[key] == pytest.approx(one[key], abs=1e-5)


def test_each_image_is_seen_once_an_epoch(folder):
    made = [json.loads(line) for rank in (0, 1) for line in (folder / f"asked_{rank}.jsonl").read_text().splitlines()]
    # Two runs have 897 images; one of them was resumed in its second epoch. Those on the device make no such calls.
    for images, epoch, runs in ((899, 1, 1), (899, 2, 1), (899, 3, 1), (897, 1, 1), (897, 3, 2), (897, 4, 2)):
        seen = sorted(index for of, at, indices in made if (of, at) == (images, epoch) for index in indices)
        assert seen == sorted([*range(images)] * runs)


def test_running_statistics_are_those_in_the_checkpoint(folder):
    config = composed(*NORMED)
    metrics = table(folder, "normed", "metrics.csv")
    summary = table(folder, "normed", "summary.csv").iloc[0]
    parts = build(config)
    state = load(folder / "normed" / "checkpoints" / "best.pt", parts.compute.device)
    assert state["epoch"] == summary["best_epoch"] < 3  # the last epochs spoil the network, on purpose
    parts.learner.model.load_state_dict(state["model"])
    for split, found in (
        (parts.splits.test, summary["test_loss"]),
        (parts.splits.validation, metrics["val_loss"].iloc[state["epoch"] - 1]),
    ):
        assert split is not None
        alone = evaluate(parts.learner.model, split, compute=parts.compute, normalize=parts.normalize, batch_size=512)
        assert alone.loss == pytest.approx(found, rel=1e-6)


def test_two_processes_augment_on_the_device_as_one_does(folder, tmp_path):
    run(composed(*ON_DEVICE), tmp_path / "one")
    for name in ("metrics.csv", "steps.csv"):
        one, two = table(tmp_path, "one", name), table(folder, "on_device", name)
        np.testing.assert_allclose(one.to_numpy(float), two.to_numpy(float), rtol=0, atol=1e-5)


def test_two_processes_repeat_what_they_draw_on_the_device(folder):
    drawn, again, undrawn = (
        measured(folder / f"{name}on_device{end}") for name, end in (("drawn_", ""), ("drawn_", "_again"), ("", ""))
    )
    assert drawn == again
    assert drawn["steps.csv"] != undrawn["steps.csv"][:29]
    assert read_json(folder / "drawn_on_device" / "environment.json")["augment_backend"] == "device"


def test_a_stopped_run_is_resumed_to_the_same_numbers(folder):
    _, code, output = ended(folder, "stopped")
    assert code != 0
    assert json.loads((folder / "status_when_stopped.json").read_text())["state"] == "interrupted"
    state = torch.load(folder / "last_when_stopped.pt", weights_only=True)
    assert STOPPED_AFTER <= state["step"] <= STOPPED_AFTER + 3  # torchrun takes a moment to forward the signal
    assert len(state["other_processes"]) == 1
    assert "Traceback" not in output.split("torch/distributed")[0]
    for name in ("metrics.csv", "steps.csv", "predictions.csv"):
        pd.testing.assert_frame_equal(table(folder, "stopped", name), table(folder, "drawn", name), check_exact=True)


def test_a_failure_in_one_process_ends_all(folder):
    at, code, output = ended(folder, "failed")
    assert code == 1
    assert at - float((folder / "failed_at").read_text()) < 20
    status = json.loads((folder / "failed" / "status.json").read_text())
    assert status["state"] == "failed"
    assert "rank 1 (" in status["error"]
    assert "RuntimeError: out of luck" in status["error"]
    assert 'in forward\n    raise RuntimeError("out of luck")' in (folder / "failed" / "run.log").read_text()
    assert output.count("failed: RankError: rank 1") == 1, output


def test_only_rank_0_writes(folder):
    for name in ("failed", "stopped", "drawn"):
        log = (folder / name / "run.log").read_text()
        assert log.count("steps an epoch") == (2 if name == "stopped" else 1)
        assert json.loads((folder / name / "environment.json").read_text())["world_size"] == 2
    steps = table(folder, "drawn", "steps.csv")
    assert all(b - a == 1 for a, b in pairwise(steps["step"]))


def test_another_number_of_processes_is_reported():
    found = list_changes(Path(), {"packages": {}}, {"packages": {}, "world_size": 2}, None)
    assert [(change.what, change.then, change.now) for change in found] == [("world_size", 1, 2)]
    assert not list_changes(Path(), {"packages": {}}, {"packages": {}, "world_size": 1}, None)


@pytest.mark.parametrize("arguments", [["-m", "seed=1,2"], ["compare", "."], ["evaluate", "."]])
def test_commands_that_need_one_process_refuse_torchrun(arguments, monkeypatch, capsys):
    for name, value in (("TORCHELASTIC_RUN_ID", "x"), ("WORLD_SIZE", "2"), ("LOCAL_WORLD_SIZE", "2")):
        monkeypatch.setenv(name, value)
    with pytest.raises(RequestError, match=rf"{arguments[0]}: works in one process only, but torchrun started 2"):
        main._dispatch(arguments)
    monkeypatch.delenv("TORCHELASTIC_RUN_ID")  # other programs set WORLD_SIZE, too
    composed(*TINY, "sync_batch_norm=true")
