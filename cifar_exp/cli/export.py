"""``cifar-exp export RUN``: a run's network as a file for other programs. safetensors has only the weights."""

import argparse
import copy
import io
import json
import logging
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cifar_exp import __version__
from cifar_exp.compute import seeding
from cifar_exp.config.parse import as_containers
from cifar_exp.config.resolved import saved_hash
from cifar_exp.errors import DONE, FAILED, RequestError, in_a_line
from cifar_exp.loaded_run import TrainedNetwork, load_network
from cifar_exp.models.classifier import Classifier
from cifar_exp.run_dir import kept_images
from cifar_exp.run_dir.saved_run import SavedRun, new_output, open_run
from cifar_exp.safe_io import atomic

log = logging.getLogger(__name__)

_TOLERANCE = 1e-4  # largest allowed difference of a probability
_NOISE_IMAGES = 64
_BATCH = 63  # does not divide 64: the last batch is smaller
Predictor = Callable[[torch.Tensor], torch.Tensor]  # (N, C, H, W) uint8 images to probabilities


def _export_program(classifier: Classifier, example: torch.Tensor) -> torch.export.ExportedProgram:
    return torch.export.export(classifier, (example,), dynamic_shapes={"images": {0: torch.export.Dim("batch")}})


def _export_onnx(classifier: Classifier, example: torch.Tensor, metadata: dict[str, str]) -> tuple[bytes, Predictor]:
    import onnxruntime

    exported: Any = torch.onnx.export(
        _export_program(classifier, example),
        dynamo=True,
        verbose=False,
        input_names=["images"],
        output_names=["probabilities"],
    )
    exported.model.metadata_props.update(metadata)
    content: bytes = exported.model_proto.SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return content, lambda images: torch.from_numpy(session.run(None, {"images": images.numpy()})[0])


def _export_torch(classifier: Classifier, example: torch.Tensor, metadata: dict[str, str]) -> tuple[bytes, Predictor]:
    buffer, files = io.BytesIO(), {"metadata.json": json.dumps(metadata, indent=1)}
    torch.export.save(_export_program(classifier, example), buffer, extra_files=files)
    return buffer.getvalue(), torch.export.load(io.BytesIO(buffer.getvalue())).module()


def _export_weights(classifier: Classifier, _images: torch.Tensor, metadata: dict[str, str]) -> tuple[bytes, Predictor]:
    from safetensors.torch import load, save

    # A tensor that two names share is written twice: the format has no sharing.
    state = {name: value.clone() for name, value in classifier.network.state_dict().items()}
    content: bytes = save(state, {"format": "pt", **metadata})
    read_back = copy.deepcopy(classifier)
    read_back.network.load_state_dict(load(content))
    return content, read_back


# By format: the suffix of the file, the packages that it needs, and a function that makes the file's content from a
# classifier, example images and metadata. It returns the content, and a callable that runs the network read back from
# the content.
FORMATS: dict[str, tuple[str, tuple[str, ...], Callable[[Classifier, torch.Tensor, dict[str, str]], Any]]] = {
    "onnx": (".onnx", ("onnx", "onnxscript", "onnxruntime"), _export_onnx),
    "torch": (".pt2", (), _export_torch),
    "safetensors": (".safetensors", ("safetensors",), _export_weights),
}


def main(options: argparse.Namespace) -> int:
    """Run the command; returns 0, or 1 if the exported network's outputs differ from the run's."""
    suffix, packages, export = FORMATS[options.format]
    if missing := [package for package in packages if find_spec(package) is None]:
        raise RequestError(
            f"--format {options.format}: requires an optional dependency ({', '.join(missing)}): "
            "pip install 'cifar-exp[export]'"
        )
    run = open_run(options.run, trust=options.trust)
    path = new_output(options.out, "exports", f"model{suffix}")
    network = load_network(run, weights=options.weights, device="cpu")
    seeding.set_threads(network.config.threads)
    classifier = Classifier(
        network.model.to(memory_format=torch.contiguous_format), network.statistics.mean, network.statistics.std
    ).eval()
    images, indices = _choose_images(run, network)
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the exporter's own deprecations
            content, exported = export(classifier, images[:2], _collect_metadata(run, network, options.weights))
    except Exception as error:  # an exporter raises errors of any type
        raise RequestError(
            f"{run.path}: its network cannot be exported as {options.format}: {in_a_line(error)}; "
            "use --format safetensors to export only the weights"
        ) from error
    expected, exported_probabilities = (_compute_probabilities(predict, images) for predict in (classifier, exported))
    what = "test images of the run" if indices is not None else "noise images"
    if not _check_outputs(expected, exported_probabilities, what):
        return FAILED
    if indices is not None and (run.path / "predictions.csv").exists():
        table = run.table("predictions.csv", ("index", "prediction")).drop_duplicates("index").set_index("index")
        predictions = np.array(network.class_names)[exported_probabilities.argmax(1).numpy()]
        changed = int((table["prediction"].reindex(indices).to_numpy() != predictions).sum())
        log.info("predictions.csv: %d of %d predictions differ", changed, len(indices))
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic.write_bytes(path, content)
    size, channels = network.image_size, network.channels
    log.info("Input: uint8 images (N, %d, %d, %d), 0 to 255, N of any size", channels, size, size)
    log.info("Written to %s (%.1f MB)", path, len(content) / 1e6)
    return DONE


def _collect_metadata(run: SavedRun, network: TrainedNetwork, weights: str | None) -> dict[str, str]:
    """Collect what a user of the file needs to know; lists and mappings as JSON."""
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


def _choose_images(run: SavedRun, network: TrainedNetwork) -> tuple[torch.Tensor, NDArray[np.int64] | None]:
    """Return the run's stored test images (N, C, H, W) and their indices; if there are none, random noise and None."""
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
def _compute_probabilities(predict: Predictor, images: torch.Tensor) -> torch.Tensor:
    # The last batch is smaller, which checks that the batch size does not change the result.
    return torch.cat([predict(part) for part in images.split(_BATCH)])


def _check_outputs(expected: torch.Tensor, exported: torch.Tensor, what: str) -> bool:
    """Compare the exported network's probabilities with PyTorch's in float32, and log the largest difference."""
    largest = float((expected - exported).abs().max())
    changed = int((expected.argmax(1) != exported.argmax(1)).sum())
    same = largest <= _TOLERANCE and changed == 0
    level, verdict = (logging.INFO, "Checked") if same else (logging.ERROR, "Not written")
    differences = "1 prediction differs" if changed == 1 else f"{changed or 'no'} predictions differ"
    text = "%s: on %s %s, %s from PyTorch's; largest difference of a probability %.1e"
    log.log(level, text, verdict, f"{len(expected):,}", what, differences, largest)
    return same
