"""The values that a configuration may hold, where its types alone do not tell."""

import math
import re
from typing import Any

from cifar_exp.safe_io.untrusted import address_problem

AUTO = "auto"  # max_lr's value where a range test is to find it

_DEVICES = ("auto", "cpu", "cuda", "mps")
_CHOICES = {
    "precision": ("auto", "float32", "bfloat16"),
    "memory_format": ("auto", "contiguous", "channels_last"),
    "augment_backend": ("auto", "albumentations", "device"),
    "scheduler.interval": ("step", "epoch"),
    "scheduler.anneal_strategy": ("cos", "linear"),
    "evaluation.weights": ("last", "best"),
    "tracker.name": ("none", "tensorboard", "mlflow"),
    "explain.infill": ("blur", "mean", "road"),
    "evaluation.test_time_augmentation": ("none", "mirror", "mirror_translate"),
}
# key: (lowest, highest); None is open. A key that a composed config lacks, or that is null, is skipped.
_AT_LEAST: dict[str, tuple[float | None, float | None]] = {
    "seed": (0, 2**63 - 1),
    "epochs": (1, None),
    "batch_size": (1, None),
    "threads": (1, None),
    "label_smoothing": (0, 1),
    "model.width": (1, None),
    "model.norm_momentum": (0, 1),
    "model.whitening_bias_epochs": (0, None),
    "data.image_size": (4, 1024),
    "data.split_seed": (0, 2**63 - 1),
    "data.test_seed": (0, 2**63 - 1),
    "data.limit_train": (1, None),
    "data.limit_test": (1, None),
    "data.workers": (0, None),
    "data.statistics_decimals": (0, 15),
    "augment.low_resolution.size": (4, 1024),
    "augment.low_resolution.fraction": (0, 1),
    "optimizer.weight_decay": (0, None),
    "optimizer.momentum": (0, 1),
    "optimizer.sgd_momentum": (0, 1),
    "scheduler.pct_start": (0, 1),
    "scheduler.start_factor": (0, 1),
    "scheduler.end_factor": (0, 1),
    "scheduler.warmup_fraction": (0, 1),
    "scheduler.base_momentum": (0, 1),
    "scheduler.max_momentum": (0, 1),
    "averaging.every_steps": (1, None),
    "averaging.decay": (0, 1),
    "averaging.power": (0, None),
    "evaluation.batch_size": (1, None),
    "evaluation.gallery_images": (0, 200),
    "explain.images": (0, 200),
    "explain.minimum_map": (1, None),
    "explain.faithfulness_images": (0, None),
    "checkpoint.every_epochs": (1, None),
}
_MOST_CHANNELS = 1_000_000
_LARGEST = 1e30  # single precision ends at 3.4e38, and numbers are multiplied
# Far beyond use; what is larger ends the program, or its user's patience, before the first step.
_AT_MOST = {
    "epochs": 1_000_000,
    "batch_size": 1_000_000,
    "threads": 256,
    "model.width": _MOST_CHANNELS,
    "data.workers": 128,
    "evaluation.batch_size": 1_000_000,
}
_ABOVE_ZERO = (
    "model.whitening_epsilon",
    "model.logit_scale",
    "optimizer.eps",
    "optimizer.bias_lr_factor",
    "optimizer.head_lr_factor",
    "scheduler.div_factor",
    "scheduler.final_div_factor",
    "scheduler.gamma",
    "checkpoint.every_seconds",
)
_LISTS_OF: dict[tuple[str, str], tuple[type | tuple[type, ...], str]] = {
    ("explain", "indices"): (int, "whole numbers"),
    ("explain", "layers"): (str, "names"),
    ("model", "widths"): (int, "whole numbers"),
    ("scheduler", "milestones"): ((int, float), "numbers"),
}


def wrong_values(config: dict[str, Any], leaves: dict[str, Any]) -> list[str]:
    """A line for each wrong value: what it is, what is allowed.

    Args:
        config: a resolved configuration.
        leaves: its leaves by dotted key.
    """
    # A group of the user's own has no schema, so a number's type is not known before here.
    problems = [
        f"{key}={leaves[key]}: must be a number"
        for key in (*_ABOVE_ZERO, *_AT_LEAST)
        if leaves.get(key) is not None and not isinstance(leaves[key], int | float)
    ]
    for (group, name), (kind, what) in _LISTS_OF.items():
        items = config[group].get(name)
        # OmegaConf lets a list pass for a number in a list.
        if isinstance(items, list) and not all(isinstance(item, kind) for item in items):
            problems.append(f"{group}.{name}={items}: must be a list of {what}")
    if problems:
        return problems
    problems += [
        f"{key}={leaves[key]}: must be a finite number above 0"
        for key in _ABOVE_ZERO
        if leaves.get(key) is not None and not (math.isfinite(leaves[key]) and leaves[key] > 0)
    ]
    numbers = {key: leaves[key] for key in (*_ABOVE_ZERO, "max_lr") if isinstance(leaves.get(key), int | float)}
    problems += [
        f"{key}={value}: must be between {1 / _LARGEST:g} and {_LARGEST:g}"
        for key, value in numbers.items()
        if 0 < value < 1 / _LARGEST or _LARGEST < value < math.inf
    ]
    max_lr = config["max_lr"]
    is_number = isinstance(max_lr, int | float) and not isinstance(max_lr, bool)
    if max_lr != AUTO and not (is_number and math.isfinite(max_lr) and max_lr > 0):
        problems.append(f"max_lr={max_lr}: must be a finite number above 0, or {AUTO} (a range test finds it)")
    for key, (low, high) in _AT_LEAST.items():
        value = leaves.get(key)
        if value is not None and not ((low is None or value >= low) and (high is None or value <= high)):
            wanted = f"at least {low}" if high is None else f"between {low} and {high}"
            problems.append(f"{key}={value}: must be {wanted}")
        elif value is not None and value > _LARGEST:
            problems.append(f"{key}={value}: must be a finite number, at most {_LARGEST:g}")
    problems += [
        f"{key}={leaves[key]}: must be at most {most}"
        for key, most in _AT_MOST.items()
        if leaves.get(key) is not None and leaves[key] > most
    ]
    for key, choices in _CHOICES.items():
        if leaves.get(key) is not None and leaves[key] not in choices:
            problems.append(f"{key}={leaves[key]}: must be one of {', '.join(choices)}")
    fraction = config["data"].get("validation_fraction", 0.0)
    if not 0 <= fraction < 1:
        problems.append(f"data.validation_fraction={fraction}: must be at least 0 and below 1")
    test_fraction = config["data"].get("test_fraction", 0.5)
    if not (isinstance(test_fraction, int | float) and 0 < test_fraction < 1):
        problems.append(f"data.test_fraction={test_fraction}: must be above 0 and below 1")
    device = config["device"]
    if device not in _DEVICES and not (re.fullmatch(r"cuda:[0-9]{1,3}", device)):
        problems.append(f"device={device}: must be one of {', '.join(_DEVICES)} or cuda:N")
    sha256 = config["data"].get("sha256")
    if sha256 is not None and not re.fullmatch("[0-9a-f]{64}", sha256):
        problems.append(f"data.sha256={sha256}: must be 64 hexadecimal digits in lower case")
    url = config["data"].get("url")
    if url and (problem := address_problem(str(url))):
        problems.append(f"data.url={url}: {problem}")
    milestones = config["scheduler"].get("milestones")
    if milestones is not None and not all(0 < m < 1 for m in milestones):
        problems.append(f"scheduler.milestones={milestones}: each must be above 0 and below 1")
    if leaves["tracker.name"] == "mlflow" and config["tracker"]["store"] is None:
        problems.append("tracker.store=null: MLflow needs a folder; the default is outputs/mlflow")
    peak_at = config["scheduler"].get("peak_at")
    if peak_at is not None and not 0 <= peak_at < 1:
        problems.append(f"scheduler.peak_at={peak_at}: must be at least 0 and below 1")
    widths = config["model"].get("widths")
    if widths is not None and not (len(widths) == 3 and min(widths) >= 1 and max(widths) <= _MOST_CHANNELS):
        problems.append(f"model.widths={widths}: must be three numbers of channels, each from 1 to {_MOST_CHANNELS}")
    if config["optimizer"].get("decoupled") and "momentum" not in config["optimizer"]:
        problems.append("optimizer.decoupled=true: needs optimizer.momentum")
    elif config["optimizer"].get("decoupled") and config["optimizer"]["momentum"] == 1:
        problems.append("optimizer.momentum=1: must be below 1 where optimizer.decoupled=true")
    if config["evaluation"]["weights"] == "best" and not config["checkpoint"]["best"]:
        problems.append("evaluation.weights=best: needs checkpoint.best=true")
    if config["evaluation"]["weights"] == "best" and fraction == 0 and not config["evaluate_test_each_epoch"]:
        problems.append(
            "evaluation.weights=best: there is nothing to select on; set data.validation_fraction above 0 "
            "or evaluate_test_each_epoch=true"
        )
    problems += [f"explain.indices={i}: image numbers start at 0" for i in config["explain"]["indices"] or [] if i < 0]
    return problems
