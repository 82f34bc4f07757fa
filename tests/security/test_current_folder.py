"""A current folder from someone else: the program and its processes read none of its modules and settings."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import stand_in_jobs
from composing import TINY

from cifar_exp.cli.main import main

DRIVER = """
import sys
from pathlib import Path
from cifar_exp.cli.main import main
if __name__ == "__main__":
    code = main(["compare", "nowhere"])  # as every command, prepares the process and its children
    from stand_in_jobs import StandIn
    from cifar_exp import data
    from cifar_exp.data.sources import image_files
    from cifar_exp.sweeps.launchers import joblib
    print(joblib.run_jobs([StandIn(7, Path("jobs"))], n_jobs=1))
    image_files._CHUNK = 2  # so that 24 images are decoded by joblib's processes
    print(len(data.image_folder(root="tree", cache="cache", image_size=32).train))
    import matplotlib
    print(matplotlib.rcParams["figure.facecolor"], code)
"""


def test_the_program_and_its_processes_import_nothing_from_there(tmp_path, image_tree):
    for name in ("joblib", "numpy", "torch", "hydra", "yaml", "PIL", "cloudpickle", "sitecustomize"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'it-ran')!r}, 'a').write({name!r})\n")
    (tmp_path / "matplotlibrc").write_text("figure.facecolor: red\n")
    driver = tmp_path / "elsewhere" / "driver.py"
    driver.parent.mkdir()
    driver.write_text(DRIVER)
    (tmp_path / "jobs").mkdir()
    done = subprocess.run(
        [sys.executable, str(driver)],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(Path(stand_in_jobs.__file__).parent)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert done.stdout.split("\n")[:3] == ["{7: 7.0}", "24", "white 2"]
    assert not (tmp_path / "it-ran").exists()


def test_python_m_imports_only_the_package_from_there(tmp_path):
    for name in ("hydra", "difflib", "logging", "numpy"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('planted')\n")
    program = [sys.executable, "-m", "cifar_exp", "compare", "nowhere"]
    done = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, "nowhere: no such folder" in done.stderr) == (2, True)


def test_a_deleted_current_folder_is_refused(tmp_path, monkeypatch, capsys):
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
