"""Kill a process that writes a run's files, over and over, while two others read them.

    python tests/stress/kills.py --kills 500

The writer does what a run does after each epoch: append steps, append metrics, replace the checkpoint, then the
status. It is killed (SIGKILL) at a random moment and started again, as a resumed run would be. After each kill, and all
the time by the readers: every file is whole, and no row is missing that the writer had been told was written. Exit code
1 where not.
"""

import argparse
import hashlib
import json
import os
import random
import select
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cifar_exp.run_dir import run_status, tables
from cifar_exp.safe_io import atomic
from cifar_exp.safe_io.untrusted import read_json

_KILLS_A_RUN = 25  # then a new run, whose tables are short again
STEPS_PER_EPOCH = 200  # some 20 kB, which is more than one page of a file


@dataclass
class Seen:
    """What the kills left, over all run directories."""

    epochs: int = 0
    torn_rows: int = 0
    temporary_files: int = 0
    failed_readers: int = 0


def main() -> int:
    """Kill, check, count."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    draw = random.Random(options.seed)
    seen = Seen()
    # In memory, where there is such a folder: less time waiting for a disk, more kills in the middle of something.
    place = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    for done in range(0, options.kills, _KILLS_A_RUN):
        with tempfile.TemporaryDirectory(dir=place) as folder:
            _torture(Path(folder), min(_KILLS_A_RUN, options.kills - done), draw, seen)
    print(
        f"{options.kills} kills of a writer, {seen.epochs} epochs written: every file whole, nothing lost. The kills "
        f"left an unfinished row {seen.torn_rows} times and a temporary file {seen.temporary_files} times; "
        f"{seen.failed_readers} readers saw half a file"
    )
    return int(seen.failed_readers > 0)


def _torture(run: Path, kills: int, draw: random.Random, seen: Seen) -> None:
    run_status.claim(run, "0" * 64)
    readers = [_forked(lambda: _read_for_ever(run)) for _ in range(2)]
    try:
        for _ in range(kills):
            told, telling = os.pipe()
            writer = _forked(lambda telling=telling: _write_for_ever(run, telling))
            try:
                os.close(telling)
                if draw.random() < 0.8:  # once it has begun; else before that, too
                    select.select([told], [], [], 5)
                time.sleep(draw.uniform(0, 0.01))
            finally:
                os.kill(writer, signal.SIGKILL)
                os.waitpid(writer, 0)
            with os.fdopen(told) as acknowledged:
                last = max(map(int, acknowledged.read().split()), default=0)
            tables = [run / name for name in ("metrics.csv", "steps.csv")]
            seen.torn_rows += any(path.exists() and not path.read_bytes().endswith(b"\n") for path in tables)
            seen.temporary_files += any(run.glob(".*.tmp"))
            if _check(run) < last:
                raise AssertionError(f"epoch {last} had been written, and is gone")
    finally:
        for reader in readers:
            os.kill(reader, signal.SIGTERM)
            seen.failed_readers += os.waitpid(reader, 0)[1] != 0
    seen.epochs += _check(run)


def _forked(work: Callable[[], None]) -> int:
    sys.stdout.flush()
    process = os.fork()
    if process:
        return process
    try:
        work()
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def _write_for_ever(run: Path, telling: int) -> None:
    """Go on with the run that is there."""
    status = run_status.claim_again(run)
    epoch = _check(run)
    for name, columns in (("steps.csv", tables.STEPS_COLUMNS), ("metrics.csv", tables.METRICS_COLUMNS)):
        tables.keep_epochs(run / name, columns, epoch)
    while True:
        epoch += 1
        first = (epoch - 1) * STEPS_PER_EPOCH
        steps = [_step(first + step + 1, epoch) for step in range(STEPS_PER_EPOCH)]
        tables.append_rows(run / "steps.csv", tables.STEPS_COLUMNS, steps)
        row = {"epoch": epoch, "step": first + STEPS_PER_EPOCH, "train_loss": _loss(epoch)}
        tables.append_rows(run / "metrics.csv", tables.METRICS_COLUMNS, [row])
        os.write(telling, f"{epoch}\n".encode())
        weights = bytes([epoch % 256]) * 200_000
        atomic.write_bytes(run / "last.pt", hashlib.sha256(weights).digest() + weights)
        run_status.update_status(run, status, epochs_completed=epoch)


def _step(step: int, epoch: int) -> dict[str, float]:
    return {"step": step, "epoch": epoch, "learning_rate": 0.1, "momentum": 0.9, "loss": _loss(step)}


def _loss(number: int) -> float:
    return 1 / (3 * number)


def _check(run: Path) -> int:
    """Fail unless every file is whole; returns the epochs in ``metrics.csv``."""
    assert read_json(run / "status.json")["state"] in run_status.STATES
    epochs = 0
    if (run / "metrics.csv").exists():
        metrics = tables.read_table(run / "metrics.csv")
        epochs = len(metrics)
        assert metrics["epoch"].tolist() == list(range(1, epochs + 1))
        assert metrics["train_loss"].tolist() == [_loss(epoch) for epoch in range(1, epochs + 1)]
        steps = tables.read_table(run / "steps.csv")
        assert steps["step"].tolist() == list(range(1, len(steps) + 1))
        assert steps["loss"].tolist()[-500:] == [_loss(step) for step in range(1, len(steps) + 1)][-500:]
        assert len(steps) >= epochs * STEPS_PER_EPOCH
    if (run / "last.pt").exists():
        content = (run / "last.pt").read_bytes()
        assert hashlib.sha256(content[32:]).digest() == content[:32]
    return epochs


def _read_for_ever(run: Path) -> None:
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    while True:
        _check(run)
        assert json.loads((run / "status.json").read_text(encoding="utf-8"))["epochs_completed"] <= _check(run)


if __name__ == "__main__":
    sys.exit(main())
