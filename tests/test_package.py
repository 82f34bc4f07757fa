"""The built wheel: installed elsewhere, run from another folder, its configs inside."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder in which the wheel alone is installed."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in ("cifar_exp", "conf", "hydra_plugins", "setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        subprocess.run(["cp", "-r", ROOT / name, source], check=True)  # building leaves files beside the source
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, source]
    subprocess.run(build, check=True, capture_output=True, timeout=120)
    (wheel,) = folder.glob("*.whl")
    site = folder / "site"
    subprocess.run(
        [*pip, "install", "--no-deps", "--target", site, wheel], check=True, capture_output=True, timeout=120
    )
    return site


def test_the_wheel_carries_every_config(installed):
    shipped = {path.relative_to(installed / "cifar_exp" / "conf") for path in installed.rglob("*.yaml")}
    assert shipped == {path.relative_to(ROOT / "conf") for path in (ROOT / "conf").rglob("*.yaml")}


def test_the_wheel_carries_what_pages_are_made_from(installed):
    for folder in ("templates", "vendor"):
        inside = Path("cifar_exp", "reports", "html", folder)
        assert {path.name for path in (installed / inside).iterdir()} == {
            path.name for path in (ROOT / inside).iterdir()
        }


def installed_program(installed, folder, *arguments):
    """Run the installed program in a folder; returns what it printed, after where it was found."""
    script = "import cifar_exp, sys; from cifar_exp.cli.main import main; print(cifar_exp.__file__); sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(installed))
    return done.stdout


def test_the_installed_program_composes_from_any_folder_and_finds_its_launchers(installed, tmp_path):
    arguments = ["-m", "hydra/launcher=joblib", "experiment=quickstart", "sweep.plan=true"]
    assert "1 job, 1 to run" in installed_program(installed, tmp_path, *arguments)
    assert (installed / "hydra_plugins" / "cifar_exp_plugins" / "__init__.py").exists()
    assert not (installed / "hydra_plugins" / "__init__.py").exists(), "other packages have plugins there, too"
