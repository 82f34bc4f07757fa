"""The epochs of a run: train, evaluate, record, save."""

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import nn

from cifar_exp.compute import memory
from cifar_exp.config.schema import ExperimentConfig
from cifar_exp.data.batches import Batch, TrainingBatches
from cifar_exp.data.dataset import Split, Splits
from cifar_exp.errors import DivergedError
from cifar_exp.evaluation.metrics import Evaluation, selection_score
from cifar_exp.training.epoch import EpochResult, EpochState, train_epoch
from cifar_exp.training.learner import Learner
from cifar_exp.training.recorder import Recorder
from cifar_exp.training.savepoint import Best, Savepoint
from cifar_exp.training.signals import Interruption

log = logging.getLogger(__name__)

_LONG_EPOCH_SECONDS = 30.0  # the period of the load average


@dataclass
class FitResult:
    """The result of training."""

    selection_split: str | None  # ``validation`` or ``test``; None if no epoch is selected
    metrics: list[Mapping[str, Any]] = field(default_factory=list)  # the rows of ``metrics.csv``
    test: Evaluation | None = None  # evaluation of the final weights on the test split
    validation: Evaluation | None = None  # the same on the validation split; None without one
    best: Best = field(default_factory=Best)
    seconds_before: float = 0.0  # total time of earlier sessions of the run

    def is_better(self, score: float | None) -> bool:
        """Whether a score is better than the best so far."""
        return score is not None and (self.best.score is None or score > self.best.score)

    def exhausts(self, patience: int | None, epoch: int) -> bool:
        """Whether the last ``patience`` epochs up to this one were not better than the best."""
        return patience is not None and self.best.epoch is not None and epoch - self.best.epoch >= patience


@dataclass
class Training:
    """Trains until all epochs are complete; after each, evaluates, records and saves.

    The test split is measured after the last epoch, or after each if the config asks for that. The best epoch is
    selected on the validation split. Without one, it is selected on the test split if that is measured each epoch.
    With averaged weights, those are measured and selected, and are the network's weights at the end.
    """

    config: ExperimentConfig
    learner: Learner  # changed in place
    batches: TrainingBatches
    epoch_batches: Callable[[int, int], Iterator[Batch]]  # of an epoch (from 1), from a batch (from 0) on
    splits: Splits
    measure: Callable[[nn.Module, Split, Callable[[], None]], Evaluation]  # calls the function between batches
    savepoint: Savepoint
    recorder: Recorder
    after_epoch: Sequence[Callable[[], None]] = ()  # called when an epoch is recorded

    def run(self, *, resume: bool = False) -> FitResult:
        """Train, from the checkpoint if the run is resumed and has one.

        Raises:
            DivergedError: the steps up to the one that diverged are recorded.
            KeyboardInterrupt: a signal arrived; the state is saved.
        """
        learner, splits = self.learner, self.splits
        fitted = FitResult(self._choose_selection_split())
        state = self._resume(fitted) if resume else None
        log.info(_TABLE_HEAD)
        has_warned = False
        with Interruption() as interruption:
            while not self._is_complete(fitted):
                state = state or EpochState.start(learner.device)
                save_or_stop = partial(self._save_or_stop, state, fitted.best, interruption)
                trained = self._train(state, save_or_stop)
                row, score = self._evaluate(fitted, trained, save_or_stop)
                learner.end_epoch(score)
                state = None
                self._record(fitted, trained, row, score)
                has_warned = has_warned or _warn_of_cpu_contention(trained.seconds, learner.device)
                for call in self.after_epoch:
                    call()
            if learner.epoch < self.config.epochs:
                log.info(
                    "Early stopping: no better %s since epoch %d.", self.config.selection_metric, fitted.best.epoch
                )
            if fitted.test is None:  # resumed after the last epoch
                fitted.test = self.measure(learner.evaluated_model, splits.test, lambda: None)
                if splits.validation is not None:
                    fitted.validation = self.measure(learner.evaluated_model, splits.validation, lambda: None)
        learner.use_average()
        return fitted

    def _choose_selection_split(self) -> str | None:
        if self.splits.validation is not None:
            return "validation"
        if not self.config.evaluate_test_each_epoch:
            return None
        log.warning("No validation split: the best epoch is chosen on the test split, so its accuracy is optimistic.")
        return "test"

    def _resume(self, fitted: FitResult) -> EpochState | None:
        """Restore checkpoint and records; returns the state of the current epoch. Without a checkpoint, start again."""
        learner, state = self.learner, None
        if learner.ranks.broadcast(self.savepoint.path.exists):
            state, fitted.best = self.savepoint.read(learner)
            fitted.seconds_before = self.savepoint.seconds_before
        fitted.metrics += self.recorder.restore(learner.epoch)
        log.info("Resuming after step %d (epoch %d).", learner.step, learner.epoch + bool(state))
        return state

    def _is_complete(self, fitted: FitResult) -> bool:
        epoch = self.learner.epoch
        return epoch >= self.config.epochs or fitted.exhausts(self.config.early_stopping.patience, epoch)

    def _train(self, state: EpochState, after_step: Callable[[], None]) -> EpochResult:
        learner = self.learner
        try:
            return train_epoch(
                learner,
                self.epoch_batches(learner.epoch + 1, state.steps * learner.training_step.accumulate),
                state,
                images=len(self.batches.split),
                epochs=self.config.epochs,
                sizes=self.batches.sizes,
                after_step=after_step,
            )
        except DivergedError as error:
            self.recorder.append("steps.csv", error.steps)
            raise

    def _evaluate(
        self, fitted: FitResult, trained: EpochResult, after_batch: Callable[[], None]
    ) -> tuple[dict[str, Any], float | None]:
        """Evaluate after an epoch; returns the row of ``metrics.csv`` and the score, None without a selection split."""
        learner, config, epoch, started = self.learner, self.config, self.learner.epoch + 1, time.perf_counter()
        evaluations: dict[str, Evaluation | None] = {"validation": None, "test": None}
        raw: dict[str, float | None] = {}  # with averaged weights, the accuracy of the raw ones

        def evaluate(name: str, split: Split | None) -> None:
            if learner.average is not None:
                value = None if split is None else self.measure(learner.model, split, after_batch).accuracy
                raw["val_accuracy_raw" if name == "validation" else "test_accuracy_raw"] = value
            if split is not None:
                evaluations[name] = self.measure(learner.evaluated_model, split, after_batch)

        evaluate("validation", self.splits.validation)
        if config.evaluate_test_each_epoch:
            evaluate("test", self.splits.test)
        selected = evaluations[fitted.selection_split] if fitted.selection_split else None
        score = None if selected is None else selection_score(selected, config.selection_metric)
        stops = not fitted.is_better(score) and fitted.exhausts(config.early_stopping.patience, epoch)
        if evaluations["test"] is None and (epoch == config.epochs or stops):
            evaluate("test", self.splits.test)
        fitted.validation, fitted.test = validation, test = evaluations["validation"], evaluations["test"]
        row = {
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
            **raw,
        }
        return {config.selection_metric: score, **row}, score

    def _record(self, fitted: FitResult, trained: EpochResult, row: Mapping[str, Any], score: float | None) -> None:
        learner, epoch = self.learner, row["epoch"]
        fitted.metrics.append(row)
        if is_best := fitted.is_better(score):
            accuracy = row["val_accuracy" if fitted.selection_split == "validation" else "test_accuracy"]
            fitted.best = Best(epoch, accuracy, score)
        # The checkpoint comes last: a resumed run repeats what was lost before it was written.
        self.recorder.append("steps.csv", trained.steps)
        self.recorder.append("metrics.csv", [row])
        if is_best and self.config.checkpoint.best:
            self.savepoint.write_best(learner)
        if epoch % self.config.checkpoint.every_epochs == 0 or self._is_complete(fitted):
            self.savepoint.write(learner, None, fitted.best)
        self.recorder.set_epochs_completed(epoch)
        log.info(_format_table_line(row, self.config.epochs, is_best))

    def _save_or_stop(self, state: EpochState, best: Best, interruption: Interruption) -> None:
        """Between two batches: save if it is time, and stop if a signal arrived; on all ranks or on none."""
        learner = self.learner
        signal_number, save = learner.ranks.agree_to_stop(interruption.received, self.savepoint.is_due)
        if signal_number or save:
            self.savepoint.write(learner, state, best)
        if signal_number:
            try:
                interruption.deliver(signal_number)
            except KeyboardInterrupt as error:
                error.add_note(f"saved at epoch {learner.epoch + 1}, step {learner.step}")
                raise


def _warn_of_cpu_contention(seconds: float, device: torch.device) -> bool:
    """Warn after a long epoch if other programs slowed down this run's CPU threads; returns whether it warned."""
    threads = torch.get_num_threads()
    is_long = device.type == "cpu" and threads > 1 and seconds >= _LONG_EPOCH_SECONDS
    if not is_long or (others := memory.other_load(threads)) is None:
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


_TABLE_HEAD = "  epoch  learning rate   train loss  accuracy     val loss  accuracy    test loss  accuracy   images/s"


def _format_table_line(row: Mapping[str, Any], epochs: int, is_best: bool) -> str:
    def format_pair(split: str) -> str:
        loss, accuracy = row[f"{split}_loss"], row[f"{split}_accuracy"]
        return f"{'':>10}  {'':>8}" if loss is None else f"{loss:>10.4f}  {accuracy:>8.2%}"

    metrics = "   ".join(format_pair(split) for split in ("train", "val", "test"))
    mark = "  best so far" if is_best else ""
    start = f"{row['epoch']:>3}/{epochs:<3}  {row['learning_rate']:>13.6g}"
    return f"{start}   {metrics}   {row['images_per_second']:>8.0f}{mark}"
