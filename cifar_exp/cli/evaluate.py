"""``cifar-exp evaluate RUN``: a run's checkpoint evaluated again, on its own data or on other data."""

import argparse
import dataclasses
import logging
import math
from pathlib import Path
from typing import Any

import numpy as np
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import OmegaConf

from cifar_exp import data, drawing, outputs
from cifar_exp.build import Parts, build
from cifar_exp.config.compose import compose_job
from cifar_exp.config.parse import as_containers, changed
from cifar_exp.config.resolved import resolve
from cifar_exp.config.schema import OVERRIDABLE, ExperimentConfig
from cifar_exp.errors import DONE, RequestError
from cifar_exp.evaluation.metrics import Evaluation
from cifar_exp.evaluation.probability_records import compute_probability_scores
from cifar_exp.evaluation.weights import read_weights
from cifar_exp.run_dir import tables
from cifar_exp.run_dir.environment import describe_environment
from cifar_exp.run_dir.saved_run import SavedRun, new_output, open_run
from cifar_exp.safe_io import atomic
from cifar_exp.stages import explain_test_images, measure, measure_tta

log = logging.getLogger(__name__)

# fmt: off
EVALUATION_COLUMNS = (
    "run", "weights", "epoch", "data_fingerprint", "images", "loss", "accuracy", "misclassified",
    "changed_predictions", "accuracy_tta", "ece", "brier", "temperature", "ece_calibrated", "top5_accuracy",
    "balanced_accuracy", "macro_f1",
)
# fmt: on


def main(options: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    evaluate_run(open_run(options.run, trust=options.trust), options.overrides, options.weights, options.out)
    return DONE


def evaluate_run(run: SavedRun, overrides: list[str], weights: str | None, out: Path | None) -> dict[str, Any]:
    """Evaluate a run's checkpoint, and write the tables and figures as at the end of a run.

    ``data=OPTION`` replaces the whole data node. By default the checkpoint is the one that the run itself evaluated.

    Returns:
        The row of ``evaluation.csv``.

    Raises:
        RequestError: an override that does not concern evaluation, a damaged checkpoint, or data with other classes.
    """
    config = _apply_overrides(run.config, overrides)
    which = weights or config.evaluation.weights
    path = run.path / "checkpoints" / f"{which}.pt"
    out_dir = new_output(out, "evaluations")
    parts, state = _restore(config, path, run)
    out_dir.mkdir(parents=True)
    evaluation = measure(config, parts, parts.splits.test)
    tta = measure_tta(config, parts)
    outputs.write_tables(parts, evaluation, tta, out_dir)
    # Predictions can be compared only if the run evaluated the same checkpoint.
    same_weights = which == run.config.evaluation.weights
    changed = _changed_predictions(run, parts, evaluation) if same_weights else None
    row = {
        "run": run.path.as_posix(),
        "weights": which,
        "epoch": state.get("epoch"),
        "data_fingerprint": parts.fingerprint,
        "images": len(parts.splits.test),
        "loss": evaluation.loss,
        "accuracy": evaluation.accuracy,
        "misclassified": int((~evaluation.correct).sum()),
        "changed_predictions": changed,
        "accuracy_tta": tta.accuracy if tta else None,
        **compute_probability_scores(evaluation, _temperature(run) if same_weights else None),
    }
    tables.write_table(out_dir / "evaluation.csv", EVALUATION_COLUMNS, [row])
    explanation = explain_test_images(config, parts, evaluation, out_dir)
    drawing.draw_evaluation(config, parts, evaluation, explanation, out_dir, None)
    environment = describe_environment(parts.compute) | {"data_fingerprint": parts.fingerprint}
    atomic.write_json(out_dir / "environment.json", environment)
    _log_result(row, path, out_dir, same_weights)
    return row


def _log_result(row: dict[str, Any], path: Path, out_dir: Path, same_weights: bool) -> None:
    accuracy, loss, images = 100 * row["accuracy"], row["loss"], f"{row['misclassified']:,} of {row['images']:,} images"
    log.info("%s of epoch %s: accuracy %.2f%%, loss %.4f, %s misclassified", path, row["epoch"], accuracy, loss, images)
    changed = row["changed_predictions"]
    if changed == 0:
        log.info("All predictions and confidences are identical to the last bit with those of the run.")
    elif changed is not None:
        log.info("%s predictions or confidences differ from those of the run.", f"{changed:,}")
    elif same_weights:
        log.info("The test images differ from the run's.")
    log.info("Written to %s", out_dir)


def _apply_overrides(config: ExperimentConfig, overrides: list[str]) -> ExperimentConfig:
    for override in overrides:
        key, equals, _ = override.partition("=")
        if not equals or key.split(".")[0] not in OVERRIDABLE:
            raise RequestError(f"{override}: must be KEY=VALUE with a key of {', '.join(OVERRIDABLE)}")
    values = as_containers(config)
    of_data = [override for override in overrides if override.startswith(("data=", "data."))]
    if any(override.startswith("data=") for override in of_data):
        # The network was trained on images of one size: other data is resized to it.
        job = compose_job([*of_data, f"data.image_size={config.data.image_size}"])
        values["data"] = OmegaConf.to_container(job.data)
        overrides = [override for override in overrides if override not in of_data]
    for override in overrides:
        try:
            parsed = OverridesParser.create().parse_override(override)
        except HydraException as error:
            raise RequestError(f"cannot read an override: {str(error).splitlines()[0]}") from error
        *parents, leaf = parsed.key_or_group.split(".")
        node: Any = values
        for parent in parents:
            node = node.get(parent) if isinstance(node, dict) else None
        if not isinstance(node, dict) or leaf not in node:
            raise RequestError(f"{parsed.key_or_group}: the run's config has no such key")
        node[leaf] = parsed.value()
    return resolve(OmegaConf.create(values))


def _restore(config: ExperimentConfig, path: Path, run: SavedRun) -> tuple[Parts, dict[str, Any]]:
    """Build the config's data and network, with the weights, class names and statistics of the checkpoint."""
    checkpoint = read_weights(path)
    names = checkpoint.class_names
    fingerprint = run.environment.get("data_fingerprint")
    dataset = data.load_to_evaluate(config.data, names, run.config.data, fingerprint)
    if names != dataset.class_names:
        raise RequestError(f"the run's classes differ from the data's, {', '.join(dataset.class_names)[:200]}")
    test = dataset.test
    if len(checkpoint.statistics.mean) != test.images.shape[3]:
        raise RequestError(f"{path}: the run's images are not of the data's {test.images.shape[3]} channels")
    # Nothing is trained: no held-out split, no augmentation, no LR range test. Two batches of two images replace the
    # training split, because networks may refuse a batch of one image and schedules a single step.
    placeholder = test.take(np.zeros(4, np.int64))
    without_training = {"data.validation_fraction": 0.0, "augment": {"name": "none"}, "batch_size": 2, "max_lr": 1.0}
    # A split to select by is what `evaluation.weights=best` and `scheduler=plateau` need in any config.
    without_training |= {"compile": False, "evaluate_test_each_epoch": True}
    trained = dataclasses.replace(dataset, train=placeholder), checkpoint.statistics
    parts = build(changed(config, without_training), trained=trained)
    checkpoint.load_into(parts.learner.model, path)
    return parts, checkpoint.state


def _temperature(run: SavedRun) -> float | None:
    """Return the temperature that the run fitted on its validation split; None if it has none."""
    try:
        temperature = float(run.table("summary.csv", ("temperature",))["temperature"].iloc[0])
    except (RequestError, ValueError):
        return None
    return temperature if 0 < temperature < math.inf else None


def _changed_predictions(run: SavedRun, parts: Parts, evaluation: Evaluation) -> int | None:
    """Number of images whose prediction or confidence differs from the run's ``predictions.csv``.

    None if the images differ from the run's, or the run has no such table.
    """
    if parts.fingerprint != run.environment.get("data_fingerprint") or not (run.path / "predictions.csv").exists():
        return None
    before = run.table("predictions.csv", ("source", "prediction", "confidence"))
    if before["source"].tolist() != parts.splits.test.sources.tolist():
        return None
    names = np.array(parts.class_names)
    same = before["prediction"].to_numpy() == names[evaluation.predictions]
    same &= before["confidence"].to_numpy() == evaluation.confidences
    return int((~same).sum())
