"""Jobs as an array of Slurm jobs, by submitit: preempted or out of time, a job saves, is requeued and goes on."""

import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cifar_exp.errors import RequestError
from cifar_exp.safe_io.current_folder import SAFE_PATH
from cifar_exp.sweeps.launchers.hydra_job import Job, StoppedError, tell

_LOOK_SECONDS = 1.0  # at first, and more and more seldom
_MOST_LOOK_SECONDS = 30.0
_ORDINARY_REASONS = {"None", "Resources", "Priority", "JobArrayTaskLimit", "BeginTime", "Cleaning", "Prolog"}
_SAFE_PATH = "export " + " ".join(f"{name}={value}" for name, value in SAFE_PATH.items())
_RESULT_SECONDS = 20  # for a shared file system to show what another machine has written


def run_jobs(
    jobs: list[Job], *, folder: str | None, max_num_timeout: int, setup: list[str], **parameters: Any
) -> dict[int, float | None]:
    """Submit jobs as one array and wait until each has ended.

    Args:
        jobs: what to run. Their directory and the data must be on a file system that every machine has in common.
        folder: for submitit's files and what the jobs print; None: `.submitit` in the sweep's directory.
        max_num_timeout: how often a job that runs out of its time is requeued.
        setup: shell lines before the job.
        parameters: of sbatch, by submitit's names; those that are None are left to Slurm.

    Returns:
        The value of each job that has one.

    Raises:
        RequestError: Slurm does not take the jobs.
        KeyboardInterrupt: the jobs stay in the queue.
    """
    import submitit

    sweep_dir = Path(jobs[0].config.hydra.sweep.dir)
    where = Path(folder).absolute() if folder else sweep_dir / ".submitit"
    try:
        executor = submitit.SlurmExecutor(folder=where / "%j", max_num_timeout=max_num_timeout)
        executor.update_parameters(setup=[_SAFE_PATH, *_share_of_cores(parameters), *setup], **_of_executor(parameters))
        submitted = dict(zip(executor.map_array(SlurmTask(), jobs), jobs, strict=True))
    except (RuntimeError, ValueError, subprocess.CalledProcessError) as error:
        reason = getattr(error, "stderr", None) or str(error)
        text = " ".join(str(reason).split())[:500]
        hint = "; hydra.launcher.gpus_per_node=null asks for no GPU" if "gres" in text else ""
        raise RequestError(f"hydra/launcher=slurm: {text}{hint}") from error
    array = next(iter(submitted)).job_id.partition("_")[0]
    print(f"Submitted {len(jobs)} jobs to Slurm as {array}; what they print: {where}", flush=True)
    try:
        return _wait(submitted)
    except KeyboardInterrupt:
        print(f"The jobs stay in Slurm's queue; `scancel {array}` takes them out.", flush=True)
        raise


@dataclass(frozen=True)
class SlurmTask:
    """What submitit runs on a node: the job, and what follows when a signal has stopped it."""

    def __call__(self, job: Job) -> float | None:
        """Run the job; out of time or told to stop, end without a result, so that it can be queued again."""
        from submitit import JobEnvironment

        requeue = signal.getsignal(JobEnvironment._usr_sig())
        try:
            return job.run()
        except StoppedError:
            # Slurm that cancels or preempts a job says so in its state, and puts a preempted one back by itself.
            if callable(requeue) and _state(JobEnvironment().job_id) == "RUNNING":
                # submitit counts time limits, writes what the requeued job reads, and ends the process.
                requeue(JobEnvironment._usr_sig(), None)
            sys.exit(1)

    def checkpoint(self, job: Job) -> Any:
        """What a requeued job calls: the same again, which goes on from the run's own checkpoint."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, job)


def _of_executor(parameters: dict[str, Any]) -> dict[str, Any]:
    """As ``submitit.SlurmExecutor`` names them."""
    given = {key: value for key, value in parameters.items() if value is not None}
    if "mem_gb" in given:
        given["mem"] = f"{given.pop('mem_gb')}GB"
    return {{"name": "job_name", "timeout_min": "time"}.get(key, key): value for key, value in given.items()}


def _share_of_cores(parameters: dict[str, Any]) -> list[str]:
    """Shell lines that give a job as many threads as CPUs; one that knows no better takes all of its machine's."""
    cpus = parameters.get("cpus_per_task")
    # From Slurm 22.05 on, srun does not read what sbatch was told.
    return [f"export OMP_NUM_THREADS={cpus} SRUN_CPUS_PER_TASK={cpus}"] if cpus else []


def _wait(submitted: dict[Any, Job]) -> dict[int, float | None]:
    """Wait for results, and for the end of jobs that leave none.

    submitit asks Slurm's accounting database, which not every cluster has; its queue is always there. A job that is
    requeued stays in it.
    """
    values: dict[int, float | None] = {}
    waiting = dict(submitted)
    said: set[str] = set()
    gone_since: dict[Any, float] = {}
    look_seconds = _LOOK_SECONDS
    while waiting:
        queued = _queued({task.job_id for task in waiting}, said)
        for task, job in list(waiting.items()):
            if task.paths.result_pickle.exists():
                values[job.number] = _value(task, job)
            elif queued is None or task.job_id in queued:
                gone_since.pop(task, None)
                continue
            elif time.monotonic() - gone_since.setdefault(task, time.monotonic()) < _RESULT_SECONDS:
                continue
            else:
                values[job.number] = None
                tell(job, f"Slurm ended its job {task.job_id}; see {task.paths.stderr}")
            del waiting[task]
        if waiting:
            time.sleep(look_seconds)
            look_seconds = min(1.2 * look_seconds, _MOST_LOOK_SECONDS)
    return values


def _value(task: Any, job: Job) -> float | None:
    error = task.exception()
    if error is None:
        return task.result()
    tell(job, f"{str(error).strip().splitlines()[-1]}; see {task.paths.stderr}")
    return None


def _state(job_id: str) -> str:
    command = ["squeue", "--noheader", f"--jobs={job_id}", "--format=%T"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def _queued(ours: set[str], said: set[str]) -> set[str] | None:
    """Those of ``ours`` that wait or run; None where Slurm does not answer.

    Says why jobs wait, each reason once (they are kept in ``said``), unless it is only for others to end.
    """
    command = ["squeue", "--noheader", "--array", "--me", "--format=%i %r"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        return None
    queued = dict(line.split(maxsplit=1) for line in done.stdout.splitlines() if line.split(maxsplit=1)[0] in ours)
    for reason in sorted(set(queued.values()) - said - _ORDINARY_REASONS):
        said.add(reason)
        print(f"Jobs wait in Slurm's queue: {reason}", flush=True)
    return set(queued)
