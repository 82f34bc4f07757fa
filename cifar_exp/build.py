"""What a config describes, built: data, augmentation, network, optimizer, schedule."""

import inspect
import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
import torch._dynamo  # PyTorch's first optimizer imports it, compiled or not; with the other libraries it is cheaper
from numpy.typing import NDArray

from cifar_exp import data, preflight
from cifar_exp.compute import memory, seeding
from cifar_exp.compute.device import Compute, compiled
from cifar_exp.compute.distributed import collectives
from cifar_exp.config.fields import AUTO
from cifar_exp.config.schema import AveragingConfig, ExperimentConfig, Range
from cifar_exp.config.targets import call, options_of
from cifar_exp.data.augment.backend import choose
from cifar_exp.data.augment.policy import Augmentation, LowResolution
from cifar_exp.data.batches import TrainingBatches
from cifar_exp.data.dataset import Splits
from cifar_exp.data.device_batches import DeviceBatches, DeviceSplit
from cifar_exp.data.normalize import Normalizer
from cifar_exp.errors import RequestError, in_a_line
from cifar_exp.explain.layers import ExplainedLayers
from cifar_exp.safe_io.plural import plural
from cifar_exp.training import schedule
from cifar_exp.training.epoch import Learner
from cifar_exp.training.lookahead import Lookahead
from cifar_exp.training.lr_curve import RangeCurve
from cifar_exp.training.lr_range_test import range_test
from cifar_exp.training.optimizer import build_optimizer

log = logging.getLogger(__name__)

_INITIAL_IMAGES = 5000


@dataclass(frozen=True)
class Parts:
    """What a run works with.

    Attributes:
        splits: the images.
        class_names: in the order of the labels.
        fingerprint: of the data set (see ``data.Dataset``).
        batches: the augmented training batches.
        learner: the network and what trains it.
        planned: (total_steps,) learning rates that the schedule plans.
        compute: where and in which precision.
        statistics: of the training images.
        normalize: makes the network's input.
        explained: the layers that Grad-CAM explains.
        max_lr: the peak learning rate.
        range_curve: of the range test that found it; None where the config names a number.
    """

    splits: Splits
    class_names: tuple[str, ...]
    fingerprint: str
    batches: TrainingBatches
    learner: Learner
    planned: NDArray[np.float64]
    compute: Compute
    statistics: data.Statistics
    normalize: Normalizer
    explained: ExplainedLayers
    max_lr: float
    range_curve: RangeCurve | None


def build(
    config: ExperimentConfig, *, found: float | None = None, trained: tuple[data.Dataset, data.Statistics] | None = None
) -> Parts:
    """Build what ``config`` describes; seeds all generators.

    With ``max_lr=auto`` a range test finds the number first. It starts from the seed and leaves no trace, so what is
    built is as much a function of the config as with the number typed in.

    Args:
        config: resolved.
        found: what the range test of the same config came to earlier; spares a resumed run the search, which on another
            machine could end elsewhere.
        trained: data to evaluate a trained network on, and the statistics of its training images; None loads the data
            of the config.

    Raises:
        RequestError: the config asks for what is not there, or for parts that do not fit each other.
    """
    compute = Compute.choose(config.device, config.precision, config.memory_format)
    if compute.device.type == "cpu":
        memory.keep_freed_memory()
    seeding.seed_everything(
        config.seed, deterministic=config.deterministic, threads=config.threads, device=compute.device
    )

    node = config.data
    dataset = data.load(node) if trained is None else trained[0]
    train, validation = data.hold_out(dataset.train, node.validation_fraction, node.split_seed, dataset.class_names)
    statistics = data.statistics(train.images, node.statistics_decimals) if trained is None else trained[1]
    height, width, channels = train.images.shape[1:]
    augmentation = Augmentation(config.augment.transforms, statistics.colour, (height, width, channels))
    backend = choose(config.augment_backend, augmentation, compute.device, dataset.train.images.nbytes)
    if backend.reason:
        level = logging.WARNING if config.augment_backend == "device" else logging.INFO
        log.log(level, "Albumentations augments on the CPU: %s", backend.reason)
    if config.batch_size < collectives.world_size():
        raise RequestError(
            f"batch_size={config.batch_size}: {collectives.world_size()} processes need at least an image each"
        )
    batch_maker: Callable[..., TrainingBatches] = TrainingBatches
    if backend.on_device is not None:
        batch_maker = partial(DeviceBatches, on_device=backend.on_device, resident=DeviceSplit(train, compute.device))
    make_batches = partial(
        batch_maker,
        train,
        augmentation,
        config.batch_size,
        config.seed,
        alternating_flip=config.augment.alternating_flip,
        low_resolution=_low_resolution(config),
    )
    batches = make_batches(share=collectives.share())

    total_steps = config.epochs * batches.per_epoch  # the one place where epochs become steps
    preflight.check_steps(total_steps)
    preflight.check_indices(config.explain.indices, len(dataset.test))
    model, compute, explained = _network(config, train, statistics, compute, classes=len(dataset.class_names))
    normalize = Normalizer(statistics, compute)
    max_lr, range_curve = config.max_lr, None
    if max_lr == AUTO:
        whole = make_batches()
        # One process tests, with whole batches, and the others take its word.
        max_lr, range_curve = collectives.from_first(
            lambda: (
                (found, None)
                if isinstance(found, float) and found > 0
                else _found(config, model, whole, compute, normalize)
            )
        )
    model, forward = collectives.synchronized(model, sync_batch_norm=config.sync_batch_norm, device=compute.device)
    if not collectives.is_first():
        torch.manual_seed(seeding.derived_seed(config.seed, "rank", collectives.rank()))  # dropout of its own
    optimizer = build_optimizer(config.optimizer, model, max_lr, compute.precision)
    plan = {"max_lr": optimizer.param_groups[0]["lr"], "total_steps": total_steps}
    learner = Learner(
        model=model,
        forward=compiled(forward, compute.device) if config.compile else forward,
        optimizer=optimizer,
        scheduler=schedule.build_scheduler(config.scheduler, optimizer, **plan),
        interval=config.scheduler.interval,
        total_steps=total_steps,
        label_smoothing=config.label_smoothing,
        averaging=_averaging(config.averaging, model, total_steps),
    )
    planned = schedule.planned_learning_rates(config.scheduler, **plan)
    return Parts(
        splits=Splits(train, validation, dataset.test),
        class_names=dataset.class_names,
        fingerprint=dataset.fingerprint,
        batches=batches,
        learner=learner,
        planned=planned,
        compute=compute,
        statistics=statistics,
        normalize=normalize,
        explained=explained,
        max_lr=max_lr,
        range_curve=range_curve,
    )


def _found(
    config: ExperimentConfig, model: torch.nn.Module, batches: TrainingBatches, compute: Compute, normalize: Normalizer
) -> tuple[float, RangeCurve]:
    """The learning rate that a range test suggests, and its curve."""
    over = Range()
    log.info("max_lr=auto: a range test of up to %d steps comes first", over.steps)
    curve = range_test(config, model, batches, compute, normalize, over)
    suggestion = curve.suggest()
    if suggestion.max_lr is None:
        raise RequestError(
            f"max_lr=auto: the range test has no suggestion; name a number, or look at the curve: cifar-exp lr-find.\n"
            f"{suggestion.reason}"
        )
    for line in (f"max_lr={suggestion.max_lr:g}. {suggestion.reason}", *suggestion.cautions):
        log.info(line)
    return suggestion.max_lr, curve


def _low_resolution(config: ExperimentConfig) -> LowResolution | None:
    node = config.augment.low_resolution
    return None if node.size is None else LowResolution(node.size, node.fraction, config.epochs)


def _network(
    config: ExperimentConfig, train: data.Split, statistics: data.Statistics, compute: Compute, *, classes: int
) -> tuple[torch.nn.Module, Compute, ExplainedLayers]:
    """The network as training starts from it, the layout that it works with, and the layers to explain.

    Raises:
        RequestError: a trial shows that it cannot be trained or explained as the config asks.
    """
    node, name = config.model, config.model.name
    to_classify: dict[str, Any] = {"num_classes": classes, "in_channels": train.images.shape[3]}
    preflight.check_size(node, to_classify)

    def make() -> torch.nn.Module:
        model = call(node, **to_classify)
        if not isinstance(model, torch.nn.Module):
            raise RequestError(f"{node._target_}: must return a torch.nn.Module, returned a {type(model).__name__}")
        model = model.to(compute.device)
        preflight.complete(model, name, train.images[:1], Normalizer(statistics, compute))
        return compute.place(model)

    model = make()
    _initialize(model, name, train, Normalizer(statistics, compute))
    with seeding.generators_kept(compute.device), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the run itself repeats them
        trial = preflight.Trial.of(name, model, train.images, classes, statistics, compute, make)
        trial.check_smallest_batch(len(train), config.batch_size)
        trial = trial.with_working_layout(config.memory_format)
        if (low := _low_resolution(config)) is not None:
            trial.check_low_resolution(low.size)
        explained = trial.explained_layers(config.explain)
    if explained.note is not None:
        log.info(explained.note)
    return trial.compute.place(model), trial.compute, explained


def _initialize(model: torch.nn.Module, name: str, train: data.Split, normalize: Normalizer) -> None:
    """Pass training images to a network that starts from them."""
    initialize = getattr(model, "initialize", None)
    if not callable(initialize):
        return
    try:
        inspect.signature(initialize).bind(None)
    except (TypeError, ValueError):
        log.info("model=%s: its method initialize is not called: it does not take one argument, the images", name)
        return
    # Evenly through the split, which for folders of images is in the order of the classes.
    shown = np.linspace(0, len(train) - 1, min(_INITIAL_IMAGES, len(train))).astype(np.int64)
    try:
        initialize(normalize(torch.from_numpy(train.images[shown])))
    except Exception as error:
        raise RequestError(
            f"model={name}: initialize(images) fails, which is called with up to {_INITIAL_IMAGES:,} normalized "
            f"training images (N, C, H, W) before training: {in_a_line(error)}"
        ) from error


def _averaging(node: AveragingConfig, model: torch.nn.Module, total_steps: int) -> Lookahead | None:
    if node.every_steps is None:
        return None
    return Lookahead(model, **options_of(node), total_steps=total_steps)


def describe(name: str, parts: Parts) -> list[str]:
    """What is about to be trained, in two lines."""
    splits, learner, compute = parts.splits, parts.learner, parts.compute
    held_out = 0 if splits.validation is None else len(splits.validation)
    processes = f"{collectives.world_size()} processes, each with " if collectives.world_size() > 1 else ""
    return [
        f"{name}: {len(splits.train):,} training, {held_out:,} validation and {len(splits.test):,} test images of "
        f"{len(parts.class_names)} classes; {plural(parts.batches.per_epoch, 'step')} an epoch, "
        f"{learner.total_steps:,} in all",
        f"{preflight.count_parameters(learner.model):,} parameters on {compute.device} in "
        f"{str(compute.precision).removeprefix('torch.')}, {processes}"
        f"{plural(torch.get_num_threads(), 'CPU thread')}; augmented by "
        f"{'the device' if parts.batches.backend == 'device' else 'Albumentations'}",
    ]
