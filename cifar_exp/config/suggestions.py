"""Suggestions for an unknown name: the nearest known name, or this program's name for a usual one."""

import difflib
from collections.abc import Sequence

_MIXED = "use precision=bfloat16 (mixed precision), float32 or auto"
_WARMUP = "use scheduler.warmup_fraction (scheduler=cosine), or scheduler.pct_start (one_cycle)"
_RESUME = "continue a run with `cifar-exp resume RUN`"


def _by_name(names_by_meaning: dict[str, str]) -> dict[str, str]:
    """The meaning of each name, from the names of each meaning, separated by spaces."""
    return {name: meaning for meaning, names in names_by_meaning.items() for name in names.split()}


# The field's usual names (lower case, underscores), with this program's key or an explanation.
_USUAL = _by_name(
    {
        "max_lr": "lr learning_rate base_lr peak_lr init_lr lr0",
        "optimizer.weight_decay": "wd decay_rate l2",
        "epochs": "num_epochs n_epochs max_epochs nb_epochs epoch total_epochs",
        "batch_size": "bs bsz batch train_batch_size per_device_train_batch_size",
        "evaluation.batch_size": "eval_batch_size val_batch_size test_batch_size",
        "scheduler": "lr_scheduler lr_schedule schedule sched",
        _WARMUP: "warmup warmup_epochs warmup_steps warmup_ratio",
        "optimizer": "opt optim",
        "model": "arch network net backbone model_name",
        "data": "dataset dataset_name data_set",
        "data.root": "data_dir data_path data_root dataroot train_dir",
        "augment": "augmentation augmentations transforms transform aug",
        "seed": "random_seed manual_seed rng_seed",
        "data.workers": "num_workers n_workers workers j",
        "use device=cuda or device=cuda:N": "gpu gpus cuda accelerator gpu_id",
        _MIXED: "amp fp16 bf16 half mixed_precision use_amp dtype",
        "label_smoothing": "smoothing label_smooth",
        "data.validation_fraction": "val_split val_fraction validation_split val_size",
        "data.image_size": "img_size imgsz resolution input_size image_size",
        "data.limit_train": "subset max_samples num_samples limit_train_batches",
        "hydra.run.dir": "output_dir out_dir save_dir output outdir log_dir logdir",
        "checkpoint.every_epochs": "save_every save_freq checkpoint_every save_interval",
        "evaluation.test_time_augmentation": "tta test_time_aug",
        "name": "exp_name run_name experiment_name",
        "optimizer.momentum": "momentum beta1",
        "use memory_format=channels_last": "channels_last",
        "threads": "num_threads n_threads cpus",
        "use tracker=tensorboard, mlflow or wandb": "logger tensorboard mlflow wandb",
        "use averaging=ema": "ema swa model_ema",
        "averaging.decay": "ema_decay ema_momentum",
        _RESUME: "resume resume_from checkpoint_path ckpt_path ckpt",
        "optimizer.clip_grad_norm": "grad_clip clip_grad max_grad_norm gradient_clip_val",
        "mixing.mixup_alpha": "mixup",
        "mixing.cutmix_alpha": "cutmix",
        "early_stopping.patience": "early_stop early_stopping_patience",
        "accumulate": "accumulate_grad_batches grad_accum accumulation_steps",
        "not available: the shipped networks have no dropout": "dropout drop_rate drop_path",
        "use model=torchvision or model=timm with model.pretrained=true": "pretrained",
        "the number of classes is read from the data": "num_classes n_classes",
        "tracker.experiment": "wandb_project",
        "use tracker=NAME or 'tracker=[NAME,NAME]'": "tracker.name",
        "the first line of a file in experiment/ must be `# @package _global_`": "experiment",
    }
)

# Usual names of a group's options.
_USUAL_OPTIONS = {
    "scheduler": _by_name(
        {
            "multistep": "step steplr multisteplr multi_step",
            "cosine": "cosine_annealing cosineannealinglr warmup_cosine",
            "one_cycle": "onecyclelr one_cycle_lr 1cycle",
            "triangle": "linear triangular cyclic",
            "constant": "none null fixed",
        }
    ),
    "optimizer": _by_name({"adamw": "adam", "sgd": "nesterov momentum"}),
    "data": _by_name(
        {
            "mnist5k": "mnist digits",
            "image_folder": "folder imagefolder custom directory",
            "cifar10": "cifar",
        }
    ),
    "augment": _by_name(
        {
            "none": "off no false null",
            "trivialaugment": "trivialaugmentwide trivial_augment trivial",
        }
    ),
    "model": {"resnet": "resnet18"},
}

# Commands of other programs that have another name here, or none.
USUAL_COMMANDS = _by_name(
    {
        "a run needs no command: cifar-exp KEY=VALUE ...": "train run fit start",
        "a sweep is cifar-exp -m KEY=VALUE,VALUE ...": "sweep multirun tune search",
        "did you mean evaluate?": "eval test validate",
        "did you mean resume?": "continue restart",
        "did you mean lr-find?": "find-lr lr_find lrfind lr-finder",
        "did you mean report?": "plot html",
        "the composed config is shown by cifar-exp --cfg job": "config show print",
        "did you mean --help?": "help usage",
    }
)


def usual_name(key: str) -> str | None:
    """This program's key for a usual name, or an explanation; None for an unknown name."""
    return _USUAL.get(key) or _USUAL.get(key.rpartition(".")[2].lower().replace("-", "_"))


def suggest_key(key: str, known: Sequence[str]) -> str:
    """`` (did you mean 'x'?)``, or an empty text if no known key is close."""
    if key in known:
        return "; only another option of its group has it"
    meant = usual_name(key)
    # Parents of the unknown key are no suggestion.
    known = [one for one in known if not key.startswith(f"{one}.")]
    typo = difflib.get_close_matches(key, known, n=1, cutoff=0.85)
    if meant is not None and not typo and meant != key:
        return f"; {meant}" if " " in meant else f" (did you mean {meant!r}?)"
    if found := typo or difflib.get_close_matches(key, known, n=1, cutoff=0.6):
        return f" (did you mean {found[0]!r}?)"
    leaf = key.rpartition(".")[2]
    same = [one for one in known if one.rpartition(".")[2] == leaf][:1]
    return f" (did you mean {same[0]!r}?)" if same else ""


def suggest_for_flag(flag: str, value: str) -> str:
    """A suggestion for an unknown flag."""
    key = flag.lstrip("-").replace("-", "_")
    meant = usual_name(key) or key
    return meant if " " in meant else f"a key is set without dashes: {meant}={value or 'VALUE'}"


def suggest_option(group: str, option: str, known: Sequence[str]) -> str:
    """`` (did you mean 'x'?)`` for an option of a group, or an empty text."""
    meant = _USUAL_OPTIONS.get(group, {}).get(option.lower().replace("-", "_"))
    near = [meant] if meant in known else difflib.get_close_matches(option, known, n=1, cutoff=0.6)
    return f" (did you mean {near[0]!r}?)" if near else ""
