"""``checkpoints/last.pt``: all that it takes to go on with a run, and when it is written."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from cifar_exp.compute.distributed import collectives
from cifar_exp.compute.seeding import device_generator
from cifar_exp.errors import RequestError
from cifar_exp.run_dir import checkpoint
from cifar_exp.training.epoch import EpochSoFar, Learner


class Savepoint:
    """Writes and reads the state of a run.

    Args:
        out_dir: the run directory.
        about: what a checkpoint says beside weights and state, as plain values.
        every_epochs: write after so many epochs, and after the last.
        every_seconds: write within an epoch, too, once so many seconds have passed since the last time.
    """

    def __init__(self, out_dir: Path, about: Mapping[str, Any], *, every_epochs: int, every_seconds: float) -> None:
        self.path = out_dir / "checkpoints" / "last.pt"
        self.about = dict(about)
        self.every_epochs = every_epochs
        self._every_seconds = every_seconds
        self._started = self._written = time.monotonic()
        self.seconds_before = 0.0  # what earlier sessions of the run took, up to the state that this one started from

    @property
    def due(self) -> bool:
        """Whether more would be lost by now than the config allows."""
        return time.monotonic() - self._written >= self._every_seconds

    def write(self, learner: Learner, so_far: EpochSoFar | None, best: tuple[int | None, float | None]) -> None:
        """Write the state; where processes share the run, all of them call this, and the first one writes.

        Args:
            learner: the network and what trains it.
            so_far: the epoch in progress; None between epochs.
            best: epoch and accuracy of the best one so far.
        """
        device = next(learner.model.parameters()).device
        own = {
            "epoch_so_far": None if so_far is None else so_far.state_dict(),
            "random_state": torch.get_rng_state(),
            "device_random_state": device_generator(device).get_state() if device.type != "cpu" else None,
        }
        first, *others = collectives.gather(own)
        self._written = time.monotonic()
        if not collectives.is_first():
            return
        checkpoint.save(
            self.path,
            learner.model,
            **learner.state_dict(),
            **first,
            other_processes=others,
            best_epoch=best[0],
            best_accuracy=best[1],
            seconds=self.seconds_before + time.monotonic() - self._started,
            **self.about,
        )
        self._written = time.monotonic()

    def read(self, learner: Learner, device: torch.device) -> tuple[EpochSoFar | None, tuple[int | None, float | None]]:
        """Put ``learner`` and the random generators back to the saved state; returns the rest as ``write`` takes it.

        Raises:
            RequestError: there is no such file, or it is damaged.
        """
        alone = collectives.world_size() == 1
        state = collectives.from_first(lambda: checkpoint.load(self.path, device if alone else torch.device("cpu")))
        try:
            learner.load_state_dict(state)
            self.seconds_before = state["seconds"]
            processes = [state, *state.get("other_processes", [])]
            if len(processes) == collectives.world_size():
                own = processes[collectives.rank()]
                _set_random_state(own, device)
                so_far = own["epoch_so_far"]
            else:
                if collectives.is_first():
                    _set_random_state(state, device)
                so_far = _taken_over([process["epoch_so_far"] for process in processes])
            return (
                None if so_far is None else EpochSoFar.from_state_dict(so_far, device),
                (state["best_epoch"], state["best_accuracy"]),
            )
        except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise RequestError(f"{self.path}: does not hold the state of this config's run: {reason}") from error


def _set_random_state(state: Mapping[str, Any], device: torch.device) -> None:
    torch.set_rng_state(state["random_state"].cpu())
    if state["device_random_state"] is not None and device.type != "cpu":
        device_generator(device).set_state(state["device_random_state"].cpu())


def _taken_over(parts: list[dict[str, Any] | None]) -> dict[str, Any] | None:
    """What another number of processes had of an epoch: the first process takes it all, the others nothing."""
    found = [part for part in parts if part is not None]
    if not found:
        return None
    share = 1 if collectives.is_first() else 0
    sums = {name: share * sum(part[name] for part in found) for name in ("loss_sum", "correct", "losses", "seen")}
    return {**found[0], **sums}
