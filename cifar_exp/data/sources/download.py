"""One verified copy of an archive from the network: resumed where it broke off, never half a file."""

import hashlib
import http.client
import logging
import os
import urllib.error
import urllib.request
from pathlib import Path

from tqdm import tqdm

from cifar_exp.data.sources.cache import locked
from cifar_exp.errors import RequestError

log = logging.getLogger(__name__)

_BLOCK = 1 << 20
_TIMEOUT_SECONDS = 60
_MAX_BYTES = 2**30


def sha256_of(path: Path) -> str:
    """SHA-256 (hexadecimal) of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fetch(url: str, sha256: str, destination: Path, *, hint: str) -> None:
    """Have the file with the given SHA-256 at ``destination``, downloading it if it is not there.

    Of several processes one downloads and the others wait. The bytes arrive in ``destination`` + ``.part``;
    what is there from an interrupted attempt is kept and continued, for CIFAR's own host is slow.

    Args:
        url: http, https or file address.
        sha256: expected digest, hexadecimal.
        destination: where the verified file ends up.
        hint: what the user can do instead, for the error message.

    Raises:
        RequestError: no connection, or content with another digest (which is deleted).
    """
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
                log.warning("What an earlier download left does not go with the rest: downloading all of it again")
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


def _download(url: str, partial: Path) -> None:
    have = partial.stat().st_size if partial.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        response = urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code != 416:  # the whole file is there already, or more than that
            raise
        return
    with response:
        resumed = response.status == 206
        rest = response.headers.get("Content-Length")
        total = int(rest) + (have if resumed else 0) if rest else None
        with (
            partial.open("ab" if resumed else "wb") as file,
            tqdm(
                total=total,
                initial=have if resumed else 0,
                unit="B",
                unit_scale=True,
                desc=partial.stem,
                disable=None,
            ) as bar,
        ):
            while block := response.read1(_BLOCK):
                if file.tell() > _MAX_BYTES:
                    raise ConnectionError(f"more than {_MAX_BYTES:,} bytes came, which no archive of CIFAR has")
                file.write(block)
                bar.update(len(block))
            file.flush()
            os.fsync(file.fileno())
    if total is not None and partial.stat().st_size < total:
        raise ConnectionError(f"the connection closed after {partial.stat().st_size} of {total} bytes")
