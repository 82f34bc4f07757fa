"""Configs from someone else: nothing in them is called that is not listed, whoever they say is trusted."""

import pytest
from composing import TINY, composed

from cifar_exp.cli.main import main
from cifar_exp.config.compose import compose_job
from cifar_exp.config.parse import as_containers
from cifar_exp.config.resolved import load_saved, to_yaml
from cifar_exp.errors import RequestError

EXPERIMENTS = {
    "callbacks": "hydra:\n  callbacks:\n    x:\n      _target_: os.system\n      command: touch {}\n",
    "logging": "hydra:\n  job_logging:\n    formatters:\n      x:\n        (): os.system\n        command: touch {}\n",
    "folder": "hydra:\n  output_subdir: ../../../../../../{}\n",
    "run": "hydra:\n  run:\n    dir: {}\n",
    "environment": "hydra:\n  job:\n    env_set:\n      LD_PRELOAD: {}\n",
    "launcher": "hydra:\n  launcher:\n    _target_: os.system\n",
    "trust": "trust: [os]\nscheduler:\n  _target_: os.system\n",
    "grid": "hydra:\n  sweeper:\n    params:\n      +hydra.callbacks.x._target_: os.system\n",
}


@pytest.mark.parametrize("name", EXPERIMENTS)
@pytest.mark.parametrize("flags", [[], ["-m"]], ids=["run", "sweep"])
def test_a_config_folder_of_someone_else_decides_nothing_that_is_called(tmp_path, monkeypatch, capsys, name, flags):
    monkeypatch.chdir(tmp_path)
    mine = tmp_path / "theirs" / "experiment" / "evil.yaml"
    mine.parent.mkdir(parents=True)
    body = EXPERIMENTS[name].format(tmp_path / "it-ran")
    mine.write_text(f"# @package _global_\ndefaults:\n  - quickstart\n{body}")
    assert main([*flags, "--config-dir", "theirs", "experiment=evil"]) == 2
    message = capsys.readouterr().err
    assert "command line" in message or "unknown key" in message
    assert [path.name for path in tmp_path.iterdir()] == ["theirs"]


def test_a_config_in_the_place_of_the_shipped_one_is_not_taken(tmp_path):
    evil = "defaults:\n  - base_config\n  - _self_\nhydra:\n  callbacks:\n    x:\n      _target_: os.system\n"
    (tmp_path / "config.yaml").write_text(evil)
    job = compose_job([], config_dir=str(tmp_path))
    assert (job.hydra.callbacks, job.model.name) == ({}, "resnet18")
    (tmp_path / "other.yaml").write_text(evil)
    with pytest.raises(RequestError):
        compose_job([], config_name="other", config_dir=str(tmp_path))


def test_a_folder_of_ones_own_may_add_options_and_a_grid(tmp_path):
    for name, text in {
        "model/mine.yaml": "_target_: cifar_exp.models.resnet9\nname: mine\nwidth: 4\n",
        "experiment/grid.yaml": "# @package _global_\nepochs: 3\nhydra:\n  sweeper:\n    params:\n      seed: 1,2\n",
    }.items():
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(text)
    job = compose_job(["model=mine", "experiment=grid", "hydra.run.dir=here"], config_dir=str(tmp_path))
    assert (job.epochs, job.model.width, job.hydra.run.dir) == (3, 4, "here")


@pytest.mark.parametrize(
    "line",
    [
        "seed: !!int ''",
        "seed: !!bool x",
        f"seed: {'1:' * 200}1.5",
        f"seed: '{'${a:' * 3000}'",
        f"seed: {'9' * 400}",
        f"seed: {'1:' * 300_000}1",
        f"name: 0x{'f' * 5000}",
        "".join(f"k{n}: 1\n" for n in range(90_000)),
        f"name: {'x' * 100_000}",
        "name: !!binary eA==",
    ],
    ids=["int", "bool", "sexagesimal", "nested", "digits", "base 60", "hexadecimal", "keys", "long", "tag"],
)
def test_values_that_the_parsers_stumble_over_are_refused(tmp_path, line):
    path = tmp_path / "config_resolved.yaml"
    text = to_yaml(composed(*TINY))
    assert "\nseed: 0\n" in text
    path.write_text(text.replace("\nseed: 0\n", f"\n{line}\n"))
    with pytest.raises(RequestError):
        load_saved(path)


@pytest.mark.parametrize("url", ["file:///dev/zero", "ftp://host/x", "data:,x", "//host/x", "/etc/passwd", "http:x"])
@pytest.mark.parametrize("pattern", ["'{}'", "[https://host/x,'{}']"])
def test_an_archive_comes_from_the_web_or_from_data_root(url, pattern):
    with pytest.raises(RequestError, match="must be an address that starts with https:// or http://"):
        composed("data=cifar10", f"data.url={pattern.format(url)}")


@pytest.mark.parametrize(
    ("group", "node"),
    [
        ("data", {"_target_": "x", "root": 5}),
        ("data", {"cache": "~nosuchuser/x"}),
        ("optimizer", {"_target_": "torch.optim.SGD", "decoupled": True}),
    ],
)
def test_odd_nodes_of_a_saved_config_are_refused(tmp_path, group, node):
    config = as_containers(composed(*TINY))
    config[group] = node if "_target_" in node else config[group] | node
    path = tmp_path / "config_resolved.yaml"
    path.write_text(to_yaml(config))
    with pytest.raises(RequestError):
        load_saved(path)


@pytest.mark.parametrize(
    ("group", "keys", "used"),
    [
        ("averaging", {"every_steps": None, "decay": 0.7738, "power": 3.0}, {"every_steps": 5}),
        ("optimizer", {"decoupled": False}, {"decoupled": True}),
    ],
)
def test_removed_keys_of_a_saved_config_are_dropped_if_they_were_off(tmp_path, group, keys, used):
    config, path = as_containers(composed(*TINY)), tmp_path / "config_resolved.yaml"
    # In 0.1.0, `averaging` was no group of options and had other keys.
    saved = config | {group: keys if group == "averaging" else config[group] | keys}
    path.write_text(to_yaml(saved))
    assert as_containers(load_saved(path)) == config
    path.write_text(to_yaml(saved | {group: saved[group] | used}))
    with pytest.raises(RequestError, match=f"{group}.{next(iter(used))}=.*only cifar-exp 0.1.0 can repeat the run"):
        load_saved(path)
