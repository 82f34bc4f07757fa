"""Weights & Biases: an offline record in ``wandb/`` in the run directory, for ``wandb sync`` to upload.

The library's own environment variable, ``WANDB_MODE=online``, uploads the run while it trains.
"""

import logging
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from cifar_exp.config import parse
from cifar_exp.config.schema import ExperimentConfig
from cifar_exp.run_dir.lifecycle import run_name
from cifar_exp.trackers.tracker import Tracker


class Wandb(Tracker):
    """A run's record. A resumed run is logged again from its first step, with the same id."""

    def __init__(self, config: ExperimentConfig, out_dir: Path) -> None:
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # of the library's errors, to its makers
        import wandb

        logging.getLogger("wandb").setLevel(logging.WARNING)
        super().__init__(out_dir)
        # No hardware, packages, git state or source code: environment.json has what a run needs.
        settings = wandb.Settings(
            disable_git=True,
            disable_code=True,
            x_disable_meta=True,
            x_disable_stats=True,
            x_save_requirements=False,
            silent=True,
            console="off",
            symlink=False,
        )
        self._run = wandb.init(
            project=config.tracker.experiment,
            name=run_name(out_dir),
            id=_remove_earlier(out_dir / "wandb"),
            resume="allow",
            config=parse.as_containers(config),
            dir=str(out_dir),
            mode="online" if os.environ.get("WANDB_MODE") == "online" else "offline",
            reinit="create_new",  # independent of other runs in this process
            settings=settings,
        )
        self.after_epoch()

    def log(self, rows: Sequence[tuple[int, dict[str, float]]]) -> None:
        """See ``Tracker``."""
        for step, row in rows:  # the library ignores a step below the last one
            self._run.log(row, step=step)

    def log_and_close(self, state: str, numbers: dict[str, float], texts: dict[str, str], figures: list[Path]) -> None:
        """See ``Tracker``."""
        import wandb

        self._run.summary.update({f"summary/{name}": value for name, value in (numbers | texts).items()})
        self._run.log({f"figures/{path.stem}": wandb.Image(str(path)) for path in figures})
        self._run.finish(exit_code=0 if state == "completed" else 1)


def _remove_earlier(folder: Path) -> str | None:
    """Remove the records of an interrupted run; returns its id, None without one."""
    earlier = sorted(folder.glob("*run-*"))
    for record in earlier:
        shutil.rmtree(record)
    return earlier[-1].name.rpartition("-")[2] if earlier else None


begin = Wandb
