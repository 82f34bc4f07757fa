"""The sides of ``peers.py``, each for a process of its own: they import what they need when they run."""

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

from measuring import overrides_for_synthetic_data
from sides import Stopwatch

BATCH, MAX_LR, MOMENTUM, WEIGHT_DECAY = 128, 0.1, 0.9, 5e-4
PCT_START, DIV_FACTOR = 0.3, 10  # of the one-cycle schedule
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616)
MODELS: dict[str, dict[str, int]] = {"resnet18": {}, "resnet9": {"width": 32}}
TRAIN, TEST = 50_000, 10_000  # random images


def ours_side(options: argparse.Namespace, watch: Stopwatch) -> None:
    """A run by the Python API, as docs/python.md shows."""
    import cifar_exp
    from cifar_exp.training import fit, recorder, step

    train_epoch, take_step = fit.train_epoch, step.TrainingStep.__call__
    append = recorder.Recorder.append

    def watched_epoch(*args: Any, **options: Any) -> Any:
        watch.start_epoch()
        result = train_epoch(*args, **options)
        watch.end_epoch(result.images)
        return result

    def watched_step(*args: Any, **options: Any) -> Any:
        result = take_step(*args, **options)
        step.TrainingStep.__call__ = take_step
        watch.end_step()
        return result

    def watched_rows(self: recorder.Recorder, table: str, rows: Any) -> None:
        append(self, table, rows)
        if table == "metrics.csv":
            watch.evaluated(rows[0]["test_accuracy"] or 0.0)

    fit.train_epoch, step.TrainingStep.__call__ = watched_epoch, watched_step
    recorder.Recorder.append = watched_rows
    folder = Path(options.folder)
    data = overrides_for_synthetic_data()
    if options.data:
        data = ["data=image_folder", f"data.root={options.data}", f"data.cache={folder / 'cache'}"]
    overrides = [
        *data,
        f"model={options.model}",
        f"data.limit_train={options.train_images}",
        f"data.limit_test={'null' if options.accuracy else BATCH}",
        "data.validation_fraction=0",
        f"evaluate_test_each_epoch={str(options.accuracy > 0).lower()}",
        f"epochs={options.epochs}",
        f"batch_size={BATCH}",
        f"max_lr={MAX_LR}",
        f"scheduler.pct_start={PCT_START}",
        f"scheduler.div_factor={DIV_FACTOR}",
        f"optimizer.weight_decay={WEIGHT_DECAY}",
        "optimizer.decay_norms_and_biases=true",
        "augment.transforms.pad.fill=0",
        "~augment.transforms.cutout",
        f"device={options.device}",
        f"precision={options.precision}",
        "figures=false",
        "report=false",
        "explain.images=0",
        "checkpoint.best=false",
    ]
    cifar_exp.run(cifar_exp.compose(overrides), Path(tempfile.mkdtemp(dir=folder)) / "run")


class Pixels:
    """Random images in memory, handed out like those of torchvision's CIFAR10; the same ones as ours."""

    classes = tuple(range(10))

    def __init__(self, count: int, size: int, seed: int) -> None:
        import numpy as np

        generator = np.random.default_rng(seed)
        self.images = generator.integers(0, 256, (size, 32, 32, 3), dtype=np.uint8)[:count]
        self.transform: Any = None

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        from PIL import Image

        return self.transform(Image.fromarray(self.images[index])), index % 10


def datasets_for_peers(options: argparse.Namespace) -> tuple[Any, Any]:
    """Training and test images, without transforms."""
    if not options.data:
        return Pixels(options.train_images, TRAIN, 0), Pixels(TEST, TEST, 1)
    import torch
    from torchvision.datasets import ImageFolder

    train = ImageFolder(f"{options.data}/train")
    chosen = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))[: options.train_images]
    train.samples = train.imgs = [train.samples[index] for index in chosen]
    return train, ImageFolder(f"{options.data}/test")


def network(options: argparse.Namespace, classes: int) -> Any:
    """Our network, in the memory layout that goes with the precision."""
    import torch

    from cifar_exp import models

    layout = torch.channels_last if options.precision == "bfloat16" else torch.contiguous_format
    made = getattr(models, options.model)(num_classes=classes, in_channels=3, **MODELS[options.model])
    return made.to(memory_format=layout)


def lightning_side(options: argparse.Namespace, watch: Stopwatch) -> None:
    """A LightningModule and the Trainer, with its default logger, checkpoints and progress bar."""
    try:
        import lightning as L
    except ImportError:
        import pytorch_lightning as L
    import torch
    from torch.nn import functional as F
    from torch.utils.data import DataLoader
    from torchvision import transforms

    class Classifier(L.LightningModule):
        def __init__(self, model: torch.nn.Module) -> None:
            super().__init__()
            self.model = model

        def training_step(self, batch: Any, batch_index: int) -> torch.Tensor:
            images, labels = batch
            loss = F.cross_entropy(self.model(images), labels)
            self.log("train_loss", loss, prog_bar=True)
            return loss

        def validation_step(self, batch: Any, batch_index: int) -> None:
            images, labels = batch
            self.log("accuracy", (self.model(images).argmax(1) == labels).float().mean(), prog_bar=True)

        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.SGD(
                self.parameters(), lr=MAX_LR, momentum=MOMENTUM, nesterov=True, weight_decay=WEIGHT_DECAY
            )
            steps = int(self.trainer.estimated_stepping_batches)
            scheduler = torch.optim.lr_scheduler.OneCycleLR(
                optimizer, MAX_LR, total_steps=steps, pct_start=PCT_START, div_factor=DIV_FACTOR
            )
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    class Watch(L.Callback):
        def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
            watch.start_epoch()

        def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_index: int) -> None:
            watch.end_step()
            if batch_index + 1 == trainer.num_training_batches:
                watch.end_epoch(BATCH * trainer.num_training_batches)

        def on_validation_end(self, trainer: Any, module: Any) -> None:
            if not trainer.sanity_checking:
                watch.evaluated(float(trainer.callback_metrics["accuracy"]))

    train, test = datasets_for_peers(options)
    to_tensor = [transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
    crop, flip = transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip()
    train.transform, test.transform = transforms.Compose([crop, flip, *to_tensor]), transforms.Compose(to_tensor)
    how = {
        "num_workers": options.workers,
        "persistent_workers": options.workers > 0,
        "pin_memory": options.device == "cuda",
    }
    trainer = L.Trainer(
        max_epochs=options.epochs,
        accelerator="gpu" if options.device == "cuda" else "cpu",
        devices=1,
        precision="bf16-mixed" if options.precision == "bfloat16" else "32-true",
        benchmark=True,
        default_root_dir=tempfile.mkdtemp(dir=options.folder),
        callbacks=[Watch()],
    )
    loader = DataLoader(train, batch_size=BATCH, shuffle=True, drop_last=True, **how)
    tests = DataLoader(test, batch_size=512, **how) if options.accuracy else None
    trainer.fit(Classifier(network(options, len(train.classes))), loader, tests)


def timm_side(options: argparse.Namespace, watch: Stopwatch) -> None:
    """A loop like that of timm's own training program, with its loader, optimizer and schedule."""
    import torch
    from timm.data import create_loader
    from timm.optim import create_optimizer_v2
    from timm.scheduler import CosineLRScheduler
    from torch.nn import functional as F
    from torchvision import transforms

    device = torch.device(options.device)
    torch.backends.cudnn.benchmark = True
    train, test = datasets_for_peers(options)
    how = {"mean": MEAN, "std": STD, "num_workers": options.workers, "device": device}
    how |= {"input_size": (3, 32, 32), "pin_memory": options.device == "cuda"}
    loader = create_loader(train, batch_size=BATCH, is_training=True, **how)
    tests = create_loader(test, batch_size=512, **how)
    # timm's own transforms resize at random; small images get a crop with padding. The loader normalizes.
    crop, flip = transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip()
    train.transform = transforms.Compose([crop, flip, transforms.PILToTensor()])
    test.transform = transforms.PILToTensor()
    model = network(options, len(train.classes)).to(device)
    optimizer = create_optimizer_v2(
        model, opt="sgd", lr=MAX_LR, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY, filter_bias_and_bn=False
    )  # its "sgd" has Nesterov momentum
    steps = options.epochs * len(loader)
    scheduler = CosineLRScheduler(
        optimizer,
        t_initial=steps - round(PCT_START * steps),
        warmup_t=round(PCT_START * steps),
        warmup_lr_init=MAX_LR / DIV_FACTOR,
        warmup_prefix=True,
        t_in_epochs=False,
    )
    bfloat16 = options.precision == "bfloat16"

    def forward(images: torch.Tensor) -> torch.Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
            return model(images.contiguous(memory_format=torch.channels_last) if bfloat16 else images)

    updates = 0
    for _ in range(options.epochs):
        model.train()
        watch.start_epoch()
        for images, labels in loader:
            loss = F.cross_entropy(forward(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            updates += 1
            scheduler.step_update(num_updates=updates)
            watch.end_step()
            if updates % 50 == 0:
                print(f"update {updates}, loss {loss.item():.4f}", file=sys.stderr)
        watch.end_epoch(BATCH * len(loader))
        if options.accuracy:
            model.eval()
            with torch.no_grad():
                correct = sum((forward(images).argmax(1) == labels).sum() for images, labels in tests)
            watch.evaluated(float(correct) / len(test))


SIDES = {"ours": ours_side, "lightning": lightning_side, "timm": timm_side}
