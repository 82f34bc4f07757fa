"""Verdicts of `cifar-exp compare` about settings over seeds, against SciPy and by hand."""

import shlex
from functools import partial

import numpy as np
import pandas as pd
import pytest
import yaml
from compare_runs import make_run
from scipy import stats
from statsmodels.stats.multitest import multipletests

from cifar_exp.cli.commands import run_command
from cifar_exp.compare.comparison import compare
from cifar_exp.compare.discover import find_runs, read_runs
from cifar_exp.errors import RequestError

main = partial(run_command, "compare")

COLUMNS = (
    "group_a,group_b,n_a,n_b,mean_a,mean_b,difference,ci_low,ci_high,p_value,p_value_corrected,"
    "probability_a_better,detectable_difference,seeds_needed"
)
# Right images of 20 for each seed; equal numbers are equal accuracies on both splits.
RIGHT = {0.1: (18, 17, 19, 18), 0.2: (17, 18, 18), 0.3: (9, 8, 11, 10), 0.4: (16, 17)}


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path, monkeypatch):
    """The command writes below the current folder by default."""
    monkeypatch.chdir(tmp_path)


def sweep(folder, right=RIGHT, overrides=(), **more):
    """A run for each learning rate and seed, as a sweep with these overrides leaves it."""
    for max_lr, counts in right.items():
        for seed, count in enumerate(counts):
            run = make_run(
                folder / f"{max_lr}-{seed}", "1" * count + "0" * (20 - count), max_lr=max_lr, seed=seed, **more
            )
            (run / ".hydra").mkdir()
            typed = [*overrides, f"max_lr={max_lr}", f"seed={seed}"]
            (run / ".hydra/overrides.yaml").write_text(yaml.safe_dump(typed))


def written(name="group_pairs.csv"):
    return pd.read_csv(f"outputs/comparison/{name}", keep_default_na=False, na_values=[""])


def test_group_pairs_are_scipys(tmp_path, capsys):
    sweep(tmp_path / "runs", overrides=["experiment=quickstart", "model.widths=[16,32]"])
    assert main(["runs"]) == 0
    pairs, out = written(), capsys.readouterr().out
    assert ",".join(pairs.columns) == COLUMNS
    assert written("groups.csv")["config.max_lr"].tolist() == [0.1, 0.2, 0.4, 0.3], "best mean first"
    a = np.array(RIGHT[0.1]) / 20
    assert pairs["group_a"].tolist() == [1, 1, 1]
    tests, statistics = [], []
    for row, max_lr in zip(pairs.to_dict("records"), (0.2, 0.4, 0.3), strict=True):
        b = np.array(RIGHT[max_lr]) / 20
        test = stats.ttest_ind(b, a, equal_var=False)
        interval = test.confidence_interval()
        assert (row["n_a"], row["n_b"]) == (4, len(b))
        found = [row[name] for name in ("mean_a", "mean_b", "difference", "ci_low", "ci_high")]
        assert found == pytest.approx([a.mean(), b.mean(), b.mean() - a.mean(), interval.low, interval.high])
        u = stats.mannwhitneyu(a, b, method="asymptotic").statistic
        assert row["probability_a_better"] == pytest.approx(u / (4 * len(b)))
        if len(b) >= 3:
            tests.append(test.pvalue)
            statistics.append((test.statistic, test.df))
    assert pairs["p_value"].dropna().tolist() == pytest.approx(tests)
    assert pairs["p_value"].isna().tolist() == [False, True, False], "two seeds are too few"
    # The baseline was chosen as the best of the three settings with enough seeds.
    by_holm = multipletests(tests, method="holm")[1]
    by_games_howell = [stats.studentized_range.sf(abs(t) * 2**0.5, 3, df) for t, df in statistics]
    assert pairs["p_value_corrected"].dropna().tolist() == pytest.approx(np.maximum(by_holm, by_games_howell), abs=1e-6)
    assert "no evidence of a difference (p = " in out
    assert out.index("worse (p < 0.001)") < out.index("Run by run"), "settings come first"
    assert "Baseline: max_lr 0.1, the setting with the best mean val_accuracy among those with at least 3 seeds." in out
    assert "1 setting has fewer than 3 seeds, too few for a verdict. 3 more seeds of each:" in out
    commands = [shlex.split(line) for line in out.splitlines() if line.startswith("    cifar-exp -m")]
    fixed = ["cifar-exp", "-m", "experiment=quickstart", "model.widths=[16,32]"]
    assert commands[0] == [*fixed, "max_lr=0.4", "seed=range(2,5)"]
    seeds = int(pairs["seeds_needed"].iloc[0])
    assert f"{seeds} seeds of each, so {seeds - 3} more:" in out
    assert commands[1] == [*fixed, "max_lr=0.1,0.2", f"seed=range(4,{4 + seeds - 3})"]


def test_the_baseline_is_the_best_mean_not_the_setting_of_the_best_run(tmp_path, capsys):
    sweep(tmp_path, {0.1: (20, 12, 12), 0.2: (16, 17, 18)})
    assert main(["."]) == 0
    assert "Baseline: max_lr 0.2, the setting with the best mean val_accuracy." in capsys.readouterr().out
    sweep(tmp_path / "better", {0.3: (20, 20)})
    assert main(["."]) == 0
    sentence = "the setting with the best mean val_accuracy among those with at least 3 seeds."
    assert f"Baseline: max_lr 0.2, {sentence}" in capsys.readouterr().out
    assert main([".", "--baseline", "0.1-1"]) == 0
    assert "Baseline: max_lr 0.1, the setting of the run named with --baseline." in capsys.readouterr().out


def test_a_baseline_chosen_by_the_test_split_is_called_optimistic(tmp_path, capsys):
    sweep(tmp_path, {0.1: (18, 17, 19), 0.2: (15, 14, 16), 0.3: (9, 8, 11)}, without=("val_accuracy",))
    assert main(["."]) == 0
    out = capsys.readouterr().out
    assert (
        "corrected for 2 comparisons (Holm) and for the choice of the baseline (Games-Howell). The baseline was chosen "
        "by test accuracy, so its mean is optimistic" in out
    )
    assert main([".", "--baseline", "0.1-0"]) == 0
    assert "corrected for 2 comparisons (Holm)." in capsys.readouterr().out
    pairs = written()
    assert pairs["p_value_corrected"].max() == pytest.approx(max(pairs["p_value"].max(), 2 * pairs["p_value"].min()))


def test_the_user_chooses_the_keys_of_repetitions(tmp_path, capsys):
    for max_lr in (0.1, 0.2):
        for seed in range(3):
            make_run(tmp_path / f"{max_lr}-{seed}", "1" * (12 + seed), max_lr=max_lr, seed=seed, data__split_seed=seed)
    assert main(["."]) == 0
    assert len(written("groups.csv")) == 6, "another split is another setting"
    assert main([".", "--over", "seed,data.split_seed"]) == 0
    assert written("groups.csv")["seeds"].tolist() == ["0/0 1/1 2/2"] * 2
    out = capsys.readouterr().out
    assert "Settings (runs that differ by seed and data.split_seed only):" in out
    with pytest.raises(RequestError, match=r"--over sed: no run has such a config key \(did you mean 'seed'"):
        main([".", "--over", "sed"])


@pytest.mark.parametrize(
    ("overrides", "start"),
    [
        (["data.split_seed=${seed}"], ["data.split_seed=${seed}"]),
        (["hydra.sweep.dir=/etc"], ["..."]),
        (["trust=[evil]"], ["..."]),
        (["--config-dir=/evil"], ["..."]),
        (["name=\x1b[31m"], ["..."]),
        (["name='; rm -rf /'"], ["name='; rm -rf /'"]),
    ],
)
def test_a_suggested_command_has_the_runs_overrides_if_they_are_harmless(tmp_path, capsys, overrides, start):
    sweep(tmp_path, {0.1: (18, 17), 0.2: (17, 18)}, overrides=overrides)
    assert main(["."]) == 0
    [command] = [line.strip() for line in capsys.readouterr().out.splitlines() if line.startswith("    cifar-exp -m")]
    assert shlex.split(command) == ["cifar-exp", "-m", *start, "max_lr=0.1,0.2", "seed=range(2,5)"]


def test_settings_that_do_not_combine_get_a_command_each(tmp_path, capsys):
    for name, max_lr, epochs in (("a", 0.1, 2), ("b", 0.2, 4)):
        run = make_run(tmp_path / name, max_lr=max_lr, epochs=epochs)
        (run / ".hydra").mkdir()
        (run / ".hydra/overrides.yaml").write_text(yaml.safe_dump([f"max_lr={max_lr}", f"epochs={epochs}"]))
    assert main(["."]) == 0
    out = capsys.readouterr().out
    assert "cifar-exp -m max_lr=0.1 epochs=2 'seed=range(1,5)'" in out
    assert "cifar-exp -m max_lr=0.2 epochs=4 'seed=range(1,5)'" in out
    html = (tmp_path / "outputs/comparison/comparison.html").read_text()
    assert "Too few seeds for a verdict about settings" in html


def test_seeds_without_any_spread_get_no_verdict(tmp_path, capsys):
    sweep(tmp_path, {0.1: (18, 18, 18), 0.2: (17, 17, 17)})
    assert main(["."]) == 0
    assert "no verdict: all seeds have the same accuracy" in capsys.readouterr().out
    assert written()["p_value"].isna().all()


def test_settings_with_many_different_keys_are_named_by_their_experiment(tmp_path):
    keys = {"epochs": 9, "max_lr": 0.5, "precision": "float32", "optimizer__weight_decay": 0.0, "model__name": "other"}
    keys["batch_size"] = 64
    for name, config in (("published", {"batch_size": 32}), ("strong", keys)):
        for seed in range(3):
            make_run(tmp_path / name / str(seed), "1110" if seed else "1111", seed=seed, name=name, **config)
    comparison = compare(read_runs(find_runs([tmp_path])[0]))
    assert set(comparison.groups["name"]) == {"published", "strong"}
    assert set(comparison.runs["name"]) == {
        f"{name}, seed {seed}" for name in ("published", "strong") for seed in "012"
    }
    make_run(tmp_path / "again", "1110", seed=9, name="published", **keys)  # now a name stands for two settings
    groups = compare(read_runs(find_runs([tmp_path])[0])).groups
    assert all("epochs" in name for name in groups["name"])
