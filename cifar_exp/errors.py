"""The exit codes, and the errors that a user is expected to meet."""

from collections.abc import Mapping
from typing import Any

DONE, FAILED, WRONG_REQUEST, INTERRUPTED, TERMINATED = 0, 1, 2, 130, 143


class RequestError(ValueError):
    """The request itself is wrong: a bad value, an unknown name, a missing path (exit code 2).

    The message names the value, what is allowed and what to do about it.
    """


class DivergedError(RuntimeError):
    """Training met a loss that is not finite (exit code 1); the records up to that step are kept.

    Attributes:
        steps: the rows of ``steps.csv`` of the unfinished epoch, up to and with the step that diverged.
    """

    def __init__(self, steps: list[Mapping[str, Any]]) -> None:
        self.steps = steps
        last = steps[-1]
        super().__init__(
            f"the loss became {last['loss']} at step {last['step']} (epoch {last['epoch']}, "
            f"learning rate {last['learning_rate']:g}); try a smaller max_lr"
        )


class PrunedError(RuntimeError):
    """A search stopped this job early, because earlier jobs were better at the same fraction of their training."""

    def __init__(self, epoch: int, epochs: int, accuracy: float) -> None:
        super().__init__(f"after epoch {epoch} of {epochs}, with a validation accuracy of {accuracy:.2%}")


def in_a_line(error: BaseException) -> str:
    """Type and message of an error that other code raised, on one line."""
    message = " ".join(str(error).split())
    return f"{type(error).__name__}: {message[:300]}" if message else type(error).__name__
