"""The stages of a run: train, measure, explain. Each takes the config and the parts that it describes."""

import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from cifar_exp import outputs
from cifar_exp.build import Parts
from cifar_exp.compute import memory
from cifar_exp.compute.distributed import torchrun
from cifar_exp.compute.distributed.ranks import current_ranks
from cifar_exp.config.schema import ExperimentConfig
from cifar_exp.data.batches import Loader
from cifar_exp.data.dataset import Split
from cifar_exp.evaluation.metrics import Evaluation, evaluate
from cifar_exp.explain import faithfulness
from cifar_exp.explain.gradcam import CamMap, Explainer, explain
from cifar_exp.explain.layers import is_wanted
from cifar_exp.run_dir import checkpoint, lifecycle
from cifar_exp.training.fit import FitResult, Training
from cifar_exp.training.progress import RunClock
from cifar_exp.training.recorder import Recorder
from cifar_exp.training.savepoint import Savepoint

log = logging.getLogger(__name__)

_MOST_WORKERS = 4


def train(
    config: ExperimentConfig,
    parts: Parts,
    out_dir: Path,
    status: dict[str, Any] | None,
    *,
    resume: bool,
    after_epoch: Sequence[Callable[[], None]] = (),
) -> FitResult:
    """Train as the config requires (see ``Training``). Without a ``status``, as on other ranks, nothing is recorded."""
    learner, batches, statistics = parts.learner, parts.batches, parts.statistics
    # What a use of a checkpoint's weights needs beside the config.
    metadata = {"class_names": list(parts.class_names), "mean": list(statistics.mean), "std": list(statistics.std)}
    learner.clock = RunClock.for_run(config, parts.splits, batches.low_resolution)
    on_gpu = parts.compute.device.type == "cuda"
    workers = _choose_worker_count(config.data.workers, on_gpu=on_gpu) if batches.backend == "albumentations" else 0
    return Training(
        config,
        learner,
        batches,
        Loader(batches, workers, pin_memory=on_gpu).epoch if workers else batches.epoch,
        parts.splits,
        lambda model, split, after_batch: measure(config, parts, split, after_batch, model),
        Savepoint(out_dir, metadata, every_seconds=config.checkpoint.every_seconds),
        Recorder(config, out_dir, status),
        after_epoch,
    ).run(resume=resume)


def _choose_worker_count(configured: int | None, *, on_gpu: bool) -> int:
    """Return the number of loader processes; by default none on a CPU, as the network needs every core there."""
    if configured is not None or not on_gpu:
        return configured or 0
    # torchrun sets the threads of each process to 1, whatever the machine has.
    single = torchrun.world_size() == 1
    cores = torch.get_num_threads() if single else (os.cpu_count() or 1) // torchrun.local_world_size()
    return min(_MOST_WORKERS, max(cores, 1))


def measure(
    config: ExperimentConfig,
    parts: Parts,
    split: Split,
    after_batch: Callable[[], None] = lambda: None,
    model: nn.Module | None = None,
    *,
    views: str = "none",
) -> Evaluation:
    """Evaluate the network (or another ``model`` of its kind) on a split, with the views of test-time augmentation."""
    memory.release_free_memory()  # a training batch's memory is of no use to an evaluation batch, and the reverse
    evaluation = evaluate(
        model or parts.learner.model,
        split,
        compute=parts.compute,
        normalize=parts.normalize,
        batch_size=config.evaluation.batch_size,
        views=views,
        after_batch=after_batch,
    )
    memory.release_free_memory()
    return evaluation


def evaluate_final_weights(
    config: ExperimentConfig, parts: Parts, fitted: FitResult, out_dir: Path
) -> tuple[Evaluation, Evaluation | None]:
    """Load the configured weights; evaluate the test and the validation split (None without one) with them."""
    if config.evaluation.weights == "best" and fitted.best.epoch not in (None, config.epochs):
        if current_ranks().is_rank_0:  # evaluation broadcasts the weights
            best = checkpoint.load(out_dir / "checkpoints" / "best.pt", parts.compute.device)
            parts.learner.model.load_state_dict(best["model"])
        split = parts.splits.validation
        validation = None if split is None else measure(config, parts, split)
        return measure(config, parts, parts.splits.test), validation
    assert fitted.test is not None  # measured after the last epoch
    return fitted.test, fitted.validation


def measure_tta(config: ExperimentConfig, parts: Parts) -> Evaluation | None:
    """Evaluate the test split with test-time augmentation; None if the config has none."""
    views = config.evaluation.test_time_augmentation
    return None if views == "none" else measure(config, parts, parts.splits.test, views=views)


def choose_images_to_explain(config: ExperimentConfig, evaluation: Evaluation) -> NDArray[np.int64]:
    """Return the positions of the test images to explain; none with ``explain.images=0``."""
    if is_wanted(config.explain) and config.explain.indices is None:
        return evaluation.most_confidently_wrong()[: config.explain.images]
    return np.array(config.explain.indices if is_wanted(config.explain) else [], np.int64)


def explain_test_images(
    config: ExperimentConfig, parts: Parts, evaluation: Evaluation, out_dir: Path, status: dict[str, Any] | None = None
) -> faithfulness.Explanation:
    """Compute Grad-CAM maps and test them; write ``gradcam.csv`` and ``faithfulness.csv``.

    An error is a warning; ``status`` lists it if ``out_dir`` is a run directory.
    """
    indices = choose_images_to_explain(config, evaluation)
    maps: list[CamMap] = []
    tests: list[faithfulness.Faithfulness] = []
    with lifecycle.errors_as_warnings(out_dir, "Grad-CAM", status):
        maps = explain_images(config, parts, evaluation, indices)
    with lifecycle.errors_as_warnings(out_dir, "The test of Grad-CAM", status):
        tests = _measure_faithfulness(config, parts, evaluation)
    explanation = faithfulness.Explanation(indices, maps, tests)
    outputs.write_gradcam(parts, evaluation, explanation, out_dir)
    return explanation


def explain_images(
    config: ExperimentConfig, parts: Parts, evaluation: Evaluation, indices: NDArray[np.int64]
) -> list[CamMap]:
    """Compute Grad-CAM maps of test images for the predicted and the true class."""
    classes = {"predicted": evaluation.predictions[indices], "true": evaluation.labels[indices]}
    images, layers = parts.splits.test.images[indices], parts.explained.layers
    return explain(_build_explainer(config, parts), images, indices, classes, layers, config.seed)


def _measure_faithfulness(
    config: ExperimentConfig, parts: Parts, evaluation: Evaluation
) -> list[faithfulness.Faithfulness]:
    """Test each layer's Grad-CAM maps on a random sample of test images."""
    requested, layers = config.explain.faithfulness_images, parts.explained.layers
    labels, predictions = evaluation.labels, evaluation.predictions
    if requested == 0 or not layers:
        return []
    count = faithfulness.limit_sample_size(requested, len(labels), len(layers))
    sample = faithfulness.sample(labels, predictions, count, config.seed)
    images, explainer = parts.splits.test.images[sample], _build_explainer(config, parts)
    return faithfulness.measure(explainer, images, labels[sample], predictions[sample], layers, config.seed)


def _build_explainer(config: ExperimentConfig, parts: Parts) -> Explainer:
    return Explainer(parts.learner.model, parts.compute, parts.normalize, config.batch_size, config.explain.infill)
