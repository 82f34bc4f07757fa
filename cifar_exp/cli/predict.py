"""``cifar-exp predict RUN PATH...``: classify images by a run's network."""

import argparse
import logging
import os
import stat
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cifar_exp.compare.render import as_text as as_table
from cifar_exp.compute import seeding
from cifar_exp.data.sources.image_files import as_text, has_image_suffix, image_file, list_folder, read_images
from cifar_exp.errors import DONE, FAILED, RequestError
from cifar_exp.loaded_run import TrainedNetwork, in_channels, load_network
from cifar_exp.reports.figures.images import draw_contact_sheet
from cifar_exp.reports.figures.style import shorten
from cifar_exp.run_dir import tables
from cifar_exp.run_dir.saved_run import new_output, open_run
from cifar_exp.safe_io.plural import plural
from cifar_exp.safe_io.untrusted import stat_if_there

log = logging.getLogger(__name__)

_TOP = 5  # classes in predictions.csv
_DRAWN = 40  # images in the contact sheet
_PRINTED = 20  # rows on the terminal
_NAMED = 10  # skipped files in the log
_CHUNK_BYTES = 2**28  # of decoded images at a time


def main(options: argparse.Namespace) -> int:
    """Run the command; returns 0, or 1 if an image was skipped."""
    run = open_run(options.run, trust=options.trust)
    files = list_images(options.paths)
    out_dir = new_output(options.out, "predictions")
    network = load_network(run, weights=options.weights, device=options.device)
    config = network.config
    seeding.seed_everything(
        config.seed, deterministic=config.deterministic, threads=config.threads, device=network.compute.device
    )
    size, gray = network.image_size, ", in gray" if network.channels == 1 else ""
    scaled = f"the shorter side scaled to {size} pixels (bilinear, antialiased), the centre cropped to {size}x{size}"
    log.info("%s for %s: %s%s", plural(len(files), "image"), run.path, scaled, gray)
    kept, probabilities, drawn = _predict(network, files)
    out_dir.mkdir(parents=True)
    rows = list(_rows(kept, probabilities, network.class_names, every_class=options.probabilities))
    tables.write_table(out_dir / "predictions.csv", list(rows[0]), rows)
    _draw(network, drawn, rows, out_dir, options.explain)
    _print(rows, out_dir)
    return DONE if len(kept) == len(files) else FAILED


def list_images(paths: Sequence[str]) -> list[str]:
    """The image files that the arguments name: files, folders, and ``-`` for a list on standard input.

    The list has one path on each line, or paths that end with NUL, as ``find -print0`` prints them.

    Raises:
        RequestError: there is no such file, or no image in a folder or in all.
    """
    text = sys.stdin.buffer.read() if "-" in paths else b""
    lines = text.split(b"\0") if b"\0" in text else text.splitlines()
    from_stdin = [os.fsdecode(line) for line in lines if line.strip()]
    named = [name for path in paths for name in (from_stdin if path == "-" else [path])]
    files: list[str] = []
    for path in named:
        try:
            status = stat_if_there(path)
        except OSError as error:
            raise RequestError(f"{as_text(path)}: cannot be accessed: {error.strerror}") from error
        if status is None:
            raise RequestError(f"{as_text(path)}: there is no such file or folder")
        if not stat.S_ISDIR(status.st_mode):
            files.append(image_file(path, path, 0, status).path)
            continue
        found = sorted(file.path for file in list_folder(Path(path), path.rstrip("/") or path, 0))
        images = [file for file in found if has_image_suffix(file)]
        if not images:
            raise RequestError(f"{as_text(path)}: the folder holds no images (of {plural(len(found), 'file')})")
        files += images
    if not files:
        raise RequestError("standard input: names no images")
    return files


def _predict(network: TrainedNetwork, files: Sequence[str]) -> tuple[list[str], NDArray[np.float32], NDArray[np.uint8]]:
    """The files that could be read, their (N, classes) probabilities, and the first of the images."""
    batch_size, size = network.config.evaluation.batch_size, network.image_size
    chunk = batch_size * max(1, _CHUNK_BYTES // (batch_size * size * size * 3))
    kept: list[str] = []
    skipped: list[str] = []
    changes: Counter[str] = Counter()
    probabilities, drawn = [], []
    for start in range(0, len(files), chunk):
        paths = [Path(path) for path in files[start : start + chunk]]
        pixels, problems, changed = read_images(paths, size, "images")
        good = [place for place in range(len(paths)) if place not in problems]
        images = in_channels(pixels[good], network.channels)
        probabilities.append(network.probabilities(images))
        drawn.append(images[: max(0, _DRAWN - len(kept))])
        kept += [files[start + place] for place in good]
        skipped += problems.values()
        changes.update(changed)
    for what, count in changes.items():
        log.info("%s: %s", plural(count, "image"), what)
    more = [f"{len(skipped) - _NAMED:,} more"] if len(skipped) > _NAMED else []
    for problem in [*skipped[:_NAMED], *more]:
        log.warning("Skipped %s", problem)
    if not kept:
        raise RequestError(f"none of {plural(len(files), 'file')} is an image that can be read")
    return kept, np.concatenate(probabilities), np.concatenate(drawn)


def _rows(
    files: Sequence[str], probabilities: NDArray[np.float32], names: Sequence[str], *, every_class: bool
) -> Iterator[Mapping[str, Any]]:
    """Rows of ``predictions.csv``."""
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, :_TOP]
    for file, values, best in zip(files, probabilities, order, strict=True):
        row = {"source": as_text(file), "prediction": names[best[0]], "confidence": float(values[best[0]])}
        for rank, place in enumerate(best[1:], start=2):
            row |= {f"top{rank}": names[place], f"top{rank}_confidence": float(values[place])}
        if every_class:
            row |= {f"probability.{name}": float(value) for name, value in zip(names, values, strict=True)}
        yield row


def _draw(
    network: TrainedNetwork, images: NDArray[np.uint8], rows: Sequence[Mapping[str, Any]], out_dir: Path, explain: bool
) -> None:
    captions = [
        f"{shorten(Path(row['source']).name, 18)}\n{shorten(row['prediction'], 12)} {row['confidence']:.0%}"
        for row in rows[: len(images)]
    ]
    count = f"{len(images)} of {len(rows):,} images" if len(images) < len(rows) else plural(len(rows), "image")
    draw_contact_sheet(images, captions, f"{count}: prediction and confidence", out_dir / "contact_sheet.png")
    if explain:
        classes = np.array([network.class_names.index(row["prediction"]) for row in rows[: len(images)]], np.int64)
        try:
            heat = network.gradcam(images, classes)
        except RequestError as error:
            log.warning("No Grad-CAM: %s", error)
        else:
            title = f"{count}: Grad-CAM of the predicted class, each map scaled to its own maximum"
            draw_contact_sheet(images, captions, title, out_dir / "gradcam.png", heat)


def _print(rows: Sequence[Mapping[str, Any]], out_dir: Path) -> None:
    cells = [
        [row["source"], row["prediction"], f"{row['confidence']:.2%}", f"{row['top2']} ({row['top2_confidence']:.2%})"]
        for row in rows[:_PRINTED]
    ]
    log.info("%s", as_table((["source", "prediction", "confidence", "second"], cells)))
    if len(rows) > _PRINTED:
        log.info("... and %s more", f"{len(rows) - _PRINTED:,}")
    counts = Counter(row["prediction"] for row in rows).most_common(10)
    log.info("Predicted: %s", ", ".join(f"{name} {count:,}" for name, count in counts))
    written = ", ".join(sorted(path.name for path in out_dir.iterdir()))
    log.info("Written to %s: %s", out_dir, written)
