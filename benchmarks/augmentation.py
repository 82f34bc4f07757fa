"""What it costs to make the training batches: by Albumentations, or by the batched transforms of the device.

    python benchmarks/augmentation.py              # one thread, CPU; 15 rounds of each

The two make the same batches of CIFAR-10's size, without a network, in turns. On a CPU the device is the CPU itself.
"""

import time
from collections.abc import Iterator
from typing import Any

from measuring import Report, Result, arguments, overrides_for_synthetic_data

from cifar_exp.build import build
from cifar_exp.config.compose import compose_config

AUGMENTATIONS, BATCH_SIZES = ("crop_flip_cutout", "alternating"), (128, 1000)
IMAGES = 8000  # timed together


def epochs(augment: str, batch_size: int, backend: str, threads: int) -> Iterator[Any]:
    """All batches of one epoch after another."""
    overrides = [
        *overrides_for_synthetic_data(),
        f"augment={augment}",
        f"augment_backend={backend}",
        f"batch_size={batch_size}",
        f"threads={threads}",
        "device=cpu",
        "model=resnet9",
        "model.width=4",
    ]
    batches = build(compose_config(overrides)).batches
    epoch = 0
    while True:
        epoch += 1
        # The last batch of an epoch can be a small one, which costs more for each of its images.
        yield from (batch for batch in batches.epoch(epoch) if len(batch[1]) == batch_size)


def microseconds_per_image(batches: Iterator[Any], batch_size: int) -> float:
    """Wall-clock time to make about ``IMAGES`` images."""
    count = max(IMAGES // batch_size, 1)
    started = time.perf_counter()
    for _ in range(count):
        next(batches)
    return 1e6 * (time.perf_counter() - started) / (count * batch_size)


def main() -> None:
    options = arguments(__doc__, repeats=15, threads=1).parse_args()
    report = Report("augmentation", options.threads)
    for augment in AUGMENTATIONS:
        for batch_size in BATCH_SIZES:
            sides = {
                backend: epochs(augment, batch_size, backend, options.threads)
                for backend in ("device", "albumentations")
            }
            times: dict[str, list[float]] = {backend: [] for backend in sides}
            for turn in range(options.repeats + 1):  # the first one warms up
                for backend, batches in sides.items():
                    taken = microseconds_per_image(batches, batch_size)
                    if turn > 0:
                        times[backend].append(taken)
            report.add(
                Result(
                    f"augment={augment}, batches of {batch_size:,}",
                    "us/image",
                    times["device"],
                    times["albumentations"],
                    "Albumentations",
                    speed=False,
                )
            )
    report.write(options.csv)


if __name__ == "__main__":
    main()
