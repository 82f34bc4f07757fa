"""``hydra/launcher=joblib``: several jobs at a time on one machine, each in its own process with its cores and GPU.

Despite the option's name, joblib's own pool is not used: it ends all jobs when one process dies, and its workers cannot
start loader processes.
"""

import multiprocessing
import os
import signal
import threading
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from types import FrameType
from typing import Any

from cifar_exp.safe_io.console import label_lines
from cifar_exp.sweeps.launchers.hydra_job import Job, StoppedError, report

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def run_jobs(jobs: list[Job], *, n_jobs: int | None) -> dict[int, float | None]:
    """Run jobs, ``n_jobs`` at a time.

    None: the number of GPUs, or of cores without a GPU, but never more than the number of jobs.
    The cores are divided evenly as threads, unless OMP_NUM_THREADS is set. The job in slot i gets GPU i modulo the
    number of GPUs. A job whose process dies is retried once from its last checkpoint, alone, after the others.

    Returns:
        The validation accuracy of each job, by its number; None for a job that was stopped or gave up.
    """
    import joblib

    gpus = _gpus()
    at_once = n_jobs or min(len(gpus) or joblib.cpu_count(), len(jobs))
    threads = (
        {} if "OMP_NUM_THREADS" in os.environ else dict.fromkeys(_THREADS, str(joblib.cpu_count() // at_once or 1))
    )
    waiting, retries = deque(jobs), deque[Job]()
    slots = list(range(at_once))
    values: dict[int, float | None] = {}
    with _RunningJobs() as running:
        while running.jobs or ((waiting or retries) and not running.stop_signal):
            retrying = not waiting and not running.jobs
            while not running.stop_signal and slots and (waiting or (retrying and retries and not running.jobs)):
                slot = slots.pop(0)
                gpu = {"CUDA_VISIBLE_DEVICES": gpus[slot % len(gpus)]} if gpus else {}
                running.start((waiting or retries).popleft(), slot, threads | gpu)
            for one in running.wait():
                slots = sorted([*slots, one.slot])
                if one.process.exitcode == 0:
                    values[one.job.number] = one.connection.recv()
                elif retrying:
                    values[one.job.number] = None
                    report(one.job, f"gave up after 1 retry: its process died twice (exit code {one.process.exitcode})")
                elif not running.stop_signal:
                    retries.append(one.job)
    return values


def _gpus() -> list[str]:
    """The visible GPUs, as named in CUDA_VISIBLE_DEVICES."""
    import torch

    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = torch.cuda.device_count()
    if named:
        return named.split(",")[:count]
    return [str(number) for number in range(count)]


def _work(job: Job, connection: Connection, environment: dict[str, str]) -> None:
    """Run a job in its own process, with more environment variables, and send its value."""
    os.environ |= environment  # before PyTorch is imported, which reads them
    with suppress(OSError, AttributeError):  # not supported by the system
        os.setsid()  # Ctrl-C goes to the sweep's program only
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    threading.Thread(target=_stop_with_parent, daemon=True).start()
    label_lines(str(job.number))
    try:
        connection.send(job.run())
    except StoppedError:
        connection.send(None)


def _stop_with_parent() -> None:
    """Wait until the sweep's program has ended for any reason; then let the job save and end."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)


@dataclass(frozen=True, eq=False)
class _RunningJob:
    """A job in its process; ``connection`` receives its value, ``slot`` is its number among the running jobs."""

    job: Job
    slot: int
    process: Any
    connection: Connection


@dataclass
class _RunningJobs:
    """The running jobs. Within this context, Ctrl-C and SIGTERM let them save and end.

    Raises:
        KeyboardInterrupt: at the end of the context, after such a signal (or the error of its handler).
    """

    jobs: list[_RunningJob] = field(default_factory=list)
    stop_signal: int = 0  # 0: none was received
    _handlers: dict[int, Any] = field(default_factory=dict)

    def start(self, job: Job, slot: int, environment: dict[str, str]) -> None:
        """Start a job's process with additional environment variables."""
        context = multiprocessing.get_context("spawn")
        receiver, sender = context.Pipe(duplex=False)
        # A daemon must not have loader processes.
        process = context.Process(target=_work, args=(job, sender, environment), daemon=False)
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)  # the process inherits this until it is ready
        try:
            process.start()
            self.jobs.append(_RunningJob(job, slot, process, receiver))
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        sender.close()

    def wait(self) -> list[_RunningJob]:
        """Wait until at least one process has ended, and return the ended ones."""
        wait([one.process.sentinel for one in self.jobs])
        ended = [one for one in self.jobs if one.process.exitcode is not None]
        self.jobs = [one for one in self.jobs if one not in ended]
        return ended

    def __enter__(self) -> "_RunningJobs":
        for number in _SIGNALS:
            if signal.getsignal(number) != signal.SIG_IGN:
                self._handlers[number] = signal.signal(number, self._forward)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        for one in self.jobs:  # after an error here, or a second Ctrl-C
            one.process.kill()
        if self.stop_signal:
            signal.raise_signal(self.stop_signal)

    def _forward(self, number: int, _frame: FrameType | None) -> None:
        if self.stop_signal:  # a second signal ends at once
            raise KeyboardInterrupt
        self.stop_signal = number
        for one in self.jobs:
            one.process.terminate()
