"""`cifar-exp compare` on runs whose every number is known."""

import os
from functools import partial

import pandas as pd
import pytest
from compare_runs import make_run

from cifar_exp.cli.commands import run_command
from cifar_exp.compare.comparison import compare
from cifar_exp.compare.discover import find_runs, read_runs
from cifar_exp.errors import RequestError
from cifar_exp.run_dir import run_status
from cifar_exp.run_dir.read import read_run
from cifar_exp.run_dir.run_status import job_state
from cifar_exp.run_dir.saved_run import open_run

main = partial(run_command, "compare")


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path, monkeypatch):
    """The command writes below the current folder by default."""
    monkeypatch.chdir(tmp_path)


def compared(*paths, metric=None, baseline=None):
    directories, _, _ = find_runs(list(paths))
    return compare(read_runs(directories), metric, None if baseline is None else str(baseline))


def written(name, out="outputs/comparison"):
    return pd.read_csv(f"{out}/{name}", keep_default_na=False, na_values=[""])


# --- finding and reading -------------------------------------------------------------------------------
def test_finds_single_swept_nested_moved_and_linked_runs(tmp_path):
    make_run(tmp_path / "one")
    for job in (0, 2, 10):
        make_run(tmp_path / "deep/er/sweep" / str(job))
    make_run(tmp_path / "one/reproduction")
    make_run(tmp_path / "one/figures/not_looked_for")
    make_run(tmp_path / ".hidden/run")
    (tmp_path / "deep/loop").symlink_to(tmp_path)
    (tmp_path / "again").symlink_to(tmp_path / "one")
    (tmp_path / "one").rename(tmp_path / "moved")
    found, _, remarks = find_runs([tmp_path, tmp_path / "moved"])
    names = [path.relative_to(tmp_path).as_posix() for path in found]
    assert names == ["deep/er/sweep/0", "deep/er/sweep/2", "deep/er/sweep/10", "moved", "moved/reproduction"]
    assert remarks == []
    assert list(read_runs(found)["run"]) == names, "the path as it is now, not the one in summary.csv"


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("nowhere", "nowhere: no such folder"),
        ("run/summary.csv", "run/summary.csv: is a file; name its run directory"),
        ("empty", "empty: no run found; a run directory has status.json or summary.csv"),
    ],
)
def test_wrong_paths(tmp_path, path, message):
    make_run(tmp_path / "run")
    (tmp_path / "empty").mkdir()
    with pytest.raises(RequestError, match=message):
        main([path])
    assert not (tmp_path / "outputs").exists()


def test_a_path_without_runs_gets_a_remark(tmp_path, capsys):
    make_run(tmp_path / "run")
    (tmp_path / "empty").mkdir()
    assert main(["run", "empty"]) == 0
    assert "No run under empty." in capsys.readouterr().out


def test_damaged_summaries_are_listed_with_their_problems(tmp_path, capsys):
    damages = {
        "last line is cut off": lambda text: text[: len(text) // 2],
        "is cut off": lambda text: text[:-2],
        "has no row below": lambda text: text.splitlines()[0] + "\n",
        "is empty": lambda text: "",
        "has more than one row": lambda text: text + text.splitlines()[1] + "\n",
        "cannot be read": lambda text: text.replace("2,", '2,"', 1),
    }
    make_run(tmp_path / "good")
    for problem, damage in damages.items():
        bad = make_run(tmp_path / problem) / "summary.csv"
        bad.write_text(damage(bad.read_text()))
    assert main(["."]) == 0
    rows = written("comparison.csv").set_index("run")
    for problem in damages:
        assert rows.loc[problem, "problem"].startswith("summary.csv: ")
        assert problem in rows.loc[problem, "problem"]
        assert pd.isna(rows.loc[problem, "group"])
    assert "completed: summary.csv" in capsys.readouterr().out


def test_a_damaged_status_is_reported(tmp_path):
    (make_run(tmp_path / "run") / "status.json").write_text('{"state": "compl')
    frame = read_runs([tmp_path / "run"])
    assert frame["problem"].iloc[0].startswith("status.json: cannot be read")


# --- what differs, groups, order -----------------------------------------------------------------------
def test_only_keys_that_can_change_the_result_count_as_differences(tmp_path):
    make_run(tmp_path / "a", name="a", threads=1, data__cache="/x", figures=True, explain__images=1, max_lr=0.1)
    make_run(tmp_path / "b", name="b", threads=2, data__cache="/y", figures=False, explain__images=2, max_lr=0.2)
    assert compared(tmp_path).differing == ["config.max_lr"]


def test_threads_differ_where_time_is_compared(tmp_path):
    make_run(tmp_path / "a", threads=1, measured={"train_seconds": 9.0})
    make_run(tmp_path / "b", threads=2, measured={"train_seconds": 5.0})
    comparison = compared(tmp_path, metric="train_seconds")
    assert comparison.differing == ["config.threads"]
    assert list(comparison.runs["label"]) == ["b", "a"], "fewer seconds are better"


def test_an_option_is_shown_by_its_name(tmp_path):
    make_run(tmp_path / "a")
    make_run(tmp_path / "b", model__name="resnet18", model___target_="cifar_exp.models.resnet18")
    assert compared(tmp_path).differing == ["config.model.name"]


def test_group_statistics_by_hand(tmp_path, capsys):
    for seed, correct in enumerate(("11111111", "11111110", "11110000")):
        make_run(tmp_path / f"a{seed}", correct, seed=seed, max_lr=0.1)
    make_run(tmp_path / "b0", "11100000", seed=0, max_lr=0.2)
    make_run(tmp_path / "b1", "", state="diverged", error="the loss became nan", seed=1, max_lr=0.2)
    assert main(["."]) == 0
    first, second = written("groups.csv").to_dict("records")
    # 1, 0.875 and 0.5: mean 19/24, deviations 5/24, 2/24, 7/24, so variance (25 + 4 + 49)/576/2; t(2) = 4.302653.
    std = (78 / 576 / 2) ** 0.5
    assert (first["n"], first["mean"], first["std"]) == (3, pytest.approx(19 / 24), pytest.approx(std))
    half = 4.302652729911275 * std / 3**0.5
    # The interval reaches past 1, where no accuracy lies.
    assert (first["interval_low"], first["interval_high"]) == (pytest.approx(19 / 24 - half), 1.0)
    assert (first["config.max_lr"], first["seeds"], first["best"], first["not_averaged"]) == (0.1, "0 1 2", True, 0)
    assert (second["n"], second["mean"], second["not_averaged"]) == (1, 0.375, 1)
    assert pd.isna(second["interval_low"])
    out = capsys.readouterr().out
    assert "5 runs" in out
    assert "4 completed, 1 diverged" in out
    assert "diverged: the loss became nan" in out


def test_repeats_of_a_seed_count_once(tmp_path):
    make_run(tmp_path / "a", "1111", seed=0)
    make_run(tmp_path / "b", "1100", seed=0, threads=2)
    make_run(tmp_path / "c", "1110", seed=1)
    comparison = compared(tmp_path)
    [group] = comparison.groups.to_dict("records")
    assert (group["n"], group["runs"], group["mean"]) == (2, 3, 0.75)
    assert "1 run repeats the config and the seed of another (such as b that of a)" in "".join(comparison.remarks)


def test_only_completed_runs_are_ranked(tmp_path):
    make_run(tmp_path / "good", "1000")
    for state in ("failed", "diverged", "running", "interrupted"):
        make_run(tmp_path / state, "1111", state=state, measured={"test_accuracy": 1.0})
    comparison = compared(tmp_path)
    assert comparison.runs["label"].iloc[0] == "good"
    assert list(comparison.runs["best"]) == [True, *[False] * 4]
    assert comparison.groups["mean"].tolist() == [0.25]


def test_a_running_run_is_described_by_its_saved_config(tmp_path):
    make_run(tmp_path / "done", max_lr=0.1)
    going = make_run(tmp_path / "going", state="running", max_lr=0.3)
    (going / "summary.csv").unlink()
    (going / "config_resolved.yaml").write_text("seed: 0\nmax_lr: 0.3\nmodel: {_target_: os.system, name: x}\n")
    runs = compared(tmp_path).runs.set_index("label")
    assert runs.loc["going", "config.max_lr"] == "0.3"
    assert runs.loc["going", "problem"] is None


def test_old_runs_with_fewer_columns_are_kept_apart(tmp_path):
    make_run(tmp_path / "new", "1110", seed=0)
    make_run(tmp_path / "old", "1100", seed=1, without=("data_fingerprint", "config.optimizer.weight_decay"))
    comparison = compared(tmp_path)
    assert len(comparison.groups) == 2
    assert "config.optimizer.weight_decay" in comparison.differing
    assert any("seed 1 recorded no data fingerprint" in remark for remark in comparison.remarks)


def test_runs_of_other_data_come_after_and_are_not_tested(tmp_path, capsys):
    make_run(tmp_path / "a", "1100")
    make_run(tmp_path / "b", "1000")
    make_run(tmp_path / "other", "1111", measured={"data_fingerprint": "0" * 64}, data__name="cifar10")
    assert main(["."]) == 0
    rows = written("comparison.csv")
    assert list(rows["run"]) == ["a", "b", "other"]
    assert list(rows["best"]) == [True, False, True]
    assert rows["verdict"].iloc[2] == "not comparable: other data"
    assert "2 different data sets" in capsys.readouterr().out


def test_the_winner_is_chosen_by_validation_accuracy_and_its_test_accuracy_reported(tmp_path, capsys):
    """`a` is best on the test split, `b` on the validation split; the test split takes no part in the choice."""
    make_run(tmp_path / "a", "1111", measured={"val_accuracy": 0.5})
    make_run(tmp_path / "b", "1110", measured={"val_accuracy": 0.75}, max_lr=0.2)
    assert main(["."]) == 0
    rows = written("comparison.csv")[["run", "best", "verdict"]].to_numpy().tolist()
    assert rows == [["b", True, "baseline"], ["a", False, "within noise (p = 1.00)"]]
    groups = written("groups.csv")
    assert groups["metric"].unique() == ["val_accuracy"]
    assert groups[["mean", "mean_test_accuracy"]].to_numpy().tolist() == [[0.75, 0.75], [0.5, 1.0]]
    out = capsys.readouterr().out
    assert "By val_accuracy" in out
    assert "optimistic" not in out
    html = (tmp_path / "outputs/comparison/comparison.html").read_text()
    assert "max_lr 0.2 has the best val_accuracy, 75.00%" in html
    assert "Its test accuracy is 75.00%." in html
    assert main([".", "--metric", "test_accuracy"]) == 0  # another order, and the same winner as baseline
    rows = written("comparison.csv")[["run", "verdict"]].to_numpy().tolist()
    assert rows == [["a", "within noise (p = 1.00)"], ["b", "baseline"]]
    assert "Omit --metric to select by val_accuracy" in capsys.readouterr().out


def test_without_a_validation_accuracy_the_order_is_by_test_accuracy_with_a_caution(tmp_path):
    make_run(tmp_path / "a", "1111", measured={"val_accuracy": 0.5})
    for number, value in enumerate(("", "nan", "1e200", "text")):
        make_run(tmp_path / f"{number}", "1100", measured={"val_accuracy": value}, max_lr=0.3 + number)
    comparison = compared(tmp_path)
    assert (comparison.metric, comparison.baseline_by) == ("test_accuracy", "test_accuracy")
    assert comparison.runs["label"].iloc[comparison.baseline] == "a"
    [remark] = comparison.remarks
    assert remark.startswith("max_lr 0.3; max_lr 1.3; max_lr 2.3 and 1 more have no val_accuracy. The best of 5 runs")


@pytest.mark.parametrize(
    ("arguments", "without", "comparisons"),
    [
        ([], (), 3),  # the validation winner against each of three others
        (["--baseline", "0"], ("val_accuracy",), 3),
        ([], ("val_accuracy",), 6),  # all pairs of four runs
        (["--top", "2"], ("val_accuracy",), 6),  # the baseline was chosen among all four
        (["--top", "2"], (), 1),
        (["--top", "2", "--metric", "test_accuracy"], (), 3),  # those shown were chosen by the test split
        (["--metric", "train_loss"], (), 3),
    ],
)
def test_p_values_are_corrected_for_every_comparison_that_could_have_been_reported(
    tmp_path, capsys, arguments, without, comparisons
):
    for seed in range(4):
        make_run(tmp_path / str(seed), "1" * (20 - 6 * seed) + "0" * 6 * seed, seed=seed, without=without)
    assert main([".", "--no-page", *arguments]) == 0
    pairs = written("pairs.csv")
    smallest = pairs["p_value"].min()
    assert pairs["p_value_corrected"].min() == pytest.approx(min(1, comparisons * smallest))
    out = capsys.readouterr().out
    assert (f"corrected for {comparisons} comparisons" in out) == (comparisons > 1)


def test_a_killed_run_is_interrupted_and_a_running_one_running(tmp_path):
    for name in ("done", "killed", "going", "link", "pipe"):
        run = make_run(tmp_path / name, state="completed" if name == "done" else "running")
        if name != "done":
            (run / "summary.csv").unlink()
    (tmp_path / "killed/.lock").touch()
    (tmp_path / "victim").write_text("kept")
    (tmp_path / "link/.lock").symlink_to(tmp_path / "victim")
    os.mkfifo(tmp_path / "pipe/.lock")
    with run_status.locked(tmp_path / "going"):
        states = dict(zip(*[compared(tmp_path).runs[column] for column in ("label", "state")], strict=True))
        killed = dict.fromkeys(("killed", "link", "pipe"), "interrupted")
        assert states == {"done": "completed", "going": "running"} | killed
        for name, state in states.items():
            assert read_run(tmp_path / name).state == job_state(tmp_path / name) == state
            if state != "completed":
                (tmp_path / name / "config_resolved.yaml").touch()
                with pytest.raises(RequestError, match=f"not completed .state: {state}.*needs a completed run"):
                    open_run(tmp_path / name)
    assert (tmp_path / "victim").read_text() == "kept"


def test_selection_on_the_test_split_gets_a_caution(tmp_path):
    make_run(tmp_path / "a", measured={"selection_split": "test"})
    make_run(tmp_path / "b", max_lr=0.3)
    [remark] = compared(tmp_path).remarks
    assert remark.startswith("max_lr 0.1 selected the best epoch on the test split")
    assert "optimistic" in remark


def test_failed_runs_alone_are_listed(tmp_path, capsys):
    for seed in range(2):
        make_run(tmp_path / str(seed), state="failed", error="OSError: \x1b[31m|\nfull", seed=seed)
    assert main([".", "--format", "markdown"]) == 0
    out = capsys.readouterr().out
    assert "2 runs" in out
    assert r"failed: OSError:  [31m\| full" in out
    assert written("groups.csv").empty
    assert written("pairs.csv").empty
    assert list(written("comparison.csv")["best"]) == [False, False]
