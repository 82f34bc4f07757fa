"""A current folder from someone else: its modules and its matplotlibrc count for no process of the program."""

import os
import subprocess
import sys

import pytest
from composing import TINY

from cifar_exp.cli.main import main

DRIVER = """
import sys
from importlib import import_module
from cifar_exp import data
from cifar_exp.cli.main import main
code = main(sys.argv[1:])
import_module("cifar_exp.data.sources.image_folder")._CHUNK = 2  # enough images for joblib's processes
data.image_folder(root="tree", cache="cache", image_size=32)
sys.exit(code)
"""


def test_a_sweep_and_its_processes_import_nothing_that_lies_there(tmp_path, image_tree):
    for name in ("joblib", "numpy", "torch", "hydra", "yaml", "PIL", "cloudpickle", "sitecustomize"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'it-ran')!r}, 'a').write({name!r})\n")
    (tmp_path / "matplotlibrc").write_text("text.usetex: True\nfigure.facecolor: red\n")
    driver = tmp_path / "elsewhere" / "driver.py"
    driver.parent.mkdir()
    driver.write_text(DRIVER)
    small = [*TINY, "epochs=1", "figures=true", "explain.images=1"]
    done = subprocess.run(
        [sys.executable, str(driver), "-m", "hydra/launcher=joblib", "hydra.sweep.dir=sweep", *small, "max_lr=0.1"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert not (tmp_path / "it-ran").exists()
    assert (tmp_path / "sweep" / "0" / "figures" / "gradcam.png").stat().st_size > 0
    assert "usetex" not in done.stdout + done.stderr


def test_python_m_looks_there_for_nothing_but_the_package(tmp_path):
    for name in ("hydra", "difflib", "logging", "numpy"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('planted')\n")
    program = [sys.executable, "-m", "cifar_exp", "compare", "nowhere"]
    done = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, "nowhere: no such folder" in done.stderr) == (2, True)


def test_a_current_folder_that_was_deleted(tmp_path, monkeypatch, capsys):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    os.rmdir(tmp_path / "gone")
    for arguments in (["--help"], [*TINY], ["-m", *TINY], ["compare", "x"], ["lr-find", *TINY], ["report", "x"]):
        assert main(arguments) == 2
        assert capsys.readouterr().err.startswith("cifar-exp: the current folder cannot be used")


@pytest.mark.parametrize("arguments", [["--cfg", "job"], ["compare", "--help"]])
def test_output_onto_a_full_disk_is_one_line_and_exit_code_1(arguments):
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full here")
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "cifar_exp", *arguments], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert done.returncode == 1
    assert done.stderr == "cifar-exp: standard output cannot be written: No space left on device\n"
