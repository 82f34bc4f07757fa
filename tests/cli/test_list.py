"""``cifar-exp list``, notes and tags, and runs named by a part of their path."""

import io
import json
from pathlib import Path

import pandas as pd
import pytest
from compare_runs import make_run
from composing import TINY, composed

from cifar_exp.cli.main import main
from cifar_exp.cli.run_names import find_run
from cifar_exp.config.parse import as_containers
from cifar_exp.config.resolved import config_hash
from cifar_exp.errors import RequestError


@pytest.fixture
def outputs(tmp_path, monkeypatch):
    """Three completed runs and one in progress, started at 2, 4, 1 and 3 o'clock."""
    monkeypatch.chdir(tmp_path)
    runs = {
        "a/10-00-00": {"max_lr": 0.2, "correct": "1111", "note": "too high?", "tags": "['lr', 'first']"},
        "a/10-30-00": {"epochs": 3, "correct": "1000"},
        "sweeps/b/1": {"correct": "1100"},
        "sweeps/b/10": {"state": "failed", "error": "too \x1b[31m large"},
    }
    for hour, (path, made) in zip((2, 4, 1, 3), runs.items(), strict=True):
        directory = make_run(tmp_path / "outputs" / path, **made)
        status = json.loads((directory / "status.json").read_text())
        status["started_at"] = f"2026-01-01T0{hour}:00:00+00:00"
        (directory / "status.json").write_text(json.dumps(status))
    return tmp_path / "outputs"


def test_runs_are_listed_newest_first_with_what_sets_them_apart(outputs, capsys):
    assert main(["list"]) == 0
    header, *rows = capsys.readouterr().out.splitlines()
    assert header.split() == [
        "run", "name", "state", "epochs", "val_accuracy", "test_accuracy", "differs", "note", "tags", "age"
    ]  # fmt: skip
    assert [row.split()[0] for row in rows] == [
        f"outputs/{name}" for name in ("a/10-30-00", "sweeps/b/10", "a/10-00-00", "sweeps/b/1")
    ]
    assert "25.00%  epochs=3  " in rows[0]
    assert "max_lr=0.2  too high?  lr, first " in rows[2]
    assert rows[3].rstrip().endswith(" d")


@pytest.mark.parametrize(
    ("column", "first"),
    [
        ("test_accuracy", "a/10-00-00"),
        ("test_loss", "a/10-00-00"),
        ("started_at", "a/10-30-00"),
        ("state", "a/10-00-00"),
        ("max_lr", "a/10-30-00"),
    ],
)
def test_csv_and_json_are_the_same_table_in_the_order_asked_for(outputs, capsys, column, first):
    main(["list", "outputs", "--sort", column, "--format", "csv"])
    from_csv = pd.read_csv(io.StringIO(capsys.readouterr().out))
    main(["list", "outputs", "--sort", column, "--format", "json"])
    from_json = pd.DataFrame(json.loads(capsys.readouterr().out))
    assert from_csv["run"].tolist() == from_json["run"].tolist()
    assert from_csv["run"].tolist()[0] == f"outputs/{first}"
    assert from_csv["test_accuracy"].tolist() == pytest.approx(from_json["test_accuracy"].tolist(), nan_ok=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--sort", "test_acuracy"], "did you mean 'test_accuracy'?"),
        (["nowhere"], "nowhere"),
        (["outputs/a/10-00-00/summary.csv"], "is a file"),
    ],
)
def test_a_wrong_request_is_refused(outputs, capsys, arguments, message):
    assert main(["list", *arguments]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("named", "found"),
    [
        ("latest", "a/10-30-00"),
        ("10-30", "a/10-30-00"),
        ("a/10-00", "a/10-00-00"),
        ("b/1", "sweeps/b/1"),
        ("outputs/sweeps/b/10", "sweeps/b/10"),
        ("outputs/a/10-3", "a/10-30-00"),
    ],
)
def test_a_run_is_found_by_a_part_of_its_path(outputs, named, found):
    assert find_run(Path(named)) == Path("outputs", found)


def test_a_name_that_fits_several_runs_or_none_is_refused(outputs, capsys):
    with pytest.raises(RequestError, match="10: matches several runs: outputs/a/10-00-00, outputs/a/10-30-00"):
        find_run(Path("a/10"))
    assert main(["report", "nothing"]) == 2
    assert "nothing: there is no such run" in capsys.readouterr().err
    assert find_run(Path("x" * 5000)) == Path("x" * 5000)


def test_latest_without_any_run_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "outputs").mkdir()
    assert main(["report", "latest"]) == 2
    assert "there is no run under outputs/" in capsys.readouterr().err


def test_note_and_tags_are_no_part_of_the_experiment(outputs, capsys):
    config = composed(*TINY)
    noted = composed(*TINY, "note='lr, again'", "tags=[a,b]")
    assert (noted.note, noted.tags) == ("lr, again", ["a", "b"])
    assert config_hash(noted) == config_hash(config)
    of_0_1_0 = {key: value for key, value in as_containers(config).items() if key not in ("note", "tags")}
    assert config_hash(of_0_1_0) == config_hash(config)

    main(["compare", "outputs", "--no-page"])
    lines = capsys.readouterr().out.splitlines()
    header, *rows = lines[next(place for place, line in enumerate(lines) if line.split()[:1] == ["run"]) :]
    assert header.split()[:5] == ["run", "epochs", "max_lr", "note", "tags"]
    assert any("too high?  lr, first" in row for row in rows)
