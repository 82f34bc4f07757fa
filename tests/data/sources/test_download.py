"""Downloads from a loopback server: once, complete and verified, also with a bad network and several processes."""

import hashlib
import http.server
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from functools import partial
from pathlib import Path

import pytest
from cifar_format import Archive
from programs import started

from cifar_exp import data
from cifar_exp.errors import RequestError

Load = Callable[..., data.Dataset]
ARCHIVE = "cifar-10-python.tar.gz"
HINTS = ("data.root", "data.url", "data=mnist5k")


class ArchiveServer(http.server.ThreadingHTTPServer):
    """Serves one file under any path, correctly or not.

    Attributes:
        behaviour: good; no_range (always sends everything); cut (closes half-way); cut_chunked (the same without a
            Content-Length); refuse (416); redirect (to ``location``); huge (claims 10 GB); endless;
        stall (sends half and waits for ``proceed``); missing (404).
        requests: the Range header of each GET; None without one.
    """

    daemon_threads = True

    def __init__(self, content: bytes) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.content = content
        self.behaviour = "good"
        self.location = ""
        self.requests: list[str | None] = []
        self.half_sent = threading.Event()
        self.proceed = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/{ARCHIVE}"


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: ArchiveServer

    def do_GET(self) -> None:
        server, wanted = self.server, self.headers["Range"]
        server.requests.append(wanted)
        behaviour = server.behaviour
        if behaviour == "missing":
            self.send_error(404)
            return
        if behaviour == "redirect":
            self.send_response(302)
            self.send_header("Location", server.location)
            self.send_header("Content-Length", "0")
            self.end_headers()
            server.behaviour = "good"
            return
        if behaviour in ("huge", "endless"):
            self.send_response(200)
            if behaviour == "huge":
                self.send_header("Content-Length", str(10 * 2**30))
            self.end_headers()
            self.close_connection = True
            with suppress(ConnectionError):
                for _ in range(5 if behaviour == "huge" else 100):
                    self.wfile.write(bytes(2**20))
            return
        start = 0 if behaviour == "no_range" or wanted is None else int(re.fullmatch(r"bytes=(\d+)-", wanted)[1])
        if start >= len(server.content) or behaviour == "refuse":
            self.send_error(416)
            return
        body, half = server.content[start:], len(server.content) // 2
        self.send_response(206 if start else 200)
        chunked = behaviour == "cut_chunked"
        self.send_header(*(("Transfer-Encoding", "chunked") if chunked else ("Content-Length", str(len(body)))))
        self.end_headers()
        if chunked:
            self.wfile.write(f"{len(body):x}\r\n".encode())
        self.wfile.write(body[:half])
        server.half_sent.set()
        if behaviour == "stall":
            server.proceed.wait(120)
        if behaviour in ("cut", "cut_chunked"):
            self.close_connection = True
            return
        with suppress(ConnectionError):  # the client may have been killed
            self.wfile.write(body[half:])

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture
def server(cifar10_archive: Archive, monkeypatch: pytest.MonkeyPatch) -> Iterator[ArchiveServer]:
    monkeypatch.setenv("no_proxy", "*")
    with ArchiveServer(cifar10_archive.path.read_bytes()) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.proceed.set()
        server.shutdown()
        thread.join()


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
        f"cifar.PUBLISHED['cifar10'] = cifar.PUBLISHED['cifar10']._replace(sha256={sha256!r})\n"
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


def test_wrong_sha256_is_deleted(server: ArchiveServer, load: Load, cache: Path) -> None:
    server.content = b"something else"
    with pytest.raises(RequestError, match="it was deleted") as caught:
        load(url=server.url)
    assert hashlib.sha256(b"something else").hexdigest() in str(caught.value)
    assert all(hint in str(caught.value) for hint in HINTS)
    assert [path.name for path in (cache / "downloads").iterdir() if path.suffix != ".lock"] == []


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


def test_a_server_without_ranges_sends_the_whole_file(server: ArchiveServer, load: Load, expected: str) -> None:
    server.behaviour = "cut"
    with pytest.raises(RequestError):
        load(url=server.url)
    server.behaviour = "no_range"
    assert load(url=server.url).fingerprint == expected


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


def test_not_found(server: ArchiveServer, load: Load) -> None:
    server.behaviour = "missing"
    with pytest.raises(RequestError, match=r"cannot download .*Not Found") as caught:
        load(url=server.url)
    assert all(hint in str(caught.value) for hint in HINTS)


def test_an_unexpected_416_is_an_error(server: ArchiveServer, load: Load) -> None:
    server.behaviour = "refuse"
    with pytest.raises(RequestError, match=r"cannot download .*Requested Range Not Satisfiable"):
        load(url=server.url)


@pytest.mark.parametrize(
    "location", ["file:///etc/passwd", "ftp://127.0.0.1/x", "data:,x", "file://localhost/dev/zero", "gopher://x/"]
)
def test_a_redirect_to_another_scheme_is_refused(server: ArchiveServer, load: Load, cache: Path, location: str) -> None:
    server.behaviour, server.location = "redirect", location
    with pytest.raises(RequestError, match="cannot download"):
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
    assert [path.name for path in (cache / "downloads").iterdir() if path.suffix != ".lock"] == []


def test_no_network_is_an_error_with_alternatives(load: Load) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/{ARCHIVE}"
    with pytest.raises(RequestError, match=f"cannot download {url}.*refused") as caught:
        load(url=url)
    assert all(hint in str(caught.value) for hint in HINTS)


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
