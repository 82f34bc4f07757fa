"""The typed schema of the configuration: which keys exist, their types, limits, defaults and descriptions.

An option of a config group has its class in ``cifar_exp.config.groups`` and a YAML file in ``conf/GROUP/`` that starts
from it (``defaults: [base_x, _self_]``). Hydra gets only the keys and their defaults; ``parse`` checks the values. The
dataclasses hold the structure; the values to tune are in the YAML files. ``--help`` shows the description of each key.
"""

import re
from dataclasses import asdict, dataclass, field, fields
from typing import Annotated, Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

from cifar_exp.config.fields import (
    Allowed,
    Count,
    Fraction,
    LearningRate,
    Positive,
    Schema,
    Seed,
    UpToAMillion,
    at_least,
    between,
    key,
    one_of,
)
from cifar_exp.config.groups.augment import AUGMENTATIONS, AugmentConfig, LowResolutionConfig
from cifar_exp.config.groups.data import DATA_SETS
from cifar_exp.config.groups.model import MODELS
from cifar_exp.config.groups.optimizer import AVERAGING, OPTIMIZERS, AveragingConfig
from cifar_exp.config.groups.scheduler import SCHEDULERS
from cifar_exp.config.groups.tracker import TRACKERS, TrackerConfig
from cifar_exp.config.registry import Group

REGISTRY: dict[str, Group] = {
    group.name: group for group in (MODELS, DATA_SETS, AUGMENTATIONS, OPTIMIZERS, SCHEDULERS, AVERAGING, TRACKERS)
}

_DEVICES = ("auto", "cpu", "cuda", "mps")
Device = Annotated[
    str,
    Allowed(
        f"one of {', '.join(_DEVICES)} or cuda:N",
        lambda value: value in _DEVICES or re.fullmatch("cuda:[0-9]{1,3}", value) is not None,
    ),
]


def _are_weights(value: Any) -> bool:
    if value is None or value == "balanced":
        return True
    numbers = isinstance(value, list) and all(isinstance(one, int | float) for one in value)
    return numbers and all(not isinstance(one, bool) and 0 <= one < 1e30 for one in value) and any(value)


@dataclass
class EvaluationConfig(Schema):
    """How the trained network is evaluated."""

    batch_size: UpToAMillion = key("images in one evaluation batch", 512)
    weights: Annotated[str, one_of("last", "best")] = key("weights for the final evaluation: last | best", "last")
    gallery_images: Annotated[int, between(0, 200)] = key("images in figures/misclassified.png", 20)
    published_loss: bool = key("also report the loss as the published run computed it (wrongly)", False)
    test_time_augmentation: Annotated[str, one_of("none", "mirror", "mirror_translate")] = key(
        "also report the accuracy with TTA: none | mirror | mirror_translate", "none"
    )


@dataclass
class MixingConfig(Schema):
    """Mixup and CutMix of training batches."""

    mixup_alpha: Positive | None = key("mixup with this alpha of the beta distribution; null: off", None)
    cutmix_alpha: Positive | None = key("CutMix with this alpha of the beta distribution; null: off", None)
    probability: Fraction = key("probability that a batch is mixed", 1.0)


@dataclass
class LossConfig(Schema):
    """The training loss beside ``label_smoothing``."""

    class_weights: Annotated[Any, Allowed("null, balanced or a list of numbers of at least 0", _are_weights)] = key(
        "weights of the classes: null | balanced | [...], in the order of the labels", None
    )


@dataclass
class EarlyStoppingConfig(Schema):
    """Early end of the training when the selection metric has stopped improving."""

    patience: Count | None = key("stop after N epochs without improvement; null: never", None)


@dataclass
class ExplainConfig(Schema):
    """LayerGradCam on test images. ``images=0`` turns it off."""

    images: Annotated[int, between(0, 200)] = key(
        "number of test images to explain, the most confidently misclassified first; 0: off", 10
    )
    indices: list[Annotated[int, at_least(0)]] | None = key("explain these test images instead, counted from 0", None)
    layers: list[str] | None = key(
        "layers to explain; null: every layerN with a feature map of at least minimum_map pixels on each side", None
    )
    minimum_map: Count = key("smallest feature map to explain, in pixels", 1)
    faithfulness_images: Annotated[int, at_least(0)] = key(
        "largest number of random test images for the faithfulness test; 0: no test", 200
    )
    infill: Annotated[str, one_of("blur", "mean", "road")] = key(
        "replacement of hidden pixels: blur | mean | road (docs/gradcam.md)", "blur"
    )


@dataclass
class CheckpointConfig(Schema):
    """When ``checkpoints/last.pt`` is written; the final epoch is always saved."""

    every_epochs: Count = key("save every N epochs, and after the last", 1)
    every_seconds: Positive = key("also save within an epoch, every N seconds", 300.0)
    best: bool = key("keep the weights with the best selection accuracy in best.pt", True)


@dataclass
class SweepConfig(Schema):
    """How a sweep (``-m``) runs its jobs; not part of the experiment, so a run's saved config lacks it."""

    plan: bool = key("list the jobs, time a few steps, estimate time and disk; train nothing", False)
    fail_fast: bool = key("start no further job after one has failed", False)


@dataclass
class ExperimentConfig(Schema):
    """One experiment. ``cifar-exp --cfg job`` shows it composed."""

    name: str = key("name of the run in tables and logs")
    seed: Seed = key("seed of everything random except the held-out split")
    epochs: UpToAMillion = key("training epochs")
    batch_size: UpToAMillion = key("images in one optimizer step")
    max_lr: LearningRate = key("peak learning rate of every scheduler; auto: found by an LR range test")
    accumulate: Annotated[int, between(1, 10_000)] = key("batches whose gradients are added for one optimizer step", 1)
    selection_metric: Annotated[str, one_of("val_accuracy", "val_balanced_accuracy", "val_macro_f1", "val_loss")] = key(
        "selects the best epoch: val_accuracy | val_balanced_accuracy | val_macro_f1 | val_loss", "val_accuracy"
    )
    label_smoothing: Fraction = key("label smoothing of the training loss, 0 to 1", 0.0)
    device: Device = key("auto | cpu | cuda | mps, or cuda:N", "auto")
    precision: Annotated[str, one_of("auto", "float32", "bfloat16")] = key(
        "auto | float32 | bfloat16 (mixed precision)", "auto"
    )
    memory_format: Annotated[str, one_of("auto", "contiguous", "channels_last")] = key(
        "auto | contiguous | channels_last", "auto"
    )
    compile: bool = key("compile the network with torch.compile", False)
    cuda_graph: bool = key("on a GPU, replay the passes of this package's networks as a CUDA graph", True)
    augment_backend: Annotated[str, one_of("auto", "albumentations", "device")] = key(
        "augmentation backend: auto | albumentations | device; see docs/augmentation.md", "auto"
    )
    sync_batch_norm: bool = key(
        "distributed training on GPUs: normalize by the whole batch, not by each rank's shard", False
    )
    deterministic: bool = key("use deterministic algorithms only", True)
    threads: Annotated[int, between(1, 256)] | None = key("CPU threads; null: PyTorch's choice", None)
    evaluate_test_each_epoch: bool = key("evaluate the test split after every epoch, not only after the last", False)
    figures: bool = key("write the PNG figures", True)
    report: bool = key("write report.html during the run and at its end", True)
    note: str = key("your own note; changes no result", "")
    tags: list[str] = key("your own tags: tags=[a,b]; change no result", factory=list)
    trust: list[str] = key("your own packages that the config may call: trust=[PACKAGE]", factory=list)
    model: Any = MISSING
    data: Any = MISSING
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    optimizer: Any = MISSING
    scheduler: Any = MISSING
    averaging: AveragingConfig = field(default_factory=AveragingConfig)
    mixing: MixingConfig = field(default_factory=MixingConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    early_stopping: EarlyStoppingConfig = field(default_factory=EarlyStoppingConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    explain: ExplainConfig = field(default_factory=ExplainConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    sweep: SweepConfig = field(default_factory=SweepConfig)
    tracker: TrackerConfig = field(default_factory=TrackerConfig)


GROUPS = ("model", "data", "augment", "optimizer", "scheduler")

# The possible schemas of each node, by its dotted key.
SCHEMAS: dict[str, list[type[Schema]]] = {
    "": [ExperimentConfig],
    **{group.name: list(group.schemas.values()) for group in REGISTRY.values()},
    "augment.low_resolution": [LowResolutionConfig],
    **{
        one.name: [one.type]
        for one in fields(ExperimentConfig)
        if isinstance(one.type, type) and issubclass(one.type, Schema) and one.name not in REGISTRY
    },
}

# What may differ from a run when it is evaluated again: where and how it is measured, not what was trained.
OVERRIDABLE = ("data", "device", "precision", "memory_format", "threads", "evaluation", "explain", "figures", "name")


def group_schema(group: str, target: object) -> type[Schema] | None:
    """The typed config of a group's node by its ``_target_``; None if the node stays a mapping."""
    registry = REGISTRY[group]
    return registry.targets.get(target) if isinstance(target, str) else None


def known_keys() -> list[str]:
    """The dotted keys of all options, for suggestions."""
    return sorted(
        f"{node}.{one.name}".lstrip(".") for node, found in SCHEMAS.items() for s in found for one in fields(s)
    )


def register_schemas() -> None:
    """Register the keys and their defaults with Hydra, before any composition. Calling it again is harmless."""
    store = ConfigStore.instance()
    store.store(name="base_config", node=asdict(ExperimentConfig()))
    for group in REGISTRY.values():
        for name, schema in group.schemas.items():
            store.store(group=group.name, name=name, node=asdict(schema()))
