"""``cifar-exp evaluate RUN``: a run's checkpoint measured again, on its own data or on other data."""

import argparse
import dataclasses
import logging
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from cifar_exp import checkpoint, provenance, records, report
from cifar_exp.build import Parts, build
from cifar_exp.compose import compose_jobs
from cifar_exp.compute import Normalizer
from cifar_exp.config import first_line, resolve, validate
from cifar_exp.data import Statistics
from cifar_exp.errors import RequestError
from cifar_exp.evaluate import Evaluation
from cifar_exp.logs import log_to_console
from cifar_exp.run import explain_images, images_to_explain, measure
from cifar_exp.saved_run import SavedRun, open_run

log = logging.getLogger(__name__)

EVALUATION_COLUMNS = (
    "run",
    "weights",
    "epoch",
    "data_fingerprint",
    "images",
    "loss",
    "accuracy",
    "misclassified",
    "changed_predictions",
)

# What may differ from the run: where and how it is measured, not what was trained.
_OVERRIDABLE = ("data", "device", "precision", "memory_format", "threads", "evaluation", "explain", "figures", "name")


def main(arguments: list[str]) -> int:
    """Run the command; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="cifar-exp evaluate",
        description="Measure a run's checkpoint again: metrics, predictions, per-class figures, Grad-CAM.",
        epilog="Example: cifar-exp evaluate outputs/2026-11-22/10-00-00-000000 data=image_folder data.root=/data/mine",
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="a completed run's directory")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help=f"overrides of {', '.join(_OVERRIDABLE)}")
    parser.add_argument(
        "--weights", choices=("last", "best"), help="which checkpoint (default: the one the run measured)"
    )
    parser.add_argument("--out", type=Path, help="new directory (default: outputs/evaluations/DATE/TIME)")
    parser.add_argument(
        "--trust", action="append", default=[], metavar="PACKAGE", help="let the run call a package of yours"
    )
    options = parser.parse_args(arguments)
    log_to_console()
    evaluate_run(open_run(options.run, trust=options.trust), options.overrides, options.weights, _new(options.out))
    return 0


def _new(out: Path | None) -> Path:
    out = out or Path("outputs", "evaluations", datetime.now().strftime("%Y-%m-%d/%H-%M-%S-%f"))
    try:
        out.mkdir(parents=True)
    except FileExistsError as error:
        raise RequestError(f"--out {out}: exists already; name a new directory") from error
    return out


def evaluate_run(run: SavedRun, overrides: list[str], weights: str | None, out_dir: Path) -> dict[str, Any]:
    """Measure a run's checkpoint and write what a run writes about its evaluation.

    Args:
        run: the run.
        overrides: ``KEY=VALUE``; ``data=OPTION`` replaces the whole data node.
        weights: ``last`` or ``best``; None takes the one that the run itself measured.
        out_dir: an empty directory.

    Returns:
        The row of ``evaluation.csv``.

    Raises:
        RequestError: an override that is not for evaluation, a damaged checkpoint, or data of other classes.
    """
    config = _overridden(run.config, overrides)
    which = weights or config["evaluation"]["weights"]
    path = run.path / "checkpoints" / f"{which}.pt"
    parts, state = _with_weights(config, path)
    evaluation = measure(config, parts, parts.splits.test)
    indices = images_to_explain(config, evaluation)
    maps = explain_images(config, parts, evaluation, indices)
    report.write_evaluation(config, parts, evaluation, out_dir)
    report.write_explanation(config, parts, evaluation, indices, maps, out_dir)
    changed = _changed_predictions(run, parts, evaluation)
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
    }
    records.write_table(out_dir / "evaluation.csv", EVALUATION_COLUMNS, [row])
    environment = provenance.environment(parts.compute.device, parts.compute.precision, parts.compute.memory_format)
    records.write_json(out_dir / "environment.json", environment | {"data_fingerprint": parts.fingerprint})
    log.info(
        "%s of epoch %s: accuracy %.2f %%, loss %.4f, %s of %s images misclassified; written to %s",
        path,
        row["epoch"],
        100 * evaluation.accuracy,
        evaluation.loss,
        f"{row['misclassified']:,}",
        f"{row['images']:,}",
        out_dir,
    )
    if changed is not None:
        log.info(
            "The same data as the run's: %s",
            "every prediction and confidence is the same to the last bit"
            if changed == 0
            else f"{changed:,} images differ",
        )
    else:
        log.info("Other test images than the run's.")
    return row


def _overridden(config: dict[str, Any], overrides: list[str]) -> dict[str, Any]:
    for override in overrides:
        key, equals, _ = override.partition("=")
        if not equals or key.split(".")[0] not in _OVERRIDABLE:
            raise RequestError(f"{override}: evaluation takes KEY=VALUE of {', '.join(_OVERRIDABLE)}")
    changed = OmegaConf.create(config)
    of_data = [override for override in overrides if override.split("=")[0].split(".")[0] == "data"]
    if any(override.startswith("data=") for override in of_data):
        changed.data = compose_jobs(of_data)[0].data
        of_data = []
    others = [override for override in overrides if override.split("=")[0].split(".")[0] != "data"]
    try:
        for override in (*of_data, *others):
            key, _, value = override.partition("=")
            if OmegaConf.select(changed, key, default=changed) is changed:
                raise RequestError(f"{key}: the run's config has no such key")
            OmegaConf.update(changed, key, OmegaConf.create(f"value: {value}").value)
    except OmegaConfBaseException as error:
        raise RequestError(first_line(error)) from error
    resolved = resolve(changed)
    validate(resolved)
    return resolved


def _with_weights(config: dict[str, Any], path: Path) -> tuple[Parts, dict[str, Any]]:
    """What the config describes, with the checkpoint's weights and the statistics that they were trained with."""
    # Training images are not used: no split to hold out, nothing to augment.
    idle = config | {
        "data": config["data"] | {"validation_fraction": 0.0},
        "augment": {"name": "none", "transforms": {}},
        "compile": False,
    }
    parts = build(idle)
    state = checkpoint.load(path, parts.compute.device)
    if missing := {"class_names", "mean", "std"} - state.keys():
        raise RequestError(f"{path}: not a checkpoint of a run: it has no {', '.join(sorted(missing))}")
    names = tuple(state["class_names"])
    if names != parts.class_names:
        only = sorted(set(names) ^ set(parts.class_names))[:6]
        raise RequestError(
            f"the run's classes are not the data's; not in both, in this order: {', '.join(only) or names}"
        )
    try:
        parts.learner.model.load_state_dict(state["model"])
    except RuntimeError as error:
        raise RequestError(f"{path}: does not fit the config's network: {str(error).splitlines()[0]}") from error
    # The training images' statistics belong to the weights; those of other data would shift every input.
    statistics = Statistics(tuple(state["mean"]), tuple(state["std"]))
    return dataclasses.replace(parts, statistics=statistics, normalize=Normalizer(statistics, parts.compute)), state


def _changed_predictions(run: SavedRun, parts: Parts, evaluation: Evaluation) -> int | None:
    """How many images have another prediction or confidence than in the run's own table.

    None where the images are not the run's, or the run has no such table.
    """
    if parts.fingerprint != run.environment.get("data_fingerprint") or not (run.path / "predictions.csv").exists():
        return None
    before = run.table("predictions.csv")
    if before["source"].tolist() != parts.splits.test.sources.tolist():
        return None
    names = np.array(parts.class_names)
    same = before["prediction"].to_numpy() == names[evaluation.predictions]
    same &= before["confidence"].to_numpy() == evaluation.confidences
    return int((~same).sum())
