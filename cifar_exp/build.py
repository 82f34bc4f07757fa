"""What a config describes, built: data, augmentation, network, optimizer, schedule."""

import copy
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
import torch._dynamo  # PyTorch's first optimizer imports it, compiled or not; with the other libraries it is cheaper
from numpy.typing import NDArray

from cifar_exp import data
from cifar_exp.compute import memory, seeding
from cifar_exp.compute.device import Compute, compiled
from cifar_exp.compute.distributed.ranks import current_ranks
from cifar_exp.config.schema import TARGET_SCHEMAS
from cifar_exp.config.targets import call
from cifar_exp.config.values import AUTO
from cifar_exp.data.augment.backend import choose
from cifar_exp.data.augment.policy import Augmentation, LowResolution
from cifar_exp.data.batches import TrainingBatches
from cifar_exp.data.dataset import Splits
from cifar_exp.data.device_batches import DeviceBatches, DeviceSplit
from cifar_exp.data.normalize import Normalizer
from cifar_exp.errors import RequestError
from cifar_exp.explain.gradcam import LayerMap, layer_maps
from cifar_exp.training import schedule
from cifar_exp.training.learner import Learner
from cifar_exp.training.lr_range_test import LRRange, LRRangeTest, run_lr_range_test
from cifar_exp.training.optimizer import build_optimizer
from cifar_exp.training.step import TrainingStep

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
        lr_range_test: that found ``max_lr``; None if the config names a number.
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
    lr_range_test: LRRangeTest | None


def build(config: dict[str, Any], *, known_max_lr: float | None = None) -> Parts:
    """Build what ``config`` describes; seeds all generators.

    With ``max_lr=auto`` an LR range test runs first. It depends on the config alone and changes no state, so the parts
    are the same as with its result set in the config.

    Args:
        config: resolved.
        known_max_lr: earlier result of the LR range test, used with ``max_lr=auto``. A resumed run passes it, because a
            test on another machine could have another result.

    Raises:
        RequestError: the config asks for something that does not exist, or for parts that do not fit together.
    """
    compute = Compute.choose(config["device"], config["precision"], config["memory_format"])
    if compute.device.type == "cpu":
        memory.keep_freed_memory()
    seeding.seed_everything(
        config["seed"], deterministic=config["deterministic"], threads=config["threads"], device=compute.device
    )
    # --- data ---
    dataset = data.load(config["data"])
    splits = _splits(config["data"], dataset)
    statistics = data.statistics(splits.train.images, config["data"]["statistics_decimals"])
    make_batches = _batch_maker(config, splits.train, dataset.train.images.nbytes, statistics, compute)
    batches = make_batches(shard=current_ranks().shard)
    normalize = Normalizer(statistics, compute)
    # --- network ---
    total_steps = config["epochs"] * batches.per_epoch  # the only place that converts epochs to steps
    _check_steps(total_steps)
    model = _build_model(config["model"], splits.train, len(dataset.class_names), compute, normalize)
    # --- training ---
    training_step = TrainingStep(compute, normalize, label_smoothing=config["label_smoothing"])
    max_lr, lr_range_test = config["max_lr"], None
    if max_lr == AUTO:
        max_lr, lr_range_test = current_ranks().broadcast(
            # On rank 0 alone, with whole batches.
            lambda: _find_max_lr(config, model, make_batches(), training_step, known_max_lr)
        )
    learner, planned = _build_learner(config, model, max_lr, total_steps, training_step)
    # --- explanation ---
    image_shape = splits.train.images.shape[1:]
    layers, headline = _layers_to_explain(config["explain"], learner.model, image_shape)
    if batches.low_resolution is not None:
        _check_low_resolution(learner.model, batches.low_resolution.size, image_shape[2])
    _check_smallest_batch(learner.model, len(splits.train), config["batch_size"], image_shape)
    _check_indices(config["explain"]["indices"], len(splits.test))
    return Parts(
        splits=splits,
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
        lr_range_test=lr_range_test,
    )


def _splits(node: dict[str, Any], dataset: data.Dataset) -> Splits:
    train, validation = data.hold_out(
        dataset.train, node["validation_fraction"], node["split_seed"], dataset.class_names
    )
    return Splits(train, validation, dataset.test)


def _batch_maker(
    config: dict[str, Any], train: data.Split, data_bytes: int, statistics: data.Statistics, compute: Compute
) -> Callable[..., TrainingBatches]:
    """Returns a function that makes the training batches of a shard."""
    world_size = current_ranks().world_size
    if config["batch_size"] < world_size:
        raise RequestError(f"batch_size={config['batch_size']}: {world_size} processes need at least one image each")
    height, width, channels = train.images.shape[1:]
    augmentation = Augmentation(config["augment"]["transforms"], statistics.colour, (height, width, channels))
    backend = choose(config["augment_backend"], augmentation, compute.device, data_bytes)
    if backend.reason:
        log.info("augment_backend=auto: Albumentations augments on the CPU: %s", backend.reason)
    maker: Callable[..., TrainingBatches] = TrainingBatches
    if backend.on_device is not None:
        maker = partial(DeviceBatches, on_device=backend.on_device, resident=DeviceSplit(train, compute.device))
    return partial(
        maker,
        train,
        augmentation,
        config["batch_size"],
        config["seed"],
        alternating_flip=config["augment"]["alternating_flip"],
        low_resolution=_low_resolution(config),
    )


def _build_model(
    node: dict[str, Any], train: data.Split, classes: int, compute: Compute, normalize: Normalizer
) -> torch.nn.Module:
    """The network as training starts from it."""
    arguments: dict[str, Any] = {"num_classes": classes, "in_channels": train.images.shape[3]}
    _check_size(node, arguments)
    model = compute.place(call(node, **arguments))
    _initialize(model, train, normalize)
    return model


def _build_learner(
    config: dict[str, Any], model: torch.nn.Module, max_lr: float, total_steps: int, training_step: TrainingStep
) -> tuple[Learner, NDArray[np.float64]]:
    """The network with its optimizer and schedule, and the learning rates of all steps."""
    ranks, compute = current_ranks(), training_step.compute
    model, forward = ranks.wrap(model, sync_batch_norm=config["sync_batch_norm"], device=compute.device)
    if not ranks.is_rank_0:
        torch.manual_seed(seeding.derived_seed(config["seed"], "rank", ranks.rank))  # other dropout on each rank
    optimizer = build_optimizer(config["optimizer"], model, max_lr, compute.precision)
    plan = {"max_lr": optimizer.param_groups[0]["lr"], "total_steps": total_steps}
    learner = Learner(
        model=model,
        forward=compiled(forward, compute.device) if config["compile"] else forward,
        optimizer=optimizer,
        scheduler=schedule.build_scheduler(config["scheduler"], optimizer, **plan),
        interval=config["scheduler"]["interval"],
        total_steps=total_steps,
        training_step=replace(training_step, world_size=ranks.world_size),
        ranks=ranks,
    )
    return learner, schedule.planned_learning_rates(config["scheduler"], **plan)


def _find_max_lr(
    config: dict[str, Any],
    model: torch.nn.Module,
    batches: TrainingBatches,
    training_step: TrainingStep,
    known: float | None,
) -> tuple[float, LRRangeTest | None]:
    """The learning rate that an LR range test suggests, and the test; only the former if it is known."""
    if isinstance(known, float) and known > 0:
        return known, None
    lr_range = LRRange()
    log.info("max_lr=auto: LR range test of up to %d steps", lr_range.steps)
    result = run_lr_range_test(config, model, batches, training_step, lr_range)
    suggestion = result.suggest()
    if suggestion.max_lr is None:
        raise RequestError(
            "max_lr=auto: the LR range test has no suggestion; set a number, or look at the curve: cifar-exp lr-find.\n"
            f"{suggestion.reason}"
        )
    for line in (f"max_lr={suggestion.max_lr:g}. {suggestion.reason}", *suggestion.cautions):
        log.info(line)
    return suggestion.max_lr, result


def _check_steps(total_steps: int) -> None:
    if total_steps > _MOST_STEPS:
        raise RequestError(
            f"epochs: {total_steps:,} steps are more than the {_MOST_STEPS:,} that a run can have; take fewer epochs "
            "or a larger batch_size"
        )


def _check_size(node: dict[str, Any], to_classify: dict[str, Any]) -> None:
    """Refuse a network of ours that the memory cannot hold: the attempt could end other programs, too."""
    available = memory.memory_bytes()
    if node["_target_"] not in TARGET_SCHEMAS or available is None:
        return
    with torch.random.fork_rng(devices=[]), torch.device("meta"):  # shapes without values
        needed = 3 * 4 * count_parameters(call(node, **to_classify))  # float32, with a gradient and a momentum each
    if needed > available:
        raise RequestError(
            f"model={node['name']}: weights, gradients and momentum would take {needed / 1e9:,.1f} GB, and this "
            f"machine has {available / 1e9:,.1f} GB of memory; choose a smaller width"
        )


def _low_resolution(config: dict[str, Any]) -> LowResolution | None:
    node, full = config["augment"]["low_resolution"], config["data"]["image_size"]
    if node["size"] is None:
        return None
    if node["size"] > full:
        raise RequestError(f"augment.low_resolution.size={node['size']}: must be at most data.image_size={full}")
    return LowResolution(node["size"], node["fraction"], config["epochs"])


def _initialize(model: torch.nn.Module, train: data.Split, normalize: Normalizer) -> None:
    """Give training images to a network that starts from them."""
    initialize = getattr(model, "initialize", None)
    if initialize is not None:
        # Evenly through the split, which for folders of images is in the order of the classes.
        shown = np.linspace(0, len(train) - 1, min(_INITIAL_IMAGES, len(train))).astype(np.int64)
        initialize(normalize(torch.from_numpy(train.images[shown])))


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
    node: dict[str, Any], model: torch.nn.Module, image_shape: tuple[int, int, int]
) -> tuple[list[LayerMap], str | None]:
    """Layers for Grad-CAM and the one to read first. Small maps are left out unless they were named."""
    model.eval()
    try:
        layers = layer_maps(model, image_shape, node["layers"])
    except RuntimeError as error:
        size = "x".join(map(str, image_shape))
        raise RequestError(f"data.image_size: the model cannot take {size} images: {error}") from error
    minimum = node["minimum_map"]
    large = [layer for layer in layers if layer.at_least(minimum)]
    small = ", ".join(f"{layer.name} ({layer.height}x{layer.width})" for layer in layers if layer not in large)
    if small and node["layers"] is not None:
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
