"""The typed schema of the configuration: which keys exist, their types and their defaults.

Each option of a config group has a dataclass here and a YAML file in ``conf/GROUP/`` that starts from it
(``defaults: [base_x, _self_]``), so that an unknown key or a wrong type is rejected at composition. The
dataclasses hold the structure; the values a person tunes stand in the YAML files. Each key's description
stands beside it, and ``--help`` shows it.
"""

from dataclasses import dataclass, field, fields
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

_NAME = "option's name, in tables and logs"


def key(description: str, default: Any = MISSING, *, factory: Any = None) -> Any:
    """A field with its one-line description.

    Args:
        description: what ``--help`` says about it.
        default: its value; without one, a YAML file must give it.
        factory: makes the default of a list.
    """
    metadata = {"description": description}
    if factory is not None:
        return field(default_factory=factory, metadata=metadata)
    return field(default=default, metadata=metadata)


def descriptions(schema: Any) -> dict[str, str]:
    """The one-line description of each key of a schema; empty for a key that has none."""
    return {one.name: one.metadata.get("description", "") for one in fields(schema)}


# --- model ---------------------------------------------------------------------------------------------
@dataclass
class ResNetConfig:
    """A torchvision ResNet with the CIFAR stem."""

    _target_: str = MISSING
    name: str = key(_NAME)


@dataclass
class ResNet9Config:
    """The nine-layer residual network; ``width`` is the channel count of its first layer."""

    _target_: str = "cifar_exp.models.resnet9"
    name: str = key(_NAME)
    width: int = key("channels of the first layer")


@dataclass
class SpeedNetConfig:
    """The small network of ``experiment=speedrun``; see ``cifar_exp.models.speednet``."""

    _target_: str = "cifar_exp.models.speednet"
    name: str = key(_NAME)
    widths: list[int] = key("channels of the three stages")
    whitening_epsilon: float = key("added to the variances when the first layer whitens its patches")
    whitening_bias_epochs: int = key("epochs for which the first layer's bias is trained")
    norm_momentum: float = key("weight of the newest batch in the running statistics of batch normalization")
    logit_scale: float = key("factor by which the outputs are multiplied")


# --- data ----------------------------------------------------------------------------------------------
@dataclass
class DataConfig:
    """What every data set shares: size, cache, held-out split, subsets and loading."""

    _target_: str = MISSING
    name: str = key(_NAME)
    image_size: int = key("height and width in pixels; other images are scaled and cropped", 32)
    cache: str | None = key("folder for downloaded and decoded data; null: the user's cache folder", None)
    validation_fraction: float = key("fraction of the training images held out for selection, stratified by class", 0.1)
    split_seed: int = key(
        "seed of the held-out split, apart from `seed`, so that runs with other seeds share one split", 0
    )
    limit_train: int | None = key("use only this many training images, stratified (before the split)", None)
    limit_test: int | None = key("use only this many test images, stratified", None)
    workers: int | None = key("loader processes; null: 0 on a CPU or where the device augments, up to 4 on a GPU", None)
    statistics_decimals: int | None = key(
        "round the images' mean and standard deviation to so many places; null: exact", None
    )


@dataclass
class CifarConfig(DataConfig):
    """CIFAR-10 or CIFAR-100 in the original archive's format."""

    root: str | None = key("archive, or folder with the archive or its unpacked batches; null: download", None)
    url: str = key("address that the archive is downloaded from")
    sha256: str = key("expected SHA-256 of the archive")


@dataclass
class ImageFolderConfig(DataConfig):
    """Folders of images: ``train/CLASS/*`` with ``test/CLASS/*`` or ``val/CLASS/*``, or ``CLASS/*``."""

    root: str | None = key("folder of train/CLASS/* and test/CLASS/* (or val/CLASS/*), or of CLASS/*", None)
    test_fraction: float = key("fraction of the images for testing, stratified, for data without a test split", 0.2)
    test_seed: int = key("seed of that split", 0)


@dataclass
class ImageCsvConfig(ImageFolderConfig):
    """A table of image files and their labels."""

    csv_file: str | None = key("table with a header; an optional column `split` says train or test", None)
    file_column: str = key("column of the paths, relative to data.root (null: the table's folder)", "file")
    label_column: str = key("column of the labels", "label")


# --- augment -------------------------------------------------------------------------------------------
@dataclass
class LowResolutionConfig:
    """Train the first epochs on smaller images. ``size: null`` turns it off."""

    size: int | None = key("height and width in pixels in the first epochs; null: off", None)
    fraction: float = key("fraction of the epochs that use the smaller size, rounded", 0.5)


@dataclass
class AugmentConfig:
    """Named Albumentations transforms, applied in the order in which they are written."""

    name: str = key(_NAME)
    alternating_flip: bool = key("mirror each image in every other epoch, half of them in the first", False)
    low_resolution: LowResolutionConfig = field(default_factory=LowResolutionConfig)
    transforms: dict[str, Any] = field(default_factory=dict)


# --- optimizer -----------------------------------------------------------------------------------------
@dataclass
class OptimizerConfig:
    """What every optimizer shares."""

    _target_: str = MISSING
    name: str = key(_NAME)
    weight_decay: float = key("weight decay (L2 penalty; decoupled for AdamW)", 0.0)
    decay_norms_and_biases: bool = key("apply the weight decay to normalization layers and biases, too", False)
    bias_lr_factor: float = key("learning rate of norms and biases, relative to the others'", 1.0)


@dataclass
class SGDConfig(OptimizerConfig):
    """``torch.optim.SGD``."""

    _target_: str = "torch.optim.SGD"
    momentum: float = key("momentum (scheduler=one_cycle cycles it unless scheduler.cycle_momentum=false)", 0.9)
    nesterov: bool = key("Nesterov momentum", False)
    decoupled: bool = key("let max_lr and weight_decay mean the same whatever the momentum and each other", False)


@dataclass
class AdamWConfig(OptimizerConfig):
    """``torch.optim.AdamW``."""

    _target_: str = "torch.optim.AdamW"
    betas: tuple[float, float] = key("decay rates of the running averages of the gradient and its square", (0.9, 0.999))
    eps: float = key("added to the denominator", 1e-8)


@dataclass
class MuonConfig:
    """``cifar_exp.training.muon.Muon`` for the filters, SGD with Nesterov momentum for the rest."""

    _target_: str = "cifar_exp.training.muon.Muon"
    name: str = key(_NAME)
    momentum: float = key("momentum of the convolution filters")
    weight_decay: float = key("of linear layers, norms and biases: how much they shrink in a step at max_lr")
    sgd_momentum: float = key("momentum of all other parameters")
    head_lr_factor: float = key("learning rate of linear layers, relative to max_lr")
    bias_lr_factor: float = key("learning rate of norms and biases, relative to max_lr")


# --- scheduler -----------------------------------------------------------------------------------------
@dataclass
class SchedulerConfig:
    """What every scheduler shares. ``interval`` says after what the schedule moves on by one."""

    _target_: str = MISSING
    name: str = key(_NAME)
    interval: str = key("after what the schedule advances by one: step | epoch", "step")


@dataclass
class OneCycleConfig(SchedulerConfig):
    """One-cycle policy: up to max_lr, then down to about zero."""

    _target_: str = "cifar_exp.training.schedule.one_cycle"
    pct_start: float = key("fraction of the steps with a rising learning rate")
    div_factor: float = key("first learning rate: max_lr / div_factor")
    final_div_factor: float = key("last learning rate: first one / final_div_factor")
    anneal_strategy: str = key("shape of the curve: cos | linear", "cos")
    cycle_momentum: bool = key("cycle the momentum against the learning rate; overwrites optimizer.momentum")
    base_momentum: float = key("momentum at max_lr", 0.85)
    max_momentum: float = key("momentum at the first and last step", 0.95)


@dataclass
class CosineConfig(SchedulerConfig):
    """Linear warm-up to max_lr, then half a cosine down to zero."""

    _target_: str = "cifar_exp.training.schedule.cosine"
    warmup_fraction: float = key("fraction of the steps with a linear warm-up")


@dataclass
class MultistepConfig(SchedulerConfig):
    """max_lr, multiplied by gamma at each milestone (a fraction of the training)."""

    _target_: str = "cifar_exp.training.schedule.multistep"
    milestones: list[float] = key("where the learning rate is multiplied by gamma, as fractions of the training")
    gamma: float = key("factor at each milestone")
    warmup_fraction: float = key("fraction of the steps with a linear warm-up", 0.0)


@dataclass
class TriangleConfig(SchedulerConfig):
    """Straight up to max_lr, then straight down."""

    _target_: str = "cifar_exp.training.schedule.triangle"
    peak_at: float = key("where max_lr is reached, as a fraction of the steps")
    start_factor: float = key("first learning rate, relative to max_lr")
    end_factor: float = key("last learning rate, relative to max_lr")


@dataclass
class ConstantConfig(SchedulerConfig):
    """max_lr throughout."""

    _target_: str = "cifar_exp.training.schedule.constant"
    warmup_fraction: float = key("fraction of the steps with a linear warm-up", 0.0)


# --- the whole -----------------------------------------------------------------------------------------
@dataclass
class EvaluationConfig:
    """How the trained network is measured."""

    batch_size: int = key("images in one evaluation batch", 512)
    weights: str = key("weights for the final test figures: last | best", "last")
    gallery_images: int = key("images in figures/misclassified.png", 20)
    published_loss: bool = key("also report the loss as the published run computed it (wrongly)", False)
    test_time_augmentation: str = key("also report the accuracy with TTA: none | mirror | mirror_translate", "none")


@dataclass
class AveragingConfig:
    """Lookahead: weights pulled towards a running average of themselves. ``every_steps: null`` turns it off."""

    every_steps: int | None = key("steps between two updates of the average; null: off", None)
    decay: float = key("decay of the average at the end of training; 0.95 a step over 5 steps is 0.7738", 0.7738)
    power: float = key("power with which the decay rises from 0 over the training", 3.0)


@dataclass
class ExplainConfig:
    """LayerGradCam on test images. ``images=0`` turns it off."""

    images: int = key("explain so many of the most confidently misclassified test images; 0: off", 10)
    indices: list[int] | None = key("explain these test images instead, counted from 0", None)
    layers: list[str] | None = key(
        "layers to explain; null: every layerN whose map is at least minimum_map on each side", None
    )
    minimum_map: int = key("smallest feature map that is explained, in pixels", 5)


@dataclass
class CheckpointConfig:
    """When ``checkpoints/last.pt`` is written; the final epoch is always saved."""

    every_epochs: int = key("save after so many epochs, and after the last", 1)
    every_seconds: float = key("also save within an epoch after so many seconds", 300.0)
    best: bool = key("keep the weights with the best selection accuracy in best.pt", True)


@dataclass
class SweepConfig:
    """How a sweep (``-m``) goes about its jobs; no part of the experiment, so a run's saved config lacks it."""

    plan: bool = key("list the jobs, time a few steps, estimate time and disk; train nothing", False)
    fail_fast: bool = key("start no further job once one has failed", False)


@dataclass
class TrackerConfig:
    """Another place that a run's records are told to."""

    name: str = key("where else the run is logged: none | tensorboard | mlflow", "none")
    store: str | None = key("folder of the MLflow store; TensorBoard writes into the run directory", None)
    experiment: str = key("MLflow's name for what its runs are listed under", "cifar_exp")


@dataclass
class ExperimentConfig:
    """One experiment. ``cifar-exp --cfg job`` shows it composed."""

    name: str = key("name of the run in tables and logs")
    seed: int = key("seed of everything random except the held-out split")
    epochs: int = key("training epochs")
    batch_size: int = key("images in one optimizer step")
    max_lr: Any = key("peak learning rate of every scheduler; auto: found by an LR range test")
    label_smoothing: float = key("label smoothing of the training loss, 0 to 1", 0.0)
    device: str = key("auto | cpu | cuda | mps, or cuda:N", "auto")
    precision: str = key("auto | float32 | bfloat16 (mixed precision)", "auto")
    memory_format: str = key("auto | contiguous | channels_last", "auto")
    compile: bool = key("compile the network by torch.compile", False)
    augment_backend: str = key("who augments: auto | albumentations | device; see docs/augmentation.md", "auto")
    sync_batch_norm: bool = key(
        "several processes on GPUs: normalize by the whole batch, not each process by its shard", False
    )
    deterministic: bool = key("use deterministic algorithms only", True)
    threads: int | None = key("CPU threads; null: PyTorch's choice", None)
    evaluate_test_each_epoch: bool = key("measure the test split after every epoch, not only after the last", False)
    figures: bool = key("write the PNG figures", True)
    report: bool = key("write report.html during the run and at its end", True)
    trust: list[str] = key("packages of your own that the config may call: trust=[PACKAGE]", factory=list)
    model: Any = MISSING
    data: Any = MISSING
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    optimizer: Any = MISSING
    scheduler: Any = MISSING
    averaging: AveragingConfig = field(default_factory=AveragingConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    explain: ExplainConfig = field(default_factory=ExplainConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    sweep: SweepConfig = field(default_factory=SweepConfig)
    tracker: TrackerConfig = field(default_factory=TrackerConfig)


GROUP_SCHEMAS: dict[str, dict[str, Any]] = {
    "model": {"base_resnet": ResNetConfig, "base_resnet9": ResNet9Config, "base_speednet": SpeedNetConfig},
    "data": {
        "base_data": DataConfig,
        "base_cifar": CifarConfig,
        "base_image_folder": ImageFolderConfig,
        "base_image_csv": ImageCsvConfig,
    },
    "augment": {"base_augment": AugmentConfig},
    "optimizer": {"base_sgd": SGDConfig, "base_adamw": AdamWConfig, "base_muon": MuonConfig},
    "scheduler": {
        "base_one_cycle": OneCycleConfig,
        "base_cosine": CosineConfig,
        "base_multistep": MultistepConfig,
        "base_triangle": TriangleConfig,
        "base_constant": ConstantConfig,
    },
    "tracker": {"base_tracker": TrackerConfig},
}

# Every schema that the config's nodes can have, by the node's dotted key.
SCHEMAS: dict[str, list[Any]] = {
    "": [ExperimentConfig],
    **{group: list(schemas.values()) for group, schemas in GROUP_SCHEMAS.items()},
    "augment.low_resolution": [LowResolutionConfig],
    "averaging": [AveragingConfig],
    "evaluation": [EvaluationConfig],
    "explain": [ExplainConfig],
    "checkpoint": [CheckpointConfig],
    "sweep": [SweepConfig],
}

# The schema of a group's node in a saved config, found by what the node would call.
TARGET_SCHEMAS: dict[str, Any] = {
    "cifar_exp.models.resnet18": ResNetConfig,
    "cifar_exp.models.resnet34": ResNetConfig,
    "cifar_exp.models.resnet9": ResNet9Config,
    "cifar_exp.models.speednet": SpeedNetConfig,
    "cifar_exp.data.cifar10": CifarConfig,
    "cifar_exp.data.cifar100": CifarConfig,
    "cifar_exp.data.image_folder": ImageFolderConfig,
    "cifar_exp.data.image_csv": ImageCsvConfig,
    "cifar_exp.data.mnist5k": DataConfig,
    "torch.optim.SGD": SGDConfig,
    "torch.optim.AdamW": AdamWConfig,
    "cifar_exp.training.muon.Muon": MuonConfig,
    "cifar_exp.training.schedule.one_cycle": OneCycleConfig,
    "cifar_exp.training.schedule.cosine": CosineConfig,
    "cifar_exp.training.schedule.multistep": MultistepConfig,
    "cifar_exp.training.schedule.triangle": TriangleConfig,
    "cifar_exp.training.schedule.constant": ConstantConfig,
}


def register_schemas() -> None:
    """Make the schemas known to Hydra; must come before any composition. Calling it again is harmless."""
    store = ConfigStore.instance()
    store.store(name="base_config", node=ExperimentConfig)
    for group, schemas in GROUP_SCHEMAS.items():
        for name, node in schemas.items():
            store.store(group=group, name=name, node=node)
