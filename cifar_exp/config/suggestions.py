"""Suggestions for an unknown name: the nearest known name, or this program's name for a usual one."""

import difflib
from collections.abc import Sequence

_MIXED = "use precision=bfloat16 (mixed precision), float32 or auto"
_WARMUP = "use scheduler.warmup_fraction (scheduler=cosine), or scheduler.pct_start (one_cycle)"
_RESUME = "continue a run with `cifar-exp resume RUN`"

# The field's usual names (lower case, underscores), with this program's key or an explanation.
_USUAL = {
    **dict.fromkeys(("lr", "learning_rate", "base_lr", "peak_lr", "init_lr", "lr0"), "max_lr"),
    **dict.fromkeys(("wd", "decay_rate", "l2"), "optimizer.weight_decay"),
    **dict.fromkeys(("num_epochs", "n_epochs", "max_epochs", "nb_epochs", "epoch", "total_epochs"), "epochs"),
    **dict.fromkeys(("bs", "bsz", "batch", "train_batch_size", "per_device_train_batch_size"), "batch_size"),
    **dict.fromkeys(("eval_batch_size", "val_batch_size", "test_batch_size"), "evaluation.batch_size"),
    **dict.fromkeys(("lr_scheduler", "lr_schedule", "schedule", "sched"), "scheduler"),
    **dict.fromkeys(("warmup", "warmup_epochs", "warmup_steps", "warmup_ratio"), _WARMUP),
    **dict.fromkeys(("opt", "optim"), "optimizer"),
    **dict.fromkeys(("arch", "network", "net", "backbone", "model_name"), "model"),
    **dict.fromkeys(("dataset", "dataset_name", "data_set"), "data"),
    **dict.fromkeys(("data_dir", "data_path", "data_root", "dataroot", "train_dir"), "data.root"),
    **dict.fromkeys(("augmentation", "augmentations", "transforms", "transform", "aug"), "augment"),
    **dict.fromkeys(("random_seed", "manual_seed", "rng_seed"), "seed"),
    **dict.fromkeys(("num_workers", "n_workers", "workers", "j"), "data.workers"),
    **dict.fromkeys(("gpu", "gpus", "cuda", "accelerator", "gpu_id"), "use device=cuda or device=cuda:N"),
    **dict.fromkeys(("amp", "fp16", "bf16", "half", "mixed_precision", "use_amp", "dtype"), _MIXED),
    **dict.fromkeys(("smoothing", "label_smooth"), "label_smoothing"),
    **dict.fromkeys(("val_split", "val_fraction", "validation_split", "val_size"), "data.validation_fraction"),
    **dict.fromkeys(("img_size", "imgsz", "resolution", "input_size", "image_size"), "data.image_size"),
    **dict.fromkeys(("subset", "max_samples", "num_samples", "limit_train_batches"), "data.limit_train"),
    **dict.fromkeys(("output_dir", "out_dir", "save_dir", "output", "outdir", "log_dir", "logdir"), "hydra.run.dir"),
    **dict.fromkeys(("save_every", "save_freq", "checkpoint_every", "save_interval"), "checkpoint.every_epochs"),
    **dict.fromkeys(("tta", "test_time_aug"), "evaluation.test_time_augmentation"),
    **dict.fromkeys(("exp_name", "run_name", "experiment_name"), "name"),
    **dict.fromkeys(("momentum", "beta1"), "optimizer.momentum"),
    **dict.fromkeys(("channels_last",), "use memory_format=channels_last"),
    **dict.fromkeys(("num_threads", "n_threads", "cpus"), "threads"),
    **dict.fromkeys(("logger", "tensorboard", "mlflow", "wandb"), "use tracker=tensorboard, mlflow or wandb"),
    **dict.fromkeys(("ema", "swa", "model_ema"), "use averaging=ema"),
    **dict.fromkeys(("ema_decay", "ema_momentum"), "averaging.decay"),
    **dict.fromkeys(("resume", "resume_from", "checkpoint_path", "ckpt_path", "ckpt"), _RESUME),
    **dict.fromkeys(("grad_clip", "clip_grad", "max_grad_norm", "gradient_clip_val"), "optimizer.clip_grad_norm"),
    "mixup": "mixing.mixup_alpha",
    "cutmix": "mixing.cutmix_alpha",
    **dict.fromkeys(("early_stop", "early_stopping_patience"), "early_stopping.patience"),
    **dict.fromkeys(("accumulate_grad_batches", "grad_accum", "accumulation_steps"), "accumulate"),
    **dict.fromkeys(("dropout", "drop_rate", "drop_path"), "not available: the shipped networks have no dropout"),
    **dict.fromkeys(("pretrained",), "use model=torchvision or model=timm with model.pretrained=true"),
    **dict.fromkeys(("num_classes", "n_classes"), "the number of classes is read from the data"),
    "wandb_project": "tracker.experiment",
    "tracker.name": "use tracker=NAME or 'tracker=[NAME,NAME]'",
}

# Usual names of a group's options.
_USUAL_OPTIONS = {
    "scheduler": {
        **dict.fromkeys(("step", "steplr", "multisteplr", "multi_step"), "multistep"),
        **dict.fromkeys(("cosine_annealing", "cosineannealinglr", "warmup_cosine"), "cosine"),
        **dict.fromkeys(("onecyclelr", "one_cycle_lr", "1cycle"), "one_cycle"),
        **dict.fromkeys(("linear", "triangular", "cyclic"), "triangle"),
        **dict.fromkeys(("none", "null", "fixed"), "constant"),
    },
    "optimizer": {"adam": "adamw", "nesterov": "sgd", "momentum": "sgd"},
    "data": {
        **dict.fromkeys(("mnist", "digits"), "mnist5k"),
        **dict.fromkeys(("folder", "imagefolder", "custom", "directory"), "image_folder"),
        "cifar": "cifar10",
    },
    "augment": {
        **dict.fromkeys(("off", "no", "false", "null"), "none"),
        **dict.fromkeys(("trivialaugmentwide", "trivial_augment", "trivial"), "trivialaugment"),
    },
    "model": {"resnet": "resnet18"},
}

# Commands of other programs that have another name here, or none.
USUAL_COMMANDS = {
    **dict.fromkeys(("train", "run", "fit", "start"), "a run needs no command: cifar-exp KEY=VALUE ..."),
    **dict.fromkeys(("sweep", "multirun", "tune", "search"), "a sweep is cifar-exp -m KEY=VALUE,VALUE ..."),
    **dict.fromkeys(("eval", "test", "validate"), "did you mean evaluate?"),
    **dict.fromkeys(("continue", "restart"), "did you mean resume?"),
    **dict.fromkeys(("find-lr", "lr_find", "lrfind", "lr-finder"), "did you mean lr-find?"),
    **dict.fromkeys(("plot", "html"), "did you mean report?"),
    **dict.fromkeys(("config", "show", "print"), "the composed config is shown by cifar-exp --cfg job"),
    **dict.fromkeys(("help", "usage"), "did you mean --help?"),
}


def usual_name(key: str) -> str | None:
    """This program's key for a usual name, or an explanation; None for an unknown name."""
    return _USUAL.get(key) or _USUAL.get(_plain(key.rpartition(".")[2]))


def _is_name(meant: str) -> bool:
    return " " not in meant


def _plain(name: str) -> str:
    return name.lower().replace("-", "_")


def suggest_key(key: str, known: Sequence[str]) -> str:
    """`` (did you mean 'x'?)``, or an empty text if no known key is close."""
    if key in known:  # a known key that must not be removed
        return ""
    meant = usual_name(key)
    # Parents of the unknown key are no suggestion.
    known = [one for one in known if not key.startswith(f"{one}.")]
    typo = difflib.get_close_matches(key, known, n=1, cutoff=0.85)
    if meant is not None and not typo and meant != key:
        return f" (did you mean {meant!r}?)" if _is_name(meant) else f"; {meant}"
    if found := typo or difflib.get_close_matches(key, known, n=1, cutoff=0.6):
        return f" (did you mean {found[0]!r}?)"
    leaf = key.rpartition(".")[2]
    same = [one for one in known if one.rpartition(".")[2] == leaf][:1]
    return f" (did you mean {same[0]!r}?)" if same else ""


def suggest_for_flag(flag: str, value: str) -> str:
    """A suggestion for an unknown flag."""
    key = flag.lstrip("-").replace("-", "_")
    meant = usual_name(key) or key
    return f"a key is set without dashes: {meant}={value or 'VALUE'}" if _is_name(meant) else meant


def suggest_option(group: str, option: str, known: Sequence[str]) -> str:
    """`` (did you mean 'x'?)`` for an option of a group, or an empty text."""
    meant = _USUAL_OPTIONS.get(group, {}).get(_plain(option))
    near = [meant] if meant in known else difflib.get_close_matches(option, known, n=1, cutoff=0.6)
    return f" (did you mean {near[0]!r}?)" if near else ""
