"""Runs in two processes that torchrun starts, for tests of distributed runs."""

import os
import subprocess
import sys
from contextlib import AbstractContextManager
from pathlib import Path

import pandas as pd
from composing import TINY
from programs import started

from cifar_exp.run_dir import tables

PROGRAM = Path(__file__).with_name("torchrun_program.py")
TIMING = ["train_seconds", "eval_seconds", "images_per_second"]
PLAIN = (
    *TINY,
    "model._target_=tiny_networks.plain",
    "trust=[tiny_networks]",
    "batch_size=32",
    "max_lr=0.1",
    "data.limit_test=101",
    "evaluation.batch_size=50",
    "precision=float32",
    "explain.images=0",
)
# At a max_lr of 0.1 rounding alone moves a loss by 1.5e-5: one process does so with another memory layout.
# 28 x 32 + 3 training and 2 x 50 + 1 test images: two processes share the last batches 2 to 1 and 1 to 0.
NOTHING_DRAWN = (
    *PLAIN,
    "data.limit_train=999",
    "max_lr=0.03",
    "augment=none",
    "label_smoothing=0.1",
    "epochs=3",
    "evaluation.published_loss=true",
)
DRAWN = (*PLAIN, "data.limit_train=997", "+model.dropout=0.3", "epochs=4")  # 28 x 32 + 1: shared 1 to 0


def torchrun(*arguments: str, **environment: str) -> AbstractContextManager[subprocess.Popen[str]]:
    """Start two processes with torchrun."""
    tests = str(Path(__file__).parent)
    return started(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", *arguments],
        env=os.environ | {"PYTHONPATH": tests, "OMP_NUM_THREADS": "1"} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def table(folder: Path, run_name: str, name: str) -> pd.DataFrame:
    """A table of a run, without the timing columns."""
    return tables.read_table(folder / run_name / name).drop(columns=TIMING, errors="ignore")
