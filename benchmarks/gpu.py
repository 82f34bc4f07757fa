"""On a GPU: ResNet-18 for 20 epochs, end to end, against 25 s and a plain loop; `experiment=speedrun` against airbench.

    python benchmarks/gpu.py
    python benchmarks/gpu.py --repeats 5 augment_backend=albumentations     # with config overrides

The data are random
pixels of CIFAR-10's shape and size: times do not depend on what is in a picture, and accuracies mean nothing.

airbench (https://github.com/KellerJordan/cifar10-airbench, 0.1.8) is measured where `pip install airbench` has put it,
on the same pixels. Both sides count what airbench's own clock counts: the whitening layer, training, and one evaluation
with test-time augmentation; not the images' way to the GPU, nor the evaluations between epochs.
"""

import contextlib
import importlib.util
import io
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import plain
import synthetic
import torch
from measuring import Limit, Report, Result, arguments, overrides_for_synthetic_data, print_measurement

from cifar_exp import network, stages
from cifar_exp.config.compose import compose_job, without_hydra
from cifar_exp.config.resolved import resolve
from cifar_exp.runner import run
from cifar_exp.training import epoch, fit

EPOCHS, PLAIN_EPOCHS, BATCH = 20, 1, 128
QUIET = ["figures=false", "report=false", "explain.images=0", "checkpoint.best=false", "data.validation_fraction=0"]


def finished_run(overrides: list[str], folder: Path) -> dict[str, Any]:
    """A whole run; returns its summary."""
    return run(resolve(without_hydra(compose_job([*overrides_for_synthetic_data(), *QUIET, *overrides]))), folder)


def plain_loop(device: torch.device, epochs: int, warm_up: int = 20) -> float:
    """Seconds of ``EPOCHS`` epochs and an evaluation by the plain loop, reckoned from ``epochs`` of them."""
    data = synthetic.cifar10_like()
    training = plain.Training(data.train.images, data.train.labels, BATCH, device)
    training.steps(warm_up)
    steps = epochs * (len(data.train) // BATCH)
    started = time.perf_counter()
    training.steps(steps)
    trained = time.perf_counter()
    plain.evaluate(training.model, data.test.images, data.test.labels, BATCH, device)
    return EPOCHS / epochs * (trained - started) + time.perf_counter() - trained


def waits_in_an_epoch(overrides: list[str], folder: Path) -> int:
    """How often the program waits for the GPU in a run's second epoch, as far as PyTorch notices, its end left out."""
    train_epoch, step_rows, counts = fit.train_epoch, epoch._make_step_rows, []

    def watched(learner: Any, *args: Any, **options: Any) -> Any:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            try:
                return train_epoch(learner, *args, **options)
            finally:
                torch.cuda.set_sync_debug_mode("default")
                counts.append(sum("synchronizing" in str(one.message) for one in caught))

    def unwatched(*args: Any) -> Any:
        torch.cuda.set_sync_debug_mode("default")  # the epoch's figures are fetched from here on
        return step_rows(*args)

    with mock.patch.object(fit, "train_epoch", watched), mock.patch.object(epoch, "_make_step_rows", unwatched):
        finished_run([*overrides, "epochs=2"], folder)
    return counts[1]


@contextlib.contextmanager
def timed(module: ModuleType, name: str) -> Iterator[list[float]]:
    """The seconds of each call of a module's function, the GPU's work included."""
    function, seconds = getattr(module, name), []

    def stopwatch(*args: Any, **options: Any) -> Any:
        torch.cuda.synchronize()
        started = time.perf_counter()
        made = function(*args, **options)
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
        return made

    with mock.patch.object(module, name, stopwatch):
        yield seconds


def speedrun_seconds(overrides: list[str], folder: Path) -> float:
    """What airbench counts of its own program: the whitening layer, training, and one evaluation of the six views."""
    with timed(network, "_initialize") as whitening, timed(stages, "measure_tta") as views:
        training: float = finished_run(overrides, folder)["train_seconds"]
    return sum(whitening) + training + sum(views)


def images_for_airbench(folder: Path) -> None:
    """The images where airbench looks for its copy of CIFAR-10, which it would download else."""
    data = synthetic.cifar10_like()
    (folder / "cifar10").mkdir()
    for name, split in (("train", data.train), ("test", data.test)):
        tensors = {"images": torch.from_numpy(split.images), "labels": torch.from_numpy(split.labels)}
        torch.save(tensors | {"classes": list(data.class_names)}, folder / "cifar10" / f"{name}.pt")


def airbench_seconds(folder: Path) -> float:
    """Of one training by airbench's own program and clock, with the images in ``folder``."""
    import airbench  # type: ignore[import-not-found]

    with contextlib.chdir(folder), contextlib.redirect_stdout(io.StringIO()) as printed:
        airbench.train94()
    return seconds_in(printed.getvalue())


def seconds_in(table: str) -> float:
    """The last figure of the last row of what airbench prints: the seconds so far, after the last evaluation."""
    rows = [line for line in table.splitlines() if line.startswith("|")]
    return float(rows[-1].strip("| ").rpartition("|")[2])


def undo_determinism(*, benchmark: bool) -> None:
    """Take back what a run of ours asked PyTorch for, and the others do not; ``benchmark`` is cuDNN's."""
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.benchmark = benchmark


def measure_resnet(report: Report, repeats: int, overrides: list[str], scratch: Path) -> None:
    """Whole runs against the plain loop, in turns, and the waits for the GPU in an epoch."""
    whole, loop = [], []
    finished_run([*overrides, "epochs=1"], scratch / "warm-up")
    for turn in range(repeats):
        whole.append(finished_run([*overrides, f"epochs={EPOCHS}"], scratch / f"resnet {turn}")["total_seconds"])
        undo_determinism(benchmark=False)  # PyTorch's own setting
        print_measurement("ours", turn, {"seconds": whole[-1]})
        loop.append(plain_loop(torch.device("cuda"), PLAIN_EPOCHS))
        print_measurement("plain loop", turn, {"seconds": loop[-1]})
    waits = waits_in_an_epoch(overrides, scratch / "waits")
    print_measurement("ours", 0, {"waits": waits})
    what = f"ResNet-18, {EPOCHS} epochs, end to end"
    report.add(Result(what, "s", whole, limit=Limit("measured", at_most=25)))
    baseline = f"plain loop, from {PLAIN_EPOCHS} epochs"
    report.add(Result(what, "s", whole, loop, baseline, Limit("ratio", at_least=15), speed=False))
    report.add(Result("waits for the GPU in an epoch of ResNet-18", "", [waits], limit=Limit("measured", at_most=0)))


def measure_speedrun(report: Report, repeats: int, overrides: list[str], scratch: Path) -> None:
    """The speedrun against airbench, if that is installed; the first turn warms up."""
    has_airbench = importlib.util.find_spec("airbench") is not None
    fast, theirs = [], []
    if has_airbench:
        images_for_airbench(scratch)
    for turn in range(repeats + 1):
        fast.append(speedrun_seconds(["experiment=speedrun", *overrides], scratch / f"speedrun {turn}"))
        print_measurement("ours", turn - 1, {"seconds": fast[-1]})
        undo_determinism(benchmark=True)  # airbench's own setting
        theirs.append(airbench_seconds(scratch) if has_airbench else 0.0)
        if has_airbench:
            print_measurement("airbench", turn - 1, {"seconds": theirs[-1]})
    what = "experiment=speedrun: whitening, training, six views"
    if has_airbench:
        limit = Limit("ratio", at_least=1)
        report.add(Result(what, "s", fast[1:], theirs[1:], "airbench.train94", limit, speed=False))
    else:
        report.add(Result(what, "s", fast[1:]))


PARTS = {"resnet": measure_resnet, "speedrun": measure_speedrun}


def main() -> None:
    parser = arguments(__doc__, repeats=3)
    parser.add_argument("--part", action="append", choices=PARTS, help="measure this only; default: all")
    parser.add_argument("override", nargs="*", help="config overrides, such as compile=true")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("benchmarks/gpu.py: there is no GPU here that CUDA drives")
    report = Report(f"gpu ({torch.cuda.get_device_name()}) {' '.join(options.override)}".strip())
    with tempfile.TemporaryDirectory() as scratch:
        for part in options.part or PARTS:
            PARTS[part](report, options.repeats, options.override, Path(scratch))
    report.write(options.csv)


if __name__ == "__main__":
    main()
