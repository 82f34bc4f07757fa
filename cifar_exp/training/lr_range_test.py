"""Learning-rate range test (Smith 2017, arXiv 1506.01186): train on a rising learning rate, watch the loss."""

import copy
import sys
from collections.abc import Iterator

import numpy as np
import torch
from tqdm import tqdm

from cifar_exp.compute.device import Compute
from cifar_exp.compute.seeding import derived_seed, generators_kept
from cifar_exp.config.groups.scheduler import OneCycleConfig
from cifar_exp.config.schema import ExperimentConfig, Range
from cifar_exp.data.batches import Batch, TrainingBatches
from cifar_exp.data.normalize import Normalizer
from cifar_exp.training.epoch import optimize
from cifar_exp.training.lr_curve import RangeCurve
from cifar_exp.training.optimizer import build_optimizer, set_max_lr, set_momentum


def range_test(
    config: ExperimentConfig,
    model: torch.nn.Module,
    batches: TrainingBatches,
    compute: Compute,
    normalize: Normalizer,
    over: Range,
) -> RangeCurve:
    """Train a copy of ``model`` on a learning rate that rises from step to step, until the loss diverges.

    A function of its arguments alone: it leaves the network, its buffers and all generators of random numbers as they
    were. It depends neither on ``max_lr`` nor on ``epochs``, so the jobs of a sweep over those find the same.

    Args:
        config: of the experiment, resolved; whose optimizer, momentum at the schedule's peak and label smoothing are
            the test's.
        model: as training would start from it.
        batches: the training batches; from one epoch the test goes on into the next. An epoch's last batch is left out
            where it is smaller: its loss scatters more.
        compute: where and in which precision.
        normalize: makes the network's input.
        over: the learning rates.
    """
    curve = RangeCurve()
    # For what a dropout draws.
    with generators_kept(compute.device, seed=derived_seed(config.seed, "lr_find")):
        trained = copy.deepcopy(model)
        trained.train()
        optimizer = build_optimizer(config.optimizer, trained, over.low, compute.precision)
        if isinstance(config.scheduler, OneCycleConfig) and config.scheduler.cycle_momentum:
            set_momentum(optimizer, config.scheduler.base_momentum)  # what goes with the peak learning rate
        rates = np.geomspace(over.low, over.high, over.steps).tolist()
        watched = tqdm(rates, desc="range test", unit=" steps", disable=not sys.stderr.isatty(), leave=False)
        for rate, (pixels, labels) in zip(watched, _full_batches(batches), strict=False):
            set_max_lr(optimizer, config.optimizer, trained, rate)
            inputs, labels = normalize(pixels), labels.to(compute.device, non_blocking=True)
            _, loss = optimize(trained, optimizer, inputs, labels, config.label_smoothing, compute)
            curve.add(rate, loss.item())
            if curve.diverged:
                break
        watched.close()
    return curve


def _full_batches(batches: TrainingBatches) -> Iterator[Batch]:
    """Batches without end, from epoch 1 on."""
    loader = batches.loader(0, pin_memory=False)
    full = min(batches.batch_size, len(batches.split))
    epoch = 0
    while True:
        epoch += 1
        yield from (batch for batch in loader.epoch(epoch) if len(batch[1]) == full)
