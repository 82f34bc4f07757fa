"""``cifar-exp export RUN``: a run's network as a file that needs neither the run nor this package."""

import argparse
import json
import logging
from importlib.util import find_spec

import numpy as np
import torch
from numpy.typing import NDArray

from cifar_exp import __version__
from cifar_exp.cli.export_formats import FORMATS, Format, Run
from cifar_exp.compute import seeding
from cifar_exp.config.parse import as_containers
from cifar_exp.config.resolved import saved_hash
from cifar_exp.errors import DONE, FAILED, RequestError, in_a_line
from cifar_exp.loaded_run import TrainedNetwork, load_network
from cifar_exp.models.classifier import Classifier
from cifar_exp.run_dir import kept_images
from cifar_exp.run_dir.saved_run import SavedRun, new_output, open_run
from cifar_exp.safe_io import atomic
from cifar_exp.safe_io.plural import plural

log = logging.getLogger(__name__)

_TOLERANCE = 1e-4  # largest allowed difference of a probability
_NOISE_IMAGES = 64
_BATCH = 64


def main(options: argparse.Namespace) -> int:
    """Run the command; returns 0, or 1 if the exported network's outputs differ from the run's.

    Raises:
        RequestError: the request itself is wrong.
    """
    kind: Format = FORMATS[options.format]
    if missing := [package for package in kind.packages if find_spec(package) is None]:
        raise RequestError(
            f"--format {options.format}: requires an optional dependency ({', '.join(missing)}): "
            "pip install 'cifar-exp[export]'"
        )
    run = open_run(options.run, trust=options.trust)
    path = new_output(options.out, "exports", f"model{kind.suffix}")
    network = load_network(run, weights=options.weights, device="cpu")
    seeding.set_threads(network.config.threads)
    classifier = Classifier(
        network.model.to(memory_format=torch.contiguous_format), network.statistics.mean, network.statistics.std
    ).eval()
    images, indices = _test_images(run, network)
    try:
        content = kind.write(classifier, images[:2], _metadata(run, network, options.weights))
    except Exception as error:  # an exporter raises errors of any type
        raise RequestError(
            f"{run.path}: its network cannot be exported as {options.format}: {in_a_line(error)}; "
            "use --format safetensors to export only the weights"
        ) from error
    expected, found = _probabilities(classifier, images), _probabilities(kind.read(content, classifier), images)
    if not _same(expected, found, "test images of the run" if indices is not None else "noise images"):
        return FAILED
    if indices is not None:
        _compare_with_predictions_csv(run, network, found, indices)
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic.write_bytes(path, content)
    size, channels = network.image_size, network.channels
    log.info("Input: uint8 images (N, %d, %d, %d), 0 to 255, N of any size", channels, size, size)
    log.info("Written to %s (%.1f MB)", path, len(content) / 1e6)
    return DONE


def _metadata(run: SavedRun, network: TrainedNetwork, weights: str | None) -> dict[str, str]:
    """What a user of the file needs to know; lists and mappings as JSON."""
    node = as_containers(network.config.model)
    node = {key: value for key, value in node.items() if key not in ("weights", "pretrained")}
    size, colour = network.image_size, "RGB" if network.channels == 3 else "gray"
    return {
        "name": network.config.name,
        "class_names": json.dumps(network.class_names, ensure_ascii=False),
        "image_size": str(size),
        "input": f"images: uint8 (N, {network.channels}, {size}, {size}), {colour}, 0 to 255",
        "output": f"probabilities: float32 (N, {len(network.class_names)})",
        "mean": json.dumps(network.statistics.mean),
        "std": json.dumps(network.statistics.std),
        "model": json.dumps(node),
        "weights": weights or network.config.evaluation.weights,
        "config_hash": saved_hash(run.path / "config_resolved.yaml"),
        "cifar_exp": __version__,
    }


def _test_images(run: SavedRun, network: TrainedNetwork) -> tuple[torch.Tensor, NDArray[np.int64] | None]:
    """The run's stored test images (N, C, H, W), their indices in the test split; otherwise random noise and None."""
    size, channels = network.image_size, network.channels
    try:
        kept = kept_images.read_images(run.path / kept_images.FILE)
    except (OSError, ValueError):
        kept = None
    if kept is not None and len(kept.image) >= 2 and kept.image.shape[1:] == (size, size, channels):
        return torch.from_numpy(kept.image).permute(0, 3, 1, 2).contiguous(), kept.index
    noise = np.random.default_rng(0).integers(0, 256, (_NOISE_IMAGES, channels, size, size), dtype=np.uint8)
    return torch.from_numpy(noise), None


@torch.no_grad()
def _probabilities(run: Run, images: torch.Tensor) -> torch.Tensor:
    # Two sizes of batches, as the last one is smaller: the size must not matter.
    return torch.cat([run(part) for part in images.split(_BATCH - 1)])


def _same(expected: torch.Tensor, found: torch.Tensor, what: str) -> bool:
    """Whether the file computes what PyTorch does in float32; logs the largest difference."""
    largest = float((expected - found).abs().max())
    changed = int((expected.argmax(1) != found.argmax(1)).sum())
    same = largest <= _TOLERANCE and changed == 0
    level, done = (logging.INFO, "Checked") if same else (logging.ERROR, "Not written")
    found_out = "1 prediction differs" if changed == 1 else f"{changed or 'no'} predictions differ"
    text = "%s: on %s %s, %s from PyTorch's; largest difference of a probability %.1e"
    log.log(level, text, done, f"{len(expected):,}", what, found_out, largest)
    return same


def _compare_with_predictions_csv(
    run: SavedRun, network: TrainedNetwork, found: torch.Tensor, indices: NDArray[np.int64]
) -> None:
    """Log how many of the images have a different prediction in the run's ``predictions.csv``."""
    if not (run.path / "predictions.csv").exists():
        return
    table = run.table("predictions.csv", ("index", "prediction")).drop_duplicates("index")
    recorded = table.set_index("index")["prediction"].reindex(indices)
    now = np.array(network.class_names)[found.argmax(1).numpy()]
    changed = int((recorded.to_numpy() != now).sum())
    images = plural(len(indices), "image")
    same = f"a different prediction for {changed:,} of {images}" if changed else f"the same prediction for all {images}"
    precision = str(network.compute.precision).removeprefix("torch.")
    log.info("predictions.csv has %s (file: float32; evaluation on this machine: %s)", same, precision)
