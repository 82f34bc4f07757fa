"""Pruning in a search: a job whose validation accuracy is low, compared with earlier jobs, stops between two epochs.

Jobs are compared at equal fractions of their own training: with a schedule that ends at a learning rate of 0, epoch 5
of 10 and epoch 5 of 30 are not alike. Job and search share the study in the sweep's directory, so that a job can run in
another process or on another machine. The config of a run contains nothing about pruning.
"""

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cifar_exp.errors import PrunedError
from cifar_exp.run_dir import tables

if TYPE_CHECKING:
    from optuna import Study
    from optuna.pruners import BasePruner
    from optuna.trial import FrozenTrial

JOB = "job"  # attribute of a trial: the number of its job

_JOURNAL = "optuna.journal"
_STUDY = "sweep"
_STEPS = range(10, 100, 10)  # percent of a job's training
_FIRST_STEP = 30  # of the median rule: the learning rate of one_cycle rises until then
_STARTUP_TRIALS = 3  # of the median rule: completed without pruning


def open_study(sweep_dir: Path, pruner: str) -> "Study":
    """Open the study in the sweep's directory; create it if it does not exist."""
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

    path = str(sweep_dir / _JOURNAL)
    # Not the default lock: a killed program leaves it behind, and the next one waits for it.
    storage = JournalStorage(JournalFileBackend(path, lock_obj=JournalFileOpenLock(path)))
    return optuna.create_study(
        study_name=_STUDY, storage=storage, direction="maximize", load_if_exists=True, pruner=make_pruner(pruner)
    )


def trials_by_job(study: "Study") -> dict[int, "FrozenTrial"]:
    """The trial of each job. A failed job that ran again has several: the last one counts."""
    trials = {trial.user_attrs.get(JOB): trial for trial in study.get_trials(deepcopy=False)}
    return {job: trial for job, trial in trials.items() if job is not None}


def prune_between_epochs(sweep_dir: Path, run_dir: Path, job: int, epochs: int, pruner: str) -> Callable[[], None]:
    """A function to call after each epoch of a run, which raises ``PrunedError`` if the job is to stop."""
    from optuna.trial import Trial

    @cache
    def trial() -> tuple[Trial, set[int]]:
        study = open_study(sweep_dir, pruner)
        own = trials_by_job(study)[job]
        # Another process may have started the trial. Optuna recommends no way to report to it outside ``study.ask``;
        # its documented constructor needs the trial's id.
        return Trial(study, own._trial_id), set(own.intermediate_values)

    def after_epoch() -> None:
        accuracies = [float(row["val_accuracy"] or 0) for row in tables.metrics_rows(run_dir / "metrics.csv")]
        running, reported = trial()
        for step, accuracy in accuracy_at_steps(accuracies, epochs).items():
            if step in reported:
                continue
            running.report(accuracy, step)
            reported.add(step)
            if running.should_prune() and len(accuracies) < epochs:
                raise PrunedError(len(accuracies), epochs, accuracies[-1])

    return after_epoch


def accuracy_at_steps(accuracies: Sequence[float], epochs: int) -> dict[int, float]:
    """Accuracy at each tenth of training, in percent, from those after the first epochs; interpolated between epochs.

    Tenths before the end of the first epoch are missing: no accuracy was measured before.
    """
    ends = [100 * epoch / epochs for epoch in range(1, len(accuracies) + 1)]
    return {step: float(np.interp(step, ends, accuracies)) for step in _STEPS if ends[0] <= step <= ends[-1]}


def make_pruner(name: str) -> "BasePruner":
    """Optuna's pruner: ``none``, ``median`` or ``hyperband``."""
    from optuna.pruners import HyperbandPruner, MedianPruner, NopPruner

    if name == "median":
        return MedianPruner(n_startup_trials=_STARTUP_TRIALS, n_warmup_steps=_FIRST_STEP)
    if name == "hyperband":
        return HyperbandPruner(min_resource=_STEPS[0], max_resource=100)
    return NopPruner()
