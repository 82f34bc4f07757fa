"""Atomic writes: readers see the old version of a file or the new one, also after a crash."""

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any


def write_bytes(path: Path, content: bytes) -> None:
    """Write ``content`` to ``.NAME.PID.tmp`` in the same folder and rename it. A link at ``path`` is replaced.

    Raises:
        OSError: the content could not be written; an old file is unchanged.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with suppress(FileNotFoundError):  # of an earlier process with the same id, or a link
            beside.unlink()
        with beside.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException:
        with suppress(OSError):
            beside.unlink()
        raise


def write_text(path: Path, text: str) -> None:
    """``write_bytes`` for text, in UTF-8. Bytes of file names that are not valid UTF-8 become escapes."""
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """``write_text`` for a mapping of plain values."""
    write_text(path, json_text(content))


def json_text(content: Mapping[str, Any]) -> str:
    """A mapping of plain values as ``write_json`` writes it."""
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"
