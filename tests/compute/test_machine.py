"""What the system says of the machine, and what a run says of it."""

import os
from pathlib import Path

import pytest
import torch

from cifar_exp.compute import memory
from cifar_exp.training import fit


def test_the_memory_is_that_of_linux():
    meminfo = Path("/proc/meminfo")
    if not meminfo.exists():
        pytest.skip("compares with /proc/meminfo, which Linux has")
    lines = meminfo.read_text().splitlines()
    total = next(int(line.split()[1]) for line in lines if line.startswith("MemTotal"))
    assert memory.memory_bytes() == pytest.approx(1024 * total, rel=0.05)  # the kernel keeps some for itself


@pytest.mark.parametrize(
    ("load", "cpus", "threads", "others"),
    [(2.1, 2, 2, None), (3.1, 2, 2, 1.1), (3.1, 4, 2, None), (9.0, 4, 2, 7.0), (1.0, 2, 2, None), (2.0, 2, 1, None)],
)
def test_load_of_other_programs_counts_if_it_exceeds_the_cpus(monkeypatch, load, cpus, threads, others):
    monkeypatch.setattr(os, "getloadavg", lambda: (load, 0.0, 0.0))
    monkeypatch.setattr(os, "cpu_count", lambda: cpus)
    assert memory.other_load(threads) == pytest.approx(others)


@pytest.mark.parametrize(
    ("seconds", "device", "threads", "logged"),
    [(60.0, "cpu", 2, True), (5.0, "cpu", 2, False), (60.0, "cuda", 2, False), (60.0, "cpu", 1, False)],
)
def test_cpu_contention_is_logged(monkeypatch, caplog, seconds, device, threads, logged):
    monkeypatch.setattr(os, "getloadavg", lambda: (3.2, 0.0, 0.0))
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    assert fit._warn_of_cpu_contention(seconds, torch.device(device)) is logged
    assert ("(threads=1)" in caplog.text) is logged
