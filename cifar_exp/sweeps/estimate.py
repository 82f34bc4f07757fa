"""``-m ... sweep.plan=true``: what a sweep would do and cost, measured on a few steps, before any of it is done."""

import itertools
import json
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from cifar_exp.build import Parts, build
from cifar_exp.config.fields import AUTO
from cifar_exp.config.parse import plain
from cifar_exp.config.schema import ExperimentConfig
from cifar_exp.data.batches import Batch
from cifar_exp.errors import DONE, RequestError
from cifar_exp.evaluation.metrics import evaluate
from cifar_exp.preflight import count_parameters
from cifar_exp.run_dir import run_status
from cifar_exp.safe_io.console import log_to_console
from cifar_exp.safe_io.plural import plural
from cifar_exp.sweeps.grid import Job, duplicates
from cifar_exp.sweeps.ledger import duration
from cifar_exp.training.epoch import EpochState, train_epoch
from cifar_exp.training.lr_range_test import LRRange

log = logging.getLogger(__name__)

_WARM_UP_STEPS, _STEPS, _SECONDS = 2, 10, 5.0
_SMALL = 1e-3  # takes the place of max_lr=auto: how long a step takes does not depend on it
# Bytes, as measured: a line of steps.csv, all figures and tables, report.html with its images.
_STEPS_ROW, _FIGURES, _PAGE = 80, 1.5e6, 1.4e6
# What makes one step take longer than another.
_COST_KEYS = (
    "model",
    "data",
    "augment",
    "augment_backend",
    "optimizer",
    "batch_size",
    "device",
    "precision",
    "memory_format",
    "compile",
)


@dataclass(frozen=True)
class Cost:
    """What was measured for one combination of model and data.

    Attributes:
        step: seconds for a training step.
        image: seconds to evaluate an image.
        steps: in an epoch.
        validation: images.
        test: images.
        checkpoint: bytes of ``last.pt`` and ``best.pt`` together.
    """

    step: float
    image: float
    steps: int
    validation: int
    test: int
    checkpoint: float

    def seconds(self, config: ExperimentConfig) -> float:
        """For all epochs of a job, without its figures."""
        epochs = config.epochs
        tests = epochs if config.evaluate_test_each_epoch else 1
        search = LRRange().steps * self.step if config.max_lr == AUTO else 0.0
        training = epochs * (self.steps * self.step + self.validation * self.image)
        return search + training + tests * self.test * self.image

    def bytes(self, config: ExperimentConfig) -> float:
        """On disk, when the job is done."""
        pages = _FIGURES * config.figures + _PAGE * config.report
        return self.checkpoint + config.epochs * self.steps * _STEPS_ROW + pages


def show_plan(jobs: Sequence[Job], sweep_dir: Path) -> int:
    """Print the jobs with what each would cost; trains nothing and writes nothing.

    Raises:
        RequestError: a combination cannot be built, so that its jobs would fail.
    """
    log_to_console()
    again = duplicates(jobs)
    costs: dict[str, Cost] = {}
    seconds = disk = 0.0
    todo = 0
    lines = []
    for job in jobs:
        state = run_status.job_state(job.directory)
        key = json.dumps([plain(getattr(job.config, name)) for name in _COST_KEYS])
        if key not in costs:
            costs[key] = _measure(job)
        cost = costs[key]
        remark = f"same as job {again[job.number]}" if job.number in again else ""
        if state in ("completed", "diverged", "running"):
            remark = f"{state}: skipped"
        else:
            todo += 1
            seconds += cost.seconds(job.config)
            disk += cost.bytes(job.config)
            remark = f"{state}: goes on" if state else remark
        size = f"{cost.bytes(job.config) / 1e6:.1f} MB"
        lines.append(f"{job.title:<50}  {duration(cost.seconds(job.config)):>9}  {size:>10}  {remark}")
    disk += _PAGE if todo else 0  # comparison.html
    log.info("%s", "\n".join(line.rstrip() for line in lines))
    log.info(
        "%s, %d to run, one after the other about %s and %.0f MB in %s; nothing was trained or written.",
        plural(len(jobs), "job"),
        todo,
        duration(seconds),
        disk / 1e6,
        sweep_dir,
    )
    return DONE


def _measure(job: Job) -> Cost:
    """Time a few steps and the evaluation of a batch."""
    try:
        parts = build(job.config, known_max_lr=_SMALL)
    except RequestError as error:
        raise RequestError(f"{job.title}: {error}") from error
    step = _step_seconds(parts)
    held_out = parts.splits.validation
    size = job.config.evaluation.batch_size
    sample = parts.splits.test.take(torch.arange(min(size, len(parts.splits.test))).numpy())
    started = time.perf_counter()
    evaluate(parts.learner.model, sample, compute=parts.compute, normalize=parts.normalize, batch_size=size)
    image = (time.perf_counter() - started) / len(sample)
    parameters = count_parameters(parts.learner.model)
    slots = sum(
        value.numel()
        for state in parts.learner.optimizer.state.values()
        for value in state.values()
        if torch.is_tensor(value)
    )
    copies = 2 if job.config.checkpoint.best else 1
    return Cost(
        step=step,
        image=image,
        steps=parts.steps_per_epoch,
        validation=0 if held_out is None else len(held_out),
        test=len(parts.splits.test),
        checkpoint=4.0 * (copies * parameters + slots),
    )


def _step_seconds(parts: Parts) -> float:
    """Mean time of a training step, by the training loop itself.

    Not the median: batches can be made several at a time, so that one step pays for the next ones.
    """
    times = [time.perf_counter()]

    def after_step() -> None:
        if parts.compute.device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter())

    train_epoch(
        parts.learner,
        _for_a_while(parts.batches.loader(0, pin_memory=False).epoch(1)),
        EpochState.start(parts.compute.device),
        images=len(parts.splits.train),
        epochs=1,
        sizes=parts.batches.sizes,
        after_step=after_step,
    )
    gaps = [after - before for before, after in itertools.pairwise(times)]
    warm = gaps[_WARM_UP_STEPS:] or gaps
    return sum(warm) / len(warm)


def _for_a_while(batches: Iterator[Batch]) -> Iterator[Batch]:
    """As many batches as it takes to know how long a step is."""
    started = time.perf_counter()
    for number, batch in enumerate(batches):
        enough = number > _WARM_UP_STEPS and time.perf_counter() - started > _SECONDS
        if enough or number == _WARM_UP_STEPS + _STEPS:
            return
        yield batch
