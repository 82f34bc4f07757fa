"""A real run, killed with SIGKILL at random moments and resumed, against the same run undisturbed.

CIFAR_EXP_KILLS is the number of kills, 2 by default: `CIFAR_EXP_KILLS=25 python -m pytest -s` with this file.
"""

import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path

from composing import TINY, composed
from programs import PROGRAM, started
from runs import measured

from cifar_exp.cli.main import main
from cifar_exp.runner import run

KILLS = int(os.environ.get("CIFAR_EXP_KILLS", "2"))
RUN = [*TINY, "epochs=4", "data.limit_train=1000", "batch_size=32", "checkpoint.every_seconds=0.001"]


def is_newer(last: Path, before: int) -> bool:
    return last.exists() and last.stat().st_mtime_ns != before


def is_writing(out_dir: Path) -> bool:
    return any((out_dir / "checkpoints").glob(".*.tmp"))


def kill_at_random(arguments: list[str], out_dir: Path, dice: random.Random) -> bool:
    """Start the program and kill it some time after its first checkpoint; False if it had ended before.

    Half of the kills wait for a moment in which a checkpoint is being written.
    """
    last = out_dir / "checkpoints" / "last.pt"
    before = last.stat().st_mtime_ns if last.exists() else 0
    with started([*PROGRAM, *arguments], stdout=subprocess.DEVNULL) as process:
        while process.poll() is None and not is_newer(last, before):
            time.sleep(0.001)
        time.sleep(dice.uniform(0, 0.3))
        if dice.random() < 0.5:
            while process.poll() is None and not is_writing(out_dir):
                pass
        process.send_signal(signal.SIGKILL)
        process.wait()
    return process.returncode == -signal.SIGKILL


def test_killed_at_random_moments_and_resumed(tmp_path):
    run(composed(*RUN), tmp_path / "whole")
    dice = random.Random(int(os.environ.get("CIFAR_EXP_KILL_SEED", "0")))
    kills = while_writing = number = 0
    while kills < KILLS:
        out_dir = tmp_path / f"killed{number}"  # a run completes after some kills: then the next one starts
        arguments = [*RUN, f"hydra.run.dir={out_dir}"]
        while kills < KILLS and kill_at_random(arguments, out_dir, dice):
            kills += 1
            while_writing += is_writing(out_dir)
            json.loads((out_dir / "status.json").read_text())  # whole, at any moment
            arguments = ["resume", str(out_dir)]
        assert main(["resume", str(out_dir)]) == 0
        assert measured(out_dir) == measured(tmp_path / "whole")
        assert not any(out_dir.rglob(".*.tmp"))
        number += 1
    print(f"{kills} times killed, {while_writing} of them while a file was being written, in {number} runs")
