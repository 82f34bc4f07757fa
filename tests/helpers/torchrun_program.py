"""The program that torchrun starts in tests: several runs, one after the other, in the same processes.

    torchrun --standalone --nproc-per-node N tests/helpers/torchrun_program.py RUNS.json OUT_DIR [ARGUMENT ...]

``RUNS.json`` is a list of ``[name, config, resume]``. After these runs, the program executes ``cifar-exp ARGUMENT ...``
in the same processes. Each process records the images that it was asked to make.
"""

import json
import os
import sys
from functools import partial
from pathlib import Path

from cifar_exp.cli.main import _dispatch, _exit_code
from cifar_exp.compute.distributed import session
from cifar_exp.config.parse import parse
from cifar_exp.data.batches import TrainingBatches
from cifar_exp.runner import run, run_on_other_rank

RUNS, OUT_DIR, ARGUMENTS = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]), sys.argv[3:]
NOTE = OUT_DIR / f"asked_{os.environ['RANK']}.jsonl"
_made = TrainingBatches.__getitem__


def noted(batches, key):
    """Make a batch, and record which images, without those that do not count."""
    epoch, batch, indices = key
    with NOTE.open("a") as file:
        counted = batches.sizes(batch)[0]
        print(json.dumps([len(batches.split), epoch, indices[:counted].tolist()]), file=file)
    return _made(batches, key)


def lead() -> int:
    """All runs and the command; returns its exit code."""
    for name, config, resume in RUNS:
        run(parse(config), OUT_DIR / name, resume=resume)
    return _exit_code(partial(_dispatch, ARGUMENTS)) if ARGUMENTS else 0


TrainingBatches.__getitem__ = noted  # type: ignore[method-assign]
follow = partial(_exit_code, partial(session.follow_runs, run_on_other_rank))
sys.exit(session.run_distributed(lead, follow))
