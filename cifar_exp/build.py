"""Builds what a config describes: data, augmentation, network, optimizer, schedule."""

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch._dynamo  # PyTorch's first optimizer imports it, compiled or not; with the other libraries it is cheaper
from numpy.typing import NDArray

from cifar_exp import data
from cifar_exp.compute import memory, seeding
from cifar_exp.compute.cuda_graph import GraphedNetwork
from cifar_exp.compute.device import Compute, compile_network
from cifar_exp.compute.distributed.ranks import SINGLE, current_ranks
from cifar_exp.config.fields import AUTO
from cifar_exp.config.groups.model import LibraryConfig
from cifar_exp.config.parse import OwnNode
from cifar_exp.config.schema import ExperimentConfig
from cifar_exp.data.augment.backend import choose
from cifar_exp.data.augment.pipeline import Augmentation, LowResolution
from cifar_exp.data.batches import TrainingBatches
from cifar_exp.data.dataset import Dataset, Split, Splits
from cifar_exp.data.device_batches import DeviceBatches
from cifar_exp.data.normalize import Normalizer, Statistics, compute_statistics
from cifar_exp.data.split import hold_out
from cifar_exp.errors import RequestError
from cifar_exp.explain.layers import ExplainedLayers
from cifar_exp.network import build_network, count_parameters
from cifar_exp.safe_io.plural import plural
from cifar_exp.training import schedule
from cifar_exp.training.ema import WeightAverage
from cifar_exp.training.initial_weights import load_initial_weights
from cifar_exp.training.learner import Learner
from cifar_exp.training.loss import Loss, compute_class_weights
from cifar_exp.training.lr_range_test import LRRange, LRRangeTest, run_lr_range_test
from cifar_exp.training.mixing import Mixing
from cifar_exp.training.optimizer import build_optimizer
from cifar_exp.training.step import TrainingStep

log = logging.getLogger(__name__)

MOST_STEPS = 10_000_000  # planning them takes minutes, and their tables half a gigabyte


@dataclass(frozen=True)
class Parts:
    """The objects that a run works with, built from its config."""

    splits: Splits  # the images
    class_names: tuple[str, ...]  # in the order of the labels
    fingerprint: str  # of the data set (see ``Dataset``)
    batches: TrainingBatches  # the augmented training batches
    learner: Learner  # the network and what trains it
    steps_per_epoch: int  # optimizer steps in an epoch
    planned: NDArray[np.float64]  # (total_steps,) learning rates that the schedule plans
    compute: Compute  # where and in which precision
    statistics: Statistics  # of the training images
    normalize: Normalizer  # makes the network's input
    explained: ExplainedLayers  # the layers that Grad-CAM explains
    max_lr: float  # the peak learning rate
    lr_range_test: LRRangeTest | None  # measured ``max_lr``; None if the config names a number


def build(
    config: ExperimentConfig,
    *,
    known_max_lr: float | None = None,
    trained: tuple[Dataset, Statistics] | None = None,
) -> Parts:
    """Build what ``config`` describes; seeds all generators.

    With ``max_lr=auto`` an LR range test runs first. It depends on the config alone and changes no state, so the parts
    are the same as with its result set in the config. A resumed run passes that as ``known_max_lr``, because a test on
    another machine could have another result.

    ``trained`` is the data to evaluate a trained network on, and the statistics of its training images; None loads the
    data of the config.

    Raises:
        RequestError: the config asks for something that does not exist, or for parts that do not fit together.
    """
    compute = Compute.choose(config.device, config.precision, config.memory_format)
    if compute.device.type == "cpu":
        memory.keep_freed_memory()
    seeding.seed_everything(
        config.seed, deterministic=config.deterministic, threads=config.threads, device=compute.device
    )
    # --- data ---
    node = config.data
    dataset, statistics = trained or (data.load(node), None)
    names = dataset.class_names
    splits = Splits(*hold_out(dataset.train, node.validation_fraction, node.split_seed, names), dataset.test)
    statistics = statistics or compute_statistics(splits.train.images, node.statistics_decimals)
    batches = _build_batches(config, splits.train, dataset.train.images.nbytes, statistics, compute)
    # --- network ---
    steps_per_epoch = math.ceil(batches.per_epoch / config.accumulate)
    total_steps = config.epochs * steps_per_epoch  # the only place that converts epochs to steps
    _check_limits(config, total_steps, len(dataset.test))
    model, compute, explained = build_network(config, splits.train, statistics, compute, classes=len(names))
    if trained is None and current_ranks().is_rank_0:  # the other ranks get rank 0's weights
        with seeding.generators_kept(compute.device):
            load_initial_weights(model, config.model, len(names), splits.train.images.shape[3])
    normalize = Normalizer(statistics, compute)
    # --- training ---
    training_step = _build_training_step(config, splits.train.labels, len(names), compute, normalize)
    max_lr, lr_range_test = config.max_lr, None
    if max_lr == AUTO:
        max_lr, lr_range_test = current_ranks().broadcast(
            # On rank 0 alone, with whole batches.
            lambda: _find_max_lr(config, model, replace(batches, ranks=SINGLE), training_step, known_max_lr)
        )
    learner, planned = _build_learner(config, model, max_lr, total_steps, training_step)
    return Parts(
        splits, names, dataset.fingerprint, batches, learner, steps_per_epoch, planned, compute, statistics, normalize,
        explained, max_lr, lr_range_test,
    )  # fmt: skip


def _check_limits(config: ExperimentConfig, total_steps: int, test_images: int) -> None:
    """Refuse a plan of more steps than tables can hold, and an explanation of test images that do not exist."""
    if total_steps > MOST_STEPS:
        raise RequestError(
            f"epochs: a run has at most {MOST_STEPS:,} steps, not {total_steps:,}; reduce epochs or increase batch_size"
        )
    if missing := [index for index in config.explain.indices or [] if index >= test_images]:
        raise RequestError(f"explain.indices={missing[0]}: the test split has images 0 to {test_images - 1}")


def _build_batches(
    config: ExperimentConfig, train: Split, data_bytes: int, statistics: Statistics, compute: Compute
) -> TrainingBatches:
    ranks, low = current_ranks(), config.augment.low_resolution
    if config.batch_size < ranks.world_size:
        raise RequestError(f"batch_size={config.batch_size}: {ranks.world_size} processes need at least one image each")
    height, width, channels = train.images.shape[1:]
    augmentation = Augmentation(config.augment.transforms, statistics.colour, (height, width, channels))
    backend = choose(config.augment_backend, augmentation, compute.device, data_bytes)
    if backend.reason:
        level = logging.WARNING if config.augment_backend == "device" else logging.INFO
        log.log(level, "Albumentations augments on the CPU: %s", backend.reason)
    options: dict[str, Any] = {
        "alternating_flip": config.augment.alternating_flip,
        "low_resolution": None if low.size is None else LowResolution(low.size, low.fraction, config.epochs),
        "balanced": config.data.sampler == "balanced",
    }
    batches_class: type[TrainingBatches] = TrainingBatches
    if backend.device_augmentation is not None:
        batches_class = DeviceBatches
        options |= {"device_augmentation": backend.device_augmentation, "device": compute.device}
    return batches_class(train, augmentation, config.batch_size, config.seed, ranks, **options)


def _build_training_step(
    config: ExperimentConfig, labels: NDArray[np.int64], classes: int, compute: Compute, normalize: Normalizer
) -> TrainingStep:
    weights = compute_class_weights(config.loss.class_weights, labels, classes, compute.device)
    alphas = config.mixing.mixup_alpha, config.mixing.cutmix_alpha
    return TrainingStep(
        compute,
        normalize,
        loss=Loss(config.label_smoothing, weights),
        mixing=None if alphas == (None, None) else Mixing(*alphas, config.mixing.probability, classes, config.seed),
        clip_grad_norm=config.optimizer.clip_grad_norm,
        accumulate=config.accumulate,
    )


def _build_learner(
    config: ExperimentConfig, model: torch.nn.Module, max_lr: float, total_steps: int, training_step: TrainingStep
) -> tuple[Learner, NDArray[np.float64]]:
    """Build the network with its optimizer and schedule; returns also the learning rates of all steps."""
    ranks, compute = current_ranks(), training_step.compute
    model, forward = ranks.wrap(model, sync_batch_norm=config.sync_batch_norm, device=compute.device)
    if not ranks.is_rank_0:
        torch.manual_seed(seeding.derived_seed(config.seed, "rank", ranks.rank))  # other dropout on each rank
    optimizer = build_optimizer(config.optimizer, model, max_lr, compute.precision)
    averaging = config.averaging
    plan = {"max_lr": optimizer.param_groups[0]["lr"], "total_steps": total_steps}
    learner = Learner(
        model=model,
        forward=_prepare_forward(config, forward, compute),
        optimizer=optimizer,
        scheduler=schedule.build_scheduler(config.scheduler, optimizer, **plan),
        interval=config.scheduler.interval,
        total_steps=total_steps,
        training_step=replace(training_step, rank=ranks.rank, world_size=ranks.world_size),
        average=None if averaging.name == "none" else WeightAverage(model, averaging.decay, averaging.every_steps),
        ranks=ranks,
    )
    return learner, schedule.planned_learning_rates(config.scheduler, **plan)


def _prepare_forward(
    config: ExperimentConfig, network: torch.nn.Module, compute: Compute
) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return what training calls: the network, or its compiled or captured form."""
    if config.compile:
        return compile_network(network, compute.device)
    # A capture loses Python code; this package's networks run none.
    is_known = not isinstance(config.model, LibraryConfig | OwnNode)
    is_alone = not isinstance(network, torch.nn.parallel.DistributedDataParallel)
    if config.cuda_graph and is_known and is_alone and compute.device.type == "cuda" and config.accumulate == 1:
        return GraphedNetwork(network, compute)
    return network


def _find_max_lr(
    config: ExperimentConfig,
    model: torch.nn.Module,
    batches: TrainingBatches,
    training_step: TrainingStep,
    known: float | None,
) -> tuple[float, LRRangeTest | None]:
    """Run an LR range test; returns the suggested learning rate and the test, None if the rate is known."""
    if isinstance(known, float) and known > 0:
        return known, None
    lr_range = LRRange()
    log.info("max_lr=auto: LR range test of up to %d steps", lr_range.steps)
    result = run_lr_range_test(config, model, batches, training_step, lr_range)
    suggestion = result.suggest()
    if suggestion.max_lr is None:
        advice = "set a number, or look at the curve: cifar-exp lr-find"
        raise RequestError(f"max_lr=auto: the LR range test has no suggestion; {advice}.\n{suggestion.reason}")
    for line in (f"max_lr={suggestion.max_lr:g}. {suggestion.reason}", *suggestion.cautions):
        log.info(line)
    return suggestion.max_lr, result


def describe(name: str, parts: Parts) -> list[str]:
    """Describe data and network in two lines."""
    splits, learner, compute = parts.splits, parts.learner, parts.compute
    held_out = 0 if splits.validation is None else len(splits.validation)
    world_size = current_ranks().world_size
    processes = f"{world_size} processes, each with " if world_size > 1 else ""
    precision = str(compute.precision).removeprefix("torch.")
    augmented_by = "the device" if parts.batches.backend == "device" else "Albumentations"
    return [
        f"{name}: {len(splits.train):,} training, {held_out:,} validation and {len(splits.test):,} test images of "
        f"{len(parts.class_names)} classes; {plural(parts.steps_per_epoch, 'step')} an epoch, "
        f"{learner.total_steps:,} in all",
        f"{count_parameters(learner.model):,} parameters on {compute.device} in {precision}, {processes}"
        f"{plural(torch.get_num_threads(), 'CPU thread')}; augmented by {augmented_by}",
    ]
