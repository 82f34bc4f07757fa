"""Jobs that train nothing, for tests of the engines that run them."""

import os
import signal
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class StandIn:
    """Has the parts of ``hydra_job.Job`` that a launcher uses. Returns a value of its process, or kills it.

    Args:
        number: of the job.
        directory: for whatever it writes.
        variable: an environment variable whose value, as a number, it returns; -1 where it is not set.
        deaths: how often its process dies before it ends.
    """

    number: int
    directory: Path
    variable: str = ""
    deaths: int = 0

    def run(self) -> float:
        marks = [self.directory / f"death-{self.number}-{count}" for count in range(self.deaths)]
        for mark in marks:
            if not mark.exists():
                mark.touch()
                os.kill(os.getpid(), signal.SIGKILL)
        (self.directory / f"done-{self.number}").touch()
        return float(os.environ.get(self.variable) or -1) if self.variable else float(self.number)
