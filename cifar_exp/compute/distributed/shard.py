"""Which rows of a batch are a process's own, where several work on one run."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Share:
    """Which rows of a batch are a process's own: the batch is cut into consecutive parts of nearly equal length."""

    rank: int = 0
    world_size: int = 1

    def rows(self, start: int, stop: int) -> tuple[slice, int]:
        """This process's rows of a batch that lies at ``start`` to ``stop``, and how many of them count.

        A batch can have fewer images than there are processes. A process that gets none takes the batch's first one,
        which does not count: it has to take part in what all processes do together.
        """
        count = stop - start
        first, last = (start - -count * rank // self.world_size for rank in (self.rank, self.rank + 1))  # rounded up
        return (slice(first, last), last - first) if last > first else (slice(start, start + 1), 0)


ALONE = Share()
