"""TensorBoard: event files in ``tensorboard/`` in the run directory.

TensorBoard stores scalars in single precision (about seven digits); the CSVs are exact.
"""

from pathlib import Path

import numpy as np
from PIL import Image

from cifar_exp.config.parse import flatten
from cifar_exp.config.resolved import to_yaml
from cifar_exp.config.schema import ExperimentConfig
from cifar_exp.trackers.tracker import Unread, as_scalar, figures, summary

FOLDER = "tensorboard"


class TensorBoard:
    """A run's event file."""

    def __init__(self, config: ExperimentConfig, out_dir: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._config, self._out_dir = config, out_dir
        self._unread = Unread(out_dir)
        folder = out_dir / FOLDER
        # A resumed run is logged again from its first step; purge_step discards the earlier events.
        self._writer = SummaryWriter(str(folder), purge_step=0 if folder.exists() else None)
        indented = "\n".join(f"    {line}" for line in to_yaml(config).splitlines())  # a code block in Markdown
        self._writer.add_text("config", indented, 0)
        self.after_epoch()

    def after_epoch(self) -> None:
        """See ``Tracker``."""
        for scalar in self._unread.scalars():
            self._writer.add_scalar(scalar.name, scalar.value, scalar.step)
        self._writer.flush()

    def end(self, state: str) -> None:
        """See ``Tracker``."""
        from torch.utils.tensorboard.summary import hparams

        self.after_epoch()
        step = self._unread.last_step
        numbers, texts = summary(self._out_dir)
        for name, value in numbers.items():
            self._writer.add_scalar(f"summary/{name}", value, step)
        for name, text in (texts | {"state": state}).items():
            self._writer.add_text(f"summary/{name}", text, step)
        # The tab HPARAMS: config and results. SummaryWriter.add_hparams would make a second run.
        settings = {key: as_scalar(value) for key, value in flatten(self._config).items()}
        for part in hparams(settings, {f"summary/{name}": value for name, value in numbers.items()}):
            self._writer._get_file_writer().add_summary(part)
        for path in figures(self._out_dir):
            with Image.open(path) as image:
                pixels = np.asarray(image.convert("RGB"))
            self._writer.add_image(f"figures/{path.stem}", pixels, step, dataformats="HWC")
        self._writer.close()


begin = TensorBoard


def has_store(_config: ExperimentConfig, _out_dir: Path) -> bool:
    """Always: the event files are in the run directory."""
    return True
