"""A saved run for use: its config, its tables, and its network on images of your own."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from cifar_exp.compute import seeding
from cifar_exp.compute.device import Compute
from cifar_exp.config.parse import changed
from cifar_exp.config.schema import ExperimentConfig
from cifar_exp.data.dataset import Split
from cifar_exp.data.normalize import Normalizer, Statistics
from cifar_exp.data.sources.image_files import read_images
from cifar_exp.data.sources.resize import fit, resize_all
from cifar_exp.errors import RequestError
from cifar_exp.evaluation.metrics import evaluate
from cifar_exp.evaluation.weights import read_weights
from cifar_exp.explain.gradcam import Explainer
from cifar_exp.explain.layers import choose_layers
from cifar_exp.network import build_network
from cifar_exp.run_dir import tables
from cifar_exp.run_dir.saved_run import SavedRun, open_run

# (N, H, W, C) or (N, H, W), or paths or Pillow images.
Images = NDArray[np.uint8] | Sequence[str | Path | Image.Image]


@dataclass(frozen=True)
class TrainedNetwork:
    """A run's network with its weights, and how images become its input."""

    model: nn.Module  # in evaluation mode, on the device
    config: ExperimentConfig  # of the run
    class_names: tuple[str, ...]  # in the order of the logits
    compute: Compute  # device, precision and memory layout
    statistics: Statistics  # of the training images

    @cached_property
    def normalize(self) -> Normalizer:
        """Makes the network's input."""
        return Normalizer(self.statistics, self.compute)

    @property
    def channels(self) -> int:
        """1 (gray) or 3."""
        return len(self.statistics.mean)

    @property
    def image_size(self) -> int:
        """Height and width of an image in pixels."""
        return int(self.config.data.image_size)

    def fitted(self, images: Images) -> NDArray[np.uint8]:
        """Resize images to the size of the network's input, (N, size, size, C).

        Raises:
            RequestError: a file that is no readable image, or an array of another shape or type.
        """
        if isinstance(images, np.ndarray):
            array = images[..., None] if images.ndim == 3 else images
            if array.ndim != 4 or array.dtype != np.uint8 or array.shape[3] not in (1, 3) or 0 in array.shape[1:]:
                raise RequestError(
                    f"images: must be uint8 (N, H, W), (N, H, W, 1) or (N, H, W, 3), not {images.dtype} {images.shape}"
                )
            return in_channels(resize_all(array, self.image_size), self.channels)
        pixels = np.zeros((len(images), self.image_size, self.image_size, 3), np.uint8)
        for place, image in enumerate(images):
            if isinstance(image, Image.Image):
                pixels[place] = np.asarray(fit(image.convert("RGB"), self.image_size))
                continue
            pixels[place : place + 1], problems, _ = read_images([Path(image)], self.image_size, "images")
            if problems:
                raise RequestError(problems[0])
        return in_channels(pixels, self.channels)

    def probabilities(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Softmax probabilities (N, classes) of fitted images, in the batches and the precision of the evaluation."""
        if not len(images):
            return np.zeros((0, len(self.class_names)), np.float32)
        unlabelled = Split(images, np.zeros(len(images), np.int64), np.zeros(len(images), np.str_))
        batch_size = self.config.evaluation.batch_size
        return evaluate(
            self.model, unlabelled, compute=self.compute, normalize=self.normalize, batch_size=batch_size
        ).probabilities

    def gradcam(
        self, images: NDArray[np.uint8], classes: NDArray[np.int64], layer: str | None = None
    ) -> NDArray[np.float32]:
        """Grad-CAM of fitted images, (N, H, W): how much each pixel speaks for the image's class; at least 0.

        ``layer`` names a submodule; None takes the deepest one with a large enough map.

        Raises:
            RequestError: the network has no such layer, or none that can be explained.
        """
        if not len(images):
            return np.zeros(images.shape[:3], np.float32)
        node = replace(self.config.explain, images=1, indices=None, layers=[layer] if layer else None)
        explained = choose_layers(self.model, self.normalize(torch.from_numpy(images[:1])), node)
        if not explained.layers:
            raise RequestError(explained.note or "the network has no layer that Grad-CAM can explain")
        explainer = Explainer(self.model, self.compute, self.normalize, self.config.batch_size, node.infill)
        return explainer.maps(images, classes, explained.layers[-1].name).heat


def in_channels(images: NDArray[np.uint8], channels: int) -> NDArray[np.uint8]:
    """Convert (N, H, W, C) images to gray (1 channel, luma as Pillow computes it) or to RGB (3)."""
    if images.shape[3] == channels:
        return images
    if channels == 3:
        return np.repeat(images, 3, axis=3)
    gray = [np.asarray(Image.fromarray(image).convert("L")) for image in images]
    return np.array(gray, np.uint8).reshape(*images.shape[:3], 1)


def load_network(run: SavedRun, *, weights: str | None = None, device: str | None = None) -> TrainedNetwork:
    """Build a run's network and load its weights. The data set is not needed.

    ``weights`` is the checkpoint, ``last`` or ``best``; None takes the one that the run evaluated. ``device`` is as the
    config's, which None takes.

    Raises:
        RequestError: the checkpoint is missing, is damaged or does not fit; or there is no such device.
    """
    path = run.path / "checkpoints" / f"{weights or run.config.evaluation.weights}.pt"
    checkpoint = read_weights(path)
    config = changed(run.config, {"device": device or run.config.device, "compile": False})
    compute = Compute.choose(config.device, config.precision, config.memory_format)
    channels, size = len(checkpoint.statistics.mean), config.data.image_size
    # Networks may look at training images before they get their weights: noise stands for them.
    noise = np.random.default_rng(0).integers(0, 256, (4, size, size, channels), dtype=np.uint8)
    stand_in = Split(noise, np.zeros(4, np.int64), np.array(["noise"] * 4))
    idle = changed(config, {"augment": {"name": "none"}, "batch_size": 2, "explain.images": 0})
    with seeding.generators_kept(compute.device):
        model, compute, _ = build_network(
            idle, stand_in, checkpoint.statistics, compute, classes=len(checkpoint.class_names)
        )
    checkpoint.load_into(model, path)
    return TrainedNetwork(model.eval(), config, checkpoint.class_names, compute, checkpoint.statistics)


class LoadedRun:
    """A run directory in Python. Nothing in it is executed, and nothing in it is changed.

    Attributes:
        path: the directory.
        state: ``completed``, ``failed``, ``diverged``, ``interrupted``, ``pruned`` or ``running``.
        config: the run's config, typed.
        environment: the content of ``environment.json``.
    """

    def __init__(self, saved: SavedRun, device: str | None = None) -> None:
        self._saved, self._device = saved, device
        self.path, self.state = saved.path, saved.state
        self.config, self.environment = saved.config, saved.environment

    def __repr__(self) -> str:
        return f"LoadedRun({str(self.path)!r}, state={self.state!r})"

    @property
    def tables(self) -> list[str]:
        """Names of the tables that the run has written, such as ``metrics``."""
        return sorted(path.stem for path in self.path.glob("*.csv"))

    def table(self, name: str) -> pd.DataFrame:
        """One of the run's tables, such as ``metrics``, ``summary`` or ``predictions``.

        Raises:
            RequestError: there is no such table, or it cannot be read.
        """
        if name not in self.tables:
            raise RequestError(f"{self.path}: has no table {name!r}; it has {', '.join(self.tables) or 'none'}")
        try:
            return tables.read_table(self.path / f"{name}.csv")
        except (OSError, ValueError) as error:
            raise RequestError(f"{self.path / name}.csv: cannot be read: {error}") from error

    @cached_property
    def network(self) -> TrainedNetwork:
        """The trained network with its preprocessing; built at the first use."""
        return load_network(self._saved, device=self._device)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The class names, in the order of the logits."""
        return self.network.class_names

    def model(self) -> nn.Module:
        """The trained network in evaluation mode; its input is normalized, (N, C, H, W)."""
        return self.network.model

    def probabilities(self, images: Images) -> pd.DataFrame:
        """Softmax probabilities of images of any size, a column for each class."""
        values = self.network.probabilities(self.network.fitted(images))
        return pd.DataFrame(values, columns=list(self.class_names))

    def predict(self, images: Images) -> pd.DataFrame:
        """Predicted class and its probability, as ``prediction`` and ``confidence``; see ``probabilities``."""
        table = self.probabilities(images)
        return pd.DataFrame({"prediction": table.idxmax(axis=1), "confidence": table.max(axis=1).astype(np.float64)})

    def gradcam(
        self, images: Images, classes: Sequence[str] | None = None, layer: str | None = None
    ) -> NDArray[np.float32]:
        """Grad-CAM maps (N, H, W) in the network's image size; at least 0.

        ``classes`` are the classes to explain, one for each image; None explains the predicted ones. ``layer`` names a
        submodule; None takes the deepest one with a large enough map.

        Raises:
            RequestError: there is no such class or layer.
        """
        pixels = self.network.fitted(images)
        if classes is None:
            indices = self.network.probabilities(pixels).argmax(axis=1)
        elif unknown := [name for name in classes if name not in self.class_names]:
            raise RequestError(f"the network has no class {unknown[0]!r}; it has {', '.join(self.class_names[:20])}")
        else:
            indices = np.array([self.class_names.index(name) for name in classes])
        if len(indices) != len(pixels):
            raise RequestError(f"{len(indices)} classes for {len(pixels)} images: one for each is needed")
        return self.network.gradcam(pixels, indices.astype(np.int64), layer)


def load_run(path: str | Path, *, trust: Sequence[str] = (), device: str | None = None) -> LoadedRun:
    """Open a run directory, whatever its state.

    ``trust`` names your own packages that the run's config may call. ``device`` is auto, cpu, cuda or mps; None takes
    the config's.

    Raises:
        RequestError: it is not a run directory, or its config is not allowed.
    """
    return LoadedRun(open_run(Path(path), trust=trust, completed=False), device)
