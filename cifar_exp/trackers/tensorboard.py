"""TensorBoard: event files in ``tensorboard/`` in the run directory.

TensorBoard stores scalars in single precision (about seven digits); the CSVs are exact.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from cifar_exp.config.resolved import to_yaml
from cifar_exp.config.schema import ExperimentConfig
from cifar_exp.trackers.tracker import Tracker, config_as_scalars


class TensorBoard(Tracker):
    """A run's event file."""

    def __init__(self, config: ExperimentConfig, out_dir: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        super().__init__(out_dir)
        self._config = config
        folder = out_dir / "tensorboard"
        # A resumed run is logged again from its first step; purge_step discards the earlier events.
        self._writer = SummaryWriter(str(folder), purge_step=0 if folder.exists() else None)
        indented = "\n".join(f"    {line}" for line in to_yaml(config).splitlines())  # a code block in Markdown
        self._writer.add_text("config", indented, 0)
        self.after_epoch()

    def log(self, rows: Sequence[tuple[int, dict[str, float]]]) -> None:
        """See ``Tracker``."""
        for step, row in rows:
            for name, value in row.items():
                self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def log_and_close(self, state: str, numbers: dict[str, float], texts: dict[str, str], figures: list[Path]) -> None:
        """See ``Tracker``."""
        from torch.utils.tensorboard.summary import hparams

        results = {f"summary/{name}": value for name, value in numbers.items()}
        for name, value in results.items():
            self._writer.add_scalar(name, value, self.last_step)
        for name, text in texts.items():
            self._writer.add_text(f"summary/{name}", text, self.last_step)
        # The tab HPARAMS: config and results. SummaryWriter.add_hparams would make a second run.
        for part in hparams(config_as_scalars(self._config), results):
            self._writer._get_file_writer().add_summary(part)
        for path in figures:
            with Image.open(path) as image:
                pixels = np.asarray(image.convert("RGB"))
            self._writer.add_image(f"figures/{path.stem}", pixels, self.last_step, dataformats="HWC")
        self._writer.close()


begin = TensorBoard
