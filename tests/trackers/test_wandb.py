"""An offline record of Weights & Biases holds what the CSVs hold, read from its file, beside another tracker's."""

import json
import shutil
import socket
import struct
import time

import pandas as pd
import pytest
from composing import composed
from tracker_records import SHORT, expected_scalars, expected_summary

from cifar_exp import trackers
from cifar_exp.config.parse import as_containers
from cifar_exp.run_dir import lifecycle
from cifar_exp.run_dir.saved_run import open_run
from cifar_exp.runner import run

pytest.importorskip("wandb", reason="wandb is not installed: pip install 'cifar-exp[wandb]'")


@pytest.fixture(scope="module")
def tracked(tmp_path_factory):
    """A run with two trackers; W&B's server would be a local socket, which must see no connection."""
    folder = tmp_path_factory.mktemp("runs")
    with socket.create_server(("127.0.0.1", 0)) as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{server.getsockname()[1]}")
        patch.setenv("WANDB_API_KEY", "0" * 40)
        patch.delenv("WANDB_MODE", raising=False)
        config = composed(*SHORT, "figures=true", "tracker=[tensorboard,wandb]", "tracker.experiment=mine")
        run(config, folder / "run")
        yield config, folder / "run"
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.accept()


def records(out_dir):
    """The records of the only ``.wandb`` file, once the library's own process has written the last one."""
    deadline = time.monotonic() + 30
    while not (found := list(written(out_dir))) or not found[-1].HasField("exit"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


def written(out_dir):
    """The complete records: LevelDB's log format after a header of 7 bytes."""
    from wandb.proto.wandb_internal_pb2 import Record

    (path,) = out_dir.glob("wandb/*/run-*.wandb")
    content, place, parts = path.read_bytes(), 7, b""
    assert content[:4] == b":W&B"
    while place + 7 <= len(content):
        if 32768 - place % 32768 < 7:  # the rest of a block is padding
            place += 32768 - place % 32768
            continue
        _checksum, length, kind = struct.unpack_from("<IHB", content, place)
        place += 7
        if place + length > len(content):
            return
        parts += content[place : place + length]
        place += length
        if kind in (1, 4):  # a whole record, or its last part
            yield Record.FromString(parts)
            parts = b""


def values(items):
    """{key: value} of the items of a record."""
    return {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in items}


def history(out_dir):
    """{name: [(step, value), ...]} without the library's own names."""
    found = {}
    for record in records(out_dir):
        if record.HasField("history"):
            row = values(record.history.item)
            for name, value in row.items():
                if not name.startswith("_"):
                    found.setdefault(name, []).append((row["_step"], value))
    return found


def scalars(out_dir):
    return {name: points for name, points in history(out_dir).items() if not name.startswith("figures/")}


def test_wandb_holds_the_csvs_and_the_figures(tracked):
    _, out_dir = tracked
    assert (out_dir / "tensorboard").is_dir()
    assert scalars(out_dir) == expected_scalars(out_dir)
    last = pd.read_csv(out_dir / "metrics.csv")["step"].iloc[-1]
    images = {name[:-5]: points for name, points in history(out_dir).items() if name.endswith(".path")}
    assert set(images) == {f"figures/{path.stem}" for path in (out_dir / "figures").glob("*.png")} >= {"figures/curves"}
    (record,) = (out_dir / "wandb").iterdir()
    for name, ((step, copy),) in images.items():
        assert step == last
        assert (record / "files" / copy).read_bytes() == (out_dir / f"{name}.png").read_bytes()


def test_wandb_holds_the_config_the_summary_and_the_state(tracked):
    config, out_dir = tracked
    found = records(out_dir)
    first = next(record.run for record in found if record.HasField("run"))
    assert (first.project, first.display_name) == ("mine", lifecycle.run_name(out_dir))
    logged = values(first.config.update)
    assert {key: logged[key] for key in as_containers(config)} == as_containers(config)
    summary = {}
    for record in found:
        if record.HasField("summary"):
            summary |= values(record.summary.update)
    numbers, texts = expected_summary(out_dir)
    assert {name.removeprefix("summary/"): v for name, v in summary.items() if name.startswith("summary/")} == (
        numbers | texts | {"state": "completed"}
    )
    assert found[-1].exit.exit_code == 0


def test_wandb_records_no_hardware_and_no_packages(tracked):
    _, out_dir = tracked
    assert not any(record.HasField("stats") for record in records(out_dir))
    assert [path.name for path in out_dir.glob("wandb/*/files/*")] == ["media"]


def test_a_resumed_run_replaces_its_record_and_keeps_its_id(tracked, tmp_path):
    config, finished = tracked
    out_dir = tmp_path / "run"
    shutil.copytree(finished, out_dir)
    assert open_run(out_dir, completed=False, keeps_tracker=trackers.has_store).config.tracker == config.tracker
    with pytest.raises(KeyboardInterrupt), trackers.tracked(config, out_dir, lifecycle.state_after):
        raise KeyboardInterrupt
    ids = {next(record.run.run_id for record in records(one) if record.HasField("run")) for one in (finished, out_dir)}
    assert len(ids) == 1
    assert scalars(out_dir) == expected_scalars(out_dir)
    assert records(out_dir)[-1].exit.exit_code == 1
