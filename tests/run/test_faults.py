"""What goes wrong outside the program: full disks, missing folders, limits, killed processes."""

import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pandas as pd
import pytest
from composing import TINY, composed
from programs import PROGRAM, started, wait_for
from runs import call_at, metrics_of, state_of

from cifar_exp.cli.main import main
from cifar_exp.run_dir import tables
from cifar_exp.run_dir.lifecycle import recorded
from cifar_exp.runner import run

STRESS = Path(__file__).parents[1] / "stress"
NOBODY = 65534
LASTING = (*TINY, "epochs=5000", "scheduler=constant", "explain.images=0")

root_only = pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0,
    reason="mounts a small file system or changes user: needs root on Linux",
)

# Each starts the program, which takes seconds: `make stress` runs all of them, the ordinary suite one of each kind.
long = pytest.mark.skipif(not os.environ.get("CIFAR_EXP_STRESS"), reason="one of many alike: `make stress` runs it")


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    folder.mkdir(exist_ok=True)
    try:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)], check=True)
    except subprocess.CalledProcessError:
        pytest.skip("mounts a small file system, which root may not here: run it outside a container")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@contextmanager
def running(cwd: Path, run: Path, *overrides: str) -> Iterator["subprocess.Popen[str]"]:
    """A run that has completed an epoch, and continues for minutes."""
    command = [*PROGRAM, *LASTING, *overrides, f"hydra.run.dir={run}"]
    with started(command, cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:

        def has_saved() -> bool:
            assert process.poll() is None
            return (run / "checkpoints" / "last.pt").exists()

        wait_for(has_saved, seconds=240)
        yield process


def checked(error: str) -> str:
    """The same standard error output, which must be one to three lines without a traceback."""
    assert "Traceback" not in error
    assert 1 <= len(error.strip().splitlines()) <= 3
    return error


def error_of(process: "subprocess.Popen[str]", seconds: float = 240) -> str:
    """Standard error of a process that ends by itself."""
    return checked(process.communicate(timeout=seconds)[1])


def test_a_writer_that_is_killed_repeatedly_loses_nothing():
    command = [sys.executable, str(STRESS / "kills.py"), "--kills", "25"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "every file whole, nothing lost" in done.stdout


@root_only
def test_a_full_disk_fails_the_run_which_is_resumed_once_there_is_room(tmp_path, capsys):
    run(composed(*TINY), tmp_path / "whole")
    capsys.readouterr()
    last = (tmp_path / "whole" / "checkpoints" / "last.pt").stat().st_size
    with small_disk(tmp_path / "disk", f"{int(1.5 * last / 1024)}k") as disk:  # room for one checkpoint, not for two
        out = disk / "run"
        assert main([*TINY, f"hydra.run.dir={out}"]) == 1
        assert "No space left on device" in checked(capsys.readouterr().err)
        assert state_of(out)["state"] == "failed"
        assert "No space left" in state_of(out)["error"]
        for name in ("metrics.csv", "steps.csv"):
            if (out / name).exists():
                assert len(tables.read_table(out / name))
        assert list(out.rglob(".*.tmp")) == []
        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
        assert main(["resume", str(out)]) == 0
        pd.testing.assert_frame_equal(metrics_of(tmp_path / "whole"), metrics_of(out), check_exact=True)
        assert state_of(out)["state"] == "completed"


@root_only
def test_a_state_is_recorded_where_not_a_byte_is_left(tmp_path):
    with small_disk(tmp_path / "disk", "100k") as disk:
        run = disk / "run"
        with pytest.raises(OSError, match="No space left"), recorded(run, {"name": "x"}):  # noqa: PT012
            filler = (disk / "filler").open("wb")
            with filler:
                filler.write(bytes(2**20))
                filler.flush()
        assert os.statvfs(disk).f_bavail == 0
        assert state_of(run)["state"] == "failed"
        assert "No space left" in state_of(run)["error"]


@pytest.mark.parametrize("how", ["renamed", pytest.param("unmounted", marks=root_only)])
def test_a_run_directory_that_vanishes_ends_the_run_with_an_error(tmp_path, monkeypatch, capsys, how):
    out, elsewhere = tmp_path / "share" / "run", tmp_path / "elsewhere"
    (tmp_path / "share").mkdir()
    with ExitStack() as mounted:
        if how == "unmounted":
            mounted.enter_context(small_disk(tmp_path / "share", "64m"))
        call_at(monkeypatch, 4, mounted.close if how == "unmounted" else lambda: out.rename(elsewhere))
        assert main([*TINY, "epochs=3", f"hydra.run.dir={out}"]) == 1
    assert "No such file or directory" in checked(capsys.readouterr().err)
    if how == "renamed":
        assert len(tables.read_table(elsewhere / "metrics.csv")) == 1  # of 3 steps an epoch, one had ended
        assert not (out / "metrics.csv").exists()


def test_too_little_memory_in_the_middle_of_a_run_fails_it(tmp_path):
    run = tmp_path / "run"
    with running(tmp_path, run) as process:
        system = Path("/proc", str(process.pid), "statm").read_text().split()
        used = int(system[0]) * os.sysconf("SC_PAGE_SIZE")
        resource.prlimit(process.pid, resource.RLIMIT_AS, (used, used))
        resource.prlimit(process.pid, resource.RLIMIT_DATA, (2**20, 2**20))
        try:
            error = error_of(process, seconds=60)
        except subprocess.TimeoutExpired:
            pytest.skip("by chance the run needed no more memory than it had: run the test again")
    assert process.returncode == 1
    assert "memory" in error.lower()
    assert state_of(run)["state"] == "failed"
    assert len(tables.read_table(run / "metrics.csv")) >= 1


@long
def test_too_few_file_descriptors_fail_the_run(tmp_path):
    run = tmp_path / "run"
    with running(tmp_path, run) as process:
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (3, 3))
        assert "Too many open files" in error_of(process)
    assert process.returncode == 1
    # Nothing can be written without opening it: the next command says that the process has ended.
    assert state_of(run)["state"] in ("failed", "running")
    assert len(tables.read_table(run / "metrics.csv")) >= 1


@long
def test_a_file_size_limit_fails_the_run(tmp_path):
    run = tmp_path / "run"
    with running(tmp_path, run) as process:
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (30_000, 30_000))
        assert "File too large" in error_of(process)
    assert process.returncode == 1
    assert state_of(run)["state"] == "failed"
    assert len(tables.read_table(run / "metrics.csv")) >= 1


@pytest.fixture
def passable() -> Iterator[Path]:
    """A folder that other users may enter, which pytest's own are not."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@root_only
def test_folders_that_a_user_may_not_write_to_are_refused(passable):
    tmp_path = passable
    (tmp_path / "closed").mkdir()
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    environment = os.environ | {"HOME": "/nonexistent", "CIFAR_EXP_CACHE": str(tmp_path / "closed" / "cache")}
    as_nobody = {"user": NOBODY, "group": NOBODY, "extra_groups": [], "env": environment}
    # The interpreter may lie in root's own home; the system's of the same version takes the same packages.
    packages = [path for path in sys.path if path.endswith("site-packages")]
    start = f"import runpy, site; [site.addsitedir(path) for path in {packages}]; "
    start += "runpy.run_module('cifar_exp', None, '__main__')"
    system = f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}"

    def run_program(*arguments: str, cwd: Path) -> subprocess.CompletedProcess:
        command = [system, "-c", start, *arguments]
        return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300, **as_nobody)

    if not Path(system).exists() or run_program("--version", cwd=Path("/")).returncode:
        pytest.skip(f"{system} is not there or not for other users to start (Debian: apt-get install python3)")
    refused = run_program(*TINY, "hydra.run.dir=out", cwd=tmp_path / "closed")
    assert refused.returncode == 2, refused.stderr
    assert "is not a writable folder" in refused.stderr
    assert list((tmp_path / "closed").iterdir()) == []
    # A cache that cannot be written to is done without.
    done = run_program(*TINY, "epochs=1", "hydra.run.dir=out", cwd=tmp_path / "open")
    assert done.returncode == 0, done.stderr
    assert "cannot be used" in done.stdout
    resumed = run_program("compare", "open", "--out", "closed/x", cwd=tmp_path)
    assert resumed.returncode == 2
    assert "cannot be written to" in resumed.stderr


TEN = """
import json, os, sys, time
from pathlib import Path
import numpy as np
from cifar_exp.data.sources import cache
from cifar_exp.data.dataset import Split, make_dataset
folder = Path(sys.argv[1])
part = Split(np.zeros((4, 8, 8, 3), np.uint8), np.array([0, 1, 0, 1]), np.array(["a", "b", "c", "d"]))

def turn(name):
    with (folder / name).open("a") as file:
        file.write(f"{os.getpid()}\\n")
    return len((folder / name).read_text().split())

def decode():
    if turn("decoding") == 1:
        time.sleep(600)  # until it is killed
    return make_dataset(part, part, ("cat", "dog"))

save = np.savez
def stuck(file, *arrays):
    if turn("storing") == 1:
        save(file, *arrays[:-1])
        time.sleep(600)
    save(file, *arrays)
np.savez = stuck

def start():
    process = os.fork()
    if not process:
        dataset = cache.decode_once(folder / "cache", "slow", "key", decode)
        turn("done")
        os._exit(0 if len(dataset.train) == 4 else 1)
    return process

started = [start() for _ in range(10)]
for name in ("decoding", "storing"):
    while not (folder / name).exists() or not (folder / name).read_text().endswith("\\n"):
        time.sleep(0.01)
    time.sleep(0.2)  # the others get to the lock
    victim = int((folder / name).read_text().split()[0])
    os.kill(victim, 9)
codes = [os.waitpid(process, 0)[1] for process in started]
print(json.dumps(sorted(codes)))
"""


def test_ten_processes_decode_once_although_two_of_them_are_killed(tmp_path):
    done = subprocess.run([sys.executable, "-c", TEN, str(tmp_path)], capture_output=True, text=True, timeout=240)
    assert json.loads(done.stdout) == [0] * 8 + [signal.SIGKILL] * 2, done.stderr
    # The first was killed while decoding, the second while storing, the third did both, seven read what it made.
    assert len((tmp_path / "decoding").read_text().split()) == 3
    assert len((tmp_path / "storing").read_text().split()) == 2
    assert len((tmp_path / "done").read_text().split()) == 8
    kept = {path.name for path in (tmp_path / "cache" / "decoded").iterdir() if path.suffix != ".lock"}
    assert len(kept) == 1
    assert not kept.pop().startswith(".")
