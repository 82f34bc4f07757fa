"""Atomic writes: readers see the old version of a file or the new one, also after a crash.

The content is first written to ``.NAME.PID.tmp`` in the same folder, which is then renamed.
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any


def write_bytes(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path``. A link there is replaced, not followed.

    Raises:
        OSError: the content could not be written; an old file is unchanged.
    """
    with _beside(path, content) as whole:
        os.replace(whole, path)


def create(path: Path, content: bytes) -> None:
    """Create a file; of two processes exactly one succeeds.

    Raises:
        FileExistsError: it already exists.
        OSError: the content could not be written.
    """
    with _beside(path, content) as whole:
        try:
            os.link(whole, path)
        except FileExistsError:
            raise
        except OSError:  # a file system without hard links
            with path.open("xb") as file:
                file.write(content)


@contextmanager
def _beside(path: Path, content: bytes) -> Iterator[Path]:
    """A temporary file beside ``path`` with ``content``; removed at the end unless it was renamed."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with suppress(FileNotFoundError):  # of an earlier process with the same id, or a link
            beside.unlink()
        with beside.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        yield beside
    finally:
        with suppress(OSError):
            beside.unlink()


def write_text(path: Path, text: str) -> None:
    """``write_bytes`` for text, in UTF-8. Bytes of file names that are not valid UTF-8 become escapes."""
    write_bytes(path, _encoded(text))


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """``write_bytes`` for a mapping of plain values."""
    write_bytes(path, json_bytes(content))


def json_bytes(content: Mapping[str, Any]) -> bytes:
    """A mapping of plain values as ``write_json`` writes it."""
    return _encoded(json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")
