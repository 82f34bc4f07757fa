"""Files of a run directory: exact, whole, and kept when a write fails."""

import errno
import json
import os

import numpy as np
import pytest

from cifar_exp.errors import RequestError
from cifar_exp.run_dir import run_status, tables
from cifar_exp.safe_io import atomic

COLUMNS = ("epoch", "loss", "note")


def test_floats_read_back_to_the_same_bits(tmp_path):
    values = [0.1, 1 / 3, 5e-324, 1.7976931348623157e308, -0.0, 123456789.123456789]
    tables.write_table(tmp_path / "a.csv", COLUMNS, [{"epoch": i, "loss": v} for i, v in enumerate(values)])
    read = tables.read_table(tmp_path / "a.csv")["loss"].to_numpy()
    np.testing.assert_array_equal(read.view(np.int64), np.array(values).view(np.int64))


def test_names_stay_text_and_empty_cells_are_missing(tmp_path):
    names = ["null", "NA", "0010", "1e5", "nan", 'a,"b"', "zwei\nZeilen"]
    rows = [{"index": i, "label": name, "confidence": None} for i, name in enumerate(names)]
    tables.write_table(tmp_path / "p.csv", tables.PREDICTIONS_COLUMNS, rows)
    table = tables.read_table(tmp_path / "p.csv")
    assert table["label"].tolist() == names
    assert table["confidence"].isna().all()


def test_a_loss_that_is_not_a_number_reads_back_as_one(tmp_path):
    rows = [{"epoch": 1, "train_loss": float("nan")}, {"epoch": 2, "train_loss": float("inf")}, {"epoch": 3}]
    tables.write_table(tmp_path / "m.csv", tables.METRICS_COLUMNS, rows)
    losses = tables.read_table(tmp_path / "m.csv")["train_loss"]
    assert losses.dtype == np.float64
    assert np.isnan(losses[0])
    assert losses[1] == np.inf
    assert (tmp_path / "m.csv").read_text().splitlines()[1].startswith("1,,,nan,")


def test_rows_are_appended_under_one_header(tmp_path):
    path = tmp_path / "m.csv"
    for epoch in (1, 2):
        tables.append_rows(path, COLUMNS, [{"epoch": epoch, "loss": 0.5}])
    assert path.read_text() == "epoch,loss,note\n1,0.5,\n2,0.5,\n"


def test_a_column_that_the_table_does_not_have_is_refused(tmp_path):
    with pytest.raises(ValueError, match="surprise"):
        tables.write_table(tmp_path / "m.csv", COLUMNS, [{"surprise": 1}])


def test_appending_to_a_full_disk_keeps_the_earlier_rows(tmp_path, monkeypatch):
    path = tmp_path / "m.csv"
    tables.append_rows(path, COLUMNS, [{"epoch": 1, "loss": 0.5}])
    before = path.read_text()
    real_write, room = os.write, [b"abc"]

    def filling_up(descriptor, content):
        if not room:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real_write(descriptor, content[: len(room.pop())])

    monkeypatch.setattr(os, "write", filling_up)
    with pytest.raises(OSError, match="No space left"):
        tables.append_rows(path, COLUMNS, [{"epoch": 2, "loss": 0.25}])
    assert path.read_text() == before


def test_a_write_that_fails_leaves_the_old_file_and_no_litter(tmp_path, monkeypatch):
    path = tmp_path / "summary.csv"
    atomic.write_text(path, "old")

    def full(_descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        atomic.write_text(path, "new")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["summary.csv"]


def test_a_directory_is_claimed_once(tmp_path):
    status = run_status.claim(tmp_path / "run", "abc")
    with pytest.raises(RequestError, match="already contains a run"):
        run_status.claim(tmp_path / "run", "abc")
    run_status.update_status(tmp_path / "run", status, state="completed", epochs_completed=3)
    read = json.loads((tmp_path / "run" / "status.json").read_text())
    assert (read["state"], read["epochs_completed"], read["config_hash"]) == ("completed", 3, "abc")
    assert read["started_at"].endswith("+00:00")


@pytest.mark.parametrize("torn", ["1", "1,0.2", "1,0.25,", "1,0.25,n\xe4", "9" * 10_000])
def test_an_unfinished_row_is_neither_read_nor_kept(tmp_path, torn):
    path = tmp_path / "metrics.csv"
    tables.append_rows(path, COLUMNS, [{"epoch": 1, "loss": 0.5}])
    with path.open("ab") as file:
        file.write(torn.encode()[:-1] if torn.endswith("\xe4") else torn.encode())
    assert tables.read_table(path)["epoch"].tolist() == [1]
    tables.keep_epochs(path, COLUMNS, 1)
    tables.append_rows(path, COLUMNS, [{"epoch": 2, "loss": 0.25}])
    assert path.read_text() == "epoch,loss,note\n1,0.5,\n2,0.25,\n"


@pytest.mark.parametrize("left", [b"", b"epoch,lo"])
def test_a_table_without_a_complete_header_is_rewritten(tmp_path, left):
    path = tmp_path / "metrics.csv"
    path.write_bytes(left)
    tables.keep_epochs(path, COLUMNS, 1)
    tables.append_rows(path, COLUMNS, [{"epoch": 1, "loss": 0.5}])
    assert path.read_text() == "epoch,loss,note\n1,0.5,\n"
