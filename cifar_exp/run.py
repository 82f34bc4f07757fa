"""A run is a pure function of its config: build, fit, evaluate, explain, report."""

import logging
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cifar_exp import checkpoint, lifecycle, provenance, report
from cifar_exp.build import Parts, build, describe
from cifar_exp.config import validate
from cifar_exp.data import Split
from cifar_exp.data.batches import Loader
from cifar_exp.errors import DivergedError
from cifar_exp.evaluate import Evaluation, evaluate
from cifar_exp.explain import CamMap, explain
from cifar_exp.fit import Fitted, fit

log = logging.getLogger(__name__)

_MOST_WORKERS = 4


def run(config: dict[str, Any], out_dir: Path) -> dict[str, Any]:
    """Train, evaluate, explain and report one experiment.

    Args:
        config: resolved configuration (``config.resolve`` or ``config.load_saved``).
        out_dir: where every record goes; made here, must not hold a run already.

    Returns:
        The row of ``summary.csv``.

    Raises:
        RequestError: the config or what it points to is wrong.
        DivergedError: the loss became infinite or not a number; everything until then is recorded.
    """
    validate(config)
    started = time.perf_counter()
    with lifecycle.recorded(out_dir, config) as status:
        log.info("Run directory: %s", lifecycle.run_name(out_dir))
        provenance.reset_peak_memory()
        parts = build(config)
        for line in describe(config["name"], parts):
            log.info(line)
        environment = report.write_environment(parts, out_dir)
        try:
            fitted = _fit(config, parts, out_dir, status)
        except DivergedError:
            report.write_progress(config, parts, out_dir)
            raise
        evaluation = _final_evaluation(config, parts, fitted, out_dir)
        indices = images_to_explain(config, evaluation)
        maps = explain_images(config, parts, evaluation, indices)
        use = report.write_progress(config, parts, out_dir)
        report.write_evaluation(config, parts, evaluation, out_dir)
        report.write_augmentations(config, parts, out_dir)
        report.write_explanation(config, parts, evaluation, indices, maps, out_dir)
        return report.summarize(
            config, parts, fitted, evaluation, use, environment, out_dir, total_seconds=time.perf_counter() - started
        )


def _fit(config: dict[str, Any], parts: Parts, out_dir: Path, status: dict[str, Any]) -> Fitted:
    on_gpu = parts.compute.device.type == "cuda"
    workers = config["data"]["workers"]
    if workers is None:
        # On a CPU the network needs every core itself, and augmentation is a hundredth of its work.
        workers = min(_MOST_WORKERS, torch.get_num_threads()) if on_gpu else 0
    return fit(
        parts.learner,
        Loader(parts.batches, workers, pin_memory=on_gpu),
        parts.splits,
        epochs=config["epochs"],
        test_each_epoch=config["evaluate_test_each_epoch"],
        every_epochs=config["checkpoint"]["every_epochs"],
        keep_best=config["checkpoint"]["best"],
        compute=parts.compute,
        normalize=parts.normalize,
        measure=lambda split: measure(config, parts, split),
        # What it takes to use the weights, beside the config.
        about={
            "class_names": list(parts.class_names),
            "mean": list(parts.statistics.mean),
            "std": list(parts.statistics.std),
        },
        out_dir=out_dir,
        status=status,
    )


def measure(config: dict[str, Any], parts: Parts, split: Split) -> Evaluation:
    """Evaluate the network on a split as the config says."""
    return evaluate(
        parts.learner.model,
        split,
        compute=parts.compute,
        normalize=parts.normalize,
        batch_size=config["evaluation"]["batch_size"],
    )


def _final_evaluation(config: dict[str, Any], parts: Parts, fitted: Fitted, out_dir: Path) -> Evaluation:
    """The test split under the weights that the config asks for, which are then in the model."""
    if config["evaluation"]["weights"] == "best" and fitted.best_epoch not in (None, config["epochs"]):
        best = checkpoint.load(out_dir / "checkpoints" / "best.pt", parts.compute.device)
        parts.learner.model.load_state_dict(best["model"])
        return measure(config, parts, parts.splits.test)
    assert fitted.test is not None  # measured after the last epoch
    return fitted.test


def images_to_explain(config: dict[str, Any], evaluation: Evaluation) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Positions of the test images that the config wants explained."""
    named = config["explain"]["indices"]
    if named is not None:
        return np.array(named, dtype=np.int64)
    return evaluation.most_confidently_wrong()[: config["explain"]["images"]]


def explain_images(
    config: dict[str, Any], parts: Parts, evaluation: Evaluation, indices: np.ndarray[Any, np.dtype[np.int64]]
) -> list[CamMap]:
    """Grad-CAM of test images for the predicted and the true class."""
    return explain(
        parts.learner.model,
        parts.splits.test.images[indices],
        indices,
        {"predicted": evaluation.predictions[indices], "true": evaluation.labels[indices]},
        parts.layers,
        compute=parts.compute,
        normalize=parts.normalize,
        seed=config["seed"],
    )
