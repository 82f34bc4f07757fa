"""Downloads an archive once, verified by its SHA-256; an interrupted download is resumed."""

import hashlib
import http.client
import logging
import os
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from cifar_exp.data.sources.cache import locked
from cifar_exp.errors import RequestError
from cifar_exp.safe_io.untrusted import address_problem

log = logging.getLogger(__name__)

_BLOCK = 1 << 20
_TIMEOUT_SECONDS = 60
_MAX_BYTES = 2**29  # the larger of the two real archives has 170 MB


class _TooLargeError(ConnectionError):
    """The download is larger than any archive of CIFAR."""


def sha256_of(path: Path) -> str:
    """SHA-256 (hexadecimal) of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fetch(url: str, sha256: str, destination: Path, *, hint: str) -> None:
    """Download a file to ``destination`` unless it is already there with the given SHA-256.

    Of several processes one downloads and the others wait. A partial download is kept as ``destination`` + ``.part``
    and resumed, as CIFAR's host is slow.

    Args:
        url: http or https address, which may redirect to others.
        sha256: expected digest, hexadecimal.
        destination: of the verified file.
        hint: alternatives for the user, for the error message.

    Raises:
        RequestError: the download fails, or has another digest and is deleted.
        OSError: the file cannot be written.
    """
    if problem := address_problem(url):
        raise RequestError(f"data.url={url}: {problem}")
    try:
        with locked(destination, f"downloading {destination.name}"):
            if destination.exists() and sha256_of(destination) == sha256:
                return
            partial = destination.with_name(destination.name + ".part")
            log.info("Downloading %s", url)
            resumed = partial.exists()
            _download(url, partial)
            digest = sha256_of(partial)
            if digest != sha256 and resumed:
                # The earlier part may be of another file, or damaged by a crash of the machine.
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
    """Checks each address of a redirect as the first one."""

    def redirect_request(self, *arguments: Any) -> urllib.request.Request | None:
        if problem := address_problem(arguments[-1]):
            raise urllib.error.URLError(f"redirected to {arguments[-1]}, which {problem}")
        return super().redirect_request(*arguments)


def _open(request: urllib.request.Request) -> Any:
    """The server's response. Unlike ``urlopen``, it only opens http and https."""
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
        return  # the partial file is complete, or too long
    try:
        with response:
            _receive(response, have if response.status == 206 else 0, partial)
    except _TooLargeError:
        partial.unlink(missing_ok=True)  # must not be resumed
        raise


def _receive(response: Any, have: int, partial: Path) -> None:
    """Write the response into ``partial``, after its first ``have`` bytes."""
    rest = response.headers.get("Content-Length")
    total = int(rest) + have if rest else None
    size = have
    with (
        partial.open("ab" if have else "wb") as file,
        tqdm(total=total, initial=have, unit="B", unit_scale=True, desc=partial.stem, disable=None) as bar,
    ):
        while True:
            if max(size, total or 0) > _MAX_BYTES:
                raise _TooLargeError(f"it is larger than {_MAX_BYTES:,} bytes, which no archive of CIFAR is")
            try:
                block = response.read1(_BLOCK)
            except OSError as error:  # of the network; those of the disk are not caught
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
