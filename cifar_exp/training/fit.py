"""The epochs of a run: train, evaluate, record, save."""

import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch

from cifar_exp.compute import memory
from cifar_exp.compute.device import Compute
from cifar_exp.compute.distributed import collectives
from cifar_exp.data import Split
from cifar_exp.data.batches import EpochLoader
from cifar_exp.data.dataset import Splits
from cifar_exp.data.normalize import Normalizer
from cifar_exp.errors import DivergedError, RequestError
from cifar_exp.evaluation.metrics import Evaluation
from cifar_exp.run_dir import checkpoint, run_status, tables
from cifar_exp.training.epoch import EpochSoFar, Learner, end_epoch, train_epoch
from cifar_exp.training.savepoint import Savepoint
from cifar_exp.training.signals import Interruption

log = logging.getLogger(__name__)

_LONG_EPOCH_SECONDS = 30.0  # the load average looks back as long


@dataclass
class Fitted:
    """What training leaves behind.

    Attributes:
        metrics: the rows of ``metrics.csv``.
        test: the evaluation of the final weights on the test split.
        validation: that on the validation split; None without one.
        selection_split: ``validation`` or ``test``; None where nothing was selected.
        best_epoch: the epoch with the best accuracy on the selection split, counted from 1; the first of equals.
        best_accuracy: that accuracy.
    """

    selection_split: str | None
    metrics: list[Mapping[str, Any]] = field(default_factory=list)
    test: Evaluation | None = None
    validation: Evaluation | None = None
    best_epoch: int | None = None
    best_accuracy: float | None = None

    @property
    def best(self) -> tuple[int | None, float | None]:
        """Epoch and accuracy of the best one so far."""
        return self.best_epoch, self.best_accuracy


Measure = Callable[[Split, Callable[[], None]], Evaluation]


def fit(
    learner: Learner,
    loader: EpochLoader,
    splits: Splits,
    *,
    epochs: int,
    test_each_epoch: bool,
    keep_best: bool,
    compute: Compute,
    normalize: Normalizer,
    measure: Measure,
    savepoint: Savepoint,
    out_dir: Path,
    status: dict[str, Any],
    resume: bool = False,
    after_epoch: Callable[[], None] = lambda: None,
) -> Fitted:
    """Train until ``epochs`` epochs are complete; after each, evaluate, append a row to ``metrics.csv`` and save.

    The test split is measured after the last epoch, or after each where the config asks for that. Selection looks at
    the validation split where there is one, and at the test split only where it is measured each epoch anyway.

    Args:
        learner: changed in place.
        loader: makes the training batches.
        splits: the images to train on and to measure.
        epochs: how many.
        test_each_epoch: measure the test split after every epoch, not only the last.
        keep_best: write ``best.pt`` after each epoch that is better than all before.
        compute: where and in which precision.
        normalize: makes the network's input.
        measure: evaluates the network on a split, calling a function between batches.
        savepoint: where the state goes, and when.
        out_dir: the run directory.
        status: of the run, kept up to date.
        resume: go on from the savepoint, if there is one yet; rows recorded after it are made again.
        after_epoch: called when an epoch is recorded.

    Raises:
        DivergedError: the steps up to the one that diverged are recorded.
        KeyboardInterrupt: a signal came; the state is saved.
    """
    selection = "validation" if splits.validation is not None else "test" if test_each_epoch else None
    fitted = Fitted(selection)
    if selection == "test":
        log.warning("No validation split: the best epoch is chosen on the test split, so its accuracy is optimistic.")
    so_far = _go_back(learner, fitted, savepoint, out_dir, status, compute.device) if resume else None
    log.info(_TABLE_HEAD)
    told_of_others = False
    with Interruption() as interruption:
        for epoch in range(learner.epoch + 1, epochs + 1):
            so_far = so_far or EpochSoFar.begin(compute.device)
            safe_point = partial(_safe_point, learner, so_far, fitted, savepoint, interruption)
            try:
                trained = train_epoch(
                    learner,
                    loader.epoch(epoch, first=so_far.batches),
                    so_far,
                    images=len(splits.train),
                    epochs=epochs,
                    compute=compute,
                    normalize=normalize,
                    after_step=safe_point,
                    sizes=loader.batches.sizes,
                )
            except DivergedError as error:
                if collectives.is_first():
                    tables.append_rows(out_dir / "steps.csv", tables.STEPS_COLUMNS, error.steps)
                raise
            started = time.perf_counter()
            validation = measure(splits.validation, safe_point) if splits.validation is not None else None
            test = measure(splits.test, safe_point) if test_each_epoch or epoch == epochs else None
            row: dict[str, Any] = {
                "epoch": epoch,
                "step": learner.step,
                "learning_rate": trained.learning_rate,
                "train_loss": trained.loss,
                "train_accuracy": trained.accuracy,
                "val_loss": validation.loss if validation else None,
                "val_accuracy": validation.accuracy if validation else None,
                "test_loss": test.loss if test else None,
                "test_accuracy": test.accuracy if test else None,
                "train_seconds": trained.seconds,
                "eval_seconds": time.perf_counter() - started,
                "images_per_second": trained.images / trained.seconds,
            }
            end_epoch(learner)
            so_far = None
            fitted.metrics.append(row)
            fitted.test, fitted.validation = test, validation
            chosen = validation or (test if selection else None)
            is_best = chosen is not None and (fitted.best_accuracy is None or chosen.accuracy > fitted.best_accuracy)
            if is_best and chosen is not None:
                fitted.best_epoch, fitted.best_accuracy = epoch, chosen.accuracy

            # The state comes last: whatever is lost before it is written is made again by a resumed run.
            if collectives.is_first():
                tables.append_rows(out_dir / "steps.csv", tables.STEPS_COLUMNS, trained.steps)
                tables.append_rows(out_dir / "metrics.csv", tables.METRICS_COLUMNS, [row])
            if is_best and keep_best and collectives.is_first():
                best = out_dir / "checkpoints" / "best.pt"
                checkpoint.save(best, learner.model, epoch=epoch, step=learner.step, **savepoint.about)
            if epoch % savepoint.every_epochs == 0 or epoch == epochs:
                savepoint.write(learner, None, fitted.best)
            if collectives.is_first():
                run_status.update_status(out_dir, status, epochs_completed=epoch)
            log.info(_table_line(row, epochs, is_best))
            if not told_of_others:
                told_of_others = _tell_of_others(trained.seconds, compute.device)
            after_epoch()
        if fitted.test is None:  # resumed after the last epoch
            fitted.test = measure(splits.test, lambda: None)
            if splits.validation is not None:
                fitted.validation = measure(splits.validation, lambda: None)
    return fitted


def _tell_of_others(seconds: float, device: torch.device) -> bool:
    """Say once, after a long epoch, if other programs held a CPU's threads up; returns whether it was said."""
    threads = torch.get_num_threads()
    if device.type != "cpu" or threads == 1 or seconds < _LONG_EPOCH_SECONDS:
        return False
    others = memory.other_load(threads)
    if others is None:
        return False
    log.warning(
        "Other programs are at work on this machine (as if on %.1f of its CPUs). The %d threads of this run wait for "
        "each other after every operation, and so for whatever holds one of them up: that can make it many times "
        "slower. A run with fewer threads than there are free CPUs does not wait (threads=%d).",
        others,
        threads,
        max(threads - math.ceil(others), 1),
    )
    return True


def _safe_point(
    learner: Learner, so_far: EpochSoFar, fitted: Fitted, savepoint: Savepoint, interruption: Interruption
) -> None:
    """Between two batches: stop here if that was asked for, and save if it is time; all processes or none."""
    signal_number, save = collectives.agree_to_stop(interruption.received, savepoint.due)
    if signal_number or save:
        savepoint.write(learner, so_far, fitted.best)
    if signal_number:
        interruption.deliver(signal_number)


def _go_back(
    learner: Learner,
    fitted: Fitted,
    savepoint: Savepoint,
    out_dir: Path,
    status: dict[str, Any],
    device: torch.device,
) -> EpochSoFar | None:
    """Put everything back to the savepoint, the records included; to the start where there is none."""
    so_far = None
    if collectives.from_first(savepoint.path.exists):
        so_far, (fitted.best_epoch, fitted.best_accuracy) = savepoint.read(learner, device)
    if not collectives.is_first():
        return so_far
    try:
        for name in ("steps.csv", "metrics.csv"):
            tables.keep_epochs(out_dir / name, learner.epoch)
        fitted.metrics += tables.metrics_rows(out_dir / "metrics.csv")
    except ValueError as error:
        raise RequestError(f"{out_dir}: metrics.csv or steps.csv is damaged: {error}") from error
    if len(fitted.metrics) != learner.epoch:
        raise RequestError(
            f"{out_dir / 'metrics.csv'}: has {len(fitted.metrics)} of the {learner.epoch} epochs in {savepoint.path}"
        )
    run_status.update_status(out_dir, status, epochs_completed=learner.epoch)
    log.info("Going on after step %d (epoch %d).", learner.step, learner.epoch + bool(so_far))
    return so_far


_TABLE_HEAD = "  epoch  learning rate   train loss  accuracy     val loss  accuracy    test loss  accuracy   images/s"


def _table_line(row: Mapping[str, Any], epochs: int, is_best: bool) -> str:
    def pair(split: str) -> str:
        loss, accuracy = row[f"{split}_loss"], row[f"{split}_accuracy"]
        return f"{'':>10}  {'':>8}" if loss is None else f"{loss:>10.4f}  {accuracy:>8.2%}"

    figures = "   ".join(pair(split) for split in ("train", "val", "test"))
    mark = "  best so far" if is_best else ""
    start = f"{row['epoch']:>3}/{epochs:<3}  {row['learning_rate']:>13.6g}"
    return f"{start}   {figures}   {row['images_per_second']:>8.0f}{mark}"
