"""The epochs of a run: train, evaluate, record, save."""

import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import nn

from cifar_exp.compute import memory
from cifar_exp.data import Split
from cifar_exp.data.batches import EpochLoader
from cifar_exp.data.dataset import Splits
from cifar_exp.errors import DivergedError
from cifar_exp.evaluation.metrics import Evaluation
from cifar_exp.training.epoch import EpochResult, EpochState, train_epoch
from cifar_exp.training.learner import Learner
from cifar_exp.training.recorder import Recorder
from cifar_exp.training.savepoint import Best, Savepoint
from cifar_exp.training.selection import score
from cifar_exp.training.signals import Interruption

log = logging.getLogger(__name__)

_LONG_EPOCH_SECONDS = 30.0  # the period of the load average

Measure = Callable[[nn.Module, Split, Callable[[], None]], Evaluation]


@dataclass(frozen=True)
class FitOptions:
    """How long to train and what to measure."""

    epochs: int  # number of epochs of the whole run
    test_each_epoch: bool  # evaluate the test split after every epoch, not only after the last
    keep_best: bool  # write ``best.pt`` after each epoch that is better than all before
    resume: bool = False  # continue from the checkpoint, if there is one; rows recorded after it are made again
    metric: str = "val_accuracy"  # that selects the best epoch; see ``selection``
    patience: int | None = None  # stop after so many epochs without a better one; None trains all epochs


@dataclass
class Fitted:
    """The result of training."""

    selection_split: str | None  # ``validation`` or ``test``; None if no epoch is selected
    metrics: list[Mapping[str, Any]] = field(default_factory=list)  # the rows of ``metrics.csv``
    test: Evaluation | None = None  # evaluation of the final weights on the test split
    validation: Evaluation | None = None  # that on the validation split; None without one
    best_epoch: int | None = None  # the first epoch with the best score on the selection split, from 1
    best_accuracy: float | None = None  # its accuracy on that split
    best_score: float | None = None  # its score: the value of the selection metric, higher is better

    @property
    def best(self) -> Best:
        """Epoch, accuracy and score of the best epoch so far."""
        return self.best_epoch, self.best_accuracy, self.best_score

    def is_better(self, score: float | None) -> bool:
        """Whether a score is better than the best so far."""
        return score is not None and (self.best_score is None or score > self.best_score)

    def add_epoch(self, row: Mapping[str, Any], evaluated: "EpochEvaluation") -> bool:
        """Add an epoch; returns whether it is the best so far."""
        self.metrics.append(row)
        self.test, self.validation = evaluated.test, evaluated.validation
        if not self.is_better(evaluated.score):
            return False
        self.best_epoch, self.best_accuracy, self.best_score = row["epoch"], evaluated.accuracy, evaluated.score
        return True

    def exhausts(self, patience: int | None, epoch: int) -> bool:
        """Whether so many epochs up to this one were not better than the best."""
        return patience is not None and self.best_epoch is not None and epoch - self.best_epoch >= patience


@dataclass(frozen=True)
class EpochEvaluation:
    """What an epoch's network was measured at."""

    validation: Evaluation | None  # None without a validation split
    test: Evaluation | None  # None if it was not measured after this epoch
    raw: Mapping[str, float | None]  # with averaged weights, the accuracy of the raw ones, by column of ``metrics.csv``
    accuracy: float | None  # on the selection split; None without one
    score: float | None  # on the selection split, higher is better
    is_last: bool  # whether training ends with this epoch


def fit(
    learner: Learner,
    loader: EpochLoader,
    splits: Splits,
    options: FitOptions,
    *,
    measure: Measure,
    savepoint: Savepoint,
    recorder: Recorder,
    after_epoch: Callable[[], None] = lambda: None,
) -> Fitted:
    """Train until all epochs are complete; after each, evaluate, record and save.

    The test split is measured after the last epoch, or after each if the config asks for that. The best epoch is
    selected on the validation split. Without one, it is selected on the test split if that is measured each epoch.
    With averaged weights, those are measured and selected, and are the network's weights at the end.

    Args:
        learner: changed in place.
        loader: makes the training batches.
        splits: the images to train on and to measure.
        options: see ``FitOptions``.
        measure: evaluates the network on a split, calling a function between batches.
        savepoint: writes checkpoints.
        recorder: writes ``metrics.csv``, ``steps.csv`` and ``status.json``.
        after_epoch: called when an epoch is recorded.

    Raises:
        DivergedError: the steps up to the one that diverged are recorded.
        KeyboardInterrupt: a signal arrived; the state is saved.
    """
    fitted = Fitted(_selection_split(splits, options))
    state = _resume(learner, fitted, savepoint, recorder) if options.resume else None
    log.info(_TABLE_HEAD)
    warned = False
    with Interruption() as interruption:
        for epoch in _remaining_epochs(learner, fitted, options):
            state = state or EpochState.start(learner.device)
            save_or_stop = partial(_save_or_stop, learner, state, fitted, savepoint, interruption)

            trained = _train(learner, loader, state, options, recorder, save_or_stop)
            started = time.perf_counter()
            evaluated = _evaluate(learner, splits, options, fitted, measure, save_or_stop)
            row = _metrics_row(learner, trained, evaluated, options, time.perf_counter() - started)

            learner.end_epoch(evaluated.score)
            state = None
            is_best = fitted.add_epoch(row, evaluated)
            # The checkpoint comes last: a resumed run makes again whatever was lost before it was written.
            recorder.append_steps(trained.steps)
            recorder.append_epoch(row)
            if is_best and options.keep_best:
                savepoint.write_best(learner)
            if epoch % savepoint.every_epochs == 0 or evaluated.is_last:
                savepoint.write(learner, None, fitted.best)
            recorder.set_epochs_completed(epoch)
            log.info(_table_line(row, options.epochs, is_best))
            warned = warned or _warn_of_cpu_contention(trained.seconds, learner.device)
            after_epoch()
            if evaluated.is_last:
                break
        if fitted.exhausts(options.patience, learner.epoch) and learner.epoch < options.epochs:
            log.info("Early stopping: no better %s since epoch %d.", options.metric, fitted.best_epoch)
        if fitted.test is None:  # resumed after the last epoch
            fitted.test = measure(learner.evaluated_model, splits.test, lambda: None)
            if splits.validation is not None:
                fitted.validation = measure(learner.evaluated_model, splits.validation, lambda: None)
    learner.use_average()
    return fitted


def _evaluate(
    learner: Learner,
    splits: Splits,
    options: FitOptions,
    fitted: Fitted,
    measure: Measure,
    after_batch: Callable[[], None],
) -> EpochEvaluation:
    raw: dict[str, float | None] = {}

    def evaluate(split: Split | None, name: str) -> Evaluation | None:
        if learner.average is not None:
            raw[f"{name}_accuracy_raw"] = measure(learner.model, split, after_batch).accuracy if split else None
        return measure(learner.evaluated_model, split, after_batch) if split is not None else None

    validation = evaluate(splits.validation, "val")
    test = evaluate(splits.test, "test") if options.test_each_epoch else None
    selected = validation if fitted.selection_split == "validation" else test if fitted.selection_split else None
    value = score(selected, options.metric) if selected is not None else None
    epoch = learner.epoch + 1
    exhausted = not fitted.is_better(value) and fitted.exhausts(options.patience, epoch)
    is_last = epoch == options.epochs or exhausted
    if is_last and test is None:
        test = evaluate(splits.test, "test")
    return EpochEvaluation(validation, test, raw, selected.accuracy if selected else None, value, is_last)


def _remaining_epochs(learner: Learner, fitted: Fitted, options: FitOptions) -> range:
    if fitted.exhausts(options.patience, learner.epoch):  # resumed after early stopping
        return range(0)
    return range(learner.epoch + 1, options.epochs + 1)


def _selection_split(splits: Splits, options: FitOptions) -> str | None:
    if splits.validation is not None:
        return "validation"
    if not options.test_each_epoch:
        return None
    log.warning("No validation split: the best epoch is chosen on the test split, so its accuracy is optimistic.")
    return "test"


def _train(
    learner: Learner,
    loader: EpochLoader,
    state: EpochState,
    options: FitOptions,
    recorder: Recorder,
    after_step: Callable[[], None],
) -> EpochResult:
    try:
        return train_epoch(
            learner,
            loader.epoch(learner.epoch + 1, first=state.steps * learner.training_step.accumulate),
            state,
            images=len(loader.batches.split),
            epochs=options.epochs,
            sizes=loader.batches.sizes,
            after_step=after_step,
        )
    except DivergedError as error:
        recorder.append_steps(error.steps)
        raise


def _metrics_row(
    learner: Learner, trained: EpochResult, evaluated: EpochEvaluation, options: FitOptions, eval_seconds: float
) -> dict[str, Any]:
    validation, test = evaluated.validation, evaluated.test
    row = {
        "epoch": learner.epoch + 1,
        "step": learner.step,
        "learning_rate": trained.learning_rate,
        "train_loss": trained.loss,
        "train_accuracy": trained.accuracy,
        "val_loss": validation.loss if validation else None,
        "val_accuracy": validation.accuracy if validation else None,
        "test_loss": test.loss if test else None,
        "test_accuracy": test.accuracy if test else None,
        "train_seconds": trained.seconds,
        "eval_seconds": eval_seconds,
        "images_per_second": trained.images / trained.seconds,
        **evaluated.raw,
    }
    return row if options.metric in row else row | {options.metric: evaluated.score}


def _warn_of_cpu_contention(seconds: float, device: torch.device) -> bool:
    """Warn after a long epoch if other programs slowed down this run's CPU threads; returns whether it warned."""
    threads = torch.get_num_threads()
    if device.type != "cpu" or threads == 1 or seconds < _LONG_EPOCH_SECONDS:
        return False
    others = memory.other_load(threads)
    if others is None:
        return False
    log.warning(
        "CPU contention: other programs use about %.1f CPUs of this machine. The %d threads of this run wait for each "
        "other after every operation, so one delayed thread delays all: training can become many times slower. Use "
        "fewer threads than there are free CPUs (threads=%d).",
        others,
        threads,
        max(threads - math.ceil(others), 1),
    )
    return True


def _save_or_stop(
    learner: Learner, state: EpochState, fitted: Fitted, savepoint: Savepoint, interruption: Interruption
) -> None:
    """Between two batches: save if it is time, and stop if a signal arrived; on all ranks or on none."""
    signal_number, save = learner.ranks.agree_to_stop(interruption.received, savepoint.due)
    if signal_number or save:
        savepoint.write(learner, state, fitted.best)
    if signal_number:
        try:
            interruption.deliver(signal_number)
        except KeyboardInterrupt as error:
            error.add_note(f"saved at epoch {learner.epoch + 1}, step {learner.step}")
            raise


def _resume(learner: Learner, fitted: Fitted, savepoint: Savepoint, recorder: Recorder) -> EpochState | None:
    """Restore checkpoint and records; returns the state of the current epoch. Without a checkpoint, start again."""
    state = None
    if learner.ranks.broadcast(savepoint.path.exists):
        state, (fitted.best_epoch, fitted.best_accuracy, fitted.best_score) = savepoint.read(learner)
    fitted.metrics += recorder.restore(learner.epoch)
    log.info("Resuming after step %d (epoch %d).", learner.step, learner.epoch + bool(state))
    return state


_TABLE_HEAD = "  epoch  learning rate   train loss  accuracy     val loss  accuracy    test loss  accuracy   images/s"


def _table_line(row: Mapping[str, Any], epochs: int, is_best: bool) -> str:
    def pair(split: str) -> str:
        loss, accuracy = row[f"{split}_loss"], row[f"{split}_accuracy"]
        return f"{'':>10}  {'':>8}" if loss is None else f"{loss:>10.4f}  {accuracy:>8.2%}"

    metrics = "   ".join(pair(split) for split in ("train", "val", "test"))
    mark = "  best so far" if is_best else ""
    start = f"{row['epoch']:>3}/{epochs:<3}  {row['learning_rate']:>13.6g}"
    return f"{start}   {metrics}   {row['images_per_second']:>8.0f}{mark}"
