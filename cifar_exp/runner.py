"""A run is a pure function of its config: build, fit, evaluate, explain, report."""

import logging
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cifar_exp import outputs, stages, trackers
from cifar_exp.build import Parts, build, describe
from cifar_exp.compute import memory
from cifar_exp.compute.distributed.session import distributed_part
from cifar_exp.config.parse import as_containers, parse
from cifar_exp.config.schema import ExperimentConfig
from cifar_exp.errors import DivergedError
from cifar_exp.evaluation.metrics import Evaluation
from cifar_exp.evaluation.probability_records import compute_probability_scores, fit_test_temperature
from cifar_exp.explain.gradcam import CamMap
from cifar_exp.reports.run_page.live import LivePage
from cifar_exp.run_dir import lifecycle
from cifar_exp.training import initial_weights
from cifar_exp.training.schedule import ScheduleUse

log = logging.getLogger(__name__)


def run(
    config: ExperimentConfig,
    out_dir: str | Path,
    *,
    resume: bool = False,
    after_epoch: Sequence[Callable[[], None]] = (),
) -> dict[str, Any]:
    """Train, evaluate, explain and report one experiment; returns the row of ``summary.csv``.

    Creates the run directory ``out_dir``, or resumes the run in it, whose config must be this one.
    ``after_epoch`` functions are called after each epoch, once its rows are written; they may raise ``PrunedError``.

    Raises:
        RequestError: the config or what it points to is wrong.
        DivergedError: the loss became infinite or not a number; everything until then is recorded.
        PrunedError: a function of ``after_epoch`` stopped the run.
    """
    out_dir = Path(out_dir)
    parse(as_containers(config))  # checks values that were set after it was parsed
    started = time.perf_counter()
    with (
        LivePage(out_dir, wanted=config.report) as page,
        lifecycle.recorded(out_dir, config, resume=resume) as status,
        distributed_part(as_containers(config), resume=resume) as end_distributed_part,
        trackers.tracked(config, out_dir, lifecycle.state_after) as log_to_tracker,
    ):
        # --- build ---
        parts = _build(config, out_dir, known_max_lr=status.get("max_lr_used"), resume=resume)
        environment = outputs.write_environment(parts, out_dir, resume=resume)
        outputs.write_plan(config, parts, out_dir, status)
        page.update()
        # --- train and evaluate ---
        callbacks = (log_to_tracker, page.update, *after_epoch)
        try:
            fitted = stages.train(config, parts, out_dir, status, resume=resume, after_epoch=callbacks)
        except DivergedError:
            _draw_progress(config, parts, out_dir, status)
            raise
        evaluation, validation = stages.evaluate_final_weights(config, parts, fitted, out_dir)
        end_distributed_part()  # rank 0 does the rest
        # --- results: written before anything that may fail ---
        use = outputs.measure_schedule_use(config, parts, out_dir)
        tta = stages.measure_tta(config, parts)
        suspects = outputs.write_tables(parts, evaluation, tta, out_dir)
        results = outputs.collect_results(config, parts, fitted, evaluation, use, environment)
        scores = compute_probability_scores(evaluation, fit_test_temperature(validation))
        results |= {"test_accuracy_tta": tta.accuracy if tta else None, **scores}

        def write_summary() -> dict[str, Any]:
            seconds = fitted.seconds_before + time.perf_counter() - started
            return lifecycle.write_summary(out_dir, config, "completed", results | {"total_seconds": seconds})

        write_summary()
        # --- explanation and figures ---
        maps = _explain_and_draw(config, parts, evaluation, use, out_dir, status)
        page.keep_images(parts.splits.test, evaluation, maps, suspects)
        summary = write_summary()
        outputs.log_results(config, parts, fitted, summary, out_dir)
        return summary


def _build(config: ExperimentConfig, out_dir: Path, *, known_max_lr: float | None, resume: bool) -> Parts:
    """Build the parts and save the initial weights. A wrong request is refused before anything is logged."""
    memory.reset_peak_memory()
    start = initial_weights.use_saved_weights(config, out_dir) if resume else config
    parts = build(start, known_max_lr=known_max_lr)
    initial_weights.save_initial_weights(config, parts.learner.model, out_dir)
    memory.release_free_memory()  # used for reading and splitting the data
    for line in (f"Run directory: {lifecycle.run_name(out_dir)}", *describe(config.name, parts)):
        log.info("%s", line)
    return parts


def _draw_progress(config: ExperimentConfig, parts: Parts, out_dir: Path, status: dict[str, Any]) -> None:
    """Draw the figures of a run that diverged; an error is a warning."""
    with lifecycle.errors_as_warnings(out_dir, "The figures", status):
        from cifar_exp import drawing  # loads Matplotlib, which training does not need

        drawing.draw_progress(config, parts, outputs.measure_schedule_use(config, parts, out_dir), out_dir, status)


def _explain_and_draw(
    config: ExperimentConfig,
    parts: Parts,
    evaluation: Evaluation,
    use: ScheduleUse,
    out_dir: Path,
    status: dict[str, Any],
) -> Sequence[CamMap]:
    """Explain test images and draw the figures; an error is a warning. Returns the Grad-CAM maps."""
    explanation = stages.explain_test_images(config, parts, evaluation, out_dir, status)
    with lifecycle.errors_as_warnings(out_dir, "The figures", status):
        from cifar_exp import drawing

        drawing.draw_progress(config, parts, use, out_dir, status)
        drawing.draw_augmentations(config, parts, out_dir, status)
        drawing.draw_evaluation(config, parts, evaluation, explanation, out_dir, status)
    return explanation.maps


def run_on_other_rank(task: dict[str, Any], resume: bool) -> None:
    """Do the distributed part of a run, up to the final evaluation, on a rank other than 0; writes nothing."""
    nowhere, config = Path(os.devnull), parse(task)
    parts = build(config)
    fitted = stages.train(config, parts, nowhere, None, resume=resume)
    stages.evaluate_final_weights(config, parts, fitted, nowhere)
