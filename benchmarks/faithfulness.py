"""How often the test of Grad-CAM gives each verdict where the answer is known, and what the infill changes.

    python benchmarks/faithfulness.py RUN                 # a completed run; its checkpoint is measured
    python benchmarks/faithfulness.py RUN --repeats 20    # fewer repetitions

Each repetition draws other test images. Maps that cannot know what the prediction depends on are those of untrained
networks and random blobs: "marks" must come in at most 5 % of the repetitions. An occlusion map measures directly what
the prediction depends on: "marks" must come always.
"""

import argparse
import copy
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cifar_exp.build import build
from cifar_exp.config.schema import ExplainConfig
from cifar_exp.explain import faithfulness
from cifar_exp.explain.gradcam import Explainer, most_attended
from cifar_exp.explain.infill import INFILLS
from cifar_exp.explain.layers import choose_layers
from cifar_exp.explain.verdict import MARKS, UNCLEAR, WRONG_PLACE, verdict
from cifar_exp.run_dir import checkpoint
from cifar_exp.run_dir.saved_run import open_run
from cifar_exp.stages import measure

Images, Classes, Masks = NDArray[np.uint8], NDArray[np.int64], NDArray[np.bool_]
MapMaker = Callable[[Images, Classes, int], Masks]
PATCH, STRIDE = 8, 4  # pixels, of the occlusion map


def masks_of(heat: NDArray[np.float32]) -> Masks:
    """The fifth of the pixels with the most heat (N, H, W)."""
    return most_attended(heat, heat)


def blobs(images: Images, classes: Classes, seed: int) -> Masks:
    """Smooth random maps: noise on a 6 x 6 grid, enlarged."""
    noise = np.random.default_rng(seed).standard_normal((len(images), 1, 6, 6))
    smooth = torch.nn.functional.interpolate(torch.from_numpy(noise), images.shape[1:3], mode="bicubic")
    return masks_of(smooth.squeeze(1).float().numpy())


def untrained(explainer: Explainer, layer: str) -> MapMaker:
    """Grad-CAM maps of networks that were never trained."""

    def maps(images: Images, classes: Classes, seed: int) -> Masks:
        torch.manual_seed(seed)
        model = copy.deepcopy(explainer.model)
        for module in model.modules():
            if callable(reset := getattr(module, "reset_parameters", None)):
                reset()
        return replace(explainer, model=model).maps(images, classes, layer).attended

    return maps


def occlusion(explainer: Explainer) -> MapMaker:
    """The drop in probability with a patch hidden, summed over the patches that hide a pixel."""

    def maps(images: Images, classes: Classes, seed: int) -> Masks:
        heat = np.zeros(images.shape[:3], np.float32)
        before = explainer.probabilities(images, classes)
        for top in range(-STRIDE, images.shape[1], STRIDE):
            for left in range(-STRIDE, images.shape[2], STRIDE):
                hidden = np.zeros(images.shape[:3], bool)
                hidden[:, max(top, 0) : top + PATCH, max(left, 0) : left + PATCH] = True
                drop = before - explainer.probabilities(images, classes, hidden)
                heat += hidden * drop[:, None, None].astype(np.float32)
        return masks_of(heat)

    return maps


def repeated(
    explainer: Explainer, images: Images, labels: Classes, predictions: Classes, maps: MapMaker, repeats: int, n: int
) -> tuple[Counter[str | None], list[float]]:
    """Verdicts and mean differences of repetitions, each on other images."""
    verdicts: Counter[str | None] = Counter()
    differences = []
    for seed in range(repeats):
        rows = faithfulness.sample(labels, predictions, n, seed)
        effect = faithfulness.measure_effect(
            explainer, images[rows], predictions[rows], maps(images[rows], predictions[rows], seed), seed
        )
        verdicts[verdict(effect.low, effect.high)] += 1
        differences.append(effect.difference)
    return verdicts, differences


def line(name: str, found: tuple[Counter[str | None], list[float]]) -> None:
    """Print a row of the calibration table."""
    verdicts, differences = found
    n = len(differences)
    shares = " | ".join(f"{100 * verdicts[one] / n:.0f} %" for one in (MARKS, UNCLEAR, WRONG_PLACE))
    print(f"| {name} | {n} | {np.mean(differences):.3f} | {shares} |", flush=True)


def compare_infills(explainer: Explainer, test: Any, evaluation: Any, layers: Any, n: int) -> None:
    """Print every layer's verdict under each infill."""
    rows = faithfulness.sample(evaluation.labels, evaluation.predictions, n, 0)
    print(f"\n| layer | {' | '.join(INFILLS)} |\n|---|{'---|' * len(INFILLS)}")
    tests = {}
    for infill in INFILLS:
        explained = replace(explainer, infill=infill)
        tests[infill] = faithfulness.measure(
            explained, test.images[rows], evaluation.labels[rows], evaluation.predictions[rows], layers, 0
        )
    for position, layer in enumerate(layers):
        cells = []
        for infill in INFILLS:
            one = tests[infill][position]
            assert one.effect is not None
            cells.append(f"{one.effect.difference:.3f} ({one.effect.low:.3f} to {one.effect.high:.3f}), {one.verdict}")
        correlation = tests["blur"][position].correlation
        name = f"{layer.name} ({layer.height}x{layer.width}), n = {len(rows)}, rank correlation {correlation:.2f}"
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--repeats", type=int, default=100)
    parser.add_argument("--occlusion-repeats", type=int, default=30, help="82 forward passes for each image")
    parser.add_argument("--images", type=int, default=200, help="in the tables of verdicts")
    parser.add_argument("--drawn", type=int, default=100, help="images in each repetition")
    options = parser.parse_args()
    run = open_run(options.run)
    config = run.config
    parts = build(config)
    state = checkpoint.load(run.path / "checkpoints" / "last.pt", parts.compute.device)
    model = parts.learner.model
    model.load_state_dict(state["model"])
    model.eval()
    test = parts.splits.test
    one = parts.normalize(torch.from_numpy(test.images[:1]))
    layers = choose_layers(model, one, ExplainConfig(minimum_map=2)).layers
    clock = time.perf_counter()
    evaluation = measure(config, parts, test)
    seconds = time.perf_counter() - clock
    explainer = Explainer(model, parts.compute, parts.normalize, config.evaluation.batch_size, "blur")
    rows = faithfulness.sample(evaluation.labels, evaluation.predictions, options.images, 0)
    clock = time.perf_counter()
    faithfulness.measure(explainer, test.images[rows], evaluation.labels[rows], evaluation.predictions[rows], layers, 0)
    tested = time.perf_counter() - clock
    print(
        f"accuracy {evaluation.accuracy:.3f}; evaluation of {len(test):,} images {seconds:.2f} s, test {tested:.2f} s"
    )
    compare_infills(explainer, test, evaluation, layers, options.images)
    print("\n| maps | repetitions | mean difference | marks | no evidence | wrong place |\n|---|---|---|---|---|---|")
    many = (explainer, test.images, evaluation.labels, evaluation.predictions)
    line("random blobs", repeated(*many, blobs, options.repeats, options.drawn))
    for layer in layers:
        found = repeated(*many, untrained(explainer, layer.name), options.repeats, options.drawn)
        line(f"{layer.name} of untrained networks", found)
    line("occlusion", repeated(*many, occlusion(explainer), options.occlusion_repeats, options.drawn))


if __name__ == "__main__":
    main()
