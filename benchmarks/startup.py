"""Start-up: from the command to its answer, and from the command to the first training step.

python benchmarks/startup.py                              # 60,000 small JPEG files, made for the benchmark
python benchmarks/startup.py --root /data/cifar10_jpeg    # train/CLASS/* and test/CLASS/* of yours
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from measuring import Limit, Report, Result, arguments
from PIL import Image

PROGRAM = [sys.executable, "-m", "cifar_exp"]
# Says when the first batch goes into the network and when the first step is done.
FIRST_STEP = """\
import sys, time
from cifar_exp.cli.main import main
from cifar_exp.compute.memory import collector_off_for_imports
from cifar_exp.sweeps import job  # imports nothing that a run needs

run_job = job.run_job

def watched(*args, **options):
    with collector_off_for_imports():  # as the job is about to import them itself
        from cifar_exp import runner
        from cifar_exp.training.step import TrainingStep
    step = TrainingStep.__call__

    def first(*args, **options):
        print("FIRST BATCH", time.time(), flush=True)
        step(*args, **options)
        print("FIRST STEP", time.time(), flush=True)
        time.sleep(60)  # to be killed

    TrainingStep.__call__ = first
    return run_job(*args, **options)

job.run_job = watched
sys.exit(main())
"""


def seconds(command: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def until_first_step(root: Path, folder: Path, number: int) -> tuple[float, float]:
    """Seconds from the command to the first batch in the network, and to the end of the first step."""
    command = [sys.executable, "-c", FIRST_STEP, "data=image_folder", f"data.root={root}"]
    command += [f"data.cache={folder / 'cache'}", f"hydra.run.dir={folder / 'runs' / str(number)}"]
    started = time.time()
    moments: dict[str, float] = {}
    # A session of its own: the processes that decoded the images would hold the pipe open for minutes.
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            what, _, value = line.rpartition(" ")
            if what.startswith("FIRST"):
                moments[what] = float(value)
            if what == "FIRST STEP":
                os.killpg(process.pid, signal.SIGKILL)
                break
    return moments["FIRST BATCH"] - started, moments["FIRST STEP"] - started


def make_images(root: Path) -> None:
    """60,000 JPEG files of 32x32 pixels in 10 classes."""
    generator = np.random.default_rng(0)
    for split, count in (("train", 5_000), ("test", 1_000)):
        for number in range(10):
            folder = root / split / f"class{number}"
            folder.mkdir(parents=True)
            for index in range(count):
                blocks = generator.integers(0, 256, (8, 8, 3), dtype=np.uint8)
                pixels = blocks.repeat(4, axis=0).repeat(4, axis=1)
                Image.fromarray(pixels).save(folder / f"{index:04}.jpg", quality=75)


def main() -> None:
    parser = arguments(__doc__, repeats=5)
    parser.add_argument("--root", type=Path, default=os.environ.get("CIFAR_EXP_JPEG_ROOT"), help="folder of images")
    options = parser.parse_args()
    report = Report("startup")
    python, torch = [], []
    commands = {"--help": ["--help"], "--cfg job": ["--cfg", "job"], "compare --help": ["compare", "--help"]}
    times: dict[str, list[float]] = {name: [] for name in commands}
    for turn in range(options.repeats + 1):  # the first one fills the page cache
        measured = {name: seconds([*PROGRAM, *command]) for name, command in commands.items()}
        empty, imported = seconds([sys.executable, "-c", "pass"]), seconds([sys.executable, "-c", "import torch"])
        if turn:
            for name, value in measured.items():
                times[name].append(value)
            python.append(empty)
            torch.append(imported)
    for name, values in times.items():
        report.add(
            Result(f"cifar-exp {name}", "s", values, python, "python -c pass", Limit("measured", at_most=0.6), False)
        )
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        root = options.root
        if root is None:
            root = folder / "images"
            make_images(root)
        moments = [until_first_step(Path(root), folder, number) for number in range(options.repeats + 1)]
    report.add(Result("60,000 image files, decoded now: first batch in the network", "s", [moments[0][0]]))
    what = "60,000 image files, decoded before"
    warm = moments[1:]
    report.add(
        Result(
            f"{what}: first batch in the network",
            "s",
            [first for first, _ in warm],
            torch,
            "python -c 'import torch'",
            Limit("measured", at_most=6.0),
            False,
        )
    )
    report.add(Result(f"{what}: first step done", "s", [done for _, done in warm]))
    report.write(options.csv)


if __name__ == "__main__":
    main()
