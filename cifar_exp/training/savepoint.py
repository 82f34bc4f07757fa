"""The checkpoints of a run: ``last.pt`` holds all state that a resumed run needs, ``best.pt`` the best weights."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from cifar_exp.compute.seeding import device_generator
from cifar_exp.errors import RequestError
from cifar_exp.run_dir import checkpoint
from cifar_exp.training.epoch import EpochState
from cifar_exp.training.learner import Learner


class Best(NamedTuple):
    """The first epoch with the best score on the selection split; all None before the first evaluation."""

    epoch: int | None = None  # from 1
    accuracy: float | None = None
    score: float | None = None  # higher is better


class Savepoint:
    """Writes and reads the checkpoints of a run.

    ``metadata`` holds plain values that each checkpoint contains beside weights and state.
    """

    def __init__(self, out_dir: Path, metadata: Mapping[str, Any], *, every_seconds: float) -> None:
        self.path = out_dir / "checkpoints" / "last.pt"
        self._metadata = metadata
        self._every_seconds = every_seconds
        self._started = self._written = time.monotonic()
        self.seconds_before = 0.0  # total time of earlier sessions of the run, up to the state that was restored

    @property
    def is_due(self) -> bool:
        """Whether ``last.pt`` is older than the config allows."""
        return time.monotonic() - self._written >= self._every_seconds

    def write(self, learner: Learner, epoch_state: EpochState | None, best: Best) -> None:
        """Write ``last.pt``. All ranks call this, and rank 0 writes.

        ``epoch_state`` is None between epochs.
        """
        rank_state = {
            "epoch_so_far": None if epoch_state is None else epoch_state.state_dict(),
            "random_state": torch.get_rng_state(),
            "device_random_state": (
                device_generator(learner.device).get_state() if learner.device.type != "cpu" else None
            ),
        }
        rank_0, *other_ranks = learner.ranks.gather(rank_state)
        self._written = time.monotonic()
        if not learner.ranks.is_rank_0:
            return
        checkpoint.save(
            self.path,
            learner.evaluated_model,
            **learner.state_dict(),
            **rank_0,
            other_processes=other_ranks,
            **{f"best_{name}": value for name, value in best._asdict().items()},
            seconds=self.seconds_before + time.monotonic() - self._started,
            **self._metadata,
        )
        self._written = time.monotonic()

    def write_best(self, learner: Learner) -> None:
        """Write the evaluated network's weights to ``best.pt``; only on rank 0."""
        if learner.ranks.is_rank_0:
            path = self.path.with_name("best.pt")
            state = {"epoch": learner.epoch, "step": learner.step, **learner.raw_weights()}
            checkpoint.save(path, learner.evaluated_model, **state, **self._metadata)

    def read(self, learner: Learner) -> tuple[EpochState | None, Best]:
        """Restore ``learner`` and the random generators from ``last.pt``; returns the rest as ``write`` takes it.

        Raises:
            RequestError: the file is missing or damaged.
        """
        ranks, device = learner.ranks, learner.device
        load_to = torch.device("cpu") if ranks.is_distributed else device
        state = ranks.broadcast(lambda: checkpoint.load(self.path, load_to))
        try:
            learner.load_state_dict(state)
            self.seconds_before = state["seconds"]
            saved = [state, *state.get("other_processes", [])]
            is_same_size = len(saved) == ranks.world_size
            own = saved[ranks.rank] if is_same_size else state
            epoch_state = own["epoch_so_far"]
            if not is_same_size:
                epoch_state = _merge_for_new_world_size([one["epoch_so_far"] for one in saved], keep=ranks.is_rank_0)
            if is_same_size or ranks.is_rank_0:
                torch.set_rng_state(own["random_state"].cpu())
                if own["device_random_state"] is not None and device.type != "cpu":
                    device_generator(device).set_state(own["device_random_state"].cpu())
            return (
                None if epoch_state is None else EpochState.from_state_dict(epoch_state, device),
                Best(state["best_epoch"], state["best_accuracy"], state.get("best_score", state["best_accuracy"])),
            )
        except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise RequestError(f"{self.path}: does not match the config of this run: {reason}") from error


def _merge_for_new_world_size(states: list[dict[str, Any] | None], *, keep: bool) -> dict[str, Any] | None:
    """Merge per-rank epoch state saved with a different world size into rank 0.

    The totals of other ranks (``keep=False``) are 0.
    """
    saved = [state for state in states if state is not None]
    if not saved:
        return None
    factor = int(keep)
    totals = {name: factor * sum(state[name] for state in saved) for name in ("loss_sum", "correct", "losses", "seen")}
    return {**saved[0], **totals}
