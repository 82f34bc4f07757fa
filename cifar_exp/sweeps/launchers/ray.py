"""``hydra/launcher=ray``: jobs on the machines of a Ray cluster, placed by the CPUs and GPUs they need."""

import contextlib
import os
from typing import Any

from cifar_exp.errors import RequestError
from cifar_exp.safe_io.current_folder import ELSEWHERE
from cifar_exp.sweeps.launchers.hydra_job import Job, StoppedError, report

_MOST_CPUS = 8  # more threads do not speed up a job on a GPU
_STOP_SECONDS = 30


def run_jobs(
    jobs: list[Job],
    *,
    address: str | None,
    num_cpus: float | None,
    num_gpus: float | None,
    max_retries: int,
    init: dict[str, Any],
) -> dict[int, float | None]:
    """Run jobs as Ray tasks, with the settings of ``conf/hydra/launcher/ray.yaml``.

    The jobs' directory and the data must be on a file system that all machines share.

    Returns:
        The validation accuracy of each finished job, by its number.

    Raises:
        RequestError: no such cluster, or no machine that can run such a job.
    """
    # Read by the import of Ray: send no usage reports, and print repeated lines of the jobs.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_DEDUP_LOGS", "0")
    import ray

    try:
        # Ray puts the current folder first on its workers' module path; jobs change to their own folder later.
        with contextlib.chdir(ELSEWHERE):
            ray.init(address=address, **{"logging_level": "WARNING", **init})
    except (ConnectionError, ValueError) as error:
        raise RequestError(f"hydra.launcher.address={address}: {str(error).splitlines()[0]}") from error
    try:
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        gpus = float(any(node.get("GPU") for node in nodes)) if num_gpus is None else num_gpus
        cpus = _cpus_of_a_job(nodes, gpus) if num_cpus is None else num_cpus
        if not any(node.get("CPU", 0) >= cpus and node.get("GPU", 0) >= gpus for node in nodes):
            machines = ", ".join(f"{node.get('CPU', 0):g} CPUs and {node.get('GPU', 0):g} GPUs" for node in nodes)
            wanted = f"hydra.launcher.num_cpus={cpus:g}, num_gpus={gpus:g}"
            raise RequestError(f"{wanted}: no machine of the cluster has as many ({machines})")
        task = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=max_retries)(_run)
        return _wait({task.options(name=f"job {job.number}").remote(job): job for job in jobs})
    finally:
        ray.shutdown()


def _run(job: Job) -> float | None:
    """Run a job in a worker process."""
    try:
        return job.run()
    except StoppedError:
        return None


def _wait(running: dict[Any, Job]) -> dict[int, float | None]:
    import ray

    values: dict[int, float | None] = {}
    waiting = list(running)
    try:
        while waiting:
            (done,), waiting = ray.wait(waiting, num_returns=1)
            job = running[done]
            try:
                values[job.number] = ray.get(done)
            except ray.exceptions.RayError as error:
                values[job.number] = None
                report(job, " ".join(str(error).split())[:500])
    except KeyboardInterrupt:
        for task in waiting:
            ray.cancel(task)  # raises KeyboardInterrupt in a running job, which saves
        ray.wait(waiting, num_returns=len(waiting), timeout=_STOP_SECONDS)
        raise
    return values


def _cpus_of_a_job(nodes: list[dict[str, float]], gpus: float) -> float:
    """CPUs that every machine with GPUs has for each job that fits on its GPUs."""
    if not gpus:
        return 1
    shares = [int(gpus * node["CPU"] / node["GPU"]) for node in nodes if node.get("GPU") and node.get("CPU")]
    return max(1, min([*shares, _MOST_CPUS]))
