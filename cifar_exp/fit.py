"""The epochs of a run: train, evaluate, record, save."""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from cifar_exp import checkpoint, records
from cifar_exp.build import Splits
from cifar_exp.compute import Compute, Normalizer
from cifar_exp.data import Split
from cifar_exp.data.batches import Loader
from cifar_exp.errors import DivergedError
from cifar_exp.evaluate import Evaluation
from cifar_exp.train import Learner, train_epoch

log = logging.getLogger(__name__)


@dataclass
class Fitted:
    """What training leaves behind.

    Attributes:
        metrics: the rows of ``metrics.csv``.
        test: the evaluation of the final weights on the test split.
        selection_split: ``validation`` or ``test``; None where nothing was selected.
        best_epoch: the epoch with the best accuracy on the selection split, counted from 1; the first of equals.
        best_accuracy: that accuracy.
    """

    selection_split: str | None
    metrics: list[Mapping[str, Any]] = field(default_factory=list)
    test: Evaluation | None = None
    best_epoch: int | None = None
    best_accuracy: float | None = None


def fit(
    learner: Learner,
    loader: Loader,
    splits: Splits,
    *,
    epochs: int,
    test_each_epoch: bool,
    every_epochs: int,
    keep_best: bool,
    compute: Compute,
    normalize: Normalizer,
    measure: Callable[[Split], Evaluation],
    about: dict[str, Any],
    out_dir: Path,
    status: dict[str, Any],
) -> Fitted:
    """Train for ``epochs`` epochs; after each, evaluate, append a row to ``metrics.csv`` and save.

    The test split is measured after the last epoch, or after each where the config asks for that. Selection looks at
    the validation split where there is one, and at the test split only where it is measured each epoch anyway.

    Args:
        learner: changed in place.
        loader: makes the training batches.
        splits: the images to train on and to measure.
        epochs: how many.
        test_each_epoch: measure the test split after every epoch, not only the last.
        every_epochs: write ``last.pt`` after so many epochs, and after the last.
        keep_best: write ``best.pt`` after each epoch that is better than all before.
        compute: where and in which precision.
        normalize: makes the network's input.
        measure: evaluates the network on a split.
        about: what a checkpoint says beside weights and state, as plain values.
        out_dir: the run directory.
        status: of the run, kept up to date.

    Raises:
        DivergedError: the steps up to the one that diverged are recorded.
    """
    selection = "validation" if splits.validation is not None else "test" if test_each_epoch else None
    fitted = Fitted(selection)
    if selection == "test":
        log.warning("No validation split: the best epoch is chosen on the test split, so its accuracy is optimistic.")
    log.info(_TABLE_HEAD)
    for epoch in range(1, epochs + 1):
        try:
            trained = train_epoch(
                learner,
                loader.epoch(epoch),
                images=len(splits.train),
                epochs=epochs,
                compute=compute,
                normalize=normalize,
            )
        except DivergedError as error:
            records.append_rows(out_dir / "steps.csv", records.STEPS_COLUMNS, error.steps)
            raise
        started = time.perf_counter()
        validation = measure(splits.validation) if splits.validation is not None else None
        test = measure(splits.test) if test_each_epoch or epoch == epochs else None
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
        fitted.metrics.append(row)
        fitted.test = test
        chosen = validation or (test if selection else None)
        is_best = chosen is not None and (fitted.best_accuracy is None or chosen.accuracy > fitted.best_accuracy)
        if is_best and chosen is not None:
            fitted.best_epoch, fitted.best_accuracy = epoch, chosen.accuracy

        records.append_rows(out_dir / "steps.csv", records.STEPS_COLUMNS, trained.steps)
        records.append_rows(out_dir / "metrics.csv", records.METRICS_COLUMNS, [row])
        if is_best and keep_best:
            checkpoint.save(out_dir / "checkpoints" / "best.pt", learner.model, epoch=epoch, step=learner.step, **about)
        if epoch % every_epochs == 0 or epoch == epochs:
            _save_last(out_dir, learner, fitted, about)
        records.update_status(out_dir, status, epochs_completed=epoch)
        log.info(_table_line(row, epochs, is_best))
    return fitted


def _save_last(out_dir: Path, learner: Learner, fitted: Fitted, about: dict[str, Any]) -> None:
    """Everything that going on from here would need."""
    checkpoint.save(
        out_dir / "checkpoints" / "last.pt",
        learner.model,
        optimizer=learner.optimizer.state_dict(),
        scheduler=learner.scheduler.state_dict(),
        epoch=learner.epoch,
        step=learner.step,
        best_epoch=fitted.best_epoch,
        best_accuracy=fitted.best_accuracy,
        random_state=torch.get_rng_state(),
        **about,
    )


_TABLE_HEAD = "  epoch  learning rate   train loss  accuracy     val loss  accuracy    test loss  accuracy   images/s"


def _table_line(row: Mapping[str, Any], epochs: int, is_best: bool) -> str:
    def pair(split: str) -> str:
        loss, accuracy = row[f"{split}_loss"], row[f"{split}_accuracy"]
        return f"{'':>10}  {'':>8}" if loss is None else f"{loss:>10.4f}  {accuracy:>8.2%}"

    figures = "   ".join(pair(split) for split in ("train", "val", "test"))
    mark = "  best so far" if is_best else ""
    start = f"{row['epoch']:>3}/{epochs:<3}  {row['learning_rate']:>13.6g}"
    return f"{start}   {figures}   {row['images_per_second']:>8.0f}{mark}"
