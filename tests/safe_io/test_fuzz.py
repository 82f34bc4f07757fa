"""Malformed input by the thousand: whatever stands in a file, the answer is a value or the error that a user can read.

In the ordinary suite a sample; `make fuzz` tries 150 times as many (CIFAR_EXP_FUZZ is that factor), and counts them.
"""

import csv
import io
import json
import shutil
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
import torch
from composing import TINY, composed
from fuzzing import FACTOR, FOLDER, SEEDS, VALUES, bitten, fuzz, put, tried
from hypothesis import strategies as st

from cifar_exp.cli.commands import run_command
from cifar_exp.compare.comparison import compare
from cifar_exp.compare.discover import find_runs, read_runs
from cifar_exp.compare.pairs import UnreadableError, read_predictions
from cifar_exp.config.parse import as_containers
from cifar_exp.config.resolved import load_saved, saved_hash, to_yaml
from cifar_exp.errors import RequestError
from cifar_exp.run_dir import checkpoint, run_status, tables
from cifar_exp.run_dir.saved_run import open_run
from cifar_exp.safe_io.untrusted import spreadsheet_safe, spreadsheet_text

compare_main = partial(run_command, "compare")

CONFIG = composed(*TINY)
KEYS = """
name seed epochs batch_size max_lr label_smoothing device precision memory_format compile deterministic threads trust
figures model model._target_ model.width model.new data data._target_ data.image_size data.limit_train
data.validation_fraction data.workers data.cache data.url augment augment.transforms augment.transforms.crop
augment.transforms.crop._target_ augment.transforms.crop.p optimizer optimizer._target_ optimizer.momentum
optimizer.betas scheduler scheduler.interval scheduler._target_ scheduler.pct_start scheduler.milestones evaluation
evaluation.weights evaluation.batch_size explain explain.indices explain.layers checkpoint checkpoint.best
checkpoint.every_epochs new
"""


@pytest.fixture(autouse=True, scope="session")
def report(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    capture = request.config.pluginmanager.getplugin("capturemanager")
    if FACTOR > 1 and capture is not None:
        with capture.global_and_fixture_disabled():
            print()
            for name, count in sorted(tried.items()):
                print(f"{count:>8,}  {name}")
            print(f"{tried.total():>8,}  inputs in all")


@pytest.fixture(autouse=True, scope="module")
def folder() -> Iterator[None]:
    FOLDER.mkdir(exist_ok=True)
    yield
    shutil.rmtree(FOLDER)


# --- configs --------------------------------------------------------------------------------------------


@fuzz(20, st.lists(st.tuples(st.sampled_from(KEYS.split()), VALUES), min_size=1, max_size=3))
def test_saved_configs_with_odd_values(changes):
    config = as_containers(CONFIG)
    for path, value in changes:
        node, keys = config, path.split(".")
        for key in keys[:-1]:
            node = node.setdefault(key, {}) if isinstance(node, dict) else {}
        if isinstance(node, dict):
            node[keys[-1]] = value
    path = put("config_resolved.yaml", json.dumps(config))  # JSON is YAML
    with suppress(RequestError):
        load_saved(path)
    with suppress(RequestError):
        saved_hash(path)


GOOD_YAML = to_yaml(CONFIG).encode()


@fuzz(30, SEEDS)
def test_saved_configs_that_are_damaged(seed):
    put("bitten/config_resolved.yaml", bitten(GOOD_YAML, seed))
    put("bitten/status.json", '{"state": "completed"}')
    with suppress(RequestError):
        open_run(FOLDER / "bitten")


# --- status ---------------------------------------------------------------------------------------------

STATUS = {
    "state": "completed",
    "error": None,
    "started_at": "2026-01-01T00:00:00+00:00",
    "finished_at": None,
    "epochs_completed": 3,
    "config_hash": "0" * 64,
    "resumed_at": [],
}


def read_status(content: bytes | str) -> None:
    put("status/status.json", content)
    with suppress(OSError, ValueError):
        run_status.read_status(FOLDER / "status")
    with suppress(RequestError):
        run_status.job_state(FOLDER / "status")
    (row,) = read_runs([FOLDER / "status"])[["state", "error", "problem"]].to_numpy().tolist()
    assert row[0] in (*run_status.STATES, "unknown")
    assert row[1] is None or isinstance(row[1], str)


@fuzz(60, st.dictionaries(st.sampled_from(list(STATUS)), VALUES, max_size=3))
def test_status_with_odd_values(changes):
    read_status(json.dumps(STATUS | changes))


@fuzz(60, SEEDS)
def test_status_that_is_damaged(seed):
    read_status(bitten(json.dumps(STATUS, indent=2).encode(), seed))


# --- tables ---------------------------------------------------------------------------------------------


def csv_of(columns: tuple[str, ...], rows: list[list[Any]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([columns, *rows])
    return text.getvalue().encode()


PREDICTIONS = csv_of(tables.PREDICTIONS_COLUMNS, [[n, f"x[{n}]", "cat", "dog", 0.5, False] for n in range(6)])
METRICS = csv_of(tables.METRICS_COLUMNS, [[n, 5 * n, 0.1, 1 / n, 0.5, "", 0.5, "", "", 1, 1, 1] for n in range(1, 5)])
SUMMARY = csv_of(
    (*tables.SUMMARY_COLUMNS, "config.seed", "config.name"), [["run", "completed", 3, *["0.5"] * 25, 0, "a"]]
)


@fuzz(80, SEEDS)
def test_predictions_that_are_damaged(seed):
    put("predictions.csv", bitten(PREDICTIONS, seed))
    with suppress(UnreadableError):
        read_predictions(FOLDER)


@fuzz(60, SEEDS)
def test_metrics_that_are_damaged(seed):
    path = put("metrics.csv", bitten(METRICS, seed))
    with suppress(OSError, ValueError):
        tables.read_table(path)
    with suppress(OSError, ValueError):
        tables.keep_epochs(path, tables.METRICS_COLUMNS, 2)
        tables.metrics_rows(path)


@fuzz(15, SEEDS, SEEDS)
def test_summaries_that_are_damaged(seed, other):
    for number, one in enumerate((seed, other)):
        put(f"summaries/{number}/summary.csv", bitten(SUMMARY, one))
        put(f"summaries/{number}/status.json", bitten(json.dumps(STATUS).encode(), one) if one % 3 == 0 else "{}")
    with suppress(RequestError):
        compare(read_runs(find_runs([FOLDER / "summaries"])[0]), "test_accuracy")


NAMES = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\x00"), min_size=1)


@fuzz(60, NAMES, NAMES.filter(lambda name: name not in ("label", "confidence")))
def test_names_are_read_back_as_they_were(name, column):
    assert spreadsheet_text(spreadsheet_safe(name)) == name
    tables.write_table(FOLDER / "names.csv", ("label", "confidence", column), [{"label": name, "confidence": 0.5}])
    table = tables.read_table(FOLDER / "names.csv")
    assert table["label"].tolist() == [name]
    assert table.columns.tolist()[2] == column


# --- checkpoints ----------------------------------------------------------------------------------------


def _good_checkpoint() -> bytes:
    buffer = io.BytesIO()
    torch.save({"model": {"weight": torch.zeros(3)}, "epoch": 1, "class_names": ["a", "b"]}, buffer)
    return buffer.getvalue()


CHECKPOINT = _good_checkpoint()


@fuzz(40, SEEDS)
def test_checkpoints_that_are_damaged(seed):
    with suppress(RequestError):
        checkpoint.load(put("last.pt", bitten(CHECKPOINT, seed)), torch.device("cpu"))


# --- folders --------------------------------------------------------------------------------------------

FILES = {
    "status.json": json.dumps(STATUS).encode(),
    "summary.csv": SUMMARY,
    "metrics.csv": METRICS,
    "predictions.csv": PREDICTIONS,
    "config_resolved.yaml": GOOD_YAML,
}
PLACES = st.lists(
    st.tuples(
        st.sampled_from(["a", "a/b", "a/1", "a/10", ".hidden", "c d", "é\u202e", "x\ny", "checkpoints", "a/figures"]),
        st.sampled_from(list(FILES)),
        st.sampled_from(["whole", "bitten", "folder", "link", "loop", "nothing"]),
        SEEDS,
    ),
    max_size=8,
)


@fuzz(4, PLACES)
def test_folders_of_all_kinds_are_compared(places):
    root = FOLDER / "tree"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    for place, name, kind, seed in places:
        path = root / place / name
        with suppress(FileExistsError, NotADirectoryError, OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            if kind in ("whole", "bitten"):
                path.write_bytes(FILES[name] if kind == "whole" else bitten(FILES[name], seed))
            elif kind == "folder":
                path.mkdir()
            elif kind in ("link", "loop"):
                path.symlink_to(root if kind == "loop" else "nowhere")
    with suppress(RequestError):
        found, _, _ = find_runs([root])
        compare(read_runs(found), "test_accuracy")
    if len(places) % 4 == 0:
        with suppress(RequestError):
            compare_main([str(root), "--out", str(FOLDER / "out")])
