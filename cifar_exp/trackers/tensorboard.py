"""TensorBoard: event files in ``tensorboard/`` in the run directory.

TensorBoard stores scalars in single precision (about seven digits); the CSVs hold all of them.
"""

from pathlib import Path

import numpy as np
from PIL import Image
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from cifar_exp.config.parse import flatten
from cifar_exp.config.resolved import to_yaml
from cifar_exp.config.schema import ExperimentConfig
from cifar_exp.trackers.tracker import Unread, figures, plain, summary

FOLDER = "tensorboard"


class TensorBoard:
    """A run's event file."""

    def __init__(self, config: ExperimentConfig, out_dir: Path) -> None:
        self._config, self._out_dir = config, out_dir
        self._unread = Unread(out_dir)
        folder = out_dir / FOLDER
        # A run that goes on is told again from its first step; what was told before is taken back.
        self._writer = SummaryWriter(str(folder), purge_step=0 if folder.exists() else None)
        indented = "\n".join(f"    {line}" for line in to_yaml(config).splitlines())  # a code block in Markdown
        self._writer.add_text("config", indented, 0)
        self._tell()

    def _tell(self) -> None:
        for scalar in self._unread.scalars():
            self._writer.add_scalar(scalar.name, scalar.value, scalar.step)
        self._writer.flush()

    def after_epoch(self) -> None:
        """See ``Tracker``."""
        self._tell()

    def end(self, state: str) -> None:
        """See ``Tracker``."""
        self._tell()
        step = self._unread.last_step
        numbers, texts = summary(self._out_dir)
        for name, value in numbers.items():
            self._writer.add_scalar(f"summary/{name}", value, step)
        for name, text in (texts | {"state": state}).items():
            self._writer.add_text(f"summary/{name}", text, step)
        # The tab HPARAMS: the config against what came of it. add_hparams would make a second run of it.
        settings = {key: plain(value) for key, value in flatten(self._config).items()}
        for part in hparams(settings, {f"summary/{name}": value for name, value in numbers.items()}):
            self._writer._get_file_writer().add_summary(part)
        for path in figures(self._out_dir):
            with Image.open(path) as image:
                pixels = np.asarray(image.convert("RGB"))
            self._writer.add_image(f"figures/{path.stem}", pixels, step, dataformats="HWC")
        self._writer.close()


def begin(config: ExperimentConfig, out_dir: Path) -> TensorBoard:
    """Start telling, or go on."""
    return TensorBoard(config, out_dir)
