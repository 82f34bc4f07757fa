"""``-m ... sweep.plan=true``: the jobs of a sweep with their estimated time and disk use, from a few timed steps."""

import itertools
import json
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from cifar_exp.build import Parts, build
from cifar_exp.compare.render import as_text
from cifar_exp.config.fields import AUTO
from cifar_exp.config.parse import as_containers
from cifar_exp.config.schema import ExperimentConfig
from cifar_exp.data.batches import Batch
from cifar_exp.errors import DONE, RequestError
from cifar_exp.evaluation.metrics import evaluate
from cifar_exp.network import count_parameters
from cifar_exp.run_dir import run_status
from cifar_exp.safe_io.console import log_to_console
from cifar_exp.safe_io.plural import duration, plural
from cifar_exp.sweeps.grid import Job, duplicates
from cifar_exp.training.epoch import EpochState, train_epoch
from cifar_exp.training.lr_range_test import LRRange

log = logging.getLogger(__name__)

_WARM_UP_STEPS, _STEPS, _SECONDS = 2, 10, 5.0
_PLACEHOLDER_LR = 1e-3  # instead of max_lr=auto: the time of a step does not depend on it
# Measured bytes: a line of steps.csv, all figures and tables, report.html with its images.
_STEPS_ROW, _FIGURES, _PAGE = 80, 1.5e6, 1.4e6
_COST_KEYS = (  # they affect the time of a step
    "model", "data", "augment", "augment_backend", "optimizer", "batch_size", "device", "precision", "memory_format",
    "compile", "cuda_graph",
)  # fmt: skip


@dataclass(frozen=True)
class Cost:
    """The measured cost of one combination of the values of ``_COST_KEYS``."""

    step: float  # seconds of a training step
    image: float  # seconds of the evaluation of an image
    steps: int  # training steps in an epoch
    validation: int  # number of images
    test: int  # number of images
    checkpoint: float  # bytes of ``last.pt`` and ``best.pt`` together

    def seconds(self, config: ExperimentConfig) -> float:
        """Seconds of all epochs of a job, without its figures."""
        tests = config.epochs if config.evaluate_test_each_epoch else 1
        steps = config.epochs * self.steps + (LRRange().steps if config.max_lr == AUTO else 0)
        return steps * self.step + (config.epochs * self.validation + tests * self.test) * self.image

    def bytes(self, config: ExperimentConfig) -> float:
        """Bytes on disk after the job."""
        pages = _FIGURES * config.figures + _PAGE * config.report
        return self.checkpoint + config.epochs * self.steps * _STEPS_ROW + pages


def show_plan(jobs: Sequence[Job], sweep_dir: Path) -> int:
    """Print the jobs with the estimated cost of each; train nothing and write nothing."""
    log_to_console()
    repeated = duplicates(jobs)
    costs: dict[str, Cost] = {}
    seconds = disk = 0.0
    todo = 0
    rows = []
    for job in jobs:
        state = run_status.job_state(job.directory)
        key = json.dumps([as_containers(getattr(job.config, name)) for name in _COST_KEYS])
        if key not in costs:
            costs[key] = _measure(job)
        time_of_job, size = costs[key].seconds(job.config), costs[key].bytes(job.config)
        remark = f"same as job {repeated[job.number]}" if job.number in repeated else ""
        if state in ("completed", "diverged", "running"):
            remark = f"{state}: skipped"
        else:
            todo += 1
            seconds += time_of_job
            disk += size
            remark = f"{state}: would be resumed" if state else remark
        rows.append([job.title, duration(time_of_job), f"{size / 1e6:.1f} MB", remark])
    disk += _PAGE if todo else 0  # comparison.html
    log.info("%s", as_text((["", "time", "disk", ""], rows)))
    text = "%s, %d to run: about %s one after the other, and %.0f MB in %s. Nothing was trained or written."
    log.info(text, plural(len(jobs), "job"), todo, duration(seconds), disk / 1e6, sweep_dir)
    return DONE


def _measure(job: Job) -> Cost:
    """Time a few steps and the evaluation of a batch."""
    try:
        parts = build(job.config, known_max_lr=_PLACEHOLDER_LR)
    except RequestError as error:
        raise RequestError(f"{job.title}: {error}") from error
    step, size = _step_seconds(parts), job.config.evaluation.batch_size
    splits, model = parts.splits, parts.learner.model
    sample = splits.test.take(np.arange(min(size, len(splits.test))))
    started = time.perf_counter()
    evaluate(model, sample, compute=parts.compute, normalize=parts.normalize, batch_size=size)
    image = (time.perf_counter() - started) / len(sample)
    states = parts.learner.optimizer.state.values()
    slots = sum(value.numel() for state in states for value in state.values() if torch.is_tensor(value))
    checkpoint = 4.0 * ((2 if job.config.checkpoint.best else 1) * count_parameters(model) + slots)
    validation = 0 if splits.validation is None else len(splits.validation)
    return Cost(step, image, parts.steps_per_epoch, validation, len(splits.test), checkpoint)


def _step_seconds(parts: Parts) -> float:
    """Mean time of a training step, measured in the training loop.

    Not the median: if several batches are prepared at a time, one step takes longer than the next ones.
    """
    times = [time.perf_counter()]

    def after_step() -> None:
        if parts.compute.device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter())

    def batches() -> Iterator[Batch]:
        for number, batch in enumerate(parts.batches.epoch(1)):
            enough = number > _WARM_UP_STEPS and time.perf_counter() - times[0] > _SECONDS
            if enough or number == _WARM_UP_STEPS + _STEPS:
                return
            yield batch

    start, images = EpochState.start(parts.compute.device), len(parts.splits.train)
    train_epoch(
        parts.learner, batches(), start, images=images, epochs=1, sizes=parts.batches.sizes, after_step=after_step
    )
    gaps = [after - before for before, after in itertools.pairwise(times)]
    warm = gaps[_WARM_UP_STEPS:] or gaps
    return sum(warm) / len(warm)
