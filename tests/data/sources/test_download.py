"""Downloads from a loopback server: once, complete and verified, also with a bad network and several processes."""

import hashlib
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import pytest
from archive_server import ARCHIVE, ArchiveServer, serving
from cifar_format import Archive
from programs import started

from cifar_exp import data
from cifar_exp.data.dataset import Dataset
from cifar_exp.errors import RequestError

Load = Callable[..., Dataset]
HINTS = ("data.root=PATH", "data.url=URL", "experiment=quickstart")


@pytest.fixture
def server(cifar10_archive: Archive, monkeypatch: pytest.MonkeyPatch) -> Iterator[ArchiveServer]:
    monkeypatch.setenv("no_proxy", "*")
    with serving(cifar10_archive.path.read_bytes()) as server:
        yield server


@pytest.fixture
def load(cifar10_archive: Archive, cache: Path) -> Load:
    """``cifar10`` from a URL into an empty cache folder."""
    return partial(data.cifar10, root=None, sha256=cifar10_archive.sha256, cache=str(cache), image_size=32)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def expected(cifar10_archive: Archive, load: Load, tmp_path: Path) -> str:
    """The fingerprint of the archive read from the disk."""
    return load(root=str(cifar10_archive.path), url="http://unused", cache=str(tmp_path / "other")).fingerprint


def unused_url() -> str:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{unused.getsockname()[1]}/{ARCHIVE}"


def kept(cache: Path, server: ArchiveServer, suffix: str = "") -> Path:
    """Where the server's archive ends up in the cache: under a name that holds its digest."""
    return cache / "downloads" / f"{hashlib.sha256(server.content).hexdigest()[:12]}-{ARCHIVE}{suffix}"


def start(
    script: str, server: ArchiveServer, sha256: str, cache: Path
) -> "AbstractContextManager[subprocess.Popen[str]]":
    """Start a Python process with a function ``load()`` that returns the fingerprint."""
    preamble = (
        "from cifar_exp import data\n"
        "from cifar_exp.data.sources import cifar\n"
        f"cifar.SHA256['cifar10'] = {sha256!r}\n"
        "def load(_=None):\n"
        f"    return data.cifar10(root=None, url={server.url!r}, sha256={sha256!r}, cache={str(cache)!r},"
        " image_size=32).fingerprint\n"
    )
    return started([sys.executable, "-c", preamble + script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_download(server: ArchiveServer, load: Load, expected: str) -> None:
    assert load(url=server.url).fingerprint == expected
    assert server.requests == [None]


def test_a_second_start_needs_no_network(server: ArchiveServer, load: Load, expected: str) -> None:
    load(url=server.url)
    server.behaviour = "missing"
    assert load(url=server.url).fingerprint == expected
    assert server.requests == [None]


@pytest.mark.parametrize(
    ("behaviour", "problem"),
    [
        ("missing", "Not Found"),
        ("refuse", "Requested Range Not Satisfiable"),
        ("dead", "refused"),
        ("other content", hashlib.sha256(b"other").hexdigest()),
    ],
)
def test_a_failure_names_the_problem_and_the_alternatives(
    server: ArchiveServer, load: Load, cache: Path, behaviour: str, problem: str
) -> None:
    server.behaviour = behaviour
    if behaviour == "other content":
        server.content = b"other"
    url = unused_url() if behaviour == "dead" else server.url
    with pytest.raises(RequestError, match=f"cannot download {url}.*{problem}") as caught:
        load(url=url)
    assert all(hint in str(caught.value) for hint in HINTS)
    assert [path.name for path in (cache / "downloads").iterdir() if path.suffix != ".lock"] == []


@pytest.mark.parametrize(
    ("behaviour", "problem", "is_resumed"),
    [
        ("dead", "refused", False),
        ("missing", "Not Found", False),
        ("redirect", "not allowed", False),
        ("huge", "which no archive of CIFAR is", False),
        ("other content", "expected", False),
        ("cut", "the connection closed after", True),
        ("slow", "only 0 kB/s", True),
        ("stall", "timed out", True),
    ],
)
def test_the_next_address_is_tried_and_the_log_has_the_reason(
    server: ArchiveServer,
    load: Load,
    expected: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    behaviour: str,
    problem: str,
    is_resumed: bool,
) -> None:
    monkeypatch.setattr("cifar_exp.data.sources.download._SLOW_SECONDS", 0.05)
    half = f"bytes={len(server.content) // 2}-"
    content = b"other" if behaviour == "other content" else server.content
    with serving(content, behaviour) as first:
        first.location = "file:///etc/passwd"
        url = unused_url() if behaviour == "dead" else first.url
        assert load(url=[url, server.url]).fingerprint == expected
    (warning,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert warning.startswith(f"{url}: ")
    assert problem in warning
    assert len(server.requests) == 1
    if behaviour == "slow":  # some of its single bytes arrived as well
        assert int(server.requests[0][6:-1]) >= len(server.content) // 2
    else:
        assert server.requests == [half if is_resumed else None]


@pytest.mark.parametrize(("behaviour", "requests"), [("good", 2), ("no_range", 1)])
def test_a_partial_file_of_other_content_is_not_used(
    server: ArchiveServer, load: Load, expected: str, behaviour: str, requests: int
) -> None:
    server.behaviour = behaviour
    with serving(bytes(len(server.content)), "cut") as other:
        assert load(url=[other.url, server.url]).fingerprint == expected
    assert server.requests == [f"bytes={len(server.content) // 2}-", None][:requests]


def test_a_slow_address_is_used_if_no_other_works(
    server: ArchiveServer, load: Load, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cifar_exp.data.sources.download._SLOW_SECONDS", 0.05)
    server.behaviour = "slow"
    assert load(url=[server.url, unused_url()]).fingerprint == expected
    assert len(server.requests) == 2


@pytest.mark.parametrize("behaviour", ["cut", "cut_chunked"])
def test_an_interrupted_download_is_an_error_and_is_resumed(
    server: ArchiveServer, load: Load, cache: Path, expected: str, behaviour: str
) -> None:
    server.behaviour = behaviour
    with pytest.raises(RequestError, match="cannot download") as caught:
        load(url=server.url)
    assert server.url in str(caught.value)
    assert not kept(cache, server).exists()

    server.behaviour = "good"
    assert load(url=server.url).fingerprint == expected
    if behaviour == "cut":
        assert server.requests == [None, f"bytes={len(server.content) // 2}-"]


def test_a_complete_partial_download_is_used(server: ArchiveServer, load: Load, cache: Path, expected: str) -> None:
    (cache / "downloads").mkdir(parents=True)
    kept(cache, server, ".part").write_bytes(server.content)
    assert load(url=server.url).fingerprint == expected
    assert server.requests == [f"bytes={len(server.content)}-"]


def test_a_cached_archive_with_another_digest_is_replaced(
    server: ArchiveServer, load: Load, cache: Path, expected: str
) -> None:
    (cache / "downloads").mkdir(parents=True)
    kept(cache, server).write_bytes(b"another archive of the same name")
    assert load(url=server.url).fingerprint == expected


@pytest.mark.parametrize(
    "location", ["file:///etc/passwd", "ftp://127.0.0.1/x", "data:,x", "file://localhost/dev/zero", "gopher://x/"]
)
def test_a_redirect_to_another_scheme_is_refused(server: ArchiveServer, load: Load, cache: Path, location: str) -> None:
    server.behaviour, server.location = "redirect", location
    with pytest.raises(RequestError, match=f"cannot download.*{re.escape(location)}.* (is|are) not allowed"):
        load(url=server.url)
    assert [path.name for path in (cache / "downloads").iterdir() if path.suffix != ".lock"] == []


def test_a_redirect_to_http_is_followed(server: ArchiveServer, load: Load, expected: str) -> None:
    server.behaviour, server.location = "redirect", "/elsewhere.tar.gz"
    assert load(url=server.url).fingerprint == expected


@pytest.mark.parametrize("behaviour", ["huge", "endless"])
def test_a_download_over_the_limit_is_deleted(
    server: ArchiveServer, load: Load, cache: Path, monkeypatch: pytest.MonkeyPatch, behaviour: str
) -> None:
    monkeypatch.setattr("cifar_exp.data.sources.download._MAX_BYTES", 2**22)
    server.behaviour = behaviour
    with pytest.raises(RequestError, match="which no archive of CIFAR is"):
        load(url=server.url)
    assert sum(path.stat().st_size for path in (cache / "downloads").iterdir()) == 0


@pytest.mark.parametrize("url", ["nonsense", "http://127.0.0.1:port/x.tar.gz", "http://[::1/x.tar.gz"])
def test_an_invalid_url_is_named(load: Load, url: str) -> None:
    with pytest.raises(RequestError, match=re.escape(url)):
        load(url=url)


def test_unusable_cache_folder(server: ArchiveServer, load: Load, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RequestError, match=r"data\.cache=FOLDER"):
        load(url=server.url, cache=str(tmp_path / "file"))


def test_ten_processes_download_once(
    server: ArchiveServer, cifar10_archive: Archive, cache: Path, expected: str
) -> None:
    script = """
import json, multiprocessing
context = multiprocessing.get_context("fork")
barrier = context.Barrier(10)
def together(_):
    barrier.wait()
    return load()
with context.Pool(10) as pool:
    print(json.dumps(pool.map(together, range(10), chunksize=1)))
"""
    server.behaviour = "stall"
    with start(script, server, cifar10_archive.sha256, cache) as processes:
        assert server.half_sent.wait(120)
        threading.Timer(0.3, server.proceed.set).start()  # time enough for the other nine to get to the lock
        out, err = processes.communicate(timeout=120)
    assert processes.returncode == 0, err
    assert json.loads(out) == [expected] * 10
    assert server.requests == [None]


def test_killed_process_does_not_block_the_others(
    server: ArchiveServer, cifar10_archive: Archive, cache: Path, expected: str
) -> None:
    server.behaviour = "stall"
    waiting = "print('waiting', flush=True); print(load())"
    with start("load()", server, cifar10_archive.sha256, cache) as first:
        assert server.half_sent.wait(120)  # it holds the lock
        server.behaviour = "good"
        with start(waiting, server, cifar10_archive.sha256, cache) as second:
            assert second.stdout is not None
            assert second.stdout.readline() == "waiting\n"
            time.sleep(0.3)  # time enough to get to the lock
            assert len(server.requests) == 1
            first.send_signal(signal.SIGKILL)
            first.communicate()
            out, err = second.communicate(timeout=120)
    assert out.strip() == expected, err
    assert len(server.requests) == 2
