"""Training by this package, by PyTorch Lightning's Trainer and by a loop on timm, side by side.

    python benchmarks/peers.py                                          # 50,000 random images, 2 epochs, 3 repeats
    python benchmarks/peers.py --train-images 1500 --repeats 1          # on a small CPU
    python benchmarks/peers.py --data IMAGES --epochs 20 --accuracy 0.9 # IMAGES: train/CLASS/*.jpg, test/CLASS/*.jpg

It needs `pip install lightning timm`; a library that is not installed is left out. All sides train the same network on
the same images: batches of 128, a crop from 4 pixels of padding, a flip, SGD with Nesterov momentum, one cycle of the
learning rate over all epochs, the same precision. The rest is what each library's documentation shows: torchvision
transforms in the worker processes of a DataLoader, Lightning's callbacks and logger, timm's prefetching loader and its
cosine schedule with a linear warm-up. timm has no one-cycle schedule, so its momentum stays constant.

Each measurement is a new process, and the sides take turns. A measurement is printed to stderr as soon as it is taken,
the table at the end. The speed is that of all epochs but the first. An epoch lasts from its start until its last step
is done; evaluation and checkpoints come after it. Without --accuracy, the peers do not evaluate, and our run evaluates
a single batch. The first step is timed from the start of the process, imports included. Memory is the sum over the
processes of a side, shared pages counted once.
"""

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import peer_sides
from measuring import Limit, Report, Result, arguments, print_measurement
from sides import Stopwatch

PEERS = {"lightning": ("lightning", "pytorch_lightning"), "timm": ("timm",)}  # the first one installed is measured
WARM_UP = ["--train-images", "384", "--epochs", "1"]  # reads the libraries and the images once


def measure(side: str, given: list[str], folder: Path) -> dict[str, Any] | None:
    """The figures of a side in a new process, with ``memory`` in MB; None if it failed."""
    command = [sys.executable, __file__, "--side", side, "--folder", str(folder), *given]
    output, memory = folder / f"{side}.log", 0.0
    with output.open("w+", encoding="utf-8") as file:
        command += ["--started", str(time.time())]
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, start_new_session=True)
        while process.poll() is None:
            memory = max(memory, session_memory(process.pid))
            time.sleep(0.5)
    lines = output.read_text(encoding="utf-8", errors="replace").splitlines()
    if process.returncode:
        print(f"{side} failed with code {process.returncode}:", *lines[-5:], sep="\n", file=sys.stderr)
        return None
    figures: dict[str, Any] = json.loads(lines[-1])
    return figures | {"memory": memory}


def session_memory(session: int) -> float:
    """Resident MB of all processes of a session; a page shared by n of them counts 1/n in each."""
    total = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(stat.read_text().rpartition(")")[2].split()[3]) == session:
                lines = (stat.parent / "smaps_rollup").read_text().splitlines()
                total += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
        except (OSError, StopIteration):  # it ended meanwhile
            continue
    return total / 1024


def installed_peers() -> dict[str, str]:
    """The version of each peer that is installed; prints a line for each other one."""
    found = {}
    for peer, modules in PEERS.items():
        module = next((name for name in modules if importlib.util.find_spec(name)), None)
        if module is None:
            print(f"{peer} is not installed (pip install {peer}): left out")
        else:
            found[peer] = f"{module} {metadata.version(module)}"
    return found


def choose_compute(options: argparse.Namespace) -> str:
    """Resolve ``auto`` for all sides alike; returns the name of the device."""
    import torch

    from cifar_exp.compute.device import Compute

    compute = Compute.choose(options.device, options.precision, "auto")
    options.device, options.precision = compute.device.type, str(compute.precision).removeprefix("torch.")
    return torch.cuda.get_device_name() if options.device == "cuda" else "cpu"


def add_results(
    report: Report, options: argparse.Namespace, name: str, ours: list[dict[str, Any]], theirs: list[dict[str, Any]]
) -> None:
    """The lines of one peer, with the limits that are asked on this device."""

    def add(what: str, unit: str, figure: str, at_least: float | None, *, speed: bool = False) -> None:
        values, baseline = ([one[figure] for one in side] for side in (ours, theirs))
        limit = None if at_least is None else Limit("ratio", at_least=at_least)
        if None not in (*values, *baseline):
            report.add(Result(what, unit, values, baseline, name, limit, speed))

    times = 1 if options.device == "cuda" else 2 if options.precision == "bfloat16" else 1.2
    add(
        f"{options.model}, {options.train_images:,} images: training",
        "images/s",
        "images_per_second",
        times,
        speed=True,
    )
    add("the same, processor time", "ms/image", "processor_ms", None)
    add("start of the process to the end of the first step", "s", "first_step", 1)
    add("the same, processor time", "s", "first_step_processor", None)
    add("peak memory, all processes", "MB", "memory", None)
    add("peak GPU memory", "MB", "gpu_memory", None)
    if options.accuracy:
        add(f"start of the process to {options.accuracy:.1%} of the test images", "s", "to_accuracy", None)
        for side, measured in (("ours", ours), (name, theirs)):
            print(f"{side}, accuracy at the end:", *(f"{one['accuracy']:.2%}" for one in measured))


def parse_arguments() -> argparse.Namespace:
    parser = arguments(
        __doc__, repeats=3, epochs=2, train_images=peer_sides.TRAIN, workers=min(os.cpu_count() or 1, 8), warm_up=1
    )
    parser.add_argument("--data", help="folder with train/CLASS/* and test/CLASS/*; default: random pixels")
    parser.add_argument("--accuracy", type=float, default=0.0, help="also measure the time to it, such as 0.9")
    parser.add_argument("--model", choices=peer_sides.MODELS, default="resnet18")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--precision", choices=("auto", "float32", "bfloat16"), default="auto")
    parser.add_argument("--side", choices=peer_sides.SIDES, help="measure one side here and print its figures as JSON")
    parser.add_argument("--folder", default=tempfile.gettempdir(), help="of the files that a side writes")
    parser.add_argument("--started", type=float, default=time.time(), help="when the process of the side was started")
    return parser.parse_args()


def main() -> None:
    options = parse_arguments()
    if options.side:
        watch = Stopwatch(options.started, cuda=options.device == "cuda", accuracy=options.accuracy)
        peer_sides.SIDES[options.side](options, watch)
        print("\n" + json.dumps(watch.figures()), flush=True)
        return
    peers = installed_peers()
    device = choose_compute(options)
    names = ("data", "accuracy", "model", "device", "precision", "workers", "epochs", "train_images")
    given = [f"--{name.replace('_', '-')}={value}" for name in names if (value := getattr(options, name)) is not None]
    measured: dict[str, list[dict[str, Any]]] = {side: [] for side in ("ours", *peers)}
    threads = int(os.environ.get("OMP_NUM_THREADS", "0")) or None
    report = Report(
        f"peers ({device}, {options.precision}, {options.epochs} epochs, {options.workers} workers)", threads
    )
    with tempfile.TemporaryDirectory() as scratch:
        for turn in range(-options.warm_up, options.repeats):
            for side in list(measured):
                figures = measure(side, given if turn >= 0 else [*given, *WARM_UP], Path(scratch))
                if figures is None and side == "ours":
                    raise SystemExit("benchmarks/peers.py: our own side failed")
                if figures is None:
                    del measured[side]
                    continue
                print_measurement(side, turn, figures)
                if turn >= 0:
                    measured[side].append(figures)
    for peer in list(measured)[1:]:
        add_results(report, options, peers[peer], measured["ours"], measured[peer])
    report.write(options.csv)


if __name__ == "__main__":
    main()
