"""Damaged and hostile run directories: each is listed with what is wrong, or a part is left out with a remark."""

import os
import shutil
import threading
import time
from pathlib import Path

import pandas as pd
import pytest
from compare_runs import make_run
from composing import composed

from cifar_exp.cli.main import main
from cifar_exp.compare import changed_images
from cifar_exp.compare.changed_images import load_test_images
from cifar_exp.compare.discover import find_runs, natural
from cifar_exp.compare.pairs import read_predictions
from cifar_exp.config.resolved import to_yaml
from cifar_exp.data.sources import cache

as_root = pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() == 0, reason="root may read everything")


@pytest.fixture
def compare(tmp_path, capsys):
    """Compares the runs under ``tmp_path/runs``; returns exit code, stdout and stderr."""

    def run(*arguments: str) -> tuple[int, str, str]:
        paths = [] if arguments and not arguments[0].startswith("--") else [str(tmp_path / "runs")]
        out = [] if "--out" in arguments else ["--out", str(tmp_path / "out")]
        code = main(["compare", *paths, *arguments, *out])
        return code, *capsys.readouterr()

    return run


# --- data for a figure ---------------------------------------------------------------------------------
def with_config(run: Path, *overrides: str) -> tuple[object, str]:
    """The result of ``load_test_images`` for a run with this config."""
    (run / "config_resolved.yaml").write_text(to_yaml(composed(*overrides)))
    return load_test_images(run, None, read_predictions(run))


def test_the_cache_that_a_saved_config_names_is_not_used(tmp_path, monkeypatch):
    monkeypatch.setenv("CIFAR_EXP_CACHE", str(tmp_path / "mine"))
    theirs = tmp_path / "theirs"
    (theirs / "decoded").mkdir(parents=True)
    with_config(make_run(tmp_path / "run"), "data=mnist5k", f"data.cache={theirs}")
    assert list(theirs.rglob("*")) == [theirs / "decoded"]


def test_a_cached_data_set_that_is_a_pipe_is_not_waited_for(tmp_path):
    entry = tmp_path / "entry.npz"
    os.mkfifo(entry)
    reader = threading.Thread(target=cache._load, args=(entry,), daemon=True)
    reader.start()
    reader.join(20)
    assert not reader.is_alive()


@pytest.mark.parametrize("data", ["mnist5k", "cifar10", "cifar100"])
def test_no_gigabytes_are_loaded_for_a_figure(tmp_path, monkeypatch, data):
    monkeypatch.setattr(changed_images, "load", lambda node: pytest.fail("loaded"))
    found, reason = with_config(make_run(tmp_path / "run"), f"data={data}", "data.image_size=1024", "model=resnet9")
    assert (found, reason) == (None, "the data at 1024x1024 pixels are too large to be loaded for a figure")


def test_a_folder_of_images_is_counted_before_it_is_loaded(tmp_path, monkeypatch):
    tree = tmp_path / "tree"
    (tree / "train" / "cat").mkdir(parents=True)
    (tree / "train" / "again").symlink_to(tree)  # to and fro
    monkeypatch.setattr(changed_images, "load", lambda node: pytest.fail("loaded"))
    node = ("data=image_folder", f"data.root={tree}", "data.image_size=1024")
    for number in range(200):
        (tree / "train" / "cat" / f"{number}.png").touch()
    assert "too large" in with_config(make_run(tmp_path / "run"), *node)[1]


# --- many keys -----------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", ["values", "presence", "implied"])
def test_thousands_of_differing_keys_are_compared_in_seconds(tmp_path, compare, kind):
    for run in range(3):
        keys = {f"k{number}": run + number for number in range(3000)}
        if kind == "presence":  # keys that only some runs have
            keys = {f"k{number}": "x" for number in range(3000) if number % 3 != run}
        elif kind == "implied":
            keys = {f"k{n}.{leaf}": f"{run}" for n in range(1500) for leaf in ("name", "_target_")}
        make_run(tmp_path / "runs" / f"{run}", **keys)
    began = time.process_time()
    code, _, errors = compare()
    assert (code, errors) == (0, "")
    assert time.process_time() - began < 40


# --- cells ---------------------------------------------------------------------------------------------
def test_absurd_settings_are_only_text(tmp_path, compare):
    make_run(tmp_path / "runs" / "a", "1111")
    absurd = ({"seed": "9" * 5000}, {"max_lr": "9" * 5000}, {"max_lr": "1e308"}, {"epochs": "-1e308"}, {"self": "me"})
    for number, config in enumerate(absurd):
        make_run(tmp_path / "runs" / str(number), "1100", **config)
    make_run(tmp_path / "runs" / "c", "1000", max_lr=-0.5)
    assert compare()[::2] == (0, "")


@pytest.mark.parametrize("name", ["misclassified", "test_accuracy", "train_loss", "max_lr_used"])
def test_absurd_measurements_are_refused_or_shown_as_they_are(tmp_path, compare, name):
    for number, value in enumerate(("abc", "9" * 400, "1e308", "-1e308", "nan", "0.5")):
        make_run(tmp_path / "runs" / f"{number}", max_lr=0.1 + number, measured={name: value})
    code, out, errors = compare()
    assert (code, errors) == (0, "")
    assert ("misclassified in summary.csv is not a number" in out) == (name == "misclassified")


def test_absurd_curves_are_left_out(tmp_path, compare):
    digits = "9" * 400
    for name, rows in {
        "a": "1e300,1e308,1\n-1e300,-1e308,2\n",
        "b": f"1,{digits},1\n",
        "c": f"{digits},1,1\n",
        "d": "1,abc,1\n",
        "e": "1e99,-1e99,1\n",
        "f": "1,inf,nan\n",
    }.items():
        run = make_run(tmp_path / "runs" / name)
        (run / "metrics.csv").write_text("epoch,train_loss,val_accuracy\n" + rows)
    code, out, errors = compare()
    assert (code, errors) == (0, "")
    assert "No curve of a, b, c and 1 more: metrics.csv is missing or damaged." in out


def test_a_figure_that_fails_is_left_out_with_a_remark(tmp_path, compare, monkeypatch):
    def failing(*arguments: object) -> None:
        raise OverflowError("too large\nto draw")

    monkeypatch.setattr("cifar_exp.compare.draw.overlaid_curves", failing)
    make_run(tmp_path / "runs" / "a")
    code, out, _ = compare()
    assert code == 0
    assert "No curves.png: it cannot be drawn (OverflowError: too large to draw)." in out
    assert len(pd.read_csv(tmp_path / "out" / "comparison.csv")) == 1


def test_natural_order_counts_without_making_numbers():
    assert sorted(["a10", "a2", "a" + "9" * 5000, "a002", "b"], key=natural)[:3] == ["a2", "a002", "a10"]


# --- paths ---------------------------------------------------------------------------------------------
def test_a_link_to_itself_is_remarked_on_and_the_rest_compared(tmp_path, compare):
    make_run(tmp_path / "runs" / "good")
    (tmp_path / "runs" / "loop").mkdir()
    (tmp_path / "runs" / "loop" / "me").symlink_to("me")
    code, out, _ = compare()
    assert code == 0
    assert f"{tmp_path}/runs/loop/me: cannot be searched (" in out


@as_root
def test_links_and_paths_into_unreadable_folders(tmp_path, compare):
    good = make_run(tmp_path / "runs" / "good")
    closed = tmp_path / "closed"
    make_run(closed / "run")
    (tmp_path / "runs" / "link").symlink_to(closed / "run")
    closed.chmod(0)
    try:
        code, out, _ = compare()
        assert (code, f"{tmp_path}/runs/link: cannot be searched (" in out) == (0, True)
        _, _, remarks = find_runs([good, closed])
        assert f"{closed}: cannot be searched (Permission denied)." in remarks
        for arguments in ([str(closed / "run")], ["--baseline", str(closed / "run")], ["--out", str(closed / "out")]):
            code, _, errors = compare(*arguments)
            assert (code, f"{arguments[-1]}: cannot be accessed: Permission denied" in errors) == (2, True)
    finally:
        closed.chmod(0o700)


def test_a_name_that_is_too_long(tmp_path, compare):
    make_run(tmp_path / "runs" / "good")
    for arguments in (["a" * 300], ["--baseline", "a" * 300], ["--out", "a" * 300]):
        code, _, errors = compare(*arguments)
        assert (code, "a" * 300 + ": cannot be accessed: " in errors) == (2, True)


def test_a_current_folder_that_was_deleted(tmp_path, compare, monkeypatch):
    make_run(tmp_path / "runs" / "good")
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    shutil.rmtree(tmp_path / "gone")
    code, _, errors = compare()
    assert (code, "the current folder cannot be used" in errors) == (2, True)
