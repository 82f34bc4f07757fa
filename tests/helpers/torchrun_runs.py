"""Runs of several processes on this machine, and what they recorded."""

import os
import subprocess
import sys
from contextlib import AbstractContextManager
from pathlib import Path

import pandas as pd
from composing import TINY
from programs import started
from runs import TIMING

from cifar_exp.run_dir import tables

PROGRAM = Path(__file__).with_name("torchrun_program.py")

# At a max_lr of 0.1 rounding alone moves a loss by 1.5e-5: one process does so with another memory layout.
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


def torchrun(*arguments: str, **environment: str) -> AbstractContextManager[subprocess.Popen[str]]:
    tests = str(Path(__file__).parent)
    return started(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", *arguments],
        env=os.environ | {"PYTHONPATH": tests, "OMP_NUM_THREADS": "1"} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def table(folder: Path, run_name: str, name: str) -> pd.DataFrame:
    return tables.read_table(folder / run_name / name).drop(columns=[*TIMING], errors="ignore")
