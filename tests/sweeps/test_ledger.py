"""Sweeps: planned, run, interrupted, failed, resumed."""

import csv
import json
import shutil
import signal
from pathlib import Path

import pytest
from composing import TINY
from runs import measured, signal_at

from cifar_exp import data
from cifar_exp.cli.main import main
from cifar_exp.config.overrides import quoted
from cifar_exp.run_dir import run_status, tables
from cifar_exp.sweeps.ledger import winner

# One step an epoch, on the images of the fixture `image_tree`.
SMALL = ["model=resnet9", "model.width=4", "data=image_folder", "data.validation_fraction=0.25", "epochs=1"]
SMALL += ["scheduler=constant", "figures=false", "explain.images=0", "threads=1"]
SWEPT = [*TINY, "epochs=1,2", "max_lr=0.05,0.1"]
PAIR = [*TINY, "epochs=1", "seed=0,1"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def without_comparison(patch):
    patch.setattr("cifar_exp.sweeps.ledger._compare", lambda sweep_dir: None)


@pytest.fixture(autouse=True)
def quick(request, monkeypatch):
    """Skip the comparison except in tests about it."""
    if "comparison" not in request.node.name:
        without_comparison(monkeypatch)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Two completed sweeps, in the folders ``swept`` and ``pair``."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        without_comparison(patch)
        assert main(["-m", *SWEPT, "hydra.sweep.dir=swept"]) == 0
        assert main(["-m", *PAIR, "hydra.sweep.dir=pair"]) == 0
    return folder


@pytest.fixture
def swept(finished, here):
    """The completed sweep of ``SWEPT``, copied to the folder ``s``."""
    return shutil.copytree(finished / "swept", here / "s")


@pytest.fixture
def pair(finished, here):
    """The completed sweep of ``PAIR``, copied to the folder ``s``."""
    return shutil.copytree(finished / "pair", here / "s")


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


def test_a_sweep_writes_its_table_and_a_comparison(swept, capsys):
    assert main(["resume", "s"]) == 0
    rows = table(swept)
    assert [(row["epochs"], row["max_lr"]) for row in rows] == [
        ("1", "0.05"),
        ("1", "0.1"),
        ("2", "0.05"),
        ("2", "0.1"),
    ]
    for row in rows:
        summary = tables.read_table(swept / row["run"] / "summary.csv").iloc[0]
        assert row["state"] == "completed"
        assert float(row["test_accuracy"]) == summary["test_accuracy"]
        assert float(row["val_accuracy"]) == summary["val_accuracy"]
        assert summary["config.epochs"] == int(row["epochs"])
    assert len(tables.read_table(swept / "comparison" / "comparison.csv")) == 4
    output = capsys.readouterr().out
    best = max(rows, key=lambda row: float(row["val_accuracy"]))
    assert f"Best on the validation split: job {best['job']}" in output
    assert f"its test accuracy is {float(best['test_accuracy']):.2%}" in output


def test_a_job_in_a_sweep_equals_the_single_run(here, finished):
    assert main([*TINY, "epochs=2", "max_lr=0.05", "hydra.run.dir=alone"]) == 0
    assert measured(finished / "swept" / "2") == measured(here / "alone")


def test_a_diverged_job_is_not_repeated_and_ends_a_fail_fast_sweep(here, capsys):
    asked = ["-m", *TINY, "epochs=1", "max_lr=1e30,0.05", "hydra.sweep.dir=s"]
    assert main([*asked, "sweep.fail_fast=true"]) == 1
    assert states(here / "s") == ["diverged", "not started"]
    assert "Traceback" in (here / "s" / "0" / "run.log").read_text()
    assert "the loss became" in table(here / "s")[0]["error"]
    before = contents(here / "s", "0")
    assert main(asked) == 1
    assert states(here / "s") == ["diverged", "completed"]
    before |= contents(here / "s", "1")
    capsys.readouterr()
    assert main(["resume", "s"]) == 1
    output = capsys.readouterr()
    assert "Job 0: max_lr=1e+30: skipped: diverged earlier" in output.out
    assert "Traceback" not in output.err
    assert contents(here / "s", "0", "1") == before


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
        signal_at(patch, 2, signal.SIGTERM)  # 18 images: one step a job
        assert main(["resume", "s"]) == 143
    assert states(here / "s") == ["completed", "interrupted"]
    before = contents(here / "s", "0")
    capsys.readouterr()
    assert main(["resume", "s"]) == 0
    assert states(here / "s") == ["completed", "completed"]
    assert contents(here / "s", "0") == before
    assert "Job 0: seed=0: skipped: already completed" in capsys.readouterr().out


def test_a_sweep_interrupted_in_its_second_job_is_repeated(here, finished, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        signal_at(patch, 5, signal.SIGTERM)  # the second step of job 1
        assert main(["-m", *SWEPT, "hydra.sweep.dir=s"]) == 143
    assert states(here / "s") == ["completed", "interrupted", "not started", "not started"]
    before = contents(here / "s", "0")
    capsys.readouterr()
    assert main(["-m", *SWEPT, "hydra.sweep.dir=s"]) == 0
    output = capsys.readouterr().out
    assert "Job 0: epochs=1 max_lr=0.05: skipped: already completed" in output
    assert "Job 1: epochs=1 max_lr=0.1: resuming (was interrupted)" in output
    assert contents(here / "s", "0") == before
    for job in "0123":
        assert measured(here / "s" / job) == measured(finished / "swept" / job)


def test_a_killed_job_differs_from_a_running_one(pair):
    status = pair / "1" / "status.json"
    status.write_text(json.dumps(json.loads(status.read_text()) | {"state": "running"}))
    with run_status.locked(pair / "1"):
        assert main(["resume", "s"]) == 0
        assert states(pair) == ["completed", "running"]
    assert main(["resume", "s"]) == 0
    assert states(pair) == ["completed", "completed"]


@pytest.mark.parametrize("change", ["max_lr=0.05,0.2", "batch_size=64"])
def test_another_sweep_does_not_overwrite_one(swept, capsys, change):
    before = contents(swept, "0", "1", "2", "3")
    assert main(["-m", *SWEPT, "hydra.sweep.dir=s", change]) == 2
    assert "already contains a run with another config" in capsys.readouterr().err
    assert contents(swept, "0", "1", "2", "3") == before


def test_a_mistake_in_the_last_job_is_reported_before_the_first_starts(here, capsys):
    assert main(["-m", *TINY, "epochs=1,2,0", "hydra.sweep.dir=s"]) == 2
    assert "epochs=0" in capsys.readouterr().err
    assert not (here / "s").exists()


def test_the_plan_lists_duplicates_and_completed_jobs(here, finished, capsys):
    asked = ["-m", *TINY, "epochs=1,3", "max_lr=0.05,5e-2"]
    assert main([*asked, "sweep.plan=true", "hydra.sweep.dir=s"]) == 0
    output = capsys.readouterr().out
    assert not (here / "s").exists()
    assert "same as job 0" in output
    assert "same as job 2" in output
    assert "4 jobs, 4 to run" in output
    before = contents(finished / "pair", "0", "1")
    assert main(["-m", *PAIR, "sweep.plan=true", f"hydra.sweep.dir={finished / 'pair'}"]) == 0
    output = capsys.readouterr().out
    assert output.count("completed: skipped") == 2
    assert "2 jobs, 0 to run" in output
    assert contents(finished / "pair", "0", "1") == before


def test_a_record_from_elsewhere_chooses_no_code(pair, capsys):
    """Entries of a record on Hydra, trust and the cache are ignored."""
    record = json.loads((pair / "sweep.json").read_text())
    record["overrides"] += ["hydra.launcher._target_=os.system", "trust=[os]", "data.cache=/nowhere", "+hydra.x=1"]
    (pair / "sweep.json").write_text(json.dumps(record))
    assert main(["resume", "s"]) == 0
    output = capsys.readouterr().out
    assert "Ignored from the sweep's record" in output
    assert output.count("already completed") == 2
    (pair / "sweep.json").write_text("[]")
    assert main(["resume", "s"]) == 2
    assert main(["resume", "s", "epochs=3"]) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_a_sweep_is_resumed_from_another_folder(here, monkeypatch, image_tree):
    image_tree.rename(here / "pictures")
    asked = ["-m", *SMALL, "data.root=pictures", "seed=0,1"]
    with monkeypatch.context() as patch:
        signal_at(patch, 1, signal.SIGTERM)
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
    assert main(["-m", *PAIR]) == 0
    assert loaded == ["cifar_exp.data.mnist5k"]
    (sweep_dir,) = here.glob("outputs/sweeps/????-??-??/*")
    assert states(sweep_dir) == ["completed", "completed"]


def test_the_winner_is_chosen_on_the_validation_split():
    rows = [
        {"job": 0, "max_lr": "0.1", "val_accuracy": 0.8, "test_accuracy": 0.9},
        {"job": 1, "max_lr": "0.2", "val_accuracy": 0.85, "test_accuracy": 0.7},
        {"job": 2, "max_lr": "0.3", "val_accuracy": 0.85, "test_accuracy": 0.95},
        {"job": 3, "max_lr": "0.4"},
    ]
    for number, row in enumerate(rows):
        row["run"] = str(number)
    assert winner(rows, ["max_lr"]) == (
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
