"""What a config describes, built: data, augmentation, network, optimizer, schedule."""

import copy
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
import torch._dynamo  # PyTorch's first optimizer imports it, compiled or not; with the other libraries it is cheaper
from numpy.typing import NDArray

from cifar_exp import data
from cifar_exp.compute import memory, seeding
from cifar_exp.compute.device import Compute, compiled
from cifar_exp.compute.distributed import collectives
from cifar_exp.config.fields import AUTO
from cifar_exp.config.groups.model import ModelConfig
from cifar_exp.config.parse import OwnNode
from cifar_exp.config.schema import AveragingConfig, ExperimentConfig, ExplainConfig, Range
from cifar_exp.config.targets import call, options_of
from cifar_exp.data.augment.backend import choose
from cifar_exp.data.augment.policy import Augmentation, LowResolution
from cifar_exp.data.batches import TrainingBatches
from cifar_exp.data.dataset import Splits
from cifar_exp.data.device_batches import DeviceBatches, DeviceSplit
from cifar_exp.data.normalize import Normalizer
from cifar_exp.errors import RequestError
from cifar_exp.explain.gradcam import LayerMap, layer_maps
from cifar_exp.training import schedule
from cifar_exp.training.epoch import Learner
from cifar_exp.training.lookahead import Lookahead
from cifar_exp.training.lr_curve import RangeCurve
from cifar_exp.training.lr_range_test import range_test
from cifar_exp.training.optimizer import build_optimizer

log = logging.getLogger(__name__)

_INITIAL_IMAGES = 5000
_MOST_STEPS = 10_000_000  # planning them takes minutes, and their tables are half a gigabyte


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
        layers: what Grad-CAM explains, in order of depth.
        headline: the deepest of them with a map that is large enough; None where there is none.
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
    layers: list[LayerMap]
    headline: str | None
    max_lr: float
    range_curve: RangeCurve | None


def build(config: ExperimentConfig, *, found: float | None = None) -> Parts:
    """Build what ``config`` describes; seeds all generators.

    With ``max_lr=auto`` a range test finds the number first. It starts from the seed and leaves no trace, so what is
    built is as much a function of the config as with the number typed in.

    Args:
        config: resolved.
        found: what the range test of the same config came to earlier; spares a resumed run the search, which on another
            machine could end elsewhere.

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
    dataset = data.load(node)
    train, validation = data.hold_out(dataset.train, node.validation_fraction, node.split_seed, dataset.class_names)
    statistics = data.statistics(train.images, node.statistics_decimals)
    height, width, channels = train.images.shape[1:]
    augmentation = Augmentation(config.augment.transforms, statistics.colour, (height, width, channels))
    backend = choose(config.augment_backend, augmentation, compute.device, dataset.train.images.nbytes)
    if backend.reason:
        log.info("augment_backend=auto: Albumentations augments on the CPU: %s", backend.reason)
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

    normalize = Normalizer(statistics, compute)
    total_steps = config.epochs * batches.per_epoch  # the one place where epochs become steps
    _check_steps(total_steps)
    to_classify: dict[str, Any] = {"num_classes": len(dataset.class_names), "in_channels": channels}
    _check_size(config.model, to_classify)
    model = compute.place(call(config.model, **to_classify))
    _initialize(model, train, normalize)
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
    layers, headline = _layers_to_explain(config.explain, model, (height, width, channels))
    if batches.low_resolution is not None:
        _check_low_resolution(model, batches.low_resolution.size, channels)
    _check_smallest_batch(model, len(train), config.batch_size, (height, width, channels))
    _check_indices(config.explain.indices, len(dataset.test))
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
        layers=layers,
        headline=headline,
        max_lr=max_lr,
        range_curve=range_curve,
    )


def _check_steps(total_steps: int) -> None:
    if total_steps > _MOST_STEPS:
        raise RequestError(
            f"epochs: {total_steps:,} steps are more than the {_MOST_STEPS:,} that a run can have; take fewer epochs "
            "or a larger batch_size"
        )


def _check_size(node: ModelConfig, to_classify: dict[str, Any]) -> None:
    """Refuse a network of ours that the memory cannot hold: the attempt could end other programs, too."""
    available = memory.memory_bytes()
    if isinstance(node, OwnNode) or available is None:
        return
    with torch.random.fork_rng(devices=[]), torch.device("meta"):  # shapes without values
        needed = 3 * 4 * count_parameters(call(node, **to_classify))  # float32, with a gradient and a momentum each
    if needed > available:
        raise RequestError(
            f"model={node.name}: weights, gradients and momentum would take {needed / 1e9:,.1f} GB, and this "
            f"machine has {available / 1e9:,.1f} GB of memory; choose a smaller width"
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
    node, full = config.augment.low_resolution, config.data.image_size
    if node.size is None:
        return None
    if node.size > full:
        raise RequestError(f"augment.low_resolution.size={node.size}: must be at most data.image_size={full}")
    return LowResolution(node.size, node.fraction, config.epochs)


def _initialize(model: torch.nn.Module, train: data.Split, normalize: Normalizer) -> None:
    """Give training images to a network that starts from them."""
    initialize = getattr(model, "initialize", None)
    if initialize is not None:
        # Evenly through the split, which for folders of images is in the order of the classes.
        shown = np.linspace(0, len(train) - 1, min(_INITIAL_IMAGES, len(train))).astype(np.int64)
        initialize(normalize(torch.from_numpy(train.images[shown])))


def _averaging(node: AveragingConfig, model: torch.nn.Module, total_steps: int) -> Lookahead | None:
    if node.every_steps is None:
        return None
    return Lookahead(model, **options_of(node), total_steps=total_steps)


def describe(name: str, parts: Parts) -> list[str]:
    """What is about to be trained, in two lines."""
    splits, learner, compute = parts.splits, parts.learner, parts.compute
    held_out = 0 if splits.validation is None else len(splits.validation)
    return [
        f"{name}: {len(splits.train):,} training, {held_out:,} validation and {len(splits.test):,} test images of "
        f"{len(parts.class_names)} classes; {parts.batches.per_epoch} steps an epoch, {learner.total_steps:,} in all",
        f"{count_parameters(learner.model):,} parameters on {compute.device} in "
        f"{str(compute.precision).removeprefix('torch.')}, {torch.get_num_threads()} CPU threads; augmented by "
        f"{'the device' if parts.batches.backend == 'device' else 'Albumentations'}",
    ]


def _layers_to_explain(
    node: ExplainConfig, model: torch.nn.Module, image_shape: tuple[int, int, int]
) -> tuple[list[LayerMap], str | None]:
    """Layers for Grad-CAM and the one to read first. Small maps are left out unless they were named."""
    model.eval()
    try:
        layers = layer_maps(model, image_shape, node.layers)
    except RuntimeError as error:
        size = "x".join(map(str, image_shape))
        raise RequestError(f"data.image_size: the model cannot take {size} images: {error}") from error
    minimum = node.minimum_map
    large = [layer for layer in layers if layer.at_least(minimum)]
    small = ", ".join(f"{layer.name} ({layer.height}x{layer.width})" for layer in layers if layer not in large)
    if small and node.layers is not None:
        log.warning("Grad-CAM maps under %dx%d say little about where: %s", minimum, minimum, small)
    elif small:
        log.info("Grad-CAM leaves out maps under %dx%d: %s (explain.layers names them)", minimum, minimum, small)
        layers = large
    return layers, large[-1].name if large else None


def _check_low_resolution(model: torch.nn.Module, size: int, channels: int) -> None:
    model.eval()
    try:
        layer_maps(model, (size, size, channels), [])
    except RuntimeError as error:
        raise RequestError(
            f"augment.low_resolution.size={size}: the model cannot take images of that size: {error}"
        ) from error


def _check_smallest_batch(
    model: torch.nn.Module, images: int, batch_size: int, image_shape: tuple[int, int, int]
) -> None:
    """Refuse a batch of one image where the network cannot be trained on one (batch normalization of 1x1 maps)."""
    if images > 1 and batch_size > 1 and images % batch_size != 1:
        return
    trial = copy.deepcopy(model).train()  # a copy: the trial moves its statistics
    device = next(model.parameters()).device
    height, width, channels = image_shape
    with torch.random.fork_rng([device] if device.type == "cuda" else []), torch.no_grad():
        try:
            trial(torch.zeros(1, channels, height, width, device=device))
        except ValueError as error:
            raise RequestError(
                f"batch_size={batch_size}: of {images:,} training images it leaves a last batch of a single one, which "
                f"the model cannot be trained on ({error}); choose another batch_size or data.limit_train"
            ) from error


def _check_indices(indices: list[int] | None, images: int) -> None:
    for index in indices or []:
        if index >= images:
            raise RequestError(f"explain.indices={index}: the test split has images 0 to {images - 1}")


def count_parameters(model: torch.nn.Module) -> int:
    """Trainable and frozen values, without the statistics of batch normalization."""
    return sum(parameter.numel() for parameter in model.parameters())
