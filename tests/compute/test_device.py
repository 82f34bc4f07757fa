"""Precision and memory layout that ``auto`` chooses by the flags of the processor."""

import pytest
import torch

from cifar_exp.compute import device as compute_device

CPU, MPS = torch.device("cpu"), torch.device("mps")
AMX, AMD, OLD = {"avx512f", "avx512_bf16", "amx_bf16"}, {"avx512f", "avx512_bf16"}, {"avx512f"}


@pytest.mark.parametrize(
    ("flags", "precision"),
    [(AMX, torch.bfloat16), (AMD, torch.bfloat16), ({"bf16"}, torch.bfloat16), (OLD, torch.float32)],
)
def test_auto_precision_is_bfloat16_if_the_processor_has_it(monkeypatch, flags, precision):
    monkeypatch.setattr(compute_device, "_cpu_flags", lambda: flags)
    assert compute_device.resolve_precision("auto", CPU) is precision


@pytest.mark.parametrize(
    ("flags", "device", "precision", "layout"),
    [
        (AMX, CPU, torch.bfloat16, torch.channels_last),
        (AMX, CPU, torch.float32, torch.contiguous_format),  # the one case where channels_last was slower
        (AMD, CPU, torch.float32, torch.channels_last),
        (OLD, CPU, torch.float32, torch.channels_last),
        (OLD, MPS, torch.float32, torch.contiguous_format),
    ],
)
def test_auto_layout_is_the_faster_one(monkeypatch, flags, device, precision, layout):
    monkeypatch.setattr(compute_device, "_cpu_flags", lambda: flags)
    assert compute_device.resolve_memory_format("auto", device, precision) is layout
