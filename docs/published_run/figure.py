"""Draw curves.png from the tables in this folder.

    python docs/published_run/figure.py

The published log prints the test loss as a sum of batch means divided by the number of images. Multiplied by
10,000 images / 79 batches it is a mean per image, apart from the smaller last batch. Its training loss is that of the
last batch of each epoch.
"""

from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MultipleLocator, PercentFormatter

FOLDER = Path(__file__).parent
COLOURS = {"published": "#d55e00", "onecycle": "#0072b2", "default": "#009e73"}
LABELS = {"published": "experiment=published", "onecycle": "experiment=onecycle", "default": "default"}
PANELS = {
    "train_accuracy": "Train accuracy",
    "test_accuracy": "Test accuracy",
    "train_loss": "Train loss",
    "test_loss": "Test loss",
}
TEST_IMAGES, TEST_BATCHES = 10_000, 79


def published_log() -> pd.DataFrame:
    """The published log with the columns of metrics.csv."""
    log = pd.read_csv(FOLDER / "published_log.csv")
    per_image = log["test_loss_as_printed"] * TEST_IMAGES / TEST_BATCHES
    return log.rename(columns={"last_batch_loss": "train_loss"}).assign(test_loss=per_image)


def draw_panel(axes: Axes, column: str, ours: pd.DataFrame, log: pd.DataFrame) -> None:
    """One quantity per epoch: the published log dashed, each experiment as mean and range of its seeds."""
    style = {"linestyle": "none", "marker": "x"} if column == "train_loss" else {"linestyle": "--"}
    axes.plot(log["epoch"], log[column], color="#555555", label="published log (original files)", **style)
    for name, colour in COLOURS.items():
        by_epoch = ours[ours["experiment"] == name].groupby("epoch")[column]
        axes.plot(by_epoch.mean(), color=colour, label=LABELS[name])
        axes.fill_between(by_epoch.mean().index, by_epoch.min(), by_epoch.max(), color=colour, alpha=0.2, linewidth=0)
    axes.set_title(PANELS[column] + (" (published log: last batch)" if column == "train_loss" else ""))
    axes.xaxis.set_major_locator(MultipleLocator(5))
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    if column.endswith("accuracy"):
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.set_ylim(0.35, 1.0)
    else:
        axes.set_ylim(0, 1.7)
        axes.set_ylabel("nats per image")
        axes.set_xlabel("epoch")


def main() -> None:
    """Draw all panels."""
    ours, log = pd.read_csv(FOLDER / "metrics.csv"), published_log()
    figure, grid = plt.subplots(2, 2, figsize=(11, 7.4), layout="constrained", sharex=True)
    for axes, column in zip(grid.flat, PANELS, strict=True):
        draw_panel(axes, column, ours, log)
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    figure.suptitle("20 epochs of ResNet-18; ours on CIFAR-10 as JPEG q75: mean and range of seeds 0 to 2")
    figure.savefig(FOLDER / "figures" / "curves.png", dpi=130)


if __name__ == "__main__":
    main()
