"""``hydra/launcher=joblib``: several jobs at a time on one machine, each in its own process with its cores and GPU.

Despite the option's name, joblib's own pool is not used: it ends all jobs when one process dies, and its workers cannot
start loader processes.
"""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
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
    The cores are divided evenly as threads, unless OMP_NUM_THREADS is set. The jobs at a time take turns on the GPUs.
    A job whose process dies is retried once from its last checkpoint, alone, after the others.

    Returns:
        The validation accuracy of each job, by its number; None for a job that was stopped or gave up.
    """
    import joblib

    gpus = _gpus()
    at_once = n_jobs or min(len(gpus) or joblib.cpu_count(), len(jobs))
    threads = (
        {} if "OMP_NUM_THREADS" in os.environ else dict.fromkeys(_THREADS, str(joblib.cpu_count() // at_once or 1))
    )
    environments = [
        threads | ({"CUDA_VISIBLE_DEVICES": gpus[slot % len(gpus)]} if gpus else {}) for slot in range(at_once)
    ]
    processes = _Processes()
    with processes.stopped_by_signals():
        values = processes.run(jobs, environments)
        values |= processes.run([job for job in jobs if job.number not in values], environments[:1])
        for job in jobs:
            if job.number not in values and not processes.stop_signal:
                values[job.number] = None
                report(job, f"gave up after 1 retry: its process died twice ({processes.ends[job.number]})")
    return values


def _gpus() -> list[str]:
    """The visible GPUs, as named in CUDA_VISIBLE_DEVICES."""
    import torch

    named, count = os.environ.get("CUDA_VISIBLE_DEVICES"), torch.cuda.device_count()
    return named.split(",")[:count] if named else [str(number) for number in range(count)]


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


class _Processes:
    """Runs jobs in processes of their own."""

    def __init__(self) -> None:
        self.stop_signal = 0  # 0: none was received
        self.ends: dict[int, str] = {}  # how each job's process ended, by the job's number
        self._running: dict[Any, tuple[Job, Connection, dict[str, str]]] = {}  # by process

    def run(self, jobs: Sequence[Job], environments: Sequence[dict[str, str]]) -> dict[int, float | None]:
        """Run jobs, one at a time with each set of additional environment variables.

        Returns:
            The values of the jobs whose process did not die. After a signal, no further job is started.
        """
        waiting, free = deque(jobs), deque(environments)
        values: dict[int, float | None] = {}
        while self._running or (waiting and not self.stop_signal):
            while waiting and free and not self.stop_signal:
                self._start(waiting.popleft(), free.popleft())
            wait([process.sentinel for process in self._running])
            for process in [one for one in self._running if one.exitcode is not None]:
                job, connection, environment = self._running.pop(process)
                free.append(environment)
                self.ends[job.number] = f"exit code {process.exitcode}"
                if process.exitcode == 0:
                    values[job.number] = connection.recv()
        return values

    def _start(self, job: Job, environment: dict[str, str]) -> None:
        context = multiprocessing.get_context("spawn")
        receiver, sender = context.Pipe(duplex=False)
        # A daemon must not have loader processes.
        process = context.Process(target=_work, args=(job, sender, environment), daemon=False)
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)  # the process inherits this until it is ready
        try:
            process.start()
            self._running[process] = job, receiver, environment
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        sender.close()

    @contextmanager
    def stopped_by_signals(self) -> Iterator[None]:
        """Within this context, Ctrl-C and SIGTERM let the jobs save and end; at its end, the signal is raised again."""

        def stop(number: int, _frame: FrameType | None) -> None:
            if self.stop_signal:  # a second signal ends at once
                raise KeyboardInterrupt
            self.stop_signal = number
            for process in self._running:
                process.terminate()

        heeded = [number for number in _SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
        previous = {number: signal.signal(number, stop) for number in heeded}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
            for process in self._running:  # after an error here, or a second Ctrl-C
                process.kill()
            if self.stop_signal:
                signal.raise_signal(self.stop_signal)
