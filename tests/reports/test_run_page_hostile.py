"""Pages of runs whose files fail to be read: hostile archives, absurd numbers, missing permissions."""

import io
import os
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from report_runs import embedded, visible_text, write_run

from cifar_exp.cli import main
from cifar_exp.reports.run_page import page
from cifar_exp.run_dir import kept_images

NOBODY = 65534
DIGITS = "9" * 400  # a whole number that is larger than any float64


@pytest.fixture
def by_hand(tmp_path):
    return write_run(tmp_path / "run")


def kept_arrays(n=2, side=8, m=1, layers=1, **changed):
    """The arrays of a ``report_images.npz`` that can be read, but for those that are changed."""
    return {
        "index": np.arange(n),
        "image": np.zeros((n, side, side, 3), np.uint8),
        "explained": np.arange(m),
        "explained_image": np.zeros((m, side, side, 3), np.uint8),
        "layers": np.array([f"layer{number}" for number in range(layers)], np.str_),
        "heat": np.ones((m, layers, 2, side, side), np.uint8),
    } | changed


def header_only(shape):
    """An array's file whose header promises ``shape``, without what it promises."""
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}".encode()
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header


def refused_images(path):
    """Makes the page, which must do without images; returns why."""
    html = page.run_page(path)
    assert embedded(html)["data"]["gallery"] is None
    text = visible_text(html)
    assert "report_images.npz: cannot be read: " in text
    return text.split("report_images.npz: cannot be read: ")[1]


@pytest.mark.parametrize("of", [2, 1], ids=["archive", "members"])
def test_wrong_bits_in_the_images_raise_nothing_but_value_errors(tmp_path, of):
    generator = np.random.default_rng(0)
    path = tmp_path / "x.npz"
    # Stored members are guarded only by their checksums, which a hostile file recomputes, as this test does.
    buffer = io.BytesIO()
    (np.savez_compressed if of == 2 else np.savez)(buffer, **kept_arrays())
    whole = buffer.getvalue()
    for _ in range(300):
        if of == 2:
            content = bytearray(whole)
            for place in generator.integers(0, len(content), 3):
                content[place] ^= 1 << int(generator.integers(8))
            path.write_bytes(content)
        else:
            with zipfile.ZipFile(io.BytesIO(whole)) as archive, zipfile.ZipFile(path, "w") as damaged:
                for name in archive.namelist():
                    member = bytearray(archive.read(name))
                    member[int(generator.integers(8, 100))] ^= 1 << int(generator.integers(8))
                    damaged.writestr(name, bytes(member))
        try:
            kept_images.read_images(path)
        except (OSError, ValueError):
            continue


@pytest.mark.parametrize("shape", [f"({10**13},)", f"({10**22},)", "(1, 'a)", "[1]", "(" * 90])
def test_headers_that_promise_the_impossible_cost_the_images_only(by_hand, shape):
    with zipfile.ZipFile(by_hand / "report_images.npz", "w") as archive:
        for name in kept_arrays():
            archive.writestr(f"{name}.npy", header_only(shape))
    refused_images(by_hand)


def test_members_that_are_no_arrays_or_encrypted_or_not_unpacked_cost_the_images_only(by_hand):
    with zipfile.ZipFile(by_hand / "report_images.npz", "w") as archive:
        for name in kept_arrays():
            archive.writestr(name, b"text")
    assert "its index" in refused_images(by_hand)
    np.savez_compressed(by_hand / "report_images.npz", **kept_arrays())
    whole = (by_hand / "report_images.npz").read_bytes()
    place = whole.index(b"PK\x01\x02") + 8  # flags of the first member, in the directory
    (by_hand / "report_images.npz").write_bytes(whole[:place] + b"\x01" + whole[place + 1 :])
    assert "encrypted" in refused_images(by_hand)
    start = 30 + int.from_bytes(whole[26:28], "little") + int.from_bytes(whole[28:30], "little")
    broken = whole[:start] + b"\xff" * 8 + whole[start + 8 :]
    with pytest.raises(zlib.error), zipfile.ZipFile(io.BytesIO(broken)) as archive:
        archive.read("index.npy")
    (by_hand / "report_images.npz").write_bytes(broken)
    refused_images(by_hand)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"side": 0}, "its image is uint8 (2, 0, 0, 3)"),
        ({"heat": np.ones((1, 1, 2, 0, 8), np.uint8)}, "its heat is uint8 (1, 1, 2, 0, 8)"),
        ({"side": 49}, "its image is uint8 (2, 49, 49, 3)"),
        ({"explained_image": np.zeros((1, 8, 97, 3), np.uint8)}, "its explained_image is uint8 (1, 8, 97, 3)"),
        ({"n": 1_000_000, "side": 1}, "its index is int64 (1000000,)"),
        ({"m": 25}, "its explained is int64 (25,)"),
        ({"layers": 121}, "its explained is int64 (1,)"),
    ],
)
def test_too_many_or_too_large_images_cost_the_images_only(by_hand, changed, message):
    if changed.get("n"):
        changed = changed | {"image": np.zeros((1_000_000, 1, 1, 1), np.uint8)}
    np.savez_compressed(by_hand / "report_images.npz", **kept_arrays(**changed))
    assert message in refused_images(by_hand)


def test_as_many_images_as_the_program_keeps_are_read(tmp_path):
    path = tmp_path / "x.npz"
    pixels = np.zeros((400, 32, 32, 3), np.uint8)
    heat = np.ones((24, 5, 2, 32, 32), np.float32)
    kept_images.write_images(path, pixels, np.arange(400), np.arange(24), [f"layer{n}" for n in range(5)], heat)
    kept = kept_images.read_images(path)
    assert (len(kept.index), len(kept.explained), len(kept.layers)) == (400, 24, 5)
    large = np.zeros((2, 300, 123, 1), np.uint8)
    kept_images.write_images(path, large, np.arange(2), np.arange(1), ["x"], np.ones((1, 1, 2, 300, 123), np.float32))
    assert kept_images.read_images(path).image.shape == (2, 48, 20, 1)


def test_a_run_that_explains_nothing_has_its_images(by_hand):
    # As `LivePage.keep_images` gives them where there are no maps.
    heat = np.zeros((0, 0, 0, 200, 200), np.float32)
    pixels = np.zeros((20, 200, 200, 3), np.uint8)
    kept_images.write_images(by_hand / "report_images.npz", pixels, np.array([3]), np.zeros(0, np.int64), [], heat)
    html = page.run_page(by_hand)
    assert [one["index"] for one in embedded(html)["data"]["gallery"]["images"]] == [3]
    assert embedded(html)["data"]["explained"] is None
    assert "cannot be read" not in visible_text(html)


@pytest.mark.parametrize(
    ("name", "column"),
    [("metrics.csv", 1), ("steps.csv", 0), ("schedule.csv", 1), ("predictions.csv", 0), ("predictions.csv", 4),
     ("per_class.csv", 2), ("confusion.csv", 1), ("gradcam.csv", 5), ("summary.csv", 8), ("summary.csv", 13)],
)  # fmt: skip
def test_whole_numbers_of_hundreds_of_digits_do_not_stop_the_page(by_hand, name, column):
    lines = (by_hand / name).read_text().splitlines()
    cells = lines[1].split(",")
    cells[column] = DIGITS
    (by_hand / name).write_text("\n".join([lines[0], ",".join(cells), *lines[2:]]) + "\n")
    text = visible_text(page.run_page(by_hand))
    # pandas reads it as infinity where the column has fractions, and summary.csv has no columns of one kind.
    assert f"{name}: cannot be read: " in text or name == "summary.csv" or "." in lines[1].split(",")[column]


def test_settings_of_hundreds_of_digits_do_not_stop_the_page(by_hand):
    config = by_hand / "config_resolved.yaml"
    before = config.read_text()
    assert "\n  minimum_map: 1\n" in before
    config.write_text(before.replace("\n  minimum_map: 1\n", f"\n  minimum_map: {DIGITS}\n"))
    assert "config_resolved.yaml: cannot be read: " in visible_text(page.run_page(by_hand))
    # Python reads such a number in hexadecimal only, and does not write it in decimal.
    config.write_text(before.replace("\n  minimum_map: 1\n", f"\n  minimum_map: 0x{'f' * 6000}\n"))
    (by_hand / ".hydra" / "overrides.yaml").write_text(f"- 0x{'f' * 6000}\n")
    assert "config_resolved.yaml: cannot be read: " in visible_text(page.run_page(by_hand))


@pytest.mark.parametrize("rate", ["", "text", "inf"])
def test_a_schedule_without_learning_rates_does_not_stop_the_page(by_hand, rate):
    (by_hand / "schedule.csv").write_text(f"step,learning_rate\n1,{rate}\n2,{rate}\n")
    text = visible_text(page.run_page(by_hand))
    assert "The schedule was used as planned" in text
    assert "nan" not in text


@contextmanager
def unprivileged() -> Iterator[None]:
    """For a while this process may read no more than anybody."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def closable():
    """A run in a folder that other users may enter, which pytest's own are not."""
    if not hasattr(os, "seteuid"):
        pytest.skip("this system has no such permissions")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        run = write_run(Path(folder) / "run")
        page.run_page(run)  # imports what it needs while this process may read it
        yield run
        for path in (run, *run.iterdir()):
            if path.is_dir():
                path.chmod(0o755)


def test_files_without_permission_cost_their_part_of_the_page_only(closable):
    (closable / "run.log").write_text("hunter2\n")
    (closable / "figures").mkdir()
    (closable / "figures" / "closed.png").touch()
    closed = closable / "closed"
    (closable / "metrics.csv").rename(closable / "m")
    closed.mkdir()
    (closable / "m").rename(closed / "metrics.csv")
    (closable / "metrics.csv").symlink_to("closed/metrics.csv")
    (closable / "report_images.npz").chmod(0)
    (closable / "run.log").chmod(0)
    for folder in (closed, closable / ".hydra"):
        folder.chmod(0)
    (closable / "figures").chmod(0o444)
    with unprivileged():
        html = page.run_page(closable)
    text = visible_text(html)
    for name in ("run.log", "metrics.csv", ".hydra/overrides.yaml", "report_images.npz"):
        assert f"{name}: cannot be read: " in text
    assert text.count("Permission denied") == 4
    assert "hunter2" not in html
    assert "predictions.csv" in text
    assert "closed.png" not in html


def test_a_run_that_a_user_may_not_look_into_is_a_wrong_request(closable, capsys):
    closable.chmod(0)
    with unprivileged():
        assert main.main(["report", str(closable)]) == 2
    assert "cannot be accessed: Permission denied" in capsys.readouterr().err


def test_a_name_that_is_too_long_is_a_wrong_request(capsys, tmp_path):
    assert main.main(["report", str(tmp_path / ("x" * 300))]) == 2
    assert "cannot be accessed: File name too long" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["metrics.csv", "run.log", "report_images.npz", "figures", ".hydra"])
@pytest.mark.parametrize("target", ["itself", "x" * 255 + "y"])
def test_links_that_lead_nowhere_do_not_stop_the_page(by_hand, name, target):
    path = by_hand / name
    if path.is_dir():
        (path / "overrides.yaml").unlink()
        path.rmdir()
    path.unlink(missing_ok=True)
    Path(path).symlink_to(name if target == "itself" else target)
    assert page.run_page(by_hand)
