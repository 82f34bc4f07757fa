"""A CSV table of image files and their labels."""

import csv
import io
import logging
import os
from pathlib import Path
from typing import Any

from cifar_exp.data.dataset import Dataset
from cifar_exp.data.sources.image_files import ImageFile, as_text, image_file
from cifar_exp.data.sources.image_folder import check_known, load_files, split_files
from cifar_exp.errors import RequestError
from cifar_exp.safe_io.plural import plural
from cifar_exp.safe_io.untrusted import read_bytes

log = logging.getLogger(__name__)

_MOST_BYTES = 256 * 2**20
_TEST = ("test", "val", "valid", "validation")  # values of the column `split`; the first that occurs is used


def load_image_csv(
    *,
    csv_file: str | None,
    root: str | None,
    cache: str | None,
    image_size: int,
    file_column: str = "file",
    label_column: str = "label",
    class_names: tuple[str, ...] | None = None,
    **test_split: Any,
) -> Dataset:
    """Load the images that a table lists, in its order.

    The keys are those of ``ImageCsvConfig``; for ``class_names``, see ``load_image_folder``.

    The paths are relative to ``root``, or else to the table's folder. A column ``split``, if present, holds ``train``
    or ``test`` (or ``val``); otherwise ``test_split`` (``test_fraction`` and ``test_seed``) decides.

    Raises:
        RequestError: the table lacks a column, or a path is outside the folder or not a readable image.
    """
    if csv_file is None:
        raise RequestError("data=image_csv: set data.csv_file=FILE, a CSV with the columns file and label")
    table = Path(csv_file)
    base = table.parent if root is None else Path(root)
    rows = _rows(table, file_column, label_column)
    names = tuple(sorted({label for _, label, _ in rows}))
    if class_names is not None:
        check_known(table, names, class_names)
    elif len(names) < 2:
        raise RequestError(f"{table}: has {plural(len(names), 'different label')}; a classifier needs at least 2")
    labels = {name: label for label, name in enumerate(class_names or names)}
    inside = os.path.abspath(base)
    by_split: dict[str, list[ImageFile]] = {}
    for file, name, split in rows:
        by_split.setdefault(split, []).append(_listed(table, inside, file, labels[name]))
    if len(others := [split for split in _TEST if split in by_split]) > 1:
        log.info("%s: the rows of %s are the test split; %s not used", table, others[0], ", ".join(others[1:]))
    train = by_split.get("train") or by_split.get("") or []
    test = by_split[others[0]] if others else None
    if class_names is not None:
        train = test = test or train
    elif test is None:
        train, test = split_files(train, names, **test_split)
    elif not train:
        raise RequestError(f"{table}: no row has 'train' in the column split")
    return load_files(Path(inside), train, test, tuple(class_names or names), "image_csv", cache, image_size)


def _rows(table: Path, file_column: str, label_column: str) -> list[tuple[str, str, str]]:
    """Path, label and split of each row; the split is empty if the table has no column for it."""
    try:
        text = read_bytes(table, _MOST_BYTES).decode("utf-8-sig")
        reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        columns = reader.fieldnames or []
        for key, column in (("file_column", file_column), ("label_column", label_column)):
            if column not in columns:
                known = ", ".join(name[:40] for name in columns[:20]) or "none"
                raise RequestError(f"{table}: has no column {column!r} (data.{key}); its columns are {known}")
        splits = ("train", *_TEST) if "split" in columns else ("",)
        rows = []
        for row in reader:
            file, label, split = row[file_column], row[label_column], row.get("split", "")
            if not file or not label or split not in splits:
                allowed = f" and a split of {', '.join(splits)}" if "split" in columns else ""
                raise RequestError(f"{table}, line {reader.line_num}: needs a file, a label{allowed}")
            rows.append((file, as_text(label), split))
    except (OSError, ValueError, csv.Error) as error:
        raise RequestError(f"data.csv_file={table}: cannot be read: {error}") from error
    if not rows:
        raise RequestError(f"{table}: has no rows")
    return rows


def _listed(table: Path, inside: str, file: str, label: int) -> ImageFile:
    path = os.path.normpath(os.path.join(inside, file))
    if not path.startswith(inside.rstrip(os.sep) + os.sep) or "\0" in path:
        raise RequestError(f"{table}: {file}: is not in the folder {inside} (set another with data.root)")
    try:
        status = os.stat(path)
    except OSError as error:
        raise RequestError(f"{table}: {file}: {path} cannot be read: {error.strerror}") from error
    return image_file(path, os.path.relpath(path, inside), label, status)
