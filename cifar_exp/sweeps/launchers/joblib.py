"""``hydra/launcher=joblib``: several jobs at a time on one machine, each in a process with its cores and its GPU.

The option keeps the name of the engine that it once had. joblib's pool of workers ends all jobs when one process dies,
and its workers cannot start loader processes; a process per job has neither fault.
"""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from types import FrameType
from typing import Any

from cifar_exp.safe_io.console import label_lines
from cifar_exp.sweeps.launchers.hydra_job import Job, StoppedError, tell

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def run_jobs(jobs: list[Job], *, n_jobs: int | None) -> dict[int, float | None]:
    """Run jobs, ``n_jobs`` at a time (None: one per GPU, without GPUs one per core; never more than there are).

    The cores are divided evenly as threads, unless OMP_NUM_THREADS is set. Of the jobs at a time, number i gets
    GPU i modulo the number of GPUs. A job whose process dies runs again alone when the others are done, from its last
    checkpoint; if the process dies again, the job is given up.

    Returns:
        The value of each job that has one.
    """
    import joblib

    gpus = _gpus()
    at_once = n_jobs or min(len(gpus) or joblib.cpu_count(), len(jobs))
    threads = (
        {} if "OMP_NUM_THREADS" in os.environ else dict.fromkeys(_THREADS, str(joblib.cpu_count() // at_once or 1))
    )
    waiting, again = deque(jobs), deque[Job]()
    places = list(range(at_once))
    values: dict[int, float | None] = {}
    with _Running() as running:
        while running.jobs or ((waiting or again) and not running.stopped):
            alone = not waiting and not running.jobs
            while not running.stopped and places and (waiting or (alone and again and not running.jobs)):
                place = places.pop(0)
                gpu = {"CUDA_VISIBLE_DEVICES": gpus[place % len(gpus)]} if gpus else {}
                running.start((waiting or again).popleft(), place, threads | gpu)
            for one in running.wait():
                places = sorted([*places, one.place])
                if one.process.exitcode == 0:
                    values[one.job.number] = one.result.recv()
                elif alone:
                    values[one.job.number] = None
                    tell(one.job, f"gave up: its process died twice (exit code {one.process.exitcode})")
                elif not running.stopped:
                    again.append(one.job)
    return values


def _gpus() -> list[str]:
    """The GPUs that may be used, as CUDA_VISIBLE_DEVICES names them."""
    import torch

    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = torch.cuda.device_count()
    if named:
        return named.split(",")[:count]
    return [str(number) for number in range(count)]


def _work(job: Job, result: Connection) -> None:
    """In a job's process: run it and send its value."""
    with suppress(OSError, AttributeError):  # where a process has no session to leave
        os.setsid()  # Ctrl-C is for the program that was started
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    threading.Thread(target=_stop_with_parent, daemon=True).start()
    label_lines(str(job.number))
    try:
        result.send(job.run())
    except StoppedError:
        result.send(None)


def _stop_with_parent() -> None:
    """Wait until the program that started the sweep is gone, however it ended; then let the job save and end."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)


@dataclass(frozen=True, eq=False)
class _Started:
    """A job in its process; ``result`` is where its value comes from, ``place`` its number among those at a time."""

    job: Job
    place: int
    process: Any
    result: Connection


@dataclass
class _Running:
    """The jobs that run now. While this context lasts, Ctrl-C and SIGTERM let them save and end.

    Raises:
        KeyboardInterrupt: at its end, or whatever else the signal's handler raises.
    """

    jobs: list[_Started] = field(default_factory=list)
    stopped: int = 0  # the signal's number
    _handlers: dict[int, Any] = field(default_factory=dict)

    def start(self, job: Job, place: int, environment: dict[str, str]) -> None:
        """Start a job's process, which has the environment from its beginning."""
        context = multiprocessing.get_context("spawn")
        receiver, sender = context.Pipe(duplex=False)
        # Not a daemon: those must not have loader processes.
        process = context.Process(target=_work, args=(job, sender), daemon=False)
        with _signals_blocked(), _environment(environment):
            process.start()
            self.jobs.append(_Started(job, place, process, receiver))
        sender.close()

    def wait(self) -> list[_Started]:
        """Wait until at least one process has ended, and return those that have."""
        wait([one.process.sentinel for one in self.jobs])
        ended = [one for one in self.jobs if one.process.exitcode is not None]
        self.jobs = [one for one in self.jobs if one not in ended]
        return ended

    def __enter__(self) -> "_Running":
        for number in _SIGNALS:
            if signal.getsignal(number) != signal.SIG_IGN:
                self._handlers[number] = signal.signal(number, self._pass_on)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        for one in self.jobs:  # an error here, or Ctrl-C for the second time
            one.process.kill()
        if self.stopped:
            signal.raise_signal(self.stopped)

    def _pass_on(self, number: int, _frame: FrameType | None) -> None:
        if self.stopped:  # the second time: at once
            raise KeyboardInterrupt
        self.stopped = number
        for one in self.jobs:
            one.process.terminate()


@contextmanager
def _signals_blocked() -> Iterator[None]:
    """Hold back signals; a process that is started inherits that until it is ready for them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    """Set environment variables for the processes that are started meanwhile."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
