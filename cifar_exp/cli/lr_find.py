"""``cifar-exp lr-find``: an LR range test of the composed experiment, its files and a sweep to try next."""

import argparse
import logging
import math
import shlex

from cifar_exp import outputs
from cifar_exp.build import build, describe
from cifar_exp.config.compose import compose_config
from cifar_exp.config.parse import changed
from cifar_exp.config.resolved import to_yaml
from cifar_exp.errors import DONE, FAILED, RequestError
from cifar_exp.reports.figures.lr_range_test import draw_lr_range_test
from cifar_exp.run_dir import tables
from cifar_exp.run_dir.saved_run import new_output
from cifar_exp.safe_io import atomic
from cifar_exp.training import lr_range_test
from cifar_exp.training.lr_range_test import FIGURE, FILE, LRRange

log = logging.getLogger(__name__)

_FEWEST_STEPS = 3 * lr_range_test.FIRST_STEPS
_MOST_STEPS = 1_000_000


def main(options: argparse.Namespace) -> int:
    """Run the command; returns 0 with a suggestion, 1 without."""
    lr_range = LRRange(options.min_lr, options.max_lr, options.steps)
    _check(lr_range)
    overrides = options.overrides + ([f"trust=[{','.join(options.trust)}]"] if options.trust else [])
    config = compose_config(overrides, config_dir=options.config_dir)
    out_dir = new_output(options.out, "lr_find")
    # The test does not use max_lr; with `auto`, `build` would run a test of its own. Grad-CAM is not needed.
    unused = {"max_lr": lr_range.low, "compile": False, "explain.layers": [], "explain.indices": None}
    parts = build(changed(config, unused))
    log.info(describe(config.name, parts)[0].rsplit(";", 1)[0])
    text = "LR range test: up to %d steps from %g to %g (%d steps per epoch)"
    log.info(text, lr_range.steps, lr_range.low, lr_range.high, parts.steps_per_epoch)
    result = lr_range_test.run_lr_range_test(
        config, parts.learner.model, parts.batches, parts.learner.training_step, lr_range
    )
    suggestion = result.suggest()
    out_dir.mkdir(parents=True)
    atomic.write_text(out_dir / "config_resolved.yaml", to_yaml(config))
    outputs.write_environment(parts, out_dir)
    tables.write_table(out_dir / FILE, tables.LR_FIND_COLUMNS, result.rows())
    draw_lr_range_test(result, config.name, out_dir / FIGURE)
    last = result.learning_rates[-1]
    how = f"stopped at {last:.2g}, where the loss had diverged" if result.diverged else f"completed, up to {last:.2g}"
    log.info("%d of %d steps: %s", len(result.losses), lr_range.steps, how)
    if suggestion.max_lr is None:
        log.info("No suggestion. %s", suggestion.reason)
    else:
        log.info("Suggested: max_lr=%g. %s", suggestion.max_lr, suggestion.reason)
        for caution in suggestion.cautions:
            log.info(caution)
        command = sweep_command(overrides, options.config_dir, suggestion.max_lr)
        log.info("Compare it with its neighbours:\n  %s", command)
    log.info("Written to %s: %s, %s", out_dir, FILE, FIGURE)
    return DONE if suggestion.max_lr is not None else FAILED


def _check(lr_range: LRRange) -> None:
    for name, value in (("--min-lr", lr_range.low), ("--max-lr", lr_range.high)):
        if not (math.isfinite(value) and value > 0):
            raise RequestError(f"{name} {value}: must be a finite number above 0")
    if lr_range.low >= lr_range.high:
        raise RequestError(f"--min-lr {lr_range.low:g}: must be below --max-lr, which is {lr_range.high:g}")
    if not _FEWEST_STEPS <= lr_range.steps <= _MOST_STEPS:
        raise RequestError(f"--steps {lr_range.steps}: must be between {_FEWEST_STEPS} and {_MOST_STEPS}")


def sweep_command(overrides: list[str], config_dir: str | None, max_lr: float) -> str:
    """The command of a sweep around a suggestion, quoted for a shell."""
    kept = [override for override in overrides if override.split("=")[0].lstrip("+") != "max_lr"]
    values = ",".join(f"{value:g}" for value in lr_range_test.neighbours(max_lr))
    folder = ["--config-dir", config_dir] if config_dir else []
    return shlex.join(["cifar-exp", "-m", *folder, *kept, f"max_lr={values}"])
