"""Run directories from someone else: none exhausts memory, waits for ever or is written into by way of its links."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from compare_runs import make_run
from composing import TINY, composed

from cifar_exp.cli.main import main
from cifar_exp.compare import discover
from cifar_exp.compare.discover import find_runs, read_runs
from cifar_exp.config.resolved import load_saved, to_yaml
from cifar_exp.errors import RequestError
from cifar_exp.run_dir import tables
from cifar_exp.run_dir.lifecycle import recorded
from cifar_exp.run_dir.saved_run import open_run
from cifar_exp.safe_io import atomic, untrusted

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
def test_compare_ignores_an_endless_config(tmp_path, put):
    run = make_run(tmp_path / "run", state="running")
    (run / "summary.csv").unlink()
    put(run / "config_resolved.yaml")
    assert read_runs([run])["state"].tolist() == ["interrupted"]  # no process holds its lock


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


HOSTILE = {
    "a million columns": ("summary.csv", ",".join(f"c{n}" for n in range(10**6)) + "\n" + "," * (10**6 - 1) + "\n"),
    "only line ends": ("summary.csv", "\n" * 10**6),
    "a hexadecimal integer": ("config_resolved.yaml", f"a: 0x{'f' * 5000}\n"),
    "an integer to base 60": ("config_resolved.yaml", f"a: {'1:' * 300_000}1\n"),
    "90,000 keys": ("config_resolved.yaml", "".join(f"k{n}: 1\n" for n in range(90_000))),
    "an integer of JSON": ("status.json", f'{{"state": {"9" * 10_000}}}'),
    "a deep list": ("status.json", "[" * 100_000),
    "a long error": ("status.json", '{"state": "failed", "error": "' + "x" * 10**6 + '"}'),
}


@pytest.mark.parametrize(("name", "content"), HOSTILE.values(), ids=HOSTILE)
def test_one_hostile_run_is_cheap_and_does_not_stop_a_comparison(tmp_path, capsys, name, content):
    make_run(tmp_path / "runs" / "good")
    bad = make_run(tmp_path / "runs" / "bad", state="running")
    (bad / "summary.csv").unlink()
    (bad / name).write_text(content)
    began = time.process_time()
    runs = read_runs(find_runs([tmp_path])[0])
    assert time.process_time() - began < 5
    assert len(runs) == 2
    assert runs.shape[1] < 100
    assert main(["compare", str(tmp_path / "runs"), "--out", str(tmp_path / "out"), "--no-page"]) == 0
    assert "good" in capsys.readouterr().out


def test_an_unexpected_error_affects_one_run(tmp_path, monkeypatch):
    for name in ("a", "b"):
        make_run(tmp_path / name)
    read = discover._read_run
    monkeypatch.setattr(discover, "_read_run", lambda path: read(path) if path.endswith("a") else 1 / 0)
    runs = read_runs([tmp_path / "a", tmp_path / "b"])
    assert runs["problem"].tolist() == [None, "cannot be read (ZeroDivisionError: division by zero)"]


def test_runs_with_too_many_columns_are_left_out_and_narrow_runs_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(untrusted, "MOST_COLUMNS", 60)
    for run in range(4):  # the first and the second have most columns
        make_run(tmp_path / f"{run}", **{f"k{run}x{n}": n for n in range(20 if run < 2 else 5)})
    problems = read_runs(find_runs([tmp_path])[0])["problem"].tolist()
    assert [bool(problem) for problem in problems] == [False, True, False, False]
    assert "the table would have more than 60" in problems[1]


def test_a_table_of_a_million_columns_is_refused(tmp_path):
    for name, start in (("predictions.csv", ""), ("metrics.csv", '"\n",')):
        (tmp_path / name).write_text(start + "," * 10**6 + "\n")
        with pytest.raises(ValueError, match="more than 5,000 columns"):
            tables.read_table(tmp_path / name)


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


def test_a_saved_config_that_links_to_a_file_elsewhere_is_not_read(tmp_path):
    (tmp_path / "secret").write_text("password")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "status.json").write_text('{"state": "completed"}')
    (tmp_path / "run" / "config_resolved.yaml").symlink_to(tmp_path / "secret")
    with pytest.raises(RequestError, match="is a link") as caught:
        open_run(tmp_path / "run")
    assert "password" not in str(caught.value)
