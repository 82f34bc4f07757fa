"""The typed schema of the configuration: which keys exist, their types and their defaults.

Each option of a config group has a dataclass here and a YAML file in ``conf/GROUP/`` that starts from it
(``defaults: [base_x, _self_]``), so that an unknown key or a wrong type is rejected at composition. The
dataclasses hold the structure; the values a person tunes stand in the YAML files.
"""

from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING


# --- model ---------------------------------------------------------------------------------------------
@dataclass
class ResNetConfig:
    """A torchvision ResNet with the CIFAR stem."""

    _target_: str = MISSING
    name: str = MISSING


@dataclass
class ResNet9Config:
    """The nine-layer residual network; ``width`` is the channel count of its first layer."""

    _target_: str = "cifar_exp.models.resnet9"
    name: str = MISSING
    width: int = MISSING


@dataclass
class SpeedNetConfig:
    """The small network of ``experiment=speedrun``; see ``cifar_exp.models.speednet``."""

    _target_: str = "cifar_exp.models.speednet"
    name: str = MISSING
    widths: list[int] = MISSING
    whitening_epsilon: float = MISSING
    whitening_bias_epochs: int = MISSING
    norm_momentum: float = MISSING
    logit_scale: float = MISSING


# --- data ----------------------------------------------------------------------------------------------
@dataclass
class DataConfig:
    """What every data set shares: size, cache, held-out split, subsets and loading."""

    _target_: str = MISSING
    name: str = MISSING
    image_size: int = 32  # pixels, height and width
    cache: str | None = None  # folder for downloaded and decoded data; null: the user's cache folder
    validation_fraction: float = 0.1  # of the training images, stratified by class
    split_seed: int = 0  # apart from `seed`, so that runs with other seeds share one split
    limit_train: int | None = None  # use only this many training images, stratified (before the split)
    limit_test: int | None = None
    workers: int | None = None  # loader processes; null: 0 on a CPU, up to 4 on a GPU; none where the device augments
    statistics_decimals: int | None = None  # round mean and standard deviation; null: exact


@dataclass
class CifarConfig(DataConfig):
    """CIFAR-10 or CIFAR-100 in the original archive's format."""

    root: str | None = None  # archive, or a folder with the archive or its unpacked batches
    url: str = MISSING
    sha256: str = MISSING


@dataclass
class ImageFolderConfig(DataConfig):
    """Folders of images: ``train/CLASS/*`` with ``test/CLASS/*`` or ``val/CLASS/*``, or ``CLASS/*``."""

    root: str | None = None
    test_fraction: float = 0.2  # of the images, stratified by class, for data without a test split
    test_seed: int = 0  # which images these are


@dataclass
class ImageCsvConfig(ImageFolderConfig):
    """A table of image files and their labels."""

    csv_file: str | None = None  # with a header; an optional column `split` says train or test
    file_column: str = "file"  # paths, relative to root (null: the table's folder)
    label_column: str = "label"


# --- augment -------------------------------------------------------------------------------------------
@dataclass
class LowResolutionConfig:
    """Train the first epochs on smaller images. ``size: null`` turns it off."""

    size: int | None = None  # pixels, height and width, after all transforms
    fraction: float = 0.5  # of the epochs, rounded


@dataclass
class AugmentConfig:
    """Named Albumentations transforms, applied in the order in which they are written."""

    name: str = MISSING
    alternating_flip: bool = False  # mirror each image in every other epoch, half of them in the first
    low_resolution: LowResolutionConfig = field(default_factory=LowResolutionConfig)
    transforms: dict[str, Any] = field(default_factory=dict)


# --- optimizer -----------------------------------------------------------------------------------------
@dataclass
class OptimizerConfig:
    """What every optimizer shares."""

    _target_: str = MISSING
    name: str = MISSING
    weight_decay: float = 0.0
    decay_norms_and_biases: bool = False
    bias_lr_factor: float = 1.0  # learning rate of norms and biases, relative to the others'


@dataclass
class SGDConfig(OptimizerConfig):
    """``torch.optim.SGD``."""

    _target_: str = "torch.optim.SGD"
    momentum: float = 0.9
    nesterov: bool = False
    decoupled: bool = False  # max_lr and weight_decay mean the same whatever the momentum and each other


@dataclass
class AdamWConfig(OptimizerConfig):
    """``torch.optim.AdamW``."""

    _target_: str = "torch.optim.AdamW"
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8


@dataclass
class MuonConfig:
    """``cifar_exp.training.muon.Muon`` for the filters, SGD with Nesterov momentum for the rest."""

    _target_: str = "cifar_exp.training.muon.Muon"
    name: str = MISSING
    momentum: float = MISSING
    weight_decay: float = MISSING  # of heads, norms and biases: their shrinking in a step at max_lr
    sgd_momentum: float = MISSING
    head_lr_factor: float = MISSING  # learning rate of linear layers, relative to the filters'
    bias_lr_factor: float = MISSING


# --- scheduler -----------------------------------------------------------------------------------------
@dataclass
class SchedulerConfig:
    """What every scheduler shares. ``interval`` says after what the schedule moves on by one."""

    _target_: str = MISSING
    name: str = MISSING
    interval: str = "step"  # step | epoch


@dataclass
class OneCycleConfig(SchedulerConfig):
    """One-cycle policy: up to max_lr, then down to about zero."""

    _target_: str = "cifar_exp.training.schedule.one_cycle"
    pct_start: float = MISSING
    div_factor: float = MISSING
    final_div_factor: float = MISSING
    anneal_strategy: str = "cos"  # cos | linear
    cycle_momentum: bool = MISSING
    base_momentum: float = 0.85
    max_momentum: float = 0.95


@dataclass
class CosineConfig(SchedulerConfig):
    """Linear warm-up to max_lr, then half a cosine down to zero."""

    _target_: str = "cifar_exp.training.schedule.cosine"
    warmup_fraction: float = MISSING


@dataclass
class MultistepConfig(SchedulerConfig):
    """max_lr, multiplied by gamma at each milestone (a fraction of the training)."""

    _target_: str = "cifar_exp.training.schedule.multistep"
    milestones: list[float] = MISSING
    gamma: float = MISSING
    warmup_fraction: float = 0.0


@dataclass
class TriangleConfig(SchedulerConfig):
    """Straight up to max_lr, then straight down."""

    _target_: str = "cifar_exp.training.schedule.triangle"
    peak_at: float = MISSING
    start_factor: float = MISSING
    end_factor: float = MISSING


@dataclass
class ConstantConfig(SchedulerConfig):
    """max_lr throughout."""

    _target_: str = "cifar_exp.training.schedule.constant"
    warmup_fraction: float = 0.0


# --- the whole -----------------------------------------------------------------------------------------
@dataclass
class EvaluationConfig:
    """How the trained network is measured."""

    batch_size: int = 512
    weights: str = "last"  # last | best: which weights the final test figures are taken from
    gallery_images: int = 20  # in figures/misclassified.png
    published_loss: bool = False  # also report the loss as the published run computed it (wrongly)
    test_time_augmentation: str = "none"  # none | mirror | mirror_translate: also report the accuracy over these views


@dataclass
class AveragingConfig:
    """Lookahead: weights pulled towards a running average of themselves. ``every_steps: null`` turns it off."""

    every_steps: int | None = None
    decay: float = 0.7738  # of the average at the end of training; 0.95 a step over 5 steps
    power: float = 3.0  # with which the decay grows from 0 over the training


@dataclass
class ExplainConfig:
    """LayerGradCam on test images. ``images=0`` turns it off."""

    images: int = 10  # the most confidently misclassified ones
    indices: list[int] | None = None  # these test images instead (0-based)
    layers: list[str] | None = None  # null: every layerN whose map is at least minimum_map on each side
    minimum_map: int = 1  # pixels
    faithfulness_images: int = 200  # random test images, at most, that test whether the maps matter; 0: no test
    infill: str = "blur"  # blur | mean | road: what replaces hidden pixels; see docs/gradcam.md


@dataclass
class CheckpointConfig:
    """When ``checkpoints/last.pt`` is written; the final epoch is always saved."""

    every_epochs: int = 1
    every_seconds: float = 300.0  # also within an epoch: a run that is killed loses no more than this
    best: bool = True  # keep the weights with the best selection accuracy in best.pt


@dataclass
class SweepConfig:
    """How a sweep (``-m``) goes about its jobs; no part of the experiment, so a run's saved config lacks it."""

    plan: bool = False  # list the jobs, time a few steps, estimate time and disk; train nothing
    fail_fast: bool = False  # start no further job once one has failed


@dataclass
class TrackerConfig:
    """Another place that a run's records are told to."""

    name: str = "none"  # none | tensorboard | mlflow
    store: str | None = None  # MLflow: the folder of the store; TensorBoard writes into the run directory
    experiment: str = "cifar_exp"  # MLflow: the name that its runs are listed under


@dataclass
class ExperimentConfig:
    """One experiment. ``cifar-exp --cfg job`` shows it composed."""

    name: str = MISSING
    seed: int = MISSING
    epochs: int = MISSING
    batch_size: int = MISSING
    max_lr: Any = MISSING  # a number above 0, or auto (see values.wrong_values, which refuses what is neither)
    label_smoothing: float = 0.0
    device: str = "auto"  # auto | cpu | cuda | mps, or cuda:N
    precision: str = "auto"  # auto | float32 | bfloat16
    memory_format: str = "auto"  # auto | contiguous | channels_last
    compile: bool = False
    augment_backend: str = "auto"  # auto | albumentations | device: who augments; see docs/augmentation.md
    sync_batch_norm: bool = False  # several processes on GPUs: normalize by the whole batch, not each by its share
    deterministic: bool = True
    threads: int | None = None  # CPU threads; null: as many as PyTorch chooses
    evaluate_test_each_epoch: bool = False
    figures: bool = True
    report: bool = True  # report.html, for people to look at, while the run goes on and when it has ended
    trust: list[str] = field(default_factory=list)  # packages of your own whose _target_s may be called
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
