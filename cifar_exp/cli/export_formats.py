"""The formats of ``cifar-exp export``: how a classifier becomes a file, and what the file computes."""

import io
import json
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from cifar_exp.models.classifier import Classifier

METADATA_FILE = "metadata.json"  # in a file of torch.export
Run = Callable[[Tensor], Tensor]  # (N, C, H, W) uint8 images to probabilities


@dataclass(frozen=True)
class Format:
    """A file format."""

    suffix: str
    packages: tuple[str, ...]  # that the format needs
    # The content of the file for a classifier, example images and metadata.
    write: Callable[[Classifier, Tensor, Mapping[str, str]], bytes]
    # What the content computes; the classifier itself is only used for a format without a graph.
    read: Callable[[bytes, Classifier], Run]


def _program(classifier: Classifier, example: Tensor) -> torch.export.ExportedProgram:
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own deprecations
        return torch.export.export(classifier, (example,), dynamic_shapes={"images": {0: torch.export.Dim("batch")}})


def _write_onnx(classifier: Classifier, example: Tensor, metadata: Mapping[str, str]) -> bytes:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exported = torch.onnx.export(
            _program(classifier, example),
            dynamo=True,
            input_names=["images"],
            output_names=["probabilities"],
            verbose=False,
        )
    assert exported is not None  # None comes from the exporter before dynamo
    exported.model.metadata_props.update(metadata)
    content: bytes = exported.model_proto.SerializeToString()
    return content


def _read_onnx(content: bytes, _classifier: Classifier) -> Run:
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run(None, {"images": images.numpy()})[0])


def _write_torch(classifier: Classifier, example: Tensor, metadata: Mapping[str, str]) -> bytes:
    buffer = io.BytesIO()
    torch.export.save(
        _program(classifier, example), buffer, extra_files={METADATA_FILE: json.dumps(dict(metadata), indent=1)}
    )
    return buffer.getvalue()


def _read_torch(content: bytes, _classifier: Classifier) -> Run:
    return torch.export.load(io.BytesIO(content)).module()


def _write_safetensors(classifier: Classifier, _example: Tensor, metadata: Mapping[str, str]) -> bytes:
    from safetensors.torch import save

    state = classifier.network.state_dict()
    # A tensor that two names share is written twice: the format has no sharing.
    content: bytes = save({name: value.clone() for name, value in state.items()}, {"format": "pt", **metadata})
    return content


def _read_safetensors(content: bytes, classifier: Classifier) -> Run:
    from safetensors.torch import load

    classifier.network.load_state_dict(load(content))
    return classifier


FORMATS = {
    "onnx": Format(".onnx", ("onnx", "onnxscript", "onnxruntime"), _write_onnx, _read_onnx),
    "torch": Format(".pt2", (), _write_torch, _read_torch),
    "safetensors": Format(".safetensors", ("safetensors",), _write_safetensors, _read_safetensors),
}
