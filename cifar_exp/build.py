"""What a config describes, built: data, augmentation, network, optimizer, schedule."""

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cifar_exp import data, provenance, schedule
from cifar_exp.augment import Augmentation
from cifar_exp.compute import Compute, Normalizer
from cifar_exp.data.batches import TrainingBatches
from cifar_exp.errors import RequestError
from cifar_exp.explain import LayerMap, layer_maps
from cifar_exp.optimizer import build_optimizer
from cifar_exp.targets import call
from cifar_exp.train import Learner

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Splits:
    """The images that a run looks at."""

    train: data.Split
    validation: data.Split | None
    test: data.Split


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


def build(config: dict[str, Any]) -> Parts:
    """Build what ``config`` describes; seeds all generators.

    Raises:
        RequestError: the config asks for what is not there, or for parts that do not fit each other.
    """
    compute = Compute.choose(config["device"], config["precision"], config["memory_format"])
    provenance.seed_everything(
        config["seed"], deterministic=config["deterministic"], threads=config["threads"], device=compute.device
    )

    node = config["data"]
    dataset = data.load(node)
    train, validation = data.hold_out(
        dataset.train, node["validation_fraction"], node["split_seed"], dataset.class_names
    )
    statistics = data.statistics(train.images, node["statistics_decimals"])
    height, width, channels = train.images.shape[1:]
    augmentation = Augmentation(config["augment"]["transforms"], statistics.colour, (height, width, channels))
    batches = TrainingBatches(train, augmentation, config["batch_size"], config["seed"])

    model = compute.place(call(config["model"], num_classes=len(dataset.class_names), in_channels=channels))
    total_steps = config["epochs"] * batches.per_epoch  # the one place where epochs become steps
    optimizer = build_optimizer(config["optimizer"], model, config["max_lr"])
    plan = {"max_lr": config["max_lr"], "total_steps": total_steps}
    learner = Learner(
        model=model,
        forward=torch.compile(model) if config["compile"] else model,
        optimizer=optimizer,
        scheduler=schedule.build_scheduler(config["scheduler"], optimizer, **plan),
        interval=config["scheduler"]["interval"],
        total_steps=total_steps,
        label_smoothing=config["label_smoothing"],
    )
    planned = schedule.planned_learning_rates(config["scheduler"], **plan)
    layers, headline = _layers_to_explain(config["explain"], model, (height, width, channels))
    _check_indices(config["explain"]["indices"], len(dataset.test))
    return Parts(
        splits=Splits(train, validation, dataset.test),
        class_names=dataset.class_names,
        fingerprint=dataset.fingerprint,
        batches=batches,
        learner=learner,
        planned=planned,
        compute=compute,
        statistics=statistics,
        normalize=Normalizer(statistics, compute),
        layers=layers,
        headline=headline,
    )


def describe(name: str, parts: Parts) -> list[str]:
    """What is about to be trained, in two lines."""
    splits, learner, compute = parts.splits, parts.learner, parts.compute
    held_out = 0 if splits.validation is None else len(splits.validation)
    return [
        f"{name}: {len(splits.train):,} training, {held_out:,} validation and {len(splits.test):,} test images of "
        f"{len(parts.class_names)} classes; {parts.batches.per_epoch} steps an epoch, {learner.total_steps:,} in all",
        f"{count_parameters(learner.model):,} parameters on {compute.device} in "
        f"{str(compute.precision).removeprefix('torch.')}, {torch.get_num_threads()} CPU threads",
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


def _check_indices(indices: list[int] | None, images: int) -> None:
    for index in indices or []:
        if index >= images:
            raise RequestError(f"explain.indices={index}: the test split has images 0 to {images - 1}")


def count_parameters(model: torch.nn.Module) -> int:
    """Trainable and frozen values, without the statistics of batch normalization."""
    return sum(parameter.numel() for parameter in model.parameters())
