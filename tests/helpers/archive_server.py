"""A loopback server that serves one file, correctly or not."""

import http.server
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

ARCHIVE = "cifar-10-python.tar.gz"


class ArchiveServer(http.server.ThreadingHTTPServer):
    """Serves one file under any path, correctly or not.

    Attributes:
        behaviour: good; no_range (always sends everything); cut (closes half-way); cut_chunked (the same without a
            Content-Length); refuse (416); redirect (to ``location``); huge (claims 10 GB); endless;
            stall (sends half and waits for ``proceed``); slow (sends half, then single bytes for 0.3 s, then the rest);
            missing (404).
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
        with suppress(ConnectionError):  # the client may have been killed, or be at another server
            for _ in range(60 if behaviour == "slow" else 0):
                time.sleep(0.005)
                self.wfile.write(body[half : half + 1])
                half += 1
            self.wfile.write(body[half:])

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@contextmanager
def serving(content: bytes, behaviour: str = "good") -> Iterator[ArchiveServer]:
    """A server in a thread of its own."""
    with ArchiveServer(content) as server:
        server.behaviour = behaviour
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.proceed.set()
        server.shutdown()
        thread.join()
