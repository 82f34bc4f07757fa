"""Run directories from someone else: none exhausts memory, waits for ever or is written into by way of its links."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from compare_runs import make_run
from composing import TINY, composed

from cifar_exp.cli.main import main
from cifar_exp.compare.discover import find_runs, read_runs
from cifar_exp.config.resolved import load_saved, to_yaml
from cifar_exp.errors import RequestError
from cifar_exp.run_dir import tables
from cifar_exp.run_dir.lifecycle import recorded
from cifar_exp.safe_io import atomic

LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10)
)
DEEP = "[" * 500_000


def endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


def unanswered(path: Path) -> None:
    os.mkfifo(path)


def gigabytes(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(100 * 2**30)  # of holes


ENDLESS = pytest.mark.parametrize("put", [endless, unanswered, gigabytes])


@ENDLESS
@pytest.mark.parametrize("name", ["status.json", "summary.csv"])
def test_compare_lists_a_run_whose_records_never_end(tmp_path, put, name):
    run = make_run(tmp_path / "run")
    (run / name).unlink()
    put(run / name)
    runs = read_runs(find_runs([tmp_path])[0])
    assert runs["problem"].iloc[0].startswith(f"{name}: cannot be read (")


@ENDLESS
def test_compare_does_without_a_config_that_never_ends(tmp_path, put):
    run = make_run(tmp_path / "run", state="running")
    (run / "summary.csv").unlink()
    put(run / "config_resolved.yaml")
    assert read_runs([run])["state"].tolist() == ["running"]


@pytest.mark.parametrize(
    "text", [LAUGHS, DEEP, "a: 1\nb: [", "- 1", "\x00"], ids=["laughs", "deep", "cut", "list", "nul"]
)
def test_a_config_that_unfolds_to_gigabytes_or_exhausts_the_stack_is_refused(tmp_path, text):
    run = make_run(tmp_path / "run", state="running")
    (run / "summary.csv").unlink()
    (run / "config_resolved.yaml").write_text(text)
    assert [column for column in read_runs([run]).columns if column.startswith("config.")] == []
    with pytest.raises(RequestError, match="config"):
        load_saved(run / "config_resolved.yaml")


@ENDLESS
@pytest.mark.parametrize("name", ["config_resolved.yaml", "status.json", "environment.json"])
def test_evaluate_refuses_a_run_whose_files_never_end(tmp_path, capsys, put, name):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "status.json").write_text('{"state": "completed"}')
    (tmp_path / "run" / "config_resolved.yaml").write_text(to_yaml(composed(*TINY)))
    (tmp_path / "run" / name).unlink(missing_ok=True)
    put(tmp_path / "run" / name)
    assert main(["evaluate", str(tmp_path / "run")]) == 2
    assert str(tmp_path / "run") in capsys.readouterr().err


@pytest.mark.parametrize("put", [endless, unanswered])
@pytest.mark.parametrize("name", ["metrics.csv", "predictions.csv"])
def test_a_table_that_never_ends_is_not_read(tmp_path, put, name):
    put(tmp_path / name)
    with pytest.raises(OSError, match="not a regular file"):
        tables.read_table(tmp_path / name)


def test_comparing_everything_bad_at_once_takes_little_memory_and_prints_no_escape(tmp_path):
    for number, put in enumerate((endless, unanswered, gigabytes)):
        for name in ("status.json", "summary.csv", "predictions.csv", "metrics.csv"):
            run = make_run(tmp_path / "runs" / f"{number}-{name}")
            (run / name).unlink()
            put(run / name)
    for number, text in enumerate((LAUGHS, DEEP)):
        run = make_run(tmp_path / "runs" / f"yaml{number}", state="running")
        (run / "summary.csv").unlink()
        (run / "config_resolved.yaml").write_text(text)
    make_run(tmp_path / "runs" / "steers \x1b[2J", state="failed", error="\x1b]0;owned\x07", name="\x1b[31mred")
    (tmp_path / "runs" / "loop").symlink_to(tmp_path / "runs")
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_AS, (3 * 2**30,) * 2)\n"
        "from cifar_exp.cli.main import main; sys.exit(main(sys.argv[1:]))"
    )
    for form in ("table", "markdown"):
        done = subprocess.run(
            [sys.executable, "-c", code, "compare", "runs", "--out", "out", "--format", form],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        assert done.stderr == ""
        assert "\x1b" not in done.stdout
        assert "\x07" not in done.stdout
        assert "steers" in done.stdout


def test_a_run_directory_with_links_is_not_written_into(tmp_path):
    outside = tmp_path / "outside.txt"
    outside.write_text("mine")
    config = composed(*TINY)
    for name in ("run.log", "metrics.csv", "status.json", "checkpoints/last.pt"):
        run = make_run(tmp_path / f"of {name.replace('/', ' ')}", state="interrupted")
        (run / name).unlink(missing_ok=True)
        (run / name).parent.mkdir(exist_ok=True)
        (run / name).symlink_to(outside)
        with pytest.raises(RequestError, match="is a link"), recorded(run, config, resume=True):
            pytest.fail("went on")
    (tmp_path / "linked").symlink_to(tmp_path)
    run = make_run(tmp_path / "folder", state="interrupted")
    (run / "checkpoints").symlink_to(tmp_path)
    with pytest.raises(RequestError, match="is a link"), recorded(run, config, resume=True):
        pytest.fail("went on")
    assert outside.read_text() == "mine"


def test_writing_replaces_a_link_and_appending_refuses_it(tmp_path):
    outside = tmp_path / "outside"
    outside.write_text("mine\n")
    beside = tmp_path / f".summary.csv.{os.getpid()}.tmp"
    for path in (tmp_path / "summary.csv", tmp_path / "metrics.csv", beside):
        path.symlink_to(outside)
    atomic.write_text(tmp_path / "summary.csv", "new\n")
    with pytest.raises(OSError, match="symbolic links"):
        tables.append_rows(tmp_path / "metrics.csv", ("epoch",), [{"epoch": 1}])
    assert outside.read_text() == "mine\n"
    assert not (tmp_path / "summary.csv").is_symlink()
