"""Composition, types, values and allowed targets: what is refused, with which message."""

import pytest
import yaml
from composing import composed

from cifar_exp.cli.help import help_text
from cifar_exp.config import resolved
from cifar_exp.config.compose import compose_job
from cifar_exp.config.parse import OwnNode, as_containers, flatten
from cifar_exp.config.schema import REGISTRY
from cifar_exp.errors import RequestError

GROUP_OPTIONS = {
    "model": ["resnet18", "resnet34", "resnet9", "speednet", "quickstart", "torchvision", "timm"],
    "data": ["cifar10", "cifar100", "image_csv", "image_folder", "mnist5k"],
    "augment": [
        "crop_flip_cutout",
        "published",
        "none",
        "crop",
        "alternating",
        "autoaugment",
        "randaugment",
        "trivialaugment",
    ],
    "optimizer": ["sgd", "adamw", "muon", "published", "speedrun"],
    "scheduler": ["one_cycle", "cosine", "multistep", "triangle", "constant", "plateau", "published", "speedrun"],
    "averaging": ["none", "ema"],
    "tracker": ["none", "tensorboard", "mlflow", "wandb"],
    "experiment": ["quickstart", "published", "onecycle", "speedrun", "strong"],
}

# Options that start from another option have its name; networks of a library have their own.
BASES = {
    ("model", "quickstart"): "resnet9",
    ("model", "timm"): "convnext_atto",
    ("model", "torchvision"): "mobilenet_v3_small",
    ("optimizer", "published"): "sgd",
    ("optimizer", "speedrun"): "muon",
    ("scheduler", "published"): "one_cycle",
    ("scheduler", "speedrun"): "triangle",
}


@pytest.mark.parametrize(("group", "option"), [(g, o) for g, options in GROUP_OPTIONS.items() for o in options])
def test_every_option_composes_and_is_valid(group, option):
    found = composed(f"{group}={option}")
    if group == "tracker":
        assert found.tracker.names == ([] if option == "none" else [option])
    elif group != "experiment":
        assert getattr(found, group).name == BASES.get((group, option), option)


@pytest.mark.parametrize("experiment", GROUP_OPTIONS["experiment"])
def test_an_experiment_accepts_other_options(experiment):
    options = ["model=resnet34", "optimizer=adamw", "scheduler=cosine", "augment=none"]
    config = composed(f"experiment={experiment}", *options)
    found = [f"{group}={getattr(config, group).name}" for group in ("model", "optimizer", "scheduler", "augment")]
    assert found == options


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["epohcs=3"], r"epohcs: unknown key \(did you mean 'epochs'\?\)"),
        (["model=resnet9", "model.widht=3"], r"model\.widht: unknown key \(did you mean 'model\.width'\?\)"),
        (
            ["model=resnet17"],
            r"model=resnet17: no such option \(did you mean 'resnet\d+'\?\); model has quickstart, resnet18",
        ),
        (["experiment=quickstrat"], r"did you mean 'quickstart'"),
        (["modle=resnet18"], r"modle: unknown key \(did you mean 'model'\?\)"),
        (["epochs=many"], r"epochs=many: must be a valid integer"),
        (["seed=null"], r"seed=null: must be a valid integer"),
        (["model=timm", "model.architecture=null"], r"model\.architecture=null: must be a valid string"),
        (["data.url={a:b}"], r"data\.url=\{a:b\}: the value has another type"),
        (["data.url=[]"], r"data\.url=\[\]: must be an address .* or a list of them"),
        (["tracker=[tensorboard,none]"], r"tracker=\[tensorboard,none\]: none cannot be combined"),
        (["hydra.sweeper.pruner=median"], r"hydra\.sweeper\.pruner: unknown key; add hydra/sweeper=optuna"),
        (["hydra.launcher.max_retries=1"], r"hydra\.launcher\.max_retries: unknown key; add hydra/launcher=ray"),
        (["epochs=-1"], r"epochs=-1: must be between 1 and 1000000"),
        (["batch_size=0"], r"batch_size=0: must be between 1 and 1000000"),
        (["epochs=2000000"], r"epochs=2000000: must be between 1 and 1000000"),
        (["batch_size=99999999999999999999"], r"batch_size=9+: must be between 1 and 1000000"),
        (["threads=3000000000"], r"threads=3000000000: must be between 1 and 256"),
        (["data.workers=5000"], r"data\.workers=5000: must be between 0 and 128"),
        (["model=resnet9", "model.width=99999999999999999999"], r"model\.width=9+: must be between 1 and 1000000"),
        (["model=speednet", "model.widths=[8,8,9999999]"], r"model\.widths\.2=9999999: must be between 1 and 1000000"),
        (["optimizer.weight_decay=inf"], r"optimizer\.weight_decay=inf: must be a finite number"),
        (
            ["optimizer.weight_decay=1e308"],
            r"optimizer\.weight_decay=1e\+308: must be at least 0 and a finite number, at most 1e\+30",
        ),
        (["max_lr=1e308"], r"max_lr=1e\+308: must be .*between 1e-30 and 1e\+30"),
        (["scheduler.div_factor=1e-308"], r"scheduler\.div_factor=1e-308: must be .*between 1e-30 and 1e\+30"),
        (["device='cuda:\u0663'"], "device=cuda:\u0663: must be one of"),
        (["+foo=1"], "foo: unknown key; "),
        (["+evaluation.foo=1"], r"evaluation\.foo: unknown key"),
        (["~epochs"], "epochs: is required"),
        (["~explain"], r"~explain\.\w+: is required"),
        (["~max_lr"], "max_lr: is required"),
        (['data.root="~nosuchuser/x"'], r"data\.root=~nosuchuser/x: not a path"),
        (["max_lr=0"], r"max_lr=0: must be a finite number above 0"),
        (["max_lr=nan"], r"max_lr=nan: must be a finite number above 0"),
        (["data.validation_fraction=1"], r"data\.validation_fraction=1: must be at least 0 and below 1"),
        (["scheduler.pct_start=1.5"], r"scheduler\.pct_start=1\.5: must be between 0 and 1"),
        (["scheduler.interval=batch"], r"scheduler\.interval=batch: must be one of step, epoch"),
        (["scheduler=triangle", "scheduler.peak_at=1"], r"scheduler\.peak_at=1: must be at least 0 and below 1"),
        (["model=speednet", "model.widths=[8,8]"], r"model\.widths=\[8, 8\]: must be three channel counts"),
        (
            ["model=speednet", "model.whitening_epsilon=0"],
            r"model\.whitening_epsilon=0: must be a finite number above 0",
        ),
        (["optimizer=muon", "optimizer.bias_lr_factor=0"], r"optimizer\.bias_lr_factor=0: must be a finite number"),
        (["evaluation.test_time_augmentation=flip"], r"must be one of none, mirror, mirror_translate"),
        (["augment.low_resolution.size=2"], r"augment\.low_resolution\.size=2: must be between 4 and 1024"),
        (["precision=float16"], r"precision=float16: must be one of auto, float32, bfloat16"),
        (["device=gpu"], r"device=gpu: must be one of auto, cpu, cuda, mps or cuda:N"),
        (["checkpoint.best=false", "evaluation.weights=best"], r"needs checkpoint\.best=true"),
        (["max_lr=0.1,0.2"], r"max_lr=0\.1,0\.2: several values make a sweep, which needs -m"),
        (["data.root"], r"data\.root: not an override; write key=value"),
        (["model=3"], r"string or a list"),
        (["~augment.transforms.flop"], r"~augment\.transforms\.flop: no such key"),
        (["lr=0.1"], r"lr: unknown key \(did you mean 'max_lr'\?\)"),
        (["optimizer.lr=0.1"], r"did you mean 'max_lr'"),
        (["+wd=0.1"], r"wd: unknown key.*did you mean 'optimizer\.weight_decay'"),
        (["num_epochs=3"], r"did you mean 'epochs'"),
        (["lr_scheduler=cosine"], r"did you mean 'scheduler'"),
        (["optimizer.grad_clip=1"], r"did you mean 'optimizer\.clip_grad_norm'"),
        (["mixup=0.2"], r"did you mean 'mixing\.mixup_alpha'"),
        (["early_stopping=5"], r"early_stopping=5: must be keys with values; set one of them: early_stopping\.KEY"),
        (["seed=true"], r"seed=true: must be between 0"),
        (["figures=maybe"], r"figures=maybe: must be a valid boolean"),
        (["model.width=4"], r"model\.width: unknown key; only another option of its group has it"),
        (["early_stop=3"], r"did you mean 'early_stopping\.patience'"),
        (["ema=true"], r"use averaging=ema"),
        (["warmup=5"], r"scheduler\.warmup_fraction"),
        (["scheduler=step"], r"did you mean 'multistep'"),
        (["augment.low_resolution.size=64"], r"must be at most data\.image_size=32"),
        (["hydra/launcher=cloud"], r"hydra/launcher=cloud: no such option.*basic"),
    ],
)
def test_mistakes_are_named_with_what_is_allowed(overrides, message):
    with pytest.raises(RequestError, match=message):
        compose_job(overrides)


def test_all_wrong_values_are_reported_at_once():
    with pytest.raises(RequestError) as caught:
        compose_job(["epochs=0", "batch_size=0"])
    assert str(caught.value).splitlines() == [
        f"{key}=0: must be between 1 and 1000000" for key in ("epochs", "batch_size")
    ]


@pytest.mark.parametrize(
    "override",
    [
        "model._target_=os.system",
        "optimizer._target_=torch.load",
        "scheduler._target_=torch.hub.load",
        "augment.transforms.flip._target_=builtins.eval",
        "augment.transforms.flip._target_=albumentations.Lambda",
        "data._target_=pandas.read_pickle",
        "model._target_=torch.optim.SGD",
        "+explain.hook._target_=os.system",
        "+augment.transforms.flip.more=[{_target_: os.system}]",
    ],
)
def test_a_target_outside_the_allow_list_is_refused(override):
    with pytest.raises(RequestError, match=r"not an allowed target|unknown key|not in"):
        compose_job([override])


def test_a_refused_target_lists_those_of_its_own_group(monkeypatch):
    monkeypatch.setitem(REGISTRY["optimizer"].targets, "torch.optim.Tenth", None)
    for key, allowed in (("optimizer", "torch.optim.Tenth"), ("augment.transforms.flip", "Albumentations' transforms")):
        with pytest.raises(RequestError, match=f"allowed: .*{allowed}"):
            compose_job([f"{key}._target_=os.system"])


def test_trust_allows_a_package_of_the_user():
    job = compose_job(["model._target_=mynets.tiny", "trust=[mynets]"])
    assert job.model._target_ == "mynets.tiny"
    with pytest.raises(RequestError, match="not an allowed target"):
        compose_job(["model._target_=mynets.tiny", "trust=[mynet]"])


def test_config_dir_adds_options(tmp_path):
    (tmp_path / "optimizer").mkdir()
    (tmp_path / "optimizer" / "heavy.yaml").write_text("defaults: [base_sgd, _self_]\nname: heavy\nweight_decay: 0.1\n")
    job = compose_job(["optimizer=heavy"], config_dir=str(tmp_path))
    assert (job.optimizer.weight_decay, job.optimizer.momentum) == (0.1, 0.9)
    with pytest.raises(RequestError, match=r"did you mean 'heavy'.*adamw, heavy, muon, published, sgd, speedrun"):
        compose_job(["optimizer=heavi"], config_dir=str(tmp_path))
    (tmp_path / "optimizer" / "broken.yaml").write_text("defaults: [base_sgd, _self_]\nname: broken\nmomentun: 0.1\n")
    with pytest.raises(RequestError, match=r"momentun: unknown key \(did you mean 'optimizer\.momentum'"):
        compose_job(["optimizer=broken"], config_dir=str(tmp_path))
    assert "heavy" in help_text([], config_dir=str(tmp_path))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "epochs: 3\n",
            "experiment: unknown key; the first line .* must be `# @package _global_`",
        ),
        ("defaults: [override /model: resnet9]\n", "# @package _global_"),
        ("# @package _global_\ndefaults:\n  - /model: resnet9\n", "write `override /model: OPTION`"),
        ("# @package _global_\ndefaults:\n  - model: resnet9\n", "write `override /model: resnet9`"),
        ("# @package _global_\nepochs: three\n", "epochs=three: must be a valid integer"),
        ("# @package _global_\nepochs 3\n", "epochs 3: unknown key .did you mean 'epochs'"),
        ("# @package _global_\nepochs: [3\n", "mine.yaml, line 3: invalid YAML"),
        ("# @package _global_\nlr: 3\n", "lr: unknown key .did you mean 'max_lr'"),
        ("# @package _global_\nmodel:\n  width: 3\n", "model.width: unknown key; only another option"),
    ],
)
def test_mistakes_in_a_file_name_what_to_write(tmp_path, text, message):
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(text)
    with pytest.raises(RequestError, match=message):
        compose_job(["experiment=mine"], config_dir=str(tmp_path))


def test_a_saved_config_reads_back_to_the_same_values(tmp_path):
    found = composed("experiment=published", "data.root=/data/x.tar.gz")
    path = tmp_path / "config_resolved.yaml"
    path.write_text(resolved.to_yaml(found))
    read = resolved.load_saved(path)
    assert read == found
    assert resolved.config_hash(read) == resolved.config_hash(found)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": "many"}, "epochs=many: must be a valid integer"),
        ({"epochs": -3}, "epochs=-3: must be between 1 and 1000000"),
        ({"surprise": 1}, "surprise"),
        ({"model": {"_target_": "os.system", "name": "x"}}, r"model\._target_=os\.system: not an allowed target"),
        ({"name": "${oc.env:HOME}"}, "interpolation"),
        ({"explain": {"indices": [[]]}}, r"explain\.indices\.0=\[\]: must be a valid integer"),
        ({"explain": {"layers": [["a"]]}}, "explain.layers"),
        ({"scheduler": as_containers(composed().scheduler) | {"pct_start": 10**400}}, "a value of 401 characters"),
        ({"trust": ["os"], "model": {"_target_": "os.system"}}, "not an allowed target"),
    ],
)
def test_a_saved_config_is_checked_like_overrides(tmp_path, change, message):
    path = tmp_path / "config_resolved.yaml"
    path.write_text(yaml.safe_dump(as_containers(composed()) | change))
    with pytest.raises(RequestError, match=message):
        resolved.load_saved(path)


@pytest.mark.parametrize("text", ["", "- 1\n- 2\n", "a: [1\n", "!!python/object/apply:os.system ['true']", "\x00"])
def test_a_malformed_config_is_refused(tmp_path, text):
    path = tmp_path / "config_resolved.yaml"
    path.write_text(text)
    with pytest.raises(RequestError):
        resolved.load_saved(path)


def test_paths_become_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert composed("data.root=here.tar.gz").data.root == str(tmp_path / "here.tar.gz")
    assert composed("data=image_csv", "data.csv_file=table.csv").data.csv_file == str(tmp_path / "table.csv")


def test_flatten_by_hand():
    nested = {"a": {"b": 1, "c": [1, 2]}, "d": [{"e": None}], "f": {}}
    assert flatten(nested) == {"a.b": 1, "a.c": [1, 2], "d.0.e": None}


def test_every_yaml_starts_with_its_purpose_and_a_command():
    from pathlib import Path

    import cifar_exp.conf

    folder = Path(cifar_exp.conf.__path__[0])
    files = sorted(folder.rglob("*.yaml"))
    options = {
        str(file.relative_to(folder).with_suffix("")) for file in files if not file.is_relative_to(folder / "hydra")
    }
    assert options == {"config", *(f"{group}/{name}" for group, names in GROUP_OPTIONS.items() for name in names)}
    for file in files:
        comment = [line for line in file.read_text().splitlines() if line.startswith("#")]
        assert any("cifar-exp" in line for line in comment), file


def test_a_network_without_a_name_has_that_of_its_target():
    assert OwnNode("model", {"_target_": "networks.Lazy"}).name == "Lazy"
    assert OwnNode("model", {"_target_": "networks.Lazy", "name": "mine"}).name == "mine"
