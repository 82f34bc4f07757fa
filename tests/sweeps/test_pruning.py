"""Pruning in a search: the jobs that stop, the epoch at which they stop, and their records."""

import json
from statistics import median

import pytest
from composing import TINY
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import OmegaConf
from runs import metrics_of, state_of

from cifar_exp.cli.main import main
from cifar_exp.compare.typed_runs import read_runs
from cifar_exp.errors import PrunedError
from cifar_exp.run_dir.run_status import claim, update_status
from cifar_exp.run_dir.tables import write_table
from cifar_exp.sweeps.pruning import accuracy_at_steps, open_study, prune_between_epochs
from cifar_exp.sweeps.search import search

optuna = pytest.importorskip("optuna", reason="Optuna is not installed: pip install 'cifar-exp[optuna]'")

EPOCHS = 10
FINAL = [0.6, 0.8, 0.5, 0.7, 0.4, 0.9, 0.3, 0.75, 0.95, 0.2, 0.85, 0.65]  # accuracy of each job if not pruned


def curve(job: int) -> list[float]:
    return [FINAL[job] * (epoch / EPOCHS) ** 0.5 for epoch in range(1, EPOCHS + 1)]


class Launcher:
    """Runs jobs with known learning curves; a pruned one leaves its state in the job's directory."""

    def __init__(self, sweep_dir, pruner) -> None:
        self.sweep_dir, self.pruner = sweep_dir, pruner
        self.epochs: dict[int, int] = {}

    def launch(self, job_overrides, initial_job_idx):
        return [self.run(job) for job in range(initial_job_idx, initial_job_idx + len(job_overrides))]

    def run(self, job):
        run_dir = self.sweep_dir / str(job)
        status = claim(run_dir, "hash")
        after_epoch = prune_between_epochs(self.sweep_dir, run_dir, job, EPOCHS, self.pruner)
        rows = []
        try:
            for epoch, accuracy in enumerate(curve(job), start=1):
                rows.append({"epoch": epoch, "val_accuracy": accuracy})
                write_table(run_dir / "metrics.csv", ["epoch", "val_accuracy"], rows)
                self.epochs[job] = epoch
                after_epoch()
        except PrunedError:
            update_status(run_dir, status, state="pruned")
            return JobReturn(status=JobStatus.COMPLETED, _return_value=None)
        update_status(run_dir, status, state="completed")
        return JobReturn(status=JobStatus.COMPLETED, _return_value=rows[-1]["val_accuracy"])


def epochs_with_optuna_alone(pruner) -> dict[int, int]:
    """Epochs of each job with the same pruner in memory, reporting after each epoch."""
    study = optuna.create_study(study_name="sweep", direction="maximize", pruner=pruner)
    epochs = {}
    for job in range(len(FINAL)):
        trial = study.ask()
        state = optuna.trial.TrialState.COMPLETE
        for epoch, accuracy in enumerate(curve(job), start=1):
            epochs[job] = epoch
            if epoch < EPOCHS:
                trial.report(accuracy, 10 * epoch)
                if trial.should_prune():
                    state = optuna.trial.TrialState.PRUNED
                    break
        study.tell(trial, FINAL[job] if state is optuna.trial.TrialState.COMPLETE else None, state)
    return epochs


def epochs_by_median() -> dict[int, int]:
    """The rule by hand: from 30 % on, stop below the median of the completed jobs; after three completed ones."""
    completed, epochs = [], {}
    for job in range(len(FINAL)):
        checked = range(3, EPOCHS) if len(completed) >= 3 else ()
        worse = [e for e in checked if curve(job)[e - 1] < median(curve(one)[e - 1] for one in completed)]
        epochs[job] = worse[0] if worse else EPOCHS
        completed += [] if worse else [job]
    return epochs


@pytest.mark.parametrize("name", ["median", "hyperband", "none"])
def test_a_search_stops_the_jobs_that_the_rule_stops(tmp_path, name):
    launcher = Launcher(tmp_path, name)

    def go() -> None:
        values = {"sampler": "random", "seed": 0, "params": {"max_lr": "interval(0.01, 1.0)"}, "pruner": name}
        sweeper = values | {"n_trials": len(FINAL), "n_jobs": 1}
        config = OmegaConf.create({"hydra": {"sweep": {"dir": str(tmp_path)}, "sweeper": sweeper}})
        search(launcher, config, [])

    go()
    expected = {
        "median": epochs_by_median,
        "hyperband": lambda: epochs_with_optuna_alone(optuna.pruners.HyperbandPruner(10, 100)),
        "none": lambda: dict.fromkeys(range(len(FINAL)), EPOCHS),
    }[name]()
    assert launcher.epochs == expected
    pruned = {job for job, epochs in expected.items() if epochs < EPOCHS}
    assert bool(pruned) == (name != "none")
    best = OmegaConf.load(tmp_path / "optimization_results.yaml")
    assert best.best_job == max(set(expected) - pruned, key=lambda job: FINAL[job])
    states = [trial.state.name for trial in open_study(tmp_path, name).trials]
    assert states == ["PRUNED" if job in pruned else "COMPLETE" for job in expected]
    launcher.epochs.clear()
    go()
    assert launcher.epochs == {}, "neither completed nor pruned jobs run again"


@pytest.mark.parametrize(
    ("accuracies", "epochs", "expected"),
    [
        ([0.1, 0.2], 10, {10: 0.1, 20: 0.2}),
        ([0.1], 20, {}),
        ([0.1, 0.2, 0.3, 0.4], 20, {10: 0.2, 20: 0.4}),
        ([0.4], 3, {}),
        ([0.4, 0.7], 3, {40: 0.46, 50: 0.55, 60: 0.64}),  # a third: 0.4, two thirds: 0.7
        ([0.3, 0.5, 0.6], 3, {40: 0.34, 50: 0.4, 60: 0.46, 70: 0.51, 80: 0.54, 90: 0.57}),
        ([0.5], 1, {}),
    ],
)
def test_accuracies_at_tenths_of_training(accuracies, epochs, expected):
    assert accuracy_at_steps(accuracies, epochs) == pytest.approx(expected)


@pytest.mark.parametrize("launcher", ["basic", "joblib"])
def test_a_pruned_run_keeps_its_records_and_can_be_completed(tmp_path, monkeypatch, capsys, launcher):
    """The study already contains four jobs that were always right, so the first real one is pruned at once."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sweep").mkdir()
    study = open_study(tmp_path / "sweep", "none")
    space = {"max_lr": optuna.distributions.FloatDistribution(0.01, 0.1)}
    always_right = {"value": 1.0, "intermediate_values": dict.fromkeys(range(10, 100, 10), 1.0)}
    for job in range(4):
        known = {"params": {"max_lr": 0.05}, "distributions": space, "user_attrs": {"job": job}}
        study.add_trial(optuna.trial.create_trial(**known, **always_right))
    command = ["-m", *TINY, "epochs=5", "explain.images=0", "max_lr=interval(0.01,0.1)", "hydra.sweep.dir=sweep"]
    command += ["hydra/sweeper=optuna", "hydra.sweeper.pruner=median", "hydra.sweeper.n_trials=5"]
    command += ["sweep.fail_fast=true", f"hydra/launcher={launcher}"]
    main(command)
    run = tmp_path / "sweep" / "4"
    status = state_of(run)
    assert (status["state"], status["epochs_completed"]) == ("pruned", 2)
    assert len(metrics_of(run)) == 2
    assert "after epoch 2 of 5" in status["error"]
    assert "Traceback" not in (run / "run.log").read_text()
    assert "prun" not in (run / "config_resolved.yaml").read_text()
    assert list(read_runs("sweep")["state"]) == ["pruned"]
    last = capsys.readouterr().out
    assert "No winner" in last

    if launcher == "basic":
        again = json.loads((run / "status.json").read_text())
        main(command)
        assert json.loads((run / "status.json").read_text()) == again
        assert main(["resume", str(run)]) == 0
        assert state_of(run)["state"] == "completed"
        assert len(metrics_of(run)) == 5


def test_an_unknown_pruner_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["-m", *TINY, "hydra/sweeper=optuna", "hydra.sweeper.pruner=best"]) == 2
    assert "hydra.sweeper.pruner=best: must be none or median or hyperband" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
