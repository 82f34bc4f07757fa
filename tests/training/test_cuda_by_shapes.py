"""The way over CUDA on a machine without a GPU: PyTorch's fake tensors have a device, a type, a shape, and no values.

Whatever mixes devices, or makes the program wait for a value, fails. They have no backward pass on a device that is not
there, so every gradient is made up; that the kernels compute what they should is PyTorch's own affair.
"""

from collections.abc import Iterator
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from composing import composed
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from cifar_exp import network as networks
from cifar_exp.build import Parts, build
from cifar_exp.compute import device, seeding
from cifar_exp.evaluation.metrics import evaluate
from cifar_exp.explain import layers
from cifar_exp.training import epoch
from cifar_exp.training.epoch import EpochState, train_epoch

GPU = torch.device("cuda:0")
DIGITS = ("data=mnist5k", "data.image_size=32", "data.limit_train=300", "data.limit_test=100", "batch_size=64")
RUNS = [
    ("model=resnet18", "augment=crop_flip_cutout"),
    ("model=resnet18", "augment=crop_flip_cutout", "augment_backend=albumentations"),
    ("model=resnet18", "precision=float32", "scheduler=multistep", "label_smoothing=0.1"),
    ("model=resnet9", "augment=published"),
    ("experiment=speedrun", "epochs=2", "data=mnist5k", "batch_size=64"),
]


class Properties:
    total_memory = 80 * 10**9


@pytest.fixture
def gpu(monkeypatch) -> Iterator[None]:
    """A GPU of which only the name is there."""
    monkeypatch.setattr(device, "resolve_device", lambda _name: GPU)
    monkeypatch.setattr(device.Compute, "place", _placed)
    monkeypatch.setattr(seeding, "generators_kept", lambda _device: nullcontext())
    # A copy would read values that are not there.
    monkeypatch.setattr(networks, "copy", SimpleNamespace(deepcopy=lambda network: network))
    monkeypatch.setattr(networks.Trial, "with_working_layout", lambda trial, _format: trial)  # has a backward pass
    monkeypatch.setattr(layers, "_are_distributions", lambda _rows: False)  # reads values, before training
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device: (9, 0))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _device: Properties)
    monkeypatch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    monkeypatch.setattr(torch.Tensor, "pin_memory", _pinned)
    with FakeTensorMode(allow_non_fake_inputs=True):
        yield


def _placed(_compute: device.Compute, module: torch.nn.Module) -> torch.nn.Module:
    """In place of ``Module.to``, which cannot give a parameter that exists another device here."""
    for part in module.modules():
        for name, parameter in part.named_parameters(recurse=False):
            part._parameters[name] = torch.nn.Parameter(_there(parameter), requires_grad=parameter.requires_grad)
        for name, buffer in part.named_buffers(recurse=False):
            part._buffers[name] = _there(buffer)
    return module


def _pinned(tensor: torch.Tensor) -> torch.Tensor:
    """In place of ``Tensor.pin_memory``, which needs a driver."""
    pinned = tensor.clone()
    pinned.page_locked = True
    return pinned


def _there(tensor: torch.Tensor) -> torch.Tensor:
    layout = torch.channels_last if tensor.ndim == 4 else torch.contiguous_format
    return torch.empty(tensor.shape, dtype=tensor.dtype, device=GPU, memory_format=layout)


class Watched(TorchDispatchMode):
    """Notes the inputs of convolutions, copies that are waited for, and operations on tensors of two devices.

    A copy to the GPU is not waited for if it says so and comes from page-locked memory; one from it always is.
    """

    # In inference mode, operations come as they were called, elsewhere as what they are made of.
    COPIES = (torch.ops.aten.to, torch.ops.aten._to_copy, torch.ops.aten.copy_)
    CONVOLUTIONS = (torch.ops.aten.conv2d, torch.ops.aten.convolution)

    def __init__(self) -> None:
        super().__init__()
        self.convolved: list[torch.Tensor] = []
        self.waited_for: list[str] = []
        self.mixed: list[str] = []

    def __torch_dispatch__(self, function, _types, args=(), kwargs=None):
        kwargs = kwargs or {}
        made = function(*args, **kwargs)
        if function.overloadpacket in self.CONVOLUTIONS:
            self.convolved.append(args[0])
        if function.overloadpacket in self.COPIES:
            into, source = (args[0], args[1]) if function.overloadpacket is torch.ops.aten.copy_ else (made, args[0])
            free = kwargs.get("non_blocking", False) and hasattr(source, "page_locked")
            if into.device != source.device and not (into.device == GPU and free):
                self.waited_for.append(f"{source.device.type} to {into.device.type}")
        else:
            tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor) and leaf.ndim]
            if len({tensor.device for tensor in tensors}) > 1:
                self.mixed.append(str(function))
        return made


def built(*overrides: str) -> Parts:
    # Nothing can be captured here: there are shapes, but no kernels.
    return build(composed(*DIGITS, "threads=1", "cuda_graph=false", *overrides))


@pytest.mark.parametrize("overrides", RUNS, ids=lambda overrides: ",".join(overrides[:3]))
def test_no_step_of_an_epoch_waits_for_the_gpu(gpu, monkeypatch, overrides):
    class AllTaken(Exception):  # noqa: N818 - not an error: where the epoch begins to wait
        pass

    def end(*_arguments):
        raise AllTaken

    parts = built(*overrides)
    optimizer = parts.learner.optimizer

    def made_up(_loss: torch.Tensor) -> None:
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = torch.empty_like(parameter) if parameter.requires_grad else None

    monkeypatch.setattr(epoch, "_make_step_rows", end)
    monkeypatch.setattr(torch.Tensor, "backward", made_up)
    on_the_gpu = "augment_backend=albumentations" not in overrides
    assert parts.batches.backend == ("device" if on_the_gpu else "albumentations")
    steps: list[int] = []
    if on_the_gpu:
        next(parts.batches.epoch(1))  # brings the images there, once
        batches = parts.batches.epoch(1)
    else:  # a DataLoader draws a number, which has no value here
        made = [parts.batches[key] for key in parts.batches.keys(1)]
        batches = iter([tuple(part.pin_memory() for part in batch) for batch in made])  # as the loader does
    watched = Watched()
    with pytest.raises(AllTaken), watched:
        train_epoch(
            parts.learner,
            batches,
            EpochState.start(GPU),
            images=len(parts.splits.train),
            epochs=2,
            sizes=parts.batches.sizes,
            after_step=lambda: steps.append(1),
        )
    assert len(steps) == parts.batches.per_epoch
    assert not watched.waited_for
    assert not watched.mixed
    wanted = torch.float32 if "precision=float32" in overrides else torch.bfloat16
    assert {(one.device, one.dtype) for one in watched.convolved} == {(GPU, wanted)}


def test_no_batch_of_an_evaluation_waits(gpu):
    parts, seen, watched = built("model=resnet18"), [], Watched()
    with pytest.raises(RuntimeError, match="numpy"), watched:  # the first of the results to be looked at, at the end
        evaluate(
            parts.learner.model,
            parts.splits.test,
            compute=parts.compute,
            normalize=parts.normalize,
            batch_size=64,
            after_batch=lambda: seen.append(1),
        )
    assert len(seen) == 2
    assert watched.waited_for == ["cpu to cuda"] * 2 + ["cuda to cpu"]  # images and labels before, predictions after
    assert not watched.mixed


def test_the_views_of_an_image_are_made_and_seen_on_the_gpu(gpu):
    parts, watched = built("model=resnet18"), Watched()
    options = {"compute": parts.compute, "normalize": parts.normalize, "batch_size": 64}
    with pytest.raises(RuntimeError, match="numpy"), watched:  # the probabilities, at the end
        evaluate(parts.learner.model, parts.splits.test, views="mirror_translate", **options)
    assert len(watched.convolved) == 2 * 6 * 20  # in two batches, six views by the twenty convolutions of a ResNet-18
    assert {one.device for one in watched.convolved} == {GPU}
    assert not watched.mixed
