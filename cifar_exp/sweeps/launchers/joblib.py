"""Several jobs at a time on one machine, by joblib: each in a process with its share of the cores and its GPU."""

import os
import signal
import tempfile
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from filelock import FileLock, Timeout

from cifar_exp.safe_io.console import label_lines
from cifar_exp.sweeps.launchers.hydra_job import Job, StoppedError, tell

_GPU: FileLock | None = None  # held for as long as this worker process lives


def run_jobs(jobs: list[Job], *, n_jobs: int | None) -> dict[int, float | None]:
    """Run jobs, ``n_jobs`` at a time (None: one per GPU, without GPUs one per core; never more than there are).

    The cores are shared out evenly as threads, unless OMP_NUM_THREADS says how many; worker number i gets GPU i
    modulo the number of GPUs, for itself where there are enough. A process that dies takes down those beside it
    (joblib ends them all), so their jobs go on one after the other: one whose process dies again, alone now, is
    given up, and the rest of the sweep goes on.

    Returns:
        The value of each job that has one.
    """
    import joblib

    gpus = _gpus()
    at_once = n_jobs or min(len(gpus) or joblib.cpu_count(), len(jobs))
    threads = None if "OMP_NUM_THREADS" in os.environ else max(joblib.cpu_count() // at_once, 1)
    values: dict[int, float | None] = {}
    with tempfile.TemporaryDirectory(prefix="cifar-exp-") as name, _Stop(Path(name)) as stop:
        pool = _Pool(Path(name), gpus, threads, values)
        waiting = jobs
        while waiting and not stop.requested:
            alone = waiting[:1] if at_once == 1 else []
            if not alone:
                try:
                    pool.run(waiting, at_once)
                except BrokenProcessPool:
                    alone = [job for job in waiting if job.number not in values and _begun(Path(name), job).exists()]
                    if not alone:  # not a job's fault
                        raise
            for job in alone:
                if not stop.requested:
                    pool.run_alone(job)
            waiting = [job for job in waiting if job.number not in values]
    return values


@dataclass(frozen=True)
class _Pool:
    """Runs jobs in worker processes, and puts down what they come to in ``values``."""

    folder: Path
    gpus: list[str]
    threads: int | None
    values: dict[int, float | None]

    def run(self, jobs: list[Job], at_once: int) -> None:
        """Run several at a time.

        Raises:
            BrokenProcessPool: a process died, and joblib has ended the others.
        """
        from joblib import Parallel, delayed

        run = Parallel(
            n_jobs=max(at_once, 2),  # one would be this process
            backend="loky",
            return_as="generator_unordered",
            batch_size=1,
            pre_dispatch="n_jobs",
            initializer=_begin_worker,
            initargs=(self.folder, self.gpus, self.threads),
        )
        for number, value in run(delayed(_run)(job, self.folder) for job in jobs):
            self.values[number] = value

    def run_alone(self, job: Job) -> None:
        """Run one, and give it up if its process dies."""
        try:
            self.run([job], 1)
        except BrokenProcessPool as error:
            self.values[job.number] = None
            tell(job, f"its process died, alone, and it is given up: {' '.join(str(error).split())}")


def _run(job: Job, folder: Path) -> tuple[int, float | None]:
    """In a worker process: the job's number and value."""
    if _stop_file(folder).exists():
        return job.number, None
    _begun(folder, job).touch()
    label_lines(str(job.number))
    try:
        return job.number, job.run()
    except StoppedError:
        return job.number, None


def _begin_worker(folder: Path, gpus: list[str], threads: int | None) -> None:
    """Before a worker's first job: leave Ctrl-C to the program that was started, and take a GPU."""
    with suppress(OSError, AttributeError):  # where a process has no session to leave
        os.setsid()
    (folder / f"worker-{os.getpid()}").touch()
    if threads is not None:  # as many as before, however many workers joblib has at the moment: it decides the bits
        os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads)))
    if gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus[_take_place(folder) % len(gpus)]


def _take_place(folder: Path) -> int:
    """The first place that no living worker has."""
    global _GPU
    place = 0
    while True:
        _GPU = FileLock(folder / f"place-{place}")
        try:
            _GPU.acquire(timeout=0)
        except Timeout:
            place += 1
        else:
            return place


def _gpus() -> list[str]:
    """The GPUs that may be used, as CUDA_VISIBLE_DEVICES names them."""
    import torch

    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = torch.cuda.device_count()
    if named:
        return named.split(",")[:count]
    return [str(number) for number in range(count)]


def _begun(folder: Path, job: Job) -> Path:
    return folder / f"begun-{job.number}"


def _stop_file(folder: Path) -> Path:
    return folder / "stop"


class _Stop:
    """While this context lasts, Ctrl-C and SIGTERM let the running jobs save and end, and no other start.

    Raises:
        KeyboardInterrupt: at its end, or whatever else the signal's handler raises.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._received: int | None = None
        self._handlers: dict[int, Any] = {}

    @property
    def requested(self) -> bool:
        return self._received is not None

    def __enter__(self) -> "_Stop":
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) != signal.SIG_IGN:
                self._handlers[number] = signal.signal(number, self._pass_on)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        if self._received is not None:
            signal.raise_signal(self._received)

    def _pass_on(self, number: int, _frame: FrameType | None) -> None:
        if self.requested:  # the second time: at once
            raise KeyboardInterrupt
        self._received = number
        _stop_file(self._folder).touch()
        for worker in self._folder.glob("worker-*"):
            with suppress(ProcessLookupError):
                os.kill(int(worker.name.removeprefix("worker-")), signal.SIGTERM)
