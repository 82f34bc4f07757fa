"""Fixtures for all tests. No test reads or writes the user's own cache folder."""

import gc
import logging
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser_pages import quiet_pages
from cifar_format import CIFAR10_FOLDER, Archive, cifar10_members, publish, write_archive
from PIL import Image
from runs import signal_at


def pytest_collection_finish() -> None:
    """Leave the imported libraries, half a million objects, out of every garbage collection during the tests."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    """Let the interpreter free them at its end; some report what is left then."""
    gc.unfreeze()


@pytest.fixture(autouse=True, scope="session")
def cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The cache folder of the whole session, so that mnist5k is decoded once."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CIFAR_EXP_CACHE", str(folder))
        yield folder


@pytest.fixture(autouse=True, scope="session")
def ctrl_c() -> None:
    """Shells start background commands with SIGINT ignored, and children inherit it: no test of Ctrl-C could pass."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def nothing_shared() -> Iterator[None]:
    """A sweep keeps its data set in the process; the next test finds none."""
    yield
    if "cifar_exp.data" in sys.modules:
        sys.modules["cifar_exp.data"]._shared = None  # type: ignore[attr-defined]


@pytest.fixture(autouse=True)
def restored_logging() -> Iterator[None]:
    """A run sets up the program's logger; the next test (and ``caplog``) finds it as it was."""
    logger = logging.getLogger("cifar_exp")
    before = logger.level, logger.handlers[:], logger.propagate
    yield
    logger.setLevel(before[0])
    logger.handlers[:] = before[1]
    logger.propagate = before[2]


@pytest.fixture
def image_tree(tmp_path: Path) -> Path:
    """A folder with train/ and test/ of two classes, 12 and 4 noisy 32x32 PNG files each."""
    root = tmp_path / "tree"
    generator = np.random.default_rng(0)
    for split, count in (("train", 12), ("test", 4)):
        for brightness, name in enumerate(("cat", "dog")):
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = generator.integers(0, 128, (32, 32, 3), dtype=np.uint8) + np.uint8(120 * brightness)
                Image.fromarray(pixels).save(folder / f"{number:02}.png")
    return root


@pytest.fixture
def cifar10_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Archive:
    """``cifar-10-python.tar.gz`` of 5 x 20 training and 20 test images; counts as the published one."""
    generator = np.random.default_rng(1)
    names = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]
    data = {name: generator.integers(0, 256, (20, 3072), dtype=np.uint8) for name in names}
    members = cifar10_members(data, {name: [row % 10 for row in range(20)] for name in names})
    path = tmp_path / "archive" / "cifar-10-python.tar.gz"
    path.parent.mkdir()
    archive = Archive(path, write_archive(path, CIFAR10_FOLDER, members), members, data)
    publish(monkeypatch, "cifar10", archive.sha256, members)
    return archive


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """The system's Chromium, without a window, driven by Playwright (Debian: ``apt-get install chromium``)."""
    driver = pytest.importorskip(
        "playwright.sync_api", reason="Playwright is not installed: pip install 'cifar-exp[dev]'"
    )
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no Chromium here (Debian: apt-get install chromium)")
    with driver.sync_playwright() as playwright:
        # Chromium's sandbox needs rights that a container's root does not have.
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium: Any) -> Iterator[Callable[..., Any]]:
    """Opens the page in a file; afterwards there must have been no error, no dialog and nothing loaded."""
    with quiet_pages(chromium) as open_page:
        yield open_page


@pytest.fixture(scope="session")
def jpeg_root() -> Path:
    """The 60,000 images of CIFAR-10 as JPEG files; they are not part of the project."""
    root = os.environ.get("CIFAR_EXP_JPEG_ROOT")
    if not root:
        pytest.skip("CIFAR_EXP_JPEG_ROOT is not set: the folder of CIFAR-10 as JPEG files, train/CLASS and test/CLASS")
    return Path(root)


@pytest.fixture
def at_step(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Returns a function that arranges for a signal in a certain step of the next run."""
    return partial(signal_at, monkeypatch)
