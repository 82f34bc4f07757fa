"""The program that torchrun starts in tests: several runs, one after the other, in the same processes.

    torchrun --standalone --nproc-per-node N tests/helpers/torchrun_program.py RUNS.json OUT_DIR

``RUNS.json`` is a list of ``[name, config, resume]``. Each process notes the images that it was asked to make.
"""

import json
import os
import sys
from functools import partial
from pathlib import Path

from cifar_exp.compute.distributed import session
from cifar_exp.config.parse import parse
from cifar_exp.data.batches import TrainingBatches
from cifar_exp.runner import run, run_on_other_rank

RUNS, OUT_DIR = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2])
NOTE = OUT_DIR / f"asked_{os.environ['RANK']}.jsonl"
_made = TrainingBatches.__getitem__


def noted(batches, key):
    """Make a batch, and note which images, and how many of them count."""
    epoch, batch, indices = key
    with NOTE.open("a") as file:
        counted = batches.sizes(batch)[0]
        print(json.dumps([len(batches.split), epoch, indices[:counted].tolist()]), file=file)
    return _made(batches, key)


def lead() -> int:
    """All runs."""
    for name, config, resume in RUNS:
        run(parse(config), OUT_DIR / name, resume=resume)
    return 0


TrainingBatches.__getitem__ = noted  # type: ignore[method-assign]
sys.exit(session.run_distributed(lead, partial(session.follow_runs, run_on_other_rank)))
