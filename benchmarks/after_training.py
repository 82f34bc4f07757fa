"""What comes after training: evaluation against a plain loop, Grad-CAM's passes and time, the figures of a run.

python benchmarks/after_training.py
"""

import dataclasses
import logging
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from measuring import Limit, Report, Result, arguments, overrides_for_synthetic_data
from sides import Clock, Orders, Side

from cifar_exp.config.schema import ExperimentConfig

CAM_LAYERS = ["layer1", "layer2", "layer3", "layer4"]


def plain_side(orders: Orders, threads: int | None, images: int) -> None:
    """``("evaluate",)``: seconds of a plain evaluation."""
    import plain
    import synthetic
    import torch

    from cifar_exp.models import resnet18

    if threads:
        torch.set_num_threads(threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    split = synthetic.cifar10_like().test
    model = resnet18(num_classes=10, in_channels=3).to(device)
    orders.tell("ready")
    while True:
        orders.next()
        clock = Clock()
        plain.evaluate(model, split.images[:images], split.labels[:images], 128, device)
        orders.tell(clock.read())


def product_side(orders: Orders, overrides: list[str], cam_images: int) -> None:
    """``("evaluate",)``, ``("maps",)``, ``("figures", folder)``: seconds; ``("passes",)``."""
    from cifar_exp import stages
    from cifar_exp.build import build
    from cifar_exp.config.compose import compose_config

    logging.getLogger("cifar_exp").setLevel(logging.WARNING)
    config = compose_config(overrides)
    parts = build(config)
    model = parts.learner.model
    test = parts.splits.test
    indices = np.arange(cam_images)
    evaluation = stages.measure(config, parts, test)

    def passes() -> dict[str, int]:
        """Calls of the network while it explains, with and without gradients."""
        import torch

        counts = {"with gradients": 0, "without": 0, "layers": len(parts.explained.layers)}

        def count(*_: Any) -> None:
            counts["with gradients" if torch.is_grad_enabled() else "without"] += 1

        handle = model.register_forward_hook(count)
        stages.explain_images(config, parts, evaluation, indices)
        handle.remove()
        return counts

    actions: dict[str, Callable[[], Any]] = {
        "evaluate": lambda: stages.measure(config, parts, test),
        "maps": lambda: _maps(parts, test.images[indices], test.labels[indices]),
        "explain": lambda: stages.explain_images(config, parts, evaluation, indices),
    }
    orders.tell(str(parts.compute.precision).removeprefix("torch."))
    while True:
        what, *rest = orders.next()
        if what == "passes":
            orders.tell(passes())
        elif what == "figures":
            orders.tell(_seconds_of_figures(config, parts, evaluation, Path(rest[0])))
        else:
            clock = Clock()
            actions[what]()
            orders.tell(clock.read())


def _maps(parts: Any, images: Any, labels: Any) -> None:
    """All layers' maps for two targets, as a run makes them: by Captum's class, a layer and target at a time."""
    import torch

    from cifar_exp.explain.layers import grad_cam

    parts.learner.model.eval()
    inputs = parts.normalize(torch.from_numpy(images))
    for layer in parts.explained.layers:
        for shift in (0, 1):
            targets = torch.from_numpy((labels + shift) % 10).to(inputs.device)
            grad_cam(parts.learner.model, layer.name, inputs, targets)


def _seconds_of_figures(config: ExperimentConfig, parts: Any, evaluation: Any, folder: Path) -> tuple[float, float]:
    """Seconds that the six figures of a default run take: 20 epochs, 10 images explained."""
    from cifar_exp import drawing, outputs, stages
    from cifar_exp.config import parse
    from cifar_exp.explain.faithfulness import Explanation
    from cifar_exp.run_dir import tables
    from cifar_exp.training.schedule import planned_learning_rates

    steps = 352 * 20
    planned = planned_learning_rates(config.scheduler, max_lr=0.1, total_steps=steps)
    rows = [
        {"step": i + 1, "epoch": i // 352 + 1, "learning_rate": rate, "loss": 1.0} for i, rate in enumerate(planned)
    ]
    tables.write_table(folder / "steps.csv", tables.STEPS_COLUMNS, rows)
    metrics = [
        {
            "epoch": epoch,
            **{f"{split}_{what}": 1 / epoch for split in ("train", "val") for what in ("loss", "accuracy")},
        }
        for epoch in range(1, 21)
    ]
    tables.write_table(folder / "metrics.csv", tables.METRICS_COLUMNS, metrics)
    ten = parse.changed(config, {"explain.images": 10, "explain.indices": None})
    indices = stages.choose_images_to_explain(ten, evaluation)
    explanation = Explanation(indices, stages.explain_images(ten, parts, evaluation, indices), tests=[])
    full = dataclasses.replace(parts, planned=planned)

    def write(figures: bool) -> tuple[float, float]:
        asked = parse.changed(ten, {"figures": figures, "epochs": 20})
        clock = Clock()
        drawing.draw_progress(asked, full, outputs.measure_schedule_use(asked, full, folder), folder, None)
        outputs.write_tables(full, evaluation, None, folder)
        outputs.write_gradcam(full, evaluation, explanation, folder)
        drawing.draw_augmentations(asked, full, folder, None)
        drawing.draw_evaluation(asked, full, evaluation, explanation, folder, None)
        return clock.read()

    write(True)  # imports fonts and the like
    without = write(False)
    made = write(True)
    return made[0] - without[0], made[1] - without[1]


def main() -> None:
    parser = arguments(__doc__, images=2048, cam_images=100, repeats=5, threads=0)
    parser.add_argument("override", nargs="*", help="config overrides of the product's side")
    options = parser.parse_args()
    threads = options.threads or None
    overrides = [
        *overrides_for_synthetic_data(),
        "data.limit_train=1000",
        f"data.limit_test={options.images}",
        f"explain.indices={list(range(options.cam_images))}".replace(" ", ""),
        f"explain.layers=[{','.join(CAM_LAYERS)}]",
        *([f"threads={threads}"] if threads else []),
        *options.override,
    ]
    report = Report(f"after_training {' '.join(options.override)}".strip(), threads)
    plain_times, product_times, maps, explained, figures = ([] for _ in range(5))
    with tempfile.TemporaryDirectory() as folder, Side(product_side, overrides, options.cam_images) as product:
        precision = product.ready
        with Side(plain_side, threads, options.images) as plain:
            for _ in range(options.repeats + 1):
                plain_times.append(plain.order("evaluate"))
                product_times.append(product.order("evaluate"))
        for _ in range(options.repeats + 1):
            maps.append(product.order("maps"))
        passes = product.order("passes")
        for _ in range(options.repeats):
            explained.append(product.order("explain"))
            figures.append(product.order("figures", folder))

    fast = precision == "bfloat16"
    report.add(
        Result(
            f"evaluation ({precision})",
            "images/s",
            [options.images / wall for wall, _ in product_times[1:]],
            [options.images / wall for wall, _ in plain_times[1:]],
            "plain loop",
            Limit("ratio", at_least=3.0) if fast else None,
        )
    )
    report.add(
        Result(
            "the same, processor time",
            "ms/image",
            [1e3 * processor / options.images for _, processor in product_times[1:]],
            [1e3 * processor / options.images for _, processor in plain_times[1:]],
            "plain loop",
            speed=False,
        )
    )
    what = f"Grad-CAM maps: {options.cam_images} images, {passes['layers']} layers, 2 targets"
    report.add(
        Result(
            f"{what}, forward and backward passes",
            "",
            [2 * passes["with gradients"]],
        )
    )
    report.add(
        Result(
            f"{what}, processor time",
            "s",
            [processor for _, processor in maps[1:]],
            speed=False,
        )
    )
    report.add(
        Result(
            f"the same with the deletion test ({passes['without']} forward passes more)",
            "s",
            [wall for wall, _ in explained],
        )
    )
    report.add(
        Result("six figures of a 20-epoch run", "s", [wall for wall, _ in figures], limit=Limit("measured", at_most=5))
    )
    report.add(Result("the same, processor time", "s", [processor for _, processor in figures]))
    report.write(options.csv)


if __name__ == "__main__":
    main()
