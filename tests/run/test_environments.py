"""Where the program is started: odd locales, names, homes and streams; and what it never does: use the network."""

import csv
import json
import os
import shutil
import socket
import subprocess
from pathlib import Path

import pytest
from compare_runs import make_run
from composing import TINY, composed
from programs import PROGRAM

from cifar_exp.cli.main import main
from cifar_exp.runner import run

# Python takes UTF-8 for the C locale by itself; this is what other locales without it look like.
NOT_UTF8 = {"LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
ODD = "größe 犬 'x'"


STRESS = bool(os.environ.get("CIFAR_EXP_STRESS"))
# Where the system lets this user shut the network off, as root can on Linux outside a container.
_SHUT_OFF = ["unshare", "-n"]
WITHOUT_NETWORK = (
    _SHUT_OFF
    if shutil.which("unshare") and not subprocess.run([*_SHUT_OFF, "true"], capture_output=True).returncode
    else []
)


def environment(**changes: str) -> dict[str, str]:
    left_out = ("HOME", "XDG_CACHE_HOME", "LANG", "LC_ALL")
    return {key: value for key, value in os.environ.items() if key not in left_out} | changes


def state_of(run: Path) -> str:
    return json.loads((run / "status.json").read_text())["state"]


def test_no_home_no_network_no_utf8_odd_names_a_linked_output_and_warnings_as_errors(tmp_path):
    folder = tmp_path / ODD
    folder.mkdir()
    (tmp_path / "link").symlink_to(folder)
    command = [
        *WITHOUT_NETWORK,
        *PROGRAM,
        *TINY,
        "figures=true",
        f"hydra.run.dir=../link/{ODD} läuft".replace("'", ""),
        "name=größe",
    ]
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment(**NOT_UTF8, PYTHONWARNINGS="error", MPLCONFIGDIR=str(tmp_path / "mpl"), MPLBACKEND="none"),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=240,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    (directory,) = folder.iterdir()
    assert state_of(directory) == "completed"
    assert len(list((directory / "figures").iterdir())) == 7
    # What was written is read by the next command, in this locale and in a UTF-8 one.
    for settings in (NOT_UTF8, {"LC_ALL": "C.UTF-8"})[: 2 if STRESS else 1]:
        done = subprocess.run(
            [*PROGRAM, "compare", ".", "--out", "../vergleich ö"],
            cwd=folder,
            env=environment(**settings, HOME="/nonexistent"),
            capture_output=True,
            timeout=120,
        )
        assert (done.returncode, done.stderr) == (0, b"")
        assert b"baseline" in done.stdout
    with (tmp_path / "vergleich ö" / "comparison.csv").open(encoding="utf-8") as file:
        assert len(list(csv.DictReader(file))) == 1


def test_letters_beyond_ascii_need_no_quotes(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["data=image_folder", f"data.root=/daten/{ODD}", "name=größe", "--cfg", "job"]) == 0
    printed = capsys.readouterr().out
    assert "größe" in printed
    assert "root: /daten/größe 犬 'x'" in printed


def test_a_saved_config_with_names_that_are_not_utf8_is_read_again(tmp_path):
    from cifar_exp.config.resolved import load_saved, to_yaml

    config = composed("data=image_folder", "model=resnet9")
    config.data.root = str(tmp_path) + "/d\udcf6g"
    path = tmp_path / "config_resolved.yaml"
    path.write_bytes(to_yaml(config).encode("utf-8", "backslashreplace"))
    assert load_saved(path) == config


def test_runs_in_folders_whose_names_are_not_utf8_are_compared(tmp_path):
    for number in range(2):
        make_run(tmp_path / os.fsdecode(b"gr\xf6\xdfe") / str(number), name=f"n{number}", max_lr=0.1 * (number + 1))
    assert main(["compare", str(tmp_path), "--out", str(tmp_path / "out")]) == 0
    text = (tmp_path / "out" / "comparison.csv").read_text(encoding="utf-8")
    assert "gr\\xf6\\xdfe/0" in text


@pytest.mark.skipif(not STRESS, reason="starts the program twice: `make stress` runs it")
def test_closed_streams_and_a_closed_pipe_do_not_end_the_run(tmp_path):
    program = " ".join([*PROGRAM, *TINY, "epochs=1"])
    closed = subprocess.run(["bash", "-c", f"{program} hydra.run.dir=closed >&- 2>&- <&-"], cwd=tmp_path, timeout=240)
    assert (closed.returncode, state_of(tmp_path / "closed")) == (0, "completed")
    piped = subprocess.run(
        ["bash", "-c", f"{program} hydra.run.dir=piped | head -1; exit ${{PIPESTATUS[0]}}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert (piped.stdout, piped.stderr) == ("Run directory: piped\n", "")
    assert (piped.returncode, state_of(tmp_path / "piped")) == (0, "completed")


def test_a_run_makes_no_network_connection(tmp_path, monkeypatch):
    def refused(*arguments: object, **_options: object) -> None:
        raise AssertionError(f"a network call: {arguments}")

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refused)
    monkeypatch.setattr(socket, "getaddrinfo", refused)
    run(composed(*TINY, "figures=true", "augment=crop_flip_cutout"), tmp_path / "run")
    assert main(["evaluate", str(tmp_path / "run"), "--out", str(tmp_path / "again")]) == 0


@pytest.mark.skipif(
    not WITHOUT_NETWORK, reason="shuts the network off by `unshare -n`: needs root on Linux outside a container"
)
def test_a_download_without_a_network_is_refused(tmp_path):
    done = subprocess.run(
        [*WITHOUT_NETWORK, *PROGRAM, "data=cifar10", f"data.cache={tmp_path / 'empty'}", "epochs=1"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 2
    assert "cannot download" in done.stderr
    assert "experiment=quickstart, which needs no network" in done.stderr
