"""Two runs that version 0.1.0 made: every command takes them, and their old ``_target_``s make no difference.

Made by 0.1.0 as `cifar-exp experiment=quickstart model.width=2 data.limit_train=150 data.limit_test=60 optimizer=muon
scheduler=triangle augment=none ...`, one of one epoch, one of six that SIGTERM ended after two.
"""

import shutil
from pathlib import Path

import pytest

from cifar_exp.cli.evaluate import evaluate_run
from cifar_exp.cli.main import main
from cifar_exp.compare.discover import read_runs
from cifar_exp.config.resolved import load_saved, saved_hash
from cifar_exp.run_dir.read import read_run
from cifar_exp.run_dir.run_status import read_status
from cifar_exp.run_dir.saved_run import open_run
from cifar_exp.run_dir.tables import read_table

RUNS = Path(__file__).parents[1] / "runs_0_1_0"
TARGETS = {"optimizer": "cifar_exp.training.muon.Muon", "scheduler": "cifar_exp.training.schedule.triangle"}


@pytest.fixture
def runs(tmp_path):
    """A copy of both, for commands that write into a run's directory."""
    shutil.copytree(RUNS, tmp_path / "runs")
    return tmp_path / "runs"


def test_old_targets_have_their_new_names_wherever_they_are_read():
    for path in (RUNS / "completed", RUNS / "interrupted"):
        assert "cifar_exp.muon.Muon" in (path / "config_resolved.yaml").read_text()
        config, shown, row = load_saved(path / "config_resolved.yaml"), read_run(path), read_runs([path]).iloc[0]
        for group, target in TARGETS.items():
            assert getattr(config, group)._target_ == target
            assert shown.setting(f"{group}._target_") == shown.summary[f"config.{group}._target_"] == target
            assert row[f"config.{group}._target_"] == target
        assert saved_hash(path / "config_resolved.yaml") == read_status(path)["config_hash"]
        assert not open_run(path, completed=False).edited


def test_an_old_run_is_evaluated_and_reproduced_and_compares_as_the_same(runs, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    saved = open_run(runs / "completed")
    accuracy = read_table(runs / "completed" / "summary.csv")["test_accuracy"].iloc[0]
    # Another processor may round otherwise.
    assert evaluate_run(saved, [], None, tmp_path / "evaluated")["accuracy"] == pytest.approx(accuracy, abs=0.05)
    again = ["--out", str(tmp_path / "again"), "--tolerance", "0.05"]
    assert main(["reproduce", str(runs / "completed"), *again]) == 0
    assert main(["compare", str(runs / "completed"), str(tmp_path / "again"), "--out", str(tmp_path / "compared")]) == 0
    table = read_table(tmp_path / "compared" / "comparison.csv")
    assert [column for column in table.columns if column.endswith("_target_") and table[column].nunique() > 1] == []


@pytest.mark.parametrize("is_older", [False, True])  # a still older version lacked a column
def test_an_old_run_is_resumed_and_reported(runs, tmp_path, monkeypatch, is_older):
    monkeypatch.chdir(tmp_path)
    metrics = runs / "interrupted" / "metrics.csv"
    if is_older:
        read_table(metrics).drop(columns="val_loss").to_csv(metrics, index=False)
    before = metrics.read_text()
    assert main(["resume", str(runs / "interrupted")]) == 0
    assert read_table(metrics)["train_loss"].between(0, 10).all()
    assert read_status(runs / "interrupted")["epochs_completed"] == 6
    assert metrics.read_text().startswith(before)
    for name in ("completed", "interrupted"):
        assert main(["report", str(runs / name)]) == 0
        assert "cifar_exp.training.muon.Muon" in (runs / name / "report.html").read_text()
