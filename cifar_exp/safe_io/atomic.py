"""Files that are written whole: a reader, or a crash, sees the old version or the new one, never half of one.

The content goes into a file beside its place first, ``.NAME.PID.tmp``, and that is put there in one step.
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from cifar_exp.safe_io import untrusted


def write_bytes(path: Path, content: bytes) -> None:
    """Put ``content`` at ``path``. A link there is replaced, not followed.

    Raises:
        OSError: the content could not be written; the old file, if any, is untouched.
    """
    with _beside(path, content) as whole:
        os.replace(whole, path)


def create(path: Path, content: bytes) -> None:
    """Make a file that is not there yet; of two processes exactly one succeeds.

    Raises:
        FileExistsError: it is there already.
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
    """A file beside ``path`` with ``content``, on the disk; removed at the end if it is still there."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with suppress(FileNotFoundError):  # of an earlier process of the same number, or a link
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
    """``write_bytes`` for text, in UTF-8. A file name's bytes that are not valid UTF-8 become escapes."""
    write_bytes(path, _encoded(text))


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """``write_bytes`` for a mapping of plain values."""
    write_bytes(path, json_bytes(content))


def json_bytes(content: Mapping[str, Any]) -> bytes:
    """A mapping of plain values as ``write_json`` writes it."""
    return _encoded(json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """A mapping from a file.

    Raises:
        OSError: there is none.
        ValueError: it holds something else.
    """
    content = untrusted.read_json(path)
    if not isinstance(content, dict):
        raise ValueError(f"{path}: not a record of a run")
    return content


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")
