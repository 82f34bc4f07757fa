"""Whole runs on a GPU. They need CUDA: `make test-gpu`."""

import subprocess
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd
import pytest
import torch
from composing import TINY, composed
from runs import measured, state_of

import cifar_exp
from cifar_exp.compute import cuda_graph
from cifar_exp.runner import run

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU that CUDA can use")

ON_GPU = (*TINY, "device=cuda", "threads=2")
RECIPES = {
    "default": (),
    "float32": ("precision=float32",),
    "albumentations": ("augment_backend=albumentations", "data.workers=2"),
    "recipes": (
        "batch_size=16",
        "accumulate=2",
        "mixing.mixup_alpha=0.4",
        "mixing.cutmix_alpha=1.0",
        "averaging=ema",
        "optimizer.clip_grad_norm=0.5",
        "loss.class_weights=balanced",
        "data.sampler=balanced",
    ),
    "muon": ("optimizer=muon", "optimizer.weight_decay=0"),
    "lr_range_test": ("max_lr=auto",),
}


@pytest.fixture(autouse=True)
def _global_settings():
    yield
    torch.use_deterministic_algorithms(False)


def finished(folder: Path, *overrides: str) -> Path:
    run(composed(*ON_GPU, *overrides), folder)
    return folder


@pytest.mark.parametrize("name", RECIPES)
def test_a_run_repeats_to_the_last_bit(tmp_path, name):
    first, second = (measured(finished(tmp_path / part, *RECIPES[name])) for part in ("first", "second"))
    assert first["metrics.csv"]
    assert first == second


@pytest.mark.parametrize("name", ["default", "recipes"])
def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path, at_step, name):
    options = ("checkpoint.every_seconds=0.0001", *RECIPES[name])
    whole = measured(finished(tmp_path / "whole", *options))
    at_step(5)
    with pytest.raises(KeyboardInterrupt):
        finished(tmp_path / "parts", *options)
    assert state_of(tmp_path / "parts")["state"] == "interrupted"
    run(composed(*ON_GPU, *options), tmp_path / "parts", resume=True)
    assert measured(tmp_path / "parts") == whole


def test_the_first_epoch_in_float32_is_that_of_the_cpu(tmp_path):
    options = ("precision=float32", "augment=none", "epochs=1", "max_lr=0.001")
    finished(tmp_path / "gpu", *options)
    run(composed(*TINY, "device=cpu", *options), tmp_path / "cpu")
    gpu, cpu = (pd.read_csv(tmp_path / name / "steps.csv")["loss"] for name in ("gpu", "cpu"))
    np.testing.assert_allclose(gpu, cpu, rtol=2e-3)  # convolutions compute in TF32


def test_the_network_is_the_same_on_the_cpu(tmp_path):
    path = finished(tmp_path / "run", "precision=float32")
    images = np.random.default_rng(0).integers(0, 256, (8, 28, 28), dtype=np.uint8)
    gpu, cpu = (cifar_exp.load_run(path, device=device) for device in ("cuda", "cpu"))
    np.testing.assert_allclose(gpu.probabilities(images), cpu.probabilities(images), atol=5e-3)
    maps = gpu.gradcam(images, classes=["3"] * 8), cpu.gradcam(images, classes=["3"] * 8)
    np.testing.assert_allclose(maps[0], maps[1], atol=0.02 * np.abs(maps[1]).max() + 1e-5)


DIGITS = ("data=mnist5k", "data.limit_train=300", "data.limit_test=100", "batch_size=50")
SPEEDRUN = ("experiment=speedrun", *DIGITS)


@pytest.mark.parametrize(
    "overrides",
    [
        TINY,
        (*TINY, "precision=float32"),
        (*TINY, "averaging=ema"),
        ("model=resnet18", *DIGITS, "epochs=2", "explain.images=0"),
        (*SPEEDRUN, "epochs=6", "explain.images=0"),
    ],
)
def test_a_cuda_graph_changes_no_bit(tmp_path, overrides):
    for value in ("false", "true"):
        config = composed(*overrides, "device=cuda", "threads=2", f"cuda_graph={value}")
        with (
            mock.patch.object(cuda_graph, "log") as log,
            mock.patch.object(torch.cuda, "make_graphed_callables", wraps=torch.cuda.make_graphed_callables) as capture,
        ):
            run(config, tmp_path / value)
        assert capture.called == (value == "true")
        assert not log.warning.called
    assert measured(tmp_path / "true") == measured(tmp_path / "false")


@pytest.mark.filterwarnings("ignore")  # of PyTorch's own modules, which it imports to compile
def test_a_compiled_network_trains(tmp_path):
    metrics = pd.read_csv(finished(tmp_path / "run", "compile=true") / "metrics.csv")
    assert metrics["train_loss"].iloc[-1] < metrics["train_loss"].iloc[0]


@pytest.mark.parametrize("options", [(), ("sync_batch_norm=true",)])
def test_one_rank_with_nccl(tmp_path, options):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "1"]
    arguments = ["-m", "cifar_exp", *ON_GPU, *options, f"hydra.run.dir={tmp_path / 'run'}"]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-2000:]
    assert state_of(tmp_path / "run")["state"] == "completed"


def test_jobs_of_a_sweep_share_the_gpu(tmp_path):
    arguments = ["-m", *ON_GPU, "seed=0,1", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    command = [sys.executable, "-m", "cifar_exp", *arguments, f"hydra.sweep.dir={tmp_path / 'sweep'}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-2000:]
    assert [state_of(tmp_path / "sweep" / job)["state"] for job in ("0", "1")] == ["completed"] * 2
