"""Suggestions for an unknown name: the nearest known name, or this program's name for a usual one."""

import difflib
from collections.abc import Sequence

from cifar_exp.config.schema import known_keys

_MIXED = "use precision=bfloat16 (mixed precision), float32 or auto"
_WARMUP = "use scheduler.warmup_fraction (scheduler=cosine), or scheduler.pct_start (one_cycle)"
_RESUME = "continue a run with `cifar-exp resume RUN`"

# This program's name of a key, GROUP=OPTION or COMMAND, or an explanation; and the names that are usual elsewhere, in
# lower case and with underscores. The name of a command begins with ">".
_USUAL_NAMES = {
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
    "scheduler=multistep": "scheduler=step scheduler=steplr scheduler=multisteplr scheduler=multi_step",
    "scheduler=cosine": "scheduler=cosine_annealing scheduler=cosineannealinglr scheduler=warmup_cosine",
    "scheduler=one_cycle": "scheduler=onecyclelr scheduler=one_cycle_lr scheduler=1cycle",
    "scheduler=triangle": "scheduler=linear scheduler=triangular scheduler=cyclic",
    "scheduler=constant": "scheduler=none scheduler=null scheduler=fixed",
    "optimizer=adamw": "optimizer=adam",
    "optimizer=sgd": "optimizer=nesterov optimizer=momentum",
    "data=mnist5k": "data=mnist data=digits",
    "data=image_folder": "data=folder data=imagefolder data=custom data=directory",
    "data=cifar10": "data=cifar",
    "augment=none": "augment=off augment=no augment=false augment=null",
    "augment=trivialaugment": "augment=trivialaugmentwide augment=trivial_augment augment=trivial",
    "model=resnet18": "model=resnet",
    "a run needs no command: cifar-exp KEY=VALUE ...": ">train >run >fit >start",
    "a sweep is cifar-exp -m KEY=VALUE,VALUE ...": ">sweep >multirun >tune >search",
    "evaluate": ">eval >test >validate",
    "resume": ">continue >restart",
    "lr-find": ">find_lr >lr_find >lrfind >lr_finder",
    "report": ">plot >html",
    "the composed config is shown by cifar-exp --cfg job": ">config >show >print",
    "--help": ">help >usage",
}
_BY_NAME = {name: meaning for meaning, names in _USUAL_NAMES.items() for name in names.split()}


def _usual(name: str) -> str | None:
    """This program's name for a usual one, or an explanation; None for an unknown name."""
    return _BY_NAME.get(name.lower().replace("-", "_"))


def _hint(meant: str) -> str:
    return f"; {meant}" if " " in meant else f" (did you mean {meant!r}?)"


def unknown_key(key: str) -> str:
    """The error message about a key that the composed config does not have."""
    known = known_keys()
    hint = "; only another option of its group has it" if key in known else suggest_key(key, known)
    if key == "experiment":
        hint = "; the first line of a file in experiment/ must be `# @package _global_`"
    return f"{key}: unknown key{hint}; `cifar-exp --cfg job` lists all"


def suggest_key(key: str, known: Sequence[str]) -> str:
    """`` (did you mean 'x'?)``, or an empty text if no known key is close."""
    leaf = key.rpartition(".")[2]
    meant = _usual(key) or _usual(leaf)
    known = [one for one in known if not key.startswith(f"{one}.")]  # without the parents of the key
    typo = difflib.get_close_matches(key, known, n=1, cutoff=0.85)
    if meant is not None and not typo and meant != key:
        return _hint(meant)
    same_leaf = [one for one in known if one.rpartition(".")[2] == leaf]
    found = typo or difflib.get_close_matches(key, known, n=1, cutoff=0.6) or same_leaf
    return _hint(found[0]) if found else ""


def suggest_for_flag(flag: str, value: str) -> str:
    """A suggestion for an unknown flag."""
    key = flag.lstrip("-").replace("-", "_")
    meant = _usual(key) or key
    return meant if " " in meant else f"a key is set without dashes: {meant}={value or 'VALUE'}"


def suggest_option(group: str, option: str, known: Sequence[str]) -> str:
    """`` (did you mean 'x'?)`` for an option of a group, or an empty text."""
    meant = (_usual(f"{group}={option}") or "").rpartition("=")[2]
    near = [meant] if meant in known else difflib.get_close_matches(option, known, n=1, cutoff=0.6)
    return _hint(near[0]) if near else ""


def suggest_command(name: str, commands: Sequence[str]) -> str:
    """A hint for an unknown command: a command or a key."""
    if name in known_keys():
        return f"; a key needs a value: {name}=VALUE"
    meant = _usual(f">{name}")
    return _hint(meant) if meant else suggest_key(name, [*commands, *known_keys()])
