"""The page of a running run: rewritten at intervals, and once more when the run has ended."""

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cifar_exp.reports.run_page import FILE, REFRESH_SECONDS
from cifar_exp.run_dir import kept_images
from cifar_exp.run_dir.lifecycle import run_name, write_traceback
from cifar_exp.safe_io import atomic

if TYPE_CHECKING:  # importing them would load torch
    from cifar_exp.data.dataset import Split
    from cifar_exp.evaluation.metrics import Evaluation
    from cifar_exp.explain.gradcam import CamMap

log = logging.getLogger(__name__)


class LivePage:
    """Keeps ``report.html`` up to date during a run.

    Enter it before the run's directory is claimed, and leave it after the final state is recorded. It writes nothing
    before the first ``update``, because until then the directory may belong to another run. An error never fails the
    run: it is logged, with the traceback in ``run.log``.
    """

    def __init__(self, out_dir: Path, *, wanted: bool) -> None:
        self.out_dir = out_dir
        self.wanted = wanted
        self._written: float | None = None

    def __enter__(self) -> "LivePage":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._written is not None and self._write():
            log.info("Page: %s", Path(run_name(self.out_dir), FILE))

    def update(self) -> None:
        """Write the page, unless it was written less than 30 s ago."""
        if self.wanted and (self._written is None or time.monotonic() - self._written >= REFRESH_SECONDS):
            self._write()

    def keep_images(
        self, test: "Split", evaluation: "Evaluation", maps: "Sequence[CamMap]", suspects: NDArray[np.int64]
    ) -> None:
        """Store the images of the page.

        The maps are ordered by image, layer and target. ``suspects`` are the positions of the images whose label is
        probably wrong, the most suspicious first.
        """
        if not self.wanted:
            return
        try:
            shape = test.images.shape[1:]
            most = kept_images.most_images(shape)
            first = suspects[: kept_images.MOST_SUSPECTS]
            others = kept_images.choose_images(evaluation.labels, evaluation.predictions, evaluation.confidences, most)
            index = np.concatenate([first, others[~np.isin(others, first)]])[:most]
            layers = list(dict.fromkeys(cam.layer.name for cam in maps))
            explained = np.array(list(dict.fromkeys(cam.index for cam in maps)), dtype=np.int64)
            heat = np.array([cam.heat for cam in maps], dtype=np.float32)
            heat = heat.reshape(len(explained), len(layers), len(kept_images.TARGETS) if layers else 0, *shape[:2])
            most = kept_images.most_explained(len(layers))
            path = self.out_dir / kept_images.FILE
            kept_images.write_images(path, test.images, index, explained[:most], layers, heat[:most])
        except Exception as error:
            self._log_failure("the images of report.html could not be kept", error)

    def _write(self) -> bool:
        self._written = time.monotonic()
        try:
            from cifar_exp.reports.run_page.page import run_page  # loads Jinja and pandas; not every run has a page

            atomic.write_text(self.out_dir / FILE, run_page(self.out_dir, at_work=True))
        except Exception as error:
            self._log_failure(f"{FILE} could not be made", error)
            return False
        return True

    def _log_failure(self, what: str, error: Exception) -> None:
        log.warning("%s (%s: %s); `cifar-exp report` tries again", what, type(error).__name__, error)
        write_traceback(self.out_dir, what)
