"""Reading files that anybody may have written, and showing text that anybody may have chosen.

A run directory travels: it can hold a link to a device that never ends, a named pipe that never answers, a YAML file
that unfolds to gigabytes, a class name that a spreadsheet would run as a formula or a terminal as a command. What
reads such files starts here.
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

MOST_RECORD_BYTES = 16 * 2**20  # of status.json, summary.csv and the like; real ones have kilobytes
MOST_CONFIG_BYTES = 2**20
MOST_COLUMNS = 5_000  # of a table, or of all runs compared; a summary has about a hundred
_MOST_LEVELS = 50  # of nested lists and mappings; a config has five
_MOST_SCALARS = 10_000  # keys and values of a config; a real one has about two hundred
_MOST_CHARACTERS = 20_000  # of one of them; a path has at most some thousands
_MOST_DIGITS = 300
_NUMBER = re.compile(r"[-+0-9a-fA-FxX_.:]*")  # YAML knows hexadecimal integers, and base 60: 1:30:00

_SPARSE_FROM = 64 * 2**20  # bytes
_MOST_SPARSE = 32  # times the space that a file takes; file systems that compress reach about 10

# libyaml's parser, where it was built, is ten times as fast; both are safe.
_YamlLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

# What a spreadsheet takes for the beginning of a formula (OWASP, "CSV injection").
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def stat_if_there(path: str | Path) -> os.stat_result | None:
    """What lies at a path, at the end of links; None where there is nothing.

    Raises:
        OSError: there is no telling. (Some of pathlib's own questions answer False to that, by Python's version.)
    """
    try:
        return os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None


def open_regular(path: str | Path) -> BinaryIO:
    """Open a file for reading, unless it is a pipe, a device, a socket or mostly holes.

    A pipe might never end or never begin; a file of holes takes no space on the disk, but all of the memory.

    Raises:
        OSError: it is not there, or such a file.
    """
    # Opening a pipe would otherwise wait for somebody to write to it.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError("not a regular file")
        if _is_sparse(descriptor, status):
            raise OSError("a sparse file: it consists mostly of holes")
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def _is_sparse(descriptor: int, status: os.stat_result) -> bool:
    blocks = getattr(status, "st_blocks", None)  # of 512 bytes; Windows does not report them
    if blocks is None or status.st_size < _SPARSE_FROM or blocks * 512 * _MOST_SPARSE >= status.st_size:
        return False
    # Some network file systems report no blocks at all; those know no holes, either.
    hole = os.lseek(descriptor, 0, os.SEEK_HOLE)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return hole < status.st_size


def read_bytes(path: str | Path, most: int = MOST_RECORD_BYTES) -> bytes:
    """The content of a regular file of at most so many bytes.

    Raises:
        OSError: it is not there, or not a regular file.
        ValueError: it is larger.
    """
    with open_regular(path) as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise ValueError(f"it is larger than {most:,} bytes")
    return content


def read_json(path: str | Path) -> Any:
    """The content of a JSON file.

    Raises:
        OSError: it is not there, or not a regular file.
        ValueError: it is too large, nested too deeply or not JSON.
    """
    try:
        return json.loads(read_bytes(path))
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def check_header(file: BinaryIO) -> None:
    """Refuse a table of more columns than any table has; the file is at its beginning again afterwards.

    Raises:
        ValueError: there are more than ``MOST_COLUMNS``, or the first row is not a CSV's.
    """
    try:
        # pandas makes an index of what the second row has more than the first.
        rows = list(islice(csv.reader(line.decode("utf-8", "replace") for line in file), 2))
    except csv.Error as error:
        raise ValueError(str(error)) from error
    file.seek(0)
    if any(len(row) > MOST_COLUMNS for row in rows):
        raise ValueError(f"it has more than {MOST_COLUMNS:,} columns")


def read_rows(path: str | Path) -> Iterator[list[str]]:
    """The rows of a CSV, its header first, one by one.

    Raises:
        OSError: it is not there, or not a regular file.
        ValueError: it is too large, has too many columns, an empty line or no line's end at its end, or is not a CSV.
    """
    content = read_bytes(path)
    check_header(io.BytesIO(content))
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
    """The text of a YAML file that ``loader`` can parse without surprises.

    Raises:
        OSError: it is not there, or not a regular file.
        ValueError: it is not YAML, is too large or nested too deeply, has too many or too long values, or holds an
            alias or a tag. (A few aliases of aliases unfold to gigabytes; this program writes neither.)
    """
    text = read_bytes(path, MOST_CONFIG_BYTES).decode("utf-8")
    level = scalars = 0
    try:
        # Looked through as a flat series of events: building deeply nested containers exhausts the C stack.
        for event in yaml.parse(text, loader):
            if isinstance(event, yaml.AliasEvent):
                raise ValueError("it holds a YAML alias")
            if isinstance(event, yaml.ScalarEvent):
                scalars += 1
                _check_scalar(event, scalars)
            level += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if level > _MOST_LEVELS:
                raise ValueError(f"it is nested more than {_MOST_LEVELS} levels deep")
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from error
    return text


def _check_scalar(event: Any, number: int) -> None:
    if number > _MOST_SCALARS:
        raise ValueError(f"it has more than {_MOST_SCALARS:,} keys and values")
    if event.tag is not None:
        raise ValueError(f"it holds a YAML tag ({event.tag[:100]})")
    length = len(event.value)
    if length > _MOST_CHARACTERS or (length > _MOST_DIGITS and _NUMBER.fullmatch(event.value)):
        raise ValueError(f"it holds a value of {length:,} characters")


def read_yaml(path: str | Path) -> Any:
    """The content of a YAML file, by the safe loader, as plain containers.

    Raises:
        OSError: it is not there, or not a regular file.
        ValueError: as ``read_yaml_text``.
    """
    try:
        return yaml.load(read_yaml_text(path, _YamlLoader), Loader=_YamlLoader)
    except (OSError, ValueError):
        raise
    except Exception as error:  # beside its own, PyYAML raises whatever a conversion does: `!!int ''`, `!!bool x`
        raise ValueError(f"{type(error).__name__}: {' '.join(str(error).split())}") from error


def address_problem(url: str) -> str | None:
    """Why an address is not opened; None if it may be.

    Anything but http and https could read this machine's files, pipes and devices.
    """
    try:
        parts = urlsplit(url)
    except ValueError as error:
        return f"is not an address: {error}"
    if parts.scheme in ("https", "http") and parts.netloc:
        return None
    return "does not start with https:// or http:// (a local archive is named by data.root=PATH)"


def spreadsheet_safe(text: str) -> str:
    """Text as a CSV cell may hold it: an apostrophe before what a spreadsheet would run as a formula.

    Numbers stay as they are. ``spreadsheet_text`` is the inverse, whatever the text.
    """
    return f"'{text}" if _is_formula(text.lstrip("'")) else text


def spreadsheet_text(cell: str) -> str:
    """The text that ``spreadsheet_safe`` made a cell of; a cell of another program's is left as it is."""
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
    r"""Text without characters that would steer a terminal or break a line: they are shown as escapes.

    >>> printable("dog\x1b[2J")
    'dog\\x1b[2J'
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def displayable(name: str) -> str:
    """A file's name or an argument as proper text, where the locale's encoding is not the one that it is in.

    Python keeps the bytes of such names as surrogates, which no file, figure or terminal takes.
    """
    try:
        name.encode()
    except UnicodeEncodeError:
        try:
            return os.fsencode(name).decode("utf-8", "backslashreplace")
        except UnicodeEncodeError:  # half a character of another origin
            return name.encode("utf-8", "backslashreplace").decode()
    return name


def refuse_irregular(directory: Path) -> None:
    """Refuse to write into a run directory that holds anything but folders and regular files.

    A link may lead anywhere, and opening a pipe waits for whoever reads it. The directory itself, and those that it
    lies in, may be reached by links.

    Raises:
        RequestError: names the first such thing.
        OSError: the directory cannot be listed.
    """
    for folder, folders, files in os.walk(directory):
        for name in (*folders, *files):
            mode = os.lstat(path := os.path.join(folder, name)).st_mode
            if stat.S_ISLNK(mode):
                raise RequestError(
                    f"{path}: is a link, which may lead out of the run directory; put the file itself there"
                )
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                raise RequestError(f"{path}: is neither a file nor a folder; take it away first")
