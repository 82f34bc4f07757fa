"""Sweeps on a real Ray cluster of two nodes and on a real Slurm, both started and stopped by the tests.

`make test-cluster` installs what they need and runs them.
"""

import os
import signal
import subprocess
import tempfile
import time
from contextlib import AbstractContextManager
from pathlib import Path

import pandas as pd
import pytest
from cluster.ray_nodes import QUIET, ray_cluster
from cluster.slurm import missing, slurm_cluster
from composing import TINY, composed
from programs import PROGRAM, started, wait_for
from runs import metrics_of, rows_of, state_of
from stand_in_jobs import StandIn

from cifar_exp.runner import run

JOB = [*TINY, "explain.images=0", "epochs=30"]


@pytest.fixture
def short_folder():
    """Sockets need a path of at most 107 characters."""
    with tempfile.TemporaryDirectory(prefix="ce-", dir="/tmp", ignore_cleanup_errors=True) as name:
        yield Path(name)


@pytest.fixture
def alone(tmp_path):
    """The directory of an undisturbed run of the job with max_lr=0.05."""
    run(composed(*JOB, "max_lr=0.05"), tmp_path / "alone")
    return tmp_path / "alone"


def assert_same_numbers(one: Path, other: Path) -> None:
    pd.testing.assert_frame_equal(metrics_of(one), metrics_of(other), rtol=0, atol=0)
    for name in ("steps.csv", "predictions.csv"):
        assert (one / name).read_bytes() == (other / name).read_bytes()


def start(folder: Path, *arguments: str, environment: dict[str, str]) -> AbstractContextManager[subprocess.Popen]:
    return started(
        [*PROGRAM, "-m", *JOB, *arguments, "hydra.sweep.dir=sweep"],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


class TestRay:
    @pytest.fixture(autouse=True)
    def installed(self):
        pytest.importorskip("ray", reason="Ray is not installed: pip install 'cifar-exp[ray]'")

    def test_two_nodes_share_the_jobs_and_a_killed_one_resumes(self, tmp_path, short_folder, alone):
        caches = [tmp_path / "cache-a", tmp_path / "cache-b"]
        nodes = [{"CIFAR_EXP_CACHE": str(cache)} for cache in caches]
        with ray_cluster(short_folder, nodes) as address:
            starting = start(
                tmp_path,
                "max_lr=0.05,1e6,0.02",
                "hydra/launcher=ray",
                f"hydra.launcher.address='{address}'",
                environment=os.environ | QUIET,
            )
            with starting as program:
                wait_for(lambda: rows_of(tmp_path / "sweep" / "0") >= 2)
                os.kill(process_of("job 0"), signal.SIGKILL)
                output = program.communicate(timeout=300)[0]
        assert program.returncode == 1, output  # one diverged
        states = [state_of(tmp_path / "sweep" / job)["state"] for job in ("0", "1", "2")]
        assert states == ["completed", "diverged", "completed"], output
        assert len(state_of(tmp_path / "sweep" / "0")["resumed_at"]) == 1
        assert_same_numbers(tmp_path / "sweep" / "0", alone)
        assert all(any(cache.iterdir()) for cache in caches), "a job decoded its data on each node"

    def test_a_request_that_no_machine_can_meet(self, tmp_path, short_folder):
        with ray_cluster(short_folder, [{}]) as address:
            starting = start(
                tmp_path,
                "max_lr=0.05,0.02",
                "hydra/launcher=ray",
                f"hydra.launcher.address='{address}'",
                "hydra.launcher.num_gpus=2",
                environment=os.environ | QUIET,
            )
            with starting as program:
                output = program.communicate(timeout=120)[0]
        assert program.returncode == 2, output
        assert "no machine of the cluster has as many (1 CPUs and 0 GPUs)" in output
        assert "Traceback" not in output

    def test_two_jobs_share_a_gpu_and_a_dying_one_fails_after_its_retries(
        self, tmp_path, short_folder, monkeypatch, capsys
    ):
        from cifar_exp.sweeps.launchers.ray import run_jobs

        for name, value in QUIET.items():
            monkeypatch.setenv(name, value)
        # The nodes are asked to find the test's own modules.
        nodes = [{"RAY_TEST_GPUS": "1", "PYTHONPATH": str(Path(__file__).parents[1] / "helpers")}]
        jobs = [
            StandIn(0, tmp_path, variable="CUDA_VISIBLE_DEVICES"),
            StandIn(1, tmp_path, deaths=99),
            StandIn(2, tmp_path, variable="OMP_NUM_THREADS"),
        ]
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        with ray_cluster(short_folder, nodes) as address:
            values = run_jobs(
                jobs, address=address, num_cpus=0.5, num_gpus=0.5, max_retries=1, init={"log_to_driver": False}
            )
        assert values == {0: 0, 1: None, 2: 1}
        assert "job 1" in capsys.readouterr().err


def process_of(title: str) -> int:
    """The process of a Ray task."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if (folder / "cmdline").read_bytes().startswith(f"ray::{title}".encode()):
                return int(folder.name)
        except OSError:
            continue
    raise AssertionError(f"no process runs {title}")


class TestSlurm:
    @pytest.fixture
    def slurm(self, short_folder):
        """The environment in which Slurm's commands find the cluster."""
        pytest.importorskip("submitit", reason="submitit is not installed: pip install 'cifar-exp[slurm]'")
        if lacking := missing():
            pytest.skip(f"{lacking} is not installed: apt-get install slurmctld slurmd slurm-client munge")
        with slurm_cluster(short_folder, cpus=2) as environment:
            yield environment

    OPTIONS = (
        "hydra/launcher=slurm",
        "hydra.launcher.gpus_per_node=null",
        "hydra.launcher.cpus_per_task=1",
    )

    def test_a_job_with_a_signal_is_requeued_and_resumes_and_a_cancelled_one_is_not(self, tmp_path, slurm, alone):
        with start(tmp_path, "max_lr=0.05,0.02", *self.OPTIONS, environment=slurm) as program:
            wait_for(lambda: min(rows_of(tmp_path / "sweep" / job) for job in ("0", "1")) >= 2)
            jobs = {job.split("_")[1]: job for job in queued(slurm)}
            subprocess.run(["scancel", "--signal=TERM", jobs["0"]], env=slurm, check=True)
            stopping = time.monotonic()
            wait_for(lambda: state_of(tmp_path / "sweep" / "0")["state"] == "interrupted", seconds=10)
            assert time.monotonic() - stopping < 10
            subprocess.run(["scancel", jobs["1"]], env=slurm, check=True)
            output = program.communicate(timeout=300)[0]
            wait_for(lambda: queued(slurm) == [], seconds=30)
        assert program.returncode == 1, output
        assert [state_of(tmp_path / "sweep" / job)["state"] for job in ("0", "1")] == ["completed", "interrupted"]
        assert len(state_of(tmp_path / "sweep" / "0")["resumed_at"]) == 1
        assert_same_numbers(tmp_path / "sweep" / "0", alone)
        assert "Slurm ended its job" in output

        with start(tmp_path, "max_lr=0.05,0.02", *self.OPTIONS, environment=slurm) as done:
            output = done.communicate(timeout=300)[0]
        assert done.returncode == 0, output
        assert state_of(tmp_path / "sweep" / "1")["state"] == "completed"

    def test_a_preempted_job_resumes(self, tmp_path, slurm, alone):
        with start(tmp_path, "max_lr=0.05", *self.OPTIONS, environment=slurm) as program:
            wait_for(lambda: rows_of(tmp_path / "sweep" / "0") >= 2)
            urgent = ["srun", "--partition=urgent", "--ntasks=1", "--cpus-per-task=2", "sleep", "1"]
            subprocess.run(urgent, env=slurm, check=True, timeout=60, capture_output=True)
            output = program.communicate(timeout=300)[0]
        assert program.returncode == 0, output
        assert len(state_of(tmp_path / "sweep" / "0")["resumed_at"]) == 1
        assert_same_numbers(tmp_path / "sweep" / "0", alone)

    def test_a_refusal_of_slurm_is_reported_on_one_line(self, tmp_path, slurm):
        with start(tmp_path, "max_lr=0.05,0.02", "hydra/launcher=slurm", environment=slurm) as program:
            output = program.communicate(timeout=120)[0]
        assert program.returncode == 2, output
        assert "hydra.launcher.gpus_per_node=null asks for no GPU" in output
        assert "Traceback" not in output


def queued(environment: dict[str, str]) -> list[str]:
    command = ["squeue", "--noheader", "--array", "--me", "--format=%i"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.split()
