"""Which rows of a batch belong to a rank of a distributed run."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Shard:
    """One rank's part of every batch: batches are cut into consecutive shards of nearly equal length."""

    rank: int = 0
    world_size: int = 1

    def rows(self, start: int, stop: int) -> tuple[slice, int]:
        """The rank's rows of a batch at ``start`` to ``stop``, and how many of them count.

        A batch can have fewer images than there are ranks. A rank without an image takes the first one of the batch,
        which does not count, because every rank must take part in every collective operation.
        """
        count = stop - start
        first, last = (start - -count * rank // self.world_size for rank in (self.rank, self.rank + 1))  # rounded up
        return (slice(first, last), last - first) if last > first else (slice(start, start + 1), 0)


WHOLE_BATCH = Shard()
