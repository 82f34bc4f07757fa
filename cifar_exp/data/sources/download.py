"""One verified copy of an archive from the network: resumed where it broke off, never half a file."""

import hashlib
import http.client
import logging
import os
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from tqdm import tqdm

from cifar_exp.data.sources.cache import locked
from cifar_exp.errors import RequestError
from cifar_exp.safe_io.untrusted import address_problem

log = logging.getLogger(__name__)

_BLOCK = 1 << 20
_TIMEOUT_SECONDS = 60
_MAX_BYTES = 2**29  # the larger of the two real archives has 170 MB


class _TooLargeError(ConnectionError):
    """What arrives cannot be the archive."""


def sha256_of(path: Path) -> str:
    """SHA-256 (hexadecimal) of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fetch(url: str, sha256: str, destination: Path, *, hint: str) -> None:
    """Have the file with the given SHA-256 at ``destination``, downloading it if it is not there.

    Of several processes one downloads and the others wait. The bytes arrive in ``destination`` + ``.part``;
    what is there from an interrupted attempt is kept and continued, for CIFAR's own host is slow.

    Args:
        url: http or https address; so are all that it redirects to.
        sha256: expected digest, hexadecimal.
        destination: where the verified file ends up.
        hint: what the user can do instead, for the error message.

    Raises:
        RequestError: no connection, or content with another digest (which is deleted).
        OSError: the file cannot be written.
    """
    if problem := address_problem(url):
        raise RequestError(f"data.url={url}: {problem}")
    try:
        with locked(destination, f"downloading {destination.name}"):
            # Another address may have left another archive of the same name.
            if destination.exists() and sha256_of(destination) == sha256:
                return
            partial = destination.with_name(destination.name + ".part")
            log.info("Downloading %s", url)
            resumed = partial.exists()
            _download(url, partial)
            digest = sha256_of(partial)
            if digest != sha256 and resumed:
                # What was there may be of another file, or have suffered when the machine went down.
                log.warning("The partial download does not match the rest of the file; restarting the download")
                partial.unlink()
                _download(url, partial)
                digest = sha256_of(partial)
            if digest != sha256:
                partial.unlink()
                raise RequestError(
                    f"{url}: the content has SHA-256 {digest}, expected {sha256}; it was deleted. {hint}"
                )
            partial.replace(destination)
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError, ValueError) as error:
        if isinstance(error, RequestError):
            raise
        reason = getattr(error, "reason", error)
        raise RequestError(f"cannot download {url}: {reason}. {hint}") from error


class _CheckedRedirects(urllib.request.HTTPRedirectHandler):
    """Holds each address that a server redirects to against the rule for the first."""

    def redirect_request(self, *arguments: Any) -> urllib.request.Request | None:
        if problem := address_problem(arguments[-1]):
            raise urllib.error.URLError(f"redirected to {arguments[-1]}, which {problem}")
        return super().redirect_request(*arguments)


def _open(request: urllib.request.Request) -> Any:
    """The server's response. Unlike ``urlopen``, it can open nothing but http and https."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.UnknownHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPErrorProcessor,
        _CheckedRedirects,
    ):
        opener.add_handler(handler())
    return opener.open(request, timeout=_TIMEOUT_SECONDS)


def _download(url: str, partial: Path) -> None:
    have = partial.stat().st_size if partial.exists() else 0
    try:
        response = _open(urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {}))
    except urllib.error.HTTPError as error:
        error.close()
        if error.code != 416 or not have:
            raise
        return  # the whole file is there already, or more than that
    try:
        with response:
            _receive(response, have if response.status == 206 else 0, partial)
    except _TooLargeError:
        partial.unlink(missing_ok=True)  # it is of no use to the next attempt
        raise


def _receive(response: Any, have: int, partial: Path) -> None:
    """Write what the server sends into ``partial``, after its first ``have`` bytes."""
    rest = response.headers.get("Content-Length")
    total = int(rest) + have if rest else None
    size = have
    with (
        partial.open("ab" if have else "wb") as file,
        tqdm(total=total, initial=have, unit="B", unit_scale=True, desc=partial.stem, disable=None) as bar,
    ):
        while True:
            if max(size, total or 0) > _MAX_BYTES:
                raise _TooLargeError(f"it has more than {_MAX_BYTES:,} bytes, which no archive of CIFAR has")
            try:
                block = response.read1(_BLOCK)
            except OSError as error:  # of the network; those of the disk are the caller's
                raise ConnectionError(str(error)) from error
            if not block:
                break
            file.write(block)
            size += len(block)
            bar.update(len(block))
        file.flush()
        os.fsync(file.fileno())
    if total is not None and size < total:
        raise ConnectionError(f"the connection closed after {size} of {total} bytes")
