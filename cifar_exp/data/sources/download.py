"""Downloads an archive once from the first of several addresses that works, verified by its SHA-256."""

import hashlib
import http.client
import logging
import os
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from cifar_exp.data.sources.cache import locked
from cifar_exp.errors import RequestError
from cifar_exp.safe_io.console import shows_bars
from cifar_exp.safe_io.untrusted import address_problem

log = logging.getLogger(__name__)

_BLOCK = 1 << 20
_TIMEOUT_SECONDS = 60  # of the last address
# While other addresses are left, one that is slower for so long is left.
_SLOW_BYTES_PER_SECOND = 200_000
_SLOW_SECONDS = 10
_MAX_BYTES = 2**29  # the larger of the two real archives has 170 MB


class _SlowError(ConnectionError):
    """The address is too slow while others are left."""


class _HttpRedirects(urllib.request.HTTPRedirectHandler):
    """Follows no redirect to another scheme; Python's own handler follows ftp."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        if address_problem(newurl):
            raise urllib.error.HTTPError(newurl, code, f"a redirect to {newurl} is not allowed", headers, fp)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def fetch(urls: Sequence[str], sha256: str, destination: Path, *, hint: str) -> None:
    """Download a file to ``destination`` unless it is already there with the given SHA-256.

    Of several processes one downloads and the others wait. A partial download is kept as ``destination`` + ``.part``
    and resumed, also from the next address. A slow address is tried again if no other works.

    Args:
        urls: http or https addresses of the same file, in the order to try; each may redirect to others.
        sha256: expected digest, hexadecimal.
        destination: path of the verified file.
        hint: alternatives for the user, for the error message.

    Raises:
        RequestError: no address has the file; names the reason for each.
        OSError: the file cannot be written.
    """
    for url in urls:
        if problem := address_problem(url):
            raise RequestError(f"data.url={url}: {problem}")
    with locked(destination, f"downloading {destination.name}"):
        if not (destination.exists() and _sha256(destination) == sha256):
            _download_from_first(urls, sha256, destination, hint)


def _download_from_first(urls: Sequence[str], sha256: str, destination: Path, hint: str) -> None:
    partial = destination.with_name(destination.name + ".part")
    problems: dict[str, str] = {}
    to_try = list(urls)
    for number, url in enumerate(to_try, start=1):  # a slow address is appended, to be tried again
        is_patient = number >= len(urls)
        log.info("Downloading %s", url)
        try:
            _download_verified(url, sha256, partial, is_patient=is_patient)
        except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError, ValueError) as error:
            if isinstance(error, _SlowError):
                to_try.append(url)
            problems[url] = str(getattr(error, "reason", error))
            if number < len(to_try):
                log.warning("%s: %s; trying the next address", url, problems[url])
        else:
            partial.replace(destination)
            return
    raise RequestError(f"cannot download {'; '.join(f'{url}: {problem}' for url, problem in problems.items())}. {hint}")


def _download_verified(url: str, sha256: str, partial: Path, *, is_patient: bool) -> None:
    resumed = partial.exists()
    _download(url, partial, is_patient=is_patient)
    if (digest := _sha256(partial)) == sha256:
        return
    partial.unlink()
    if not resumed:
        raise ConnectionError(f"the content has SHA-256 {digest}, expected {sha256} (it was deleted)")
    # The earlier part may be of another file, or damaged by a crash of the machine.
    log.warning("The partial download does not match the rest of the file; restarting the download")
    _download_verified(url, sha256, partial, is_patient=is_patient)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _download(url: str, partial: Path, *, is_patient: bool) -> None:
    """Download a file, or the rest of it, into ``partial``."""
    have = partial.stat().st_size if partial.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    opener = urllib.request.build_opener(_HttpRedirects)
    try:
        response = opener.open(request, timeout=_TIMEOUT_SECONDS if is_patient else _SLOW_SECONDS)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code != 416 or not have:
            raise
        return  # the partial file is complete, or too long
    with response:
        _receive(response, have if response.status == 206 else 0, partial, is_patient=is_patient)


def _receive(response: Any, have: int, partial: Path, *, is_patient: bool) -> None:
    """Write the response into ``partial``, after its first ``have`` bytes."""
    rest = response.headers.get("Content-Length")
    total = int(rest) + have if rest else None
    size = window_size = have
    window_start = time.monotonic()
    with (
        partial.open("ab" if have else "wb") as file,
        tqdm(total=total, initial=have, unit="B", unit_scale=True, desc=partial.stem, disable=not shows_bars()) as bar,
    ):
        while True:
            if max(size, total or 0) > _MAX_BYTES:
                file.truncate(0)  # must not be resumed
                raise ConnectionError(f"it is larger than {_MAX_BYTES:,} bytes, which no archive of CIFAR is")
            try:
                block = response.read1(_BLOCK)
            except TimeoutError as error:
                raise (ConnectionError if is_patient else _SlowError)(str(error)) from error
            except OSError as error:  # of the network; those of the disk are not caught
                raise ConnectionError(str(error)) from error
            if not block:
                break
            file.write(block)
            size += len(block)
            bar.update(len(block))
            seconds = time.monotonic() - window_start
            if not is_patient and seconds >= _SLOW_SECONDS:
                rate = (size - window_size) / seconds
                if rate < _SLOW_BYTES_PER_SECOND:
                    raise _SlowError(f"only {rate / 1000:.0f} kB/s")
                window_start, window_size = time.monotonic(), size
        file.flush()
        os.fsync(file.fileno())
    if total is not None and size < total:
        raise ConnectionError(f"the connection closed after {size} of {total} bytes")
