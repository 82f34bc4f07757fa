"""`cifar-exp compare`: verdicts about pairs of runs, printed tables, and files."""

import json
import os
import subprocess
import sys
from functools import partial

import pandas as pd
import pytest
from compare_runs import make_run, write_predictions
from PIL import Image

from cifar_exp.cli.commands import run_command
from cifar_exp.compare.result_tables import number_or_text, setting
from cifar_exp.errors import RequestError

main = partial(run_command, "compare")


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path, monkeypatch):
    """The command writes below the current folder by default."""
    monkeypatch.chdir(tmp_path)


def written(name, out="outputs/comparison"):
    return pd.read_csv(f"{out}/{name}", keep_default_na=False, na_values=[""])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--metric", "test_acuracy"], "no such measured column; did you mean test_accuracy?"),
        (["--metric", "device"], "is text, not a number"),
        (["--top", "0"], "--top 0: must be at least 1"),
        (["--baseline", "nowhere"], "--baseline nowhere: there is no such run"),
        (["--baseline", "run/status.json"], "is a file"),
        (["--baseline", "."], "not a run directory"),
        (["--baseline", "failed"], r"cannot be the baseline \(failed\); name a completed run"),
        (["--out", "run"], "is a run directory"),
        (["--out", "run/status.json"], "is a file"),
    ],
)
def test_wrong_requests(tmp_path, arguments, message):
    make_run(tmp_path / "run")
    make_run(tmp_path / "failed", state="failed")
    with pytest.raises(RequestError, match=message):
        main([".", *arguments])


def test_pairs_by_hand(tmp_path, capsys):
    """Discordant 8:0 gives p = 2/2^8, 3:1 gives p = 2 * 5/16 = 0.625; Holm doubles the smaller."""
    make_run(tmp_path / "base", "1" * 12 + "0" * 8, seed=0)
    make_run(tmp_path / "better", "1" * 20, seed=1)
    make_run(tmp_path / "noise", "0" + "1" * 14 + "0" * 5, seed=2)
    assert main([".", "--baseline", "base"]) == 0
    pairs = written("pairs.csv")
    expected = "run_a,run_b,n,both_correct,only_a,only_b,both_wrong,accuracy_difference,p_value,p_value_corrected"
    assert ",".join(pairs.columns) == expected
    assert pairs.to_numpy().tolist() == [
        ["base", "better", 20, 12, 0, 8, 0, 0.4, pytest.approx(2 / 2**8), pytest.approx(4 / 2**8)],
        ["base", "noise", 20, 11, 1, 3, 5, 0.1, pytest.approx(0.625), pytest.approx(0.625)],
    ]
    verdicts = dict(zip(written("comparison.csv")["run"], written("comparison.csv")["verdict"], strict=True))
    assert verdicts == {"base": "baseline", "better": "better (p = 0.016)", "noise": "within noise (p = 0.62)"}
    assert "corrected for 2 comparisons (Holm)" in capsys.readouterr().out


def test_baseline_from_elsewhere_is_added(tmp_path):
    make_run(tmp_path / "here/a", "1111")
    make_run(tmp_path / "there/b", "1000", seed=1)
    assert main(["here", "--baseline", "there/b", "--top", "1"]) == 0
    assert list(written("comparison.csv")["verdict"]) == ["within noise (p = 0.25)", "baseline"]


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        (lambda run: (run / "predictions.csv").unlink(), "no predictions.csv"),
        (lambda run: write_predictions(run, [True, False, False]), "2 wrong predictions, but the summary 3"),
        (lambda run: write_predictions(run, [True, False, False, False], source="else"), "other test images"),
        (lambda run: write_predictions(run, [True] * 2 + [False] * 3), r"other test images (5, the baseline has 4)"),
        (lambda run: cut(run / "predictions.csv", 3), "cut off or damaged"),
        (lambda run: (run / "predictions.csv").write_text("index,correct\n0,True\n"), "has no column source"),
        (lambda run: (run / "predictions.csv").write_bytes(b"\xff\x00"), "predictions.csv"),
    ],
)
def test_the_reason_why_runs_cannot_be_compared_is_reported(tmp_path, change, verdict):
    make_run(tmp_path / "base", "1111")
    change(make_run(tmp_path / "other", "1000", seed=1))
    assert main(["."]) == 0
    found = written("comparison.csv")["verdict"].iloc[1]
    assert found.startswith("not comparable: ")
    assert verdict in found
    assert written("pairs.csv")["n"].isna().all()


def cut(path, letters):
    path.write_text(path.read_text()[:-letters])


# --- output --------------------------------------------------------------------------------------------
def test_foreign_files_are_not_overwritten(tmp_path):
    make_run(tmp_path / "run")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/groups.csv").write_text("precious")
    with pytest.raises(RequestError, match=r"--out mine: groups.csv in it was not written by this command"):
        main(["run", "--out", "mine"])
    assert (tmp_path / "mine/groups.csv").read_text() == "precious"
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["groups.csv"]


def test_an_earlier_comparison_is_replaced_without_stale_figures(tmp_path):
    make_run(tmp_path / "a", max_lr=0.1)
    make_run(tmp_path / "b", max_lr=0.2)
    assert main(["."]) == 0
    assert (tmp_path / "outputs/comparison/figures/line.png").exists()
    assert main(["a"]) == 0
    assert not (tmp_path / "outputs/comparison/figures/line.png").exists()
    mark = json.loads((tmp_path / "outputs/comparison/comparison.json").read_text())
    assert mark["baseline"] == "a"
    assert mark["files"] == [
        "comparison.csv",
        "groups.csv",
        "group_pairs.csv",
        "pairs.csv",
        "figures/curves.png",
        "comparison.html",
    ]


def test_top_limits_the_printed_rows_not_the_csv(tmp_path, capsys):
    for seed in range(5):
        make_run(tmp_path / str(seed), "1" * seed + "0" * (5 - seed), seed=seed)
    assert main([".", "--top", "2", "--format", "csv"]) == 0
    out, err = capsys.readouterr()
    assert [line.split(",")[0] for line in out.splitlines()] == ["run", "4", "3"]
    assert "Written to" in err
    assert len(written("comparison.csv")) == 5
    assert len(written("pairs.csv")) == 1


@pytest.mark.parametrize(("keys", "of_runs", "of_groups"), [(12, 12, 12), (30, 11, 12)])  # runs have the seed, too
def test_a_printed_table_has_few_settings(tmp_path, capsys, keys, of_runs, of_groups):
    names = [f"k{number:02}" for number in range(keys)]
    for run in range(2):
        for seed in range(2):
            make_run(tmp_path / f"{run}{seed}", seed=seed, **dict.fromkeys(names, run))
    assert main(["."]) == 0
    out = capsys.readouterr().out
    tables = [line.split() for line in out.splitlines() if " k09 " in line]
    for words, shown in zip(tables, (of_groups, of_runs), strict=True):
        assert [word for word in words if word[0] == "k"] == names[:shown]
    assert ("19 more settings that differ are in comparison.csv." in out) == (keys == 30)
    assert {f"config.{name}" for name in names} < set(written("comparison.csv"))


def test_markdown_is_a_table(tmp_path, capsys):
    make_run(tmp_path / "a|b")
    assert main([".", "--format", "markdown"]) == 0
    assert r"| * | a\|b | 75.00% |" in capsys.readouterr().out


@pytest.mark.parametrize(("learning_rates", "figure"), [((0.1, 0.2), "heat_map"), ((0.1,), "line")])
def test_figures_by_varied_keys(tmp_path, learning_rates, figure):
    for max_lr in learning_rates:
        for epochs in (2, 4):
            for seed in (0, 1):
                make_run(tmp_path / f"{max_lr}-{epochs}-{seed}", "1110", max_lr=max_lr, epochs=epochs, seed=seed)
    assert main(["."]) == 0
    made = {path.stem for path in (tmp_path / "outputs/comparison/figures").iterdir()}
    assert made == {"curves", figure, "fixed_and_broken"}
    with Image.open(tmp_path / f"outputs/comparison/figures/{figure}.png") as image:
        assert min(image.size) > 300


def test_needs_no_torch_and_survives_a_closed_pipe(tmp_path):
    make_run(tmp_path / "a")
    make_run(tmp_path / "b", max_lr=0.2)
    code = "import sys; from cifar_exp.cli.main import main; code = main(['compare', '.'])"
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", f"{code}; assert 'torch' not in sys.modules; sys.exit(code)"],
        stdout=write,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (0, b"")


def test_no_page_on_request_and_an_older_one_is_removed(tmp_path, capsys):
    make_run(tmp_path / "run")
    assert main(["run", "--out", "out"]) == 0
    assert (tmp_path / "out" / "comparison.html").exists()
    assert "comparison.html" in capsys.readouterr().out
    assert main(["run", "--out", "out", "--no-page"]) == 0
    assert not (tmp_path / "out" / "comparison.html").exists()
    assert "comparison.html" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "value"),
    [("0.1", 0.1), ("1e-05", 1e-5), ("-3", -3), ("20", 20), ("0010", "0010"), ("1_000", "1_000"), ("nan", "nan"),
     ("inf", "inf"), ("[1, 2]", "[1, 2]"), ("", None), ("12345678901234567890", 12345678901234567890.0), (" 5", " 5")],
)  # fmt: skip
def test_numbers_are_numbers_and_names_stay(text, value):
    assert number_or_text(text) == value
    assert type(number_or_text(text)) is type(value)
    assert setting(text) == ("null" if text == "" else value)
