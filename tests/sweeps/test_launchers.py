"""Several jobs at a time on one machine, and wrong requests for them."""

import signal
import subprocess
import sys
from dataclasses import dataclass

import joblib
import pandas as pd
import pytest
from composing import TINY, composed
from hydra.core.config_store import ConfigStore
from programs import PROGRAM, started, wait_for
from runs import metrics_of, rows_of, state_of
from stand_in_jobs import StandIn

from cifar_exp.cli.main import main
from cifar_exp.config.compose import compose_job
from cifar_exp.runner import run
from cifar_exp.sweeps.launchers import joblib as joblib_launcher
from cifar_exp.sweeps.launchers import options

SWEEP = ["-m", *TINY, "epochs=15", "explain.images=0", "hydra.sweep.dir=sweep"]


@pytest.fixture(autouse=True)
def without_gpus(monkeypatch):
    """Hide the GPUs of this machine."""
    monkeypatch.setattr(joblib_launcher, "_gpus", list)


def test_two_jobs_at_a_time_stopped_and_resumed_equal_single_runs(tmp_path, monkeypatch, capfd):
    """SIGTERM arrives while two jobs run; the same command finishes them. One of them diverges."""
    sweep = [*SWEEP, "max_lr=0.01,1e6", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    with started([*PROGRAM, *sweep], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        wait_for(lambda: rows_of(tmp_path / "sweep" / "0") >= 2)
        process.send_signal(signal.SIGTERM)
        output = process.communicate(timeout=60)[0].decode()
    assert process.returncode == 143, output
    assert state_of(tmp_path / "sweep" / "0")["state"] == "interrupted"
    assert (tmp_path / "sweep" / "sweep.csv").exists()

    monkeypatch.chdir(tmp_path)
    assert main(sweep) == 1  # one diverged
    printed = capfd.readouterr()
    assert "Traceback" not in printed.err
    states = [state_of(tmp_path / "sweep" / job)["state"] for job in ("0", "1")]
    assert states == ["completed", "diverged"]
    assert len(state_of(tmp_path / "sweep" / "0")["resumed_at"]) == 1
    assert "[0] " in printed.out
    run(composed(*TINY, "epochs=15", "explain.images=0", "max_lr=0.01"), tmp_path / "alone")
    pd.testing.assert_frame_equal(metrics_of(tmp_path / "sweep" / "0"), metrics_of(tmp_path / "alone"), rtol=0, atol=0)


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_other_jobs_survive_a_job_whose_process_dies(tmp_path, capsys, n_jobs):
    jobs = [StandIn(0, tmp_path), StandIn(1, tmp_path, deaths=99), StandIn(2, tmp_path, deaths=1), StandIn(3, tmp_path)]
    assert joblib_launcher.run_jobs(jobs, n_jobs=n_jobs) == {0: 0, 1: None, 2: 2, 3: 3}
    assert "job 1" in capsys.readouterr().err


@pytest.mark.parametrize(("given", "n_jobs", "share"), [(None, 2, 0.5), (None, 1, 1), ("7", 2, None)])
def test_jobs_divide_the_cores(tmp_path, monkeypatch, given, n_jobs, share):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if given:
        monkeypatch.setenv("OMP_NUM_THREADS", given)
    # One dies and is retried alone, with the same number of threads.
    jobs = [StandIn(number, tmp_path, variable="OMP_NUM_THREADS", deaths=number * (n_jobs - 1)) for number in range(2)]
    threads = int(given) if given else max(int(joblib.cpu_count() * share), 1)
    assert joblib_launcher.run_jobs(jobs, n_jobs=n_jobs) == {0: threads, 1: threads}


@pytest.mark.parametrize(("gpus", "n_jobs", "seen"), [(["4", "7"], None, {4, 7}), (["3"], 2, {3}), ([], 2, {-1})])
def test_jobs_divide_the_gpus(tmp_path, monkeypatch, gpus, n_jobs, seen):
    monkeypatch.setattr(joblib_launcher, "_gpus", lambda: gpus)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    jobs = [StandIn(number, tmp_path, variable="CUDA_VISIBLE_DEVICES") for number in range(2)]
    assert set(joblib_launcher.run_jobs(jobs, n_jobs=n_jobs).values()) == seen


def test_a_job_has_loader_processes_and_is_interrupted_when_the_sweeps_program_is_killed(tmp_path):
    options = ["epochs=500", "data.workers=1", "hydra/launcher=joblib", "hydra.launcher.n_jobs=1"]
    program = [*PROGRAM, *SWEEP, *options]
    with started(program, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        wait_for(lambda: rows_of(tmp_path / "sweep" / "0") >= 1)
        process.kill()
    wait_for(lambda: state_of(tmp_path / "sweep" / "0")["state"] == "interrupted", seconds=30)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["hydra/launcher=joblib", "hydra.launcher.n_jobs=0"], "hydra.launcher.n_jobs=0: must be at least 1"),
        (["hydra/launcher=jobblib"], "hydra/launcher has basic, joblib"),
        (["hydra/launcher=joblib", "hydra.launcher.n_job=2"], "hydra.launcher.n_job: unknown key"),
        (["hydra/launcher=ray"], "pip install 'cifar-exp[ray]'"),
        (["hydra/launcher=slurm"], "pip install 'cifar-exp[slurm]'"),
        (["hydra/sweeper=optuna"], "pip install 'cifar-exp[optuna]'"),
    ],
)
def test_a_wrong_request_writes_nothing(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(options, "find_spec", lambda engine: None)  # as if no engine were installed
    assert main(["-m", *arguments, "max_lr=0.1,0.2"]) == 2
    captured = capsys.readouterr().err
    assert message in captured
    assert len(captured.strip().splitlines()) <= 2
    assert list(tmp_path.iterdir()) == []


def test_another_packages_sweeper_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    store = ConfigStore.instance()
    store.store(group="hydra/sweeper", name="theirs", node={"_target_": "theirs.Sweeper"})
    try:
        assert main(["-m", "hydra/sweeper=theirs", "max_lr=0.1,0.2"]) == 2
    finally:
        store.repo["hydra"]["sweeper"].pop("theirs.yaml")
    assert "hydra/sweeper=theirs: must be basic or optuna" in capsys.readouterr().err


def test_another_packages_option_of_the_same_name_is_replaced():
    @dataclass
    class Theirs:
        _target_: str = "hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher"
        n_jobs: int = -1

    ConfigStore.instance().store(group="hydra/launcher", name="joblib", node=Theirs)
    options.register()
    job = compose_job(["hydra/launcher=joblib"])
    assert job.hydra.launcher._target_ == "hydra_plugins.cifar_exp_plugins.LocalLauncher"


def test_starting_imports_no_engine():
    script = (
        "import sys; from cifar_exp.config.compose import compose_job\n"
        "for option in ('launcher=joblib', 'launcher=basic'): compose_job(['hydra/' + option])\n"
        "print([name for name in ('ray', 'submitit', 'optuna', 'joblib', 'torch') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"
