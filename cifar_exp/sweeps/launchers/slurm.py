"""``hydra/launcher=slurm``: jobs as a Slurm array, by submitit. A preempted or timed-out job is requeued to resume."""

import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cifar_exp.errors import RequestError
from cifar_exp.safe_io.current_folder import SAFE_PATH
from cifar_exp.sweeps.launchers.hydra_job import Job, StoppedError, report

_POLL_SECONDS = 1.0  # first interval; each one is 20% longer than the one before
_LONGEST_POLL_SECONDS = 30.0
# Why a Slurm job waits, too usual to be reported.
_ORDINARY_REASONS = {"None", "Resources", "Priority", "JobArrayTaskLimit", "BeginTime", "Cleaning", "Prolog"}
_SAFE_PATH = "export " + " ".join(f"{name}={value}" for name, value in SAFE_PATH.items())
_RESULT_SECONDS = 20  # wait for a result file: shared file systems show new files late
_SUBMITIT_NAMES = {"name": "job_name", "timeout_min": "time"}


def run_jobs(
    jobs: list[Job], *, folder: str | None, max_num_timeout: int, setup: list[str], **parameters: Any
) -> dict[int, float | None]:
    """Submit jobs as one array and wait until each has ended, with the settings of ``conf/hydra/launcher/slurm.yaml``.

    The jobs' directory and the data must be on a file system that all machines share.

    Returns:
        The validation accuracy of each finished job, by its number. None for a job without a result.

    Raises:
        RequestError: Slurm refuses the jobs.
        KeyboardInterrupt: the jobs stay in the queue.
    """
    import submitit

    sweep_dir = Path(jobs[0].config.hydra.sweep.dir)
    where = Path(folder).absolute() if folder else sweep_dir / ".submitit"
    cpus = parameters.get("cpus_per_task")
    # Limit the threads to the job's CPUs. Since Slurm 22.05, srun does not inherit --cpus-per-task from sbatch.
    threads = [f"export OMP_NUM_THREADS={cpus} SRUN_CPUS_PER_TASK={cpus}"] if cpus else []
    try:
        executor = submitit.SlurmExecutor(folder=where / "%j", max_num_timeout=max_num_timeout)
        executor.update_parameters(setup=[_SAFE_PATH, *threads, *setup], **_executor_parameters(parameters))
        submitted = dict(zip(executor.map_array(SlurmTask(), jobs), jobs, strict=True))
    except (RuntimeError, ValueError, subprocess.CalledProcessError) as error:
        reason = getattr(error, "stderr", None) or str(error)
        text = " ".join(str(reason).split())[:500]
        hint = "; hydra.launcher.gpus_per_node=null asks for no GPU" if "gres" in text else ""
        raise RequestError(f"hydra/launcher=slurm: {text}{hint}") from error
    array = next(iter(submitted)).job_id.partition("_")[0]
    print(f"Submitted {len(jobs)} Slurm jobs (array {array}); logs: {where}", flush=True)
    try:
        return _wait(submitted)
    except KeyboardInterrupt:
        print(f"The jobs stay in Slurm's queue; cancel them with `scancel {array}`.", flush=True)
        raise


@dataclass(frozen=True)
class SlurmTask:
    """The callable that submitit runs on a node. It runs the job, and requeues it after a signal."""

    def __call__(self, job: Job) -> float | None:
        """Run the job; after a time limit or a signal, end without a result, so that it can be requeued."""
        from submitit import JobEnvironment

        requeue = signal.getsignal(JobEnvironment._usr_sig())
        try:
            return job.run()
        except StoppedError:
            state = _squeue(f"--jobs={JobEnvironment().job_id}", "--format=%T").stdout.strip()
            # A cancelled or preempted job has another state; Slurm itself requeues a preempted one.
            if callable(requeue) and state == "RUNNING":
                # submitit counts time limits, writes the file that the requeued job reads, and ends the process.
                requeue(JobEnvironment._usr_sig(), None)
            sys.exit(1)

    def checkpoint(self, job: Job) -> Any:
        """Called by submitit: submit a requeued job, which resumes from the run's checkpoint."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, job)


def _executor_parameters(parameters: dict[str, Any]) -> dict[str, Any]:
    """Rename the parameters to those of ``submitit.SlurmExecutor``."""
    given = {key: value for key, value in parameters.items() if value is not None}
    if "mem_gb" in given:
        given["mem"] = f"{given.pop('mem_gb')}GB"
    return {_SUBMITIT_NAMES.get(key, key): value for key, value in given.items()}


def _wait(submitted: dict[Any, Job]) -> dict[int, float | None]:
    """Wait for the results, or for the end of jobs without a result.

    Reads Slurm's queue, where a requeued job stays. submitit would read the accounting database, which not every
    cluster has.
    """
    values: dict[int, float | None] = {}
    waiting = dict(submitted)
    reported: set[str] = set()
    gone_since: dict[Any, float] = {}
    poll_seconds = _POLL_SECONDS
    while waiting:
        queued = _query_queue({task.job_id for task in waiting}, reported)
        for task, job in list(waiting.items()):
            if task.paths.result_pickle.exists():
                values[job.number] = _read_value(task, job)
                del waiting[task]
            elif queued is None or task.job_id in queued:
                gone_since.pop(task, None)
            elif time.monotonic() - gone_since.setdefault(task, time.monotonic()) >= _RESULT_SECONDS:
                values[job.number] = None
                report(job, f"Slurm ended its job {task.job_id}; see {task.paths.stderr}")
                del waiting[task]
        if waiting:
            time.sleep(poll_seconds)
            poll_seconds = min(1.2 * poll_seconds, _LONGEST_POLL_SECONDS)
    return values


def _read_value(task: Any, job: Job) -> float | None:
    error = task.exception()
    if error is None:
        return task.result()
    report(job, f"{str(error).strip().splitlines()[-1]}; see {task.paths.stderr}")
    return None


def _query_queue(ours: set[str], reported: set[str]) -> set[str] | None:
    """Return those of ``ours`` that wait or run, None if Slurm does not answer; report unusual reasons once."""
    result = _squeue("--array", "--me", "--format=%i %r")
    if result.returncode != 0:
        return None
    queued = dict(line.split(maxsplit=1) for line in result.stdout.splitlines() if line.split(maxsplit=1)[0] in ours)
    for reason in sorted(set(queued.values()) - reported - _ORDINARY_REASONS):
        reported.add(reason)
        print(f"Jobs wait in Slurm's queue: {reason}", flush=True)
    return set(queued)


def _squeue(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Ask Slurm about its queue."""
    return subprocess.run(["squeue", "--noheader", *arguments], capture_output=True, text=True, check=False)
