"""Reads files of unknown origin, and makes text of unknown origin safe to show.

A run directory from someone else can hold a link to an endless device, a named pipe, a YAML file that expands to
gigabytes, or a class name that a spreadsheet runs as a formula or a terminal as a command.
"""

import csv
import io
import json
import os
import re
import stat
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

import yaml

from cifar_exp.errors import RequestError

MOST_RECORD_BYTES = 16 * 2**20  # of status.json, summary.csv and others; real ones have kilobytes
MOST_CONFIG_BYTES = 2**20
MOST_COLUMNS = 5_000  # of a table, or of all runs compared; a summary has about a hundred
_MOST_LEVELS = 50  # of nested lists and mappings; a config has five
_MOST_SCALARS = 10_000  # keys and values of a config; a real one has about two hundred
_MOST_CHARACTERS = 20_000  # of one of them; a path has at most some thousands
_MOST_DIGITS = 300
_NUMBER = re.compile(r"[-+0-9a-fA-FxX_.:]*")  # YAML knows hexadecimal integers, and base 60: 1:30:00

_SPARSE_FROM = 64 * 2**20  # bytes
_MOST_SPARSE = 32  # ratio of size to allocated space; file systems that compress reach about 10

# libyaml's parser, where it was built, is ten times as fast; both are safe.
_YamlLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

# How a formula begins in a spreadsheet (OWASP, "CSV injection").
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def stat_if_there(path: str | Path) -> os.stat_result | None:
    """The status of a path, links followed; None if it does not exist.

    Raises:
        OSError: the path cannot be accessed. (pathlib's methods return False then, depending on Python's version.)
    """
    try:
        return os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None


def write_problem(path: Path) -> str | None:
    """Why no folder or file can be created at a path, with its missing parents; None if it can."""
    try:
        existing = next(one for one in (path, *path.absolute().parents) if stat_if_there(one) is not None)
    except OSError as error:
        return error.strerror
    return None if existing.is_dir() and os.access(existing, os.W_OK) else f"{existing} is not a writable folder"


def open_regular(path: str | Path) -> BinaryIO:
    """Open a regular file for reading.

    Pipes and devices are refused as they may never end, sparse files as they take no disk space but all memory.

    Raises:
        OSError: it cannot be opened, or is not a regular file, or is sparse.
    """
    # O_NONBLOCK: opening a pipe would otherwise wait for a writer.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError("not a regular file")
        if status.st_size >= _SPARSE_FROM and status.st_blocks * 512 * _MOST_SPARSE < status.st_size:
            # Some network file systems report 0 blocks for every file, but they have no holes either.
            if os.lseek(descriptor, 0, os.SEEK_HOLE) < status.st_size:
                raise OSError("a sparse file, which consists mostly of holes")
            os.lseek(descriptor, 0, os.SEEK_SET)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_bytes(path: str | Path, most: int = MOST_RECORD_BYTES) -> bytes:
    """The content of a regular file of at most ``most`` bytes.

    Raises:
        OSError: as ``open_regular``.
        ValueError: it is larger.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > most:
            raise ValueError(f"it is larger than {most:,} bytes")
        return file.read(size)


def read_json(path: str | Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        OSError: as ``open_regular``.
        ValueError: it is too large, nested too deeply or not a JSON object.
    """
    try:
        content = json.loads(read_bytes(path))
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(content, dict):
        raise ValueError("it is not a JSON object")
    return content


def check_header(content: bytes) -> None:
    """Raise a ValueError for a CSV of more than ``MOST_COLUMNS``, or whose first rows are not CSV."""
    try:
        # Two rows: pandas makes an index of the cells that the second has beyond the first.
        rows = list(islice(csv.reader(line.decode("utf-8", "replace") for line in io.BytesIO(content)), 2))
    except csv.Error as error:
        raise ValueError(str(error)) from error
    if any(len(row) > MOST_COLUMNS for row in rows):
        raise ValueError(f"it has more than {MOST_COLUMNS:,} columns")


def read_rows(path: str | Path) -> Iterator[list[str]]:
    """The rows of a CSV, its header first, one by one.

    Raises:
        OSError: as ``open_regular``.
        ValueError: it is too large, has too many columns or an empty line, is cut off, or is not a CSV.
    """
    content = read_bytes(path)
    check_header(content)
    try:
        for row in csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True):
            if not row:
                raise ValueError("it has an empty line")
            yield row
    except csv.Error as error:
        raise ValueError(str(error)) from error
    if content and not content.endswith(b"\n"):
        raise ValueError("its last line is cut off")


def read_yaml_text(path: str | Path, loader: Any = yaml.SafeLoader) -> str:
    """The text of a YAML file that ``loader`` can parse safely.

    Raises:
        OSError: as ``open_regular``.
        ValueError: it is not YAML, is too large or nested too deeply, has too many or too long values, or holds an
            alias or a tag. (A few nested aliases expand to gigabytes; this program writes neither.)
    """
    text = read_bytes(path, MOST_CONFIG_BYTES).decode("utf-8")
    level = scalars = 0
    try:
        # Checked as a flat series of events: constructing deeply nested containers exhausts the C stack.
        for event in yaml.parse(text, loader):
            if isinstance(event, yaml.AliasEvent):
                raise ValueError("it holds a YAML alias")
            if isinstance(event, yaml.ScalarEvent):
                scalars += 1
                length = len(event.value)
                if scalars > _MOST_SCALARS:
                    raise ValueError(f"it has more than {_MOST_SCALARS:,} keys and values")
                if event.tag is not None:
                    raise ValueError(f"it holds a YAML tag ({event.tag[:100]})")
                if length > _MOST_CHARACTERS or (length > _MOST_DIGITS and _NUMBER.fullmatch(event.value)):
                    raise ValueError(f"it holds a value of {length:,} characters")
            level += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if level > _MOST_LEVELS:
                raise ValueError(f"it is nested more than {_MOST_LEVELS} levels deep")
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from error
    return text


def read_yaml(path: str | Path) -> Any:
    """The content of a YAML file as plain containers. Raises the errors of ``read_yaml_text``."""
    try:
        return yaml.load(read_yaml_text(path, _YamlLoader), Loader=_YamlLoader)
    except (OSError, ValueError):
        raise
    except Exception as error:  # a conversion of PyYAML's can raise anything
        raise ValueError(f"{type(error).__name__}: {' '.join(str(error).split())}") from error


def address_problem(url: str) -> str | None:
    """Why an address is refused; None if it is allowed.

    Schemes other than http and https could read this machine's files, pipes and devices.
    """
    try:
        parts = urlsplit(url)
        if parts.scheme in ("https", "http") and parts.netloc:
            return None
    except ValueError as error:
        return f"is not an address: {error}"
    return "does not start with https:// or http:// (a local archive is named by data.root=PATH)"


def spreadsheet_safe(text: str) -> str:
    """Text as a CSV cell, with an apostrophe before what a spreadsheet would run as a formula.

    Numbers are unchanged. ``spreadsheet_text`` is the inverse.
    """
    return f"'{text}" if _is_formula(text.lstrip("'")) else text


def spreadsheet_text(cell: str) -> str:
    """The text of a cell that ``spreadsheet_safe`` made; a cell of another program is unchanged."""
    return cell[1:] if cell[:1] == "'" and _is_formula(cell.lstrip("'")) else cell


def _is_formula(text: str) -> bool:
    if not text.startswith(_FORMULA_STARTS):
        return False
    try:
        float(text)
    except ValueError:
        return True
    return text[0] in "\t\r"


def printable(text: str) -> str:
    r"""Text with control characters and line ends as escapes.

    >>> printable("dog\x1b[2J")
    'dog\\x1b[2J'
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def displayable(name: str) -> str:
    """A file name or argument as valid text, if it is not in the locale's encoding.

    Python keeps the bytes of such names as surrogates, which no file, figure or terminal accepts.
    """
    try:
        return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # a surrogate that does not stand for a byte
        return name.encode("utf-8", "backslashreplace").decode()


def refuse_irregular(directory: Path) -> None:
    """Refuse to write into a run directory that holds anything but folders and regular files.

    A link may lead anywhere, and opening a pipe waits for its reader. The directory itself may be a link.
    """
    for folder, folders, files in os.walk(directory):
        for name in (*folders, *files):
            mode = os.lstat(path := os.path.join(folder, name)).st_mode
            if stat.S_ISLNK(mode):
                raise RequestError(f"{path}: is a link, which may lead out of the run directory; copy the file there")
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                raise RequestError(f"{path}: is neither a file nor a folder; remove it first")
