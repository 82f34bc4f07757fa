"""Sweeps: planned, run, interrupted, failed, resumed."""

import csv
import json
import signal
from pathlib import Path

import pytest
from composing import TINY
from runs import measured

from cifar_exp import data
from cifar_exp.cli.main import main
from cifar_exp.config.overrides import quoted
from cifar_exp.run_dir import run_status, tables
from cifar_exp.sweeps.ledger import winner
from cifar_exp.training.progress import EpochProgress

# One step an epoch, on the images of the fixture `image_tree`.
SMALL = ["model=resnet9", "model.width=4", "data=image_folder", "data.validation_fraction=0.25", "epochs=1"]
SMALL += ["scheduler=constant", "figures=false", "explain.images=0", "threads=1"]
SWEPT = [*TINY, "epochs=1,2", "max_lr=0.05,0.1"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(autouse=True)
def quick(request, monkeypatch):
    """Skip the comparison except in tests about it."""
    if "comparison" not in request.node.name:
        monkeypatch.setattr("cifar_exp.sweeps.ledger._compare", lambda sweep_dir: None)


def table(sweep_dir):
    with (sweep_dir / "sweep.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def states(sweep_dir):
    return [row["state"] for row in table(sweep_dir)]


def contents(sweep_dir, *jobs):
    """The files of some jobs. Hydra's own are excluded: it writes them again before a job is skipped."""
    files = [path for job in jobs for path in (sweep_dir / job).rglob("*") if path.is_file()]
    return {
        path: (path.read_bytes(), path.stat().st_mtime_ns)
        for path in files
        if ".hydra" not in path.parts and path.name != ".lock"
    }


def interrupt_at(monkeypatch, number):
    """Raise SIGTERM in the given training step, counted from now."""
    steps = []
    update = EpochProgress.update

    def counting(self, *arguments):
        steps.append(1)
        if len(steps) == number:
            signal.raise_signal(signal.SIGTERM)
        update(self, *arguments)

    monkeypatch.setattr(EpochProgress, "update", counting)


def test_a_sweep_leaves_its_table_and_a_comparison(here, capsys):
    assert main(["-m", *SWEPT, "hydra.sweep.dir=s"]) == 0
    rows = table(here / "s")
    assert [(row["epochs"], row["max_lr"]) for row in rows] == [
        ("1", "0.05"),
        ("1", "0.1"),
        ("2", "0.05"),
        ("2", "0.1"),
    ]
    for row in rows:
        summary = tables.read_table(here / "s" / row["run"] / "summary.csv").iloc[0]
        assert row["state"] == "completed"
        assert float(row["test_accuracy"]) == summary["test_accuracy"]
        assert float(row["val_accuracy"]) == summary["val_accuracy"]
        assert summary["config.epochs"] == int(row["epochs"])
    assert len(tables.read_table(here / "s" / "comparison" / "comparison.csv")) == 4
    said = capsys.readouterr().out
    best = max(rows, key=lambda row: float(row["val_accuracy"]))
    assert f"Best on the validation split: job {best['job']}" in said
    assert f"its test accuracy is {float(best['test_accuracy']):.2%}" in said


def test_a_job_in_a_sweep_is_the_run_alone(here):
    assert main(["-m", *SWEPT, "hydra.sweep.dir=s"]) == 0
    assert main([*TINY, "epochs=2", "max_lr=0.05", "hydra.run.dir=alone"]) == 0
    assert measured(here / "s" / "2") == measured(here / "alone")


def test_a_diverged_job_is_not_repeated(here, capsys):
    assert main(["-m", *TINY, "epochs=1", "max_lr=0.05,1e30,0.1", "hydra.sweep.dir=s"]) == 1
    assert states(here / "s") == ["completed", "diverged", "completed"]
    assert "Traceback" in (here / "s" / "1" / "run.log").read_text()
    assert "the loss became" in table(here / "s")[1]["error"]
    before = contents(here / "s", "0", "1", "2")
    assert main(["resume", "s"]) == 1
    assert "Job 1: max_lr=1e+30: skipped: diverged earlier" in capsys.readouterr().out
    assert contents(here / "s", "0", "1", "2") == before


def test_failed_jobs_are_retried_and_finished_ones_are_not_changed(here, image_tree, monkeypatch, capsys):
    root = here / "data"
    asked = ["-m", *SMALL, f"data.root={root}", "seed=0,1", "hydra.sweep.dir=s"]
    root.mkdir()
    assert main(asked) == 1  # the folder is empty
    assert states(here / "s") == ["failed", "failed"]
    assert all("data" in row["error"] for row in table(here / "s"))
    root.rmdir()
    image_tree.rename(root)
    with monkeypatch.context() as patch:
        interrupt_at(patch, 2)  # 18 images: one step a job
        assert main(["resume", "s"]) == 143
    assert states(here / "s") == ["completed", "interrupted"]
    before = contents(here / "s", "0")
    capsys.readouterr()
    assert main(["resume", "s"]) == 0
    assert states(here / "s") == ["completed", "completed"]
    assert contents(here / "s", "0") == before
    assert "Job 0: seed=0: skipped: already completed" in capsys.readouterr().out


def test_interrupted_in_the_second_job_and_repeated(here, monkeypatch, capsys):
    assert main(["-m", *SWEPT, "hydra.sweep.dir=whole"]) == 0
    with monkeypatch.context() as patch:
        interrupt_at(patch, 5)  # the second step of job 1
        assert main(["-m", *SWEPT, "hydra.sweep.dir=s"]) == 143
    assert states(here / "s") == ["completed", "interrupted", "not started", "not started"]
    before = contents(here / "s", "0")
    capsys.readouterr()
    assert main(["-m", *SWEPT, "hydra.sweep.dir=s"]) == 0
    said = capsys.readouterr().out
    assert "Job 0: epochs=1 max_lr=0.05: skipped: already completed" in said
    assert "Job 1: epochs=1 max_lr=0.1: resuming (was interrupted)" in said
    assert contents(here / "s", "0") == before
    for job in "0123":
        assert measured(here / "s" / job) == measured(here / "whole" / job)


def test_a_killed_job_differs_from_a_running_one(here):
    assert main(["-m", *TINY, "epochs=1", "seed=0,1", "hydra.sweep.dir=s"]) == 0
    status = here / "s" / "1" / "status.json"
    status.write_text(json.dumps(json.loads(status.read_text()) | {"state": "running"}))
    with run_status.locked(here / "s" / "1"):
        assert main(["resume", "s"]) == 0
        assert states(here / "s") == ["completed", "running"]
    assert main(["resume", "s"]) == 0
    assert states(here / "s") == ["completed", "completed"]


def test_fail_fast_starts_no_further_job(here):
    asked = ["-m", *TINY, "epochs=1", "max_lr=1e30,0.05,0.1", "hydra.sweep.dir=s"]
    assert main([*asked, "sweep.fail_fast=true"]) == 1
    assert states(here / "s") == ["diverged", "not started", "not started"]
    assert main(asked) == 1
    assert states(here / "s") == ["diverged", "completed", "completed"]


@pytest.mark.parametrize("change", ["epochs=3,4", "max_lr=0.05,0.2", "batch_size=64"])
def test_another_sweep_does_not_overwrite_one(here, capsys, change):
    assert main(["-m", *SWEPT, "hydra.sweep.dir=s"]) == 0
    before = contents(here / "s", "0", "1", "2", "3")
    assert main(["-m", *SWEPT, "hydra.sweep.dir=s", change]) == 2
    assert "already contains a run with another config" in capsys.readouterr().err
    assert contents(here / "s", "0", "1", "2", "3") == before


def test_a_typo_in_the_last_job_is_found_before_the_first(here, capsys):
    assert main(["-m", *TINY, "epochs=1,2,0", "hydra.sweep.dir=s"]) == 2
    assert "epochs=0" in capsys.readouterr().err
    assert not (here / "s").exists()


def test_the_plan_lists_duplicates_and_what_is_done(here, capsys):
    asked = ["-m", *TINY, "epochs=1,3", "max_lr=0.05,5e-2"]
    assert main([*asked, "sweep.plan=true", "hydra.sweep.dir=s"]) == 0
    said = capsys.readouterr().out
    assert not (here / "s").exists()
    assert "same as job 0" in said
    assert "same as job 2" in said
    assert "4 jobs, 4 to run" in said
    assert main(["-m", *TINY, "epochs=1,3", "max_lr=0.05", "hydra.sweep.dir=t"]) == 0
    before = contents(here / "t", "0", "1")
    assert main(["-m", *TINY, "epochs=1,3", "max_lr=0.05", "sweep.plan=true", "hydra.sweep.dir=t"]) == 0
    said = capsys.readouterr().out
    assert said.count("completed: skipped") == 2
    assert "2 jobs, 0 to run" in said
    assert contents(here / "t", "0", "1") == before


def test_a_record_from_elsewhere_chooses_no_code(here, capsys):
    """Entries of a record on Hydra, trust and the cache are ignored."""
    assert main(["-m", *TINY, "epochs=1", "seed=0,1", "hydra.sweep.dir=s"]) == 0
    record = json.loads((here / "s" / "sweep.json").read_text())
    record["overrides"] += ["hydra.launcher._target_=os.system", "trust=[os]", "data.cache=/nowhere", "+hydra.x=1"]
    (here / "s" / "sweep.json").write_text(json.dumps(record))
    capsys.readouterr()
    assert main(["resume", "s"]) == 0
    said = capsys.readouterr().out
    assert "Ignored from the sweep's record" in said
    assert said.count("already completed") == 2
    (here / "s" / "sweep.json").write_text("[]")
    assert main(["resume", "s"]) == 2
    assert main(["resume", "s", "epochs=3"]) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_a_sweep_is_resumed_from_another_folder(here, monkeypatch, image_tree):
    image_tree.rename(here / "pictures")
    asked = ["-m", *SMALL, "data.root=pictures", "seed=0,1"]
    with monkeypatch.context() as patch:
        interrupt_at(patch, 1)
        assert main([*asked, "hydra.sweep.dir=" + quoted("a sweep, isn't it")]) == 143
    (here / "elsewhere").mkdir()
    monkeypatch.chdir(here / "elsewhere")
    assert main(["resume", "../a sweep, isn't it"]) == 0
    assert states(here / "a sweep, isn't it") == ["completed", "completed"]


@pytest.mark.parametrize("name", ["plain", "with space", "a'b", "a,b", "ä", "a=b", "a\\b", "a\\'b", "end\\", "${x}"])
def test_paths_survive_hydras_parser(name):
    from hydra.core.override_parser.overrides_parser import OverridesParser

    value = OverridesParser.create().parse_override(f"key={quoted(name)}").value()
    assert value == name


def test_jobs_of_a_process_share_the_decoded_data(here, monkeypatch):
    loaded = []
    load = data.call

    def counting(node, *arguments, **options):
        loaded.append(node._target_)
        return load(node, *arguments, **options)

    monkeypatch.setattr(data, "call", counting)
    assert main(["-m", *TINY, "epochs=1", "seed=0,1,2", "hydra.sweep.dir=s"]) == 0
    assert loaded == ["cifar_exp.data.mnist5k"]


def test_the_winner_is_the_validation_splits():
    rows = [
        {"job": 0, "max_lr": "0.1", "val_accuracy": 0.8, "test_accuracy": 0.9},
        {"job": 1, "max_lr": "0.2", "val_accuracy": 0.85, "test_accuracy": 0.7},
        {"job": 2, "max_lr": "0.3", "val_accuracy": 0.85, "test_accuracy": 0.95},
        {"job": 3, "max_lr": "0.4"},
    ]
    for number, row in enumerate(rows):
        row["run"] = str(number)
    said = winner(rows, ["max_lr"])
    assert said == (
        "Best on the validation split: job 1 (max_lr=0.2) with 85.00% (tied with job 2); its test accuracy is 70.00%."
    )
    assert winner(rows, ["max_lr"], "2").startswith("Best on the validation split: job 2 (max_lr=0.3)")
    assert winner(rows[3:], ["max_lr"]).startswith("No winner")


def test_the_winner_of_a_tie_is_the_baseline_of_the_comparison(here, capsys):
    """Equal jobs in folders whose order is not that of the jobs: the comparison starts with job 1."""
    assert main(["-m", *TINY, "epochs=1", "name=b,a", "hydra.sweep.subdir=${name}", "hydra.sweep.dir=s"]) == 0
    baseline = json.loads((here / "s" / "comparison" / "comparison.json").read_text())["baseline"]
    assert Path(baseline).name == "a"
    assert "Best on the validation split: job 1 (name=a)" in capsys.readouterr().out
