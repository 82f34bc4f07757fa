"""The command line: exit codes, short error messages, files."""

import re
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from composing import TINY
from programs import PROGRAM, started, wait_for
from runs import state_of

import cifar_exp.cli.main
from cifar_exp.cli.commands import COMMANDS
from cifar_exp.cli.main import main


def run_program(*arguments: str, cwd: Path, **options) -> subprocess.CompletedProcess:
    return subprocess.run([*PROGRAM, *arguments], cwd=cwd, capture_output=True, text=True, timeout=120, **options)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["epohcs=3"], "did you mean 'epochs'"),
        (["-m", "epochs=1,0"], "epochs=0: must be between 1 and 1000000"),
        (["modle"], "modle: neither a command nor key=value (did you mean 'model'?)"),
        (["--config-dir", "nowhere", "epochs=1"], "no such folder"),
        (["augment.transforms={}"], "would be merged"),
        (["--experimental-rerun", "x.pickle"], "unpickles"),
        (["-m", "--cfg", "job"], "only one of"),
        (["--epochs=3"], "a key is set without dashes: epochs=3"),
        (["--experiment=quickstart"], "a key is set without dashes: experiment=quickstart"),
        (["--cfg", "jobb"], "invalid choice: 'jobb'"),
        (["train"], "a run needs no command"),
        (["hydra.run.dir=${oc.env:NO_SUCH_VARIABLE}"], "cifar-exp: hydra.run.dir: KeyError raised"),
        (["~name", "+name=${model.nickname}"], "name: needs model.nickname, which is not set; set model.nickname in"),
        (["-m", "seed=0,1", "hydra.sweep.dir=${oc.env:NO_SUCH_VARIABLE}"], "hydra.sweep.dir: "),
        (["data=image_folder"], "data.root=PATH"),
        (["-m", "data=image_folder", "seed=0,1"], "data.root=PATH"),
        (["data.limit_train=100"], "batch_size=128: is more than the 100 training images"),
        (["--help", "optimzer"], "did you mean 'optimizer'"),
        (["--config-path", "x"], "--config-dir adds yours"),
        (["hydra.run.dir=/dev/null/x"], "/dev/null is not a writable folder"),
        (["evaluation.weights=best", "data.validation_fraction=0"], "needs an accuracy to select by"),
        (["model=torchvision", "model.architecture=vgg11", "model.stem=cifar"], "model.stem=cifar: vgg11 does not"),
    ],
)
def test_a_wrong_request_writes_nothing(here, capsys, arguments, message):
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert len(captured.err.strip().splitlines()) <= 2
    assert captured.out == ""
    assert list(here.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["data=image_folder", "data.root=nowhere"], "no such file or folder"),
        (["data=cifar10", "data.root=nowhere.tar.gz"], "no such file or folder"),
        (["data=cifar10", "data.url=http://127.0.0.1:1/x.tgz"], "data.root=PATH|data.url=URL|experiment=quickstart"),
        (["device=cuda:99"], "device=cuda:99: PyTorch can use 0 CUDA devices"),
        (["optimizer.momentum=0"], "Nesterov momentum requires"),
        (["+optimizer.lr=3"], "did you mean 'max_lr'?"),
        (["data.image_size=5", "augment=none"], "cannot process 5x5x1 images"),
        (["explain.layers=[layer9]"], "'layer9' cannot be explained: no such layer; the model has stem, layer1"),
        (["explain.indices=[100]"], "has images 0 to 99"),
        (["augment.transforms.pad.paddding=4", "augment.transforms.pad.padding=4"], "unknown key"),
        (["augment=randaugment", "augment.transforms.policy.magnitude=99"], "must be below num_magnitude_bins=31"),
        (["+augment.transforms.pad.paddding=4"], "augment.transforms.pad"),
    ],
)
def test_a_request_that_the_data_or_the_machine_refuses_writes_nothing(here, capsys, arguments, message):
    assert main([*TINY, *arguments, "hydra.run.dir=run"]) == 2
    captured = capsys.readouterr()
    for part in message.split("|"):
        assert part in captured.err
    assert "Traceback" not in captured.err
    assert "Run directory" not in captured.out
    assert [path for path in here.iterdir() if path.name != "tree"] == []


def test_a_text_file_among_the_images_is_named(here, capsys, image_tree):
    (image_tree / "train" / "cat" / "notes.jpg").write_text("not a picture")
    assert main([*TINY, "data=image_folder", f"data.root={image_tree}", "hydra.run.dir=run"]) == 2
    assert "notes.jpg: not a readable image" in capsys.readouterr().err


def test_a_learning_rate_of_a_million_diverges(here, capsys):
    assert main([*TINY, "max_lr=1e6", "epochs=20", "hydra.run.dir=run"]) == 1
    assert "run diverged: the loss became" in capsys.readouterr().err
    assert state_of(here / "run")["state"] == "diverged"


def test_a_run_in_a_process_of_its_own(here):
    done = run_program(*TINY, cwd=here)
    assert done.returncode == 0, done.stderr
    (run_dir,) = here.glob("outputs/????-??-??/*")
    assert state_of(run_dir)["state"] == "completed"
    assert (run_dir / ".hydra" / "overrides.yaml").exists()
    assert "of 100 test images misclassified; weights in outputs/" in done.stdout
    assert "epoch" in done.stdout
    assert done.stderr == ""  # no terminal: no progress bar


def test_a_directory_in_use_is_refused_before_hydra_writes(here, capsys):
    (here / "run" / ".hydra").mkdir(parents=True)
    (here / "run" / "status.json").write_text("{}")
    assert main([*TINY, "hydra.run.dir=run"]) == 2
    assert "already contains a run" in capsys.readouterr().err
    assert list((here / "run" / ".hydra").iterdir()) == []


def test_a_request_that_failed_before_training_can_be_corrected_in_its_directory(here, capsys):
    assert main([*TINY, "explain.layers=[layer9]", "hydra.run.dir=run"]) == 2
    assert main([*TINY, "hydra.run.dir=run", "epochs=1"]) == 0
    assert state_of(here / "run")["state"] == "completed"


def test_the_traceback_of_the_users_own_network_is_kept(here, capsys, monkeypatch):
    (here / "mine.py").write_text(
        "from torch import nn\n"
        "class Net(nn.Linear):\n"
        "    def __init__(self, num_classes, in_channels, **options):\n"
        "        super().__init__(in_channels, num_classes)\n"
        "    def forward(self, images):\n"
        "        return images.no_such_attribute\n"
        "def sequential(num_classes, in_channels, **options):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(7, num_classes))\n"
    )
    (here / "model").mkdir()
    (here / "model" / "mine.yaml").write_text("{name: mine, _target_: mine.Net, width: 1}")
    monkeypatch.syspath_prepend(here)
    network = [
        *TINY,
        "--config-dir=.",
        "model=mine",
        "trust=[mine]",
        "memory_format=channels_last",
        "hydra.run.dir=run",
    ]
    for name, line in (("Net", "in forward\n    return images.no_such_attribute"), ("sequential", "in forward\n")):
        assert main([*network, f"model._target_=mine.{name}"]) == 2
        error = capsys.readouterr().err
        assert "model cannot process" in error
        assert "the traceback is in run/run.log" in error
        assert line in (here / "run" / "run.log").read_text()
    assert main([*TINY, "hydra.run.dir=run", "epochs=1"]) == 0  # the directory can be used again


def test_help_lists_the_options_and_not_the_schemas(here, capsys):
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert "model: quickstart, resnet18, resnet34, resnet9" in out
    assert "base_sgd" not in out
    assert re.search(r"max_lr +0.1 +peak learning rate", out)


@pytest.mark.parametrize(
    ("arguments", "pattern"),
    [
        (["--help", "optimizer"], r"optimizer=adamw +Adam with.*optimizer\.nesterov +true +Nesterov momentum"),
        (["--help", "data", "data=image_folder"], r"data\.root +null +folder of train"),
        (["--help", "max_lr"], r"^  max_lr +0\.1 +peak learning rate"),
        (["--version"], r"^cifar-exp \d+\.\d+"),
    ],
)
def test_help_on_a_topic(here, capsys, arguments, pattern):
    assert main(arguments) == 0
    assert re.search(pattern, capsys.readouterr().out, re.DOTALL)


def test_cfg_job_shows_the_composed_config(here, capsys):
    assert main(["--cfg", "job", "epochs=7"]) == 0
    assert "epochs: 7" in capsys.readouterr().out
    assert list(here.iterdir()) == []


LIGHT = """
import sys
from cifar_exp import cli
from cifar_exp.cli.commands import COMMANDS
from cifar_exp.cli.main import main
heavy = {"torch", "torchvision", "albumentations", "captum", "matplotlib", "pandas", "scipy", "numpy", "PIL", "jinja2"}
asked = [["--help"], ["--help", "model"], ["--version"], ["--cfg", "job"], ["epohcs=1"]]
for arguments in (*asked, *([command, "--help"] for command in COMMANDS)):
    main(arguments)
    if loaded := heavy & set(sys.modules):
        sys.exit(f"{arguments} imported {loaded}")
"""


def test_help_imports_nothing_heavy(here):
    done = subprocess.run([sys.executable, "-c", LIGHT], cwd=here, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    for command in COMMANDS:
        assert f"usage: cifar-exp {command}" in done.stdout


EARLY = """
import os, signal, sys, threading
if {ignored}:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
class Interrupting:
    def find_spec(self, name, *_):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupting())
sys.argv = ["cifar-exp", "--version"]
from cifar_exp.__main__ import main
sys.exit(main())
"""


@pytest.mark.parametrize(
    ("module", "ignored"), [("cifar_exp.cli", False), ("cifar_exp.cli.commands", False), ("cifar_exp.errors", True)]
)
def test_ctrl_c_during_the_first_imports_shows_no_traceback(here, module, ignored):
    script = EARLY.format(module=module, ignored=ignored)
    done = subprocess.run([sys.executable, "-c", script], cwd=here, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0 if ignored else 130, "")


def test_ctrl_c_interrupts_a_run_and_it_prints_how_to_resume(here):
    command = [*PROGRAM, *TINY, "epochs=5000", "hydra.run.dir=run"]
    with started(command, cwd=here, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        wait_for((here / "run" / "metrics.csv").exists, seconds=90)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert state_of(here / "run")["state"] == "interrupted"
    assert b"Traceback" not in stderr
    assert re.search(rb"interrupted; saved at epoch \d+, step \d+\. Resume with: cifar-exp resume run$", stderr.strip())


@pytest.fixture
def no_large_files():
    """A limit on the size of files, below that of a checkpoint."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_file_that_cannot_be_written_fails_the_run_and_keeps_the_other_files(here, no_large_files, capsys):
    assert main([*TINY, "model.width=16", "hydra.run.dir=run"]) == 1
    error = capsys.readouterr().err
    assert "File too large" in error
    assert "Traceback" not in error
    assert state_of(here / "run")["state"] == "failed"
    assert (here / "run" / "metrics.csv").read_text().count("\n") == 2
    assert list((here / "run" / "checkpoints").iterdir()) == []


def test_a_closed_pipe_is_no_error(here):
    command = f"{sys.executable} -m cifar_exp --help | head -1"
    done = subprocess.run(command, shell=True, cwd=here, capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    assert done.stdout.startswith("cifar-exp")


def test_an_unexpected_error_is_reported_without_its_traceback(monkeypatch, capsys):
    def fails(_arguments):
        raise ZeroDivisionError("by nothing")

    monkeypatch.setattr(cifar_exp.cli.main, "_dispatch", fails)
    assert main(["--help"]) == 1
    assert capsys.readouterr().err.startswith("cifar-exp: ZeroDivisionError: by nothing\nset CIFAR_EXP_TRACEBACK=1")
    monkeypatch.setenv("CIFAR_EXP_TRACEBACK", "1")
    with pytest.raises(ZeroDivisionError):
        main(["--help"])


@pytest.mark.parametrize("command", ["compare", "report", "resume", "evaluate", "reproduce"])
def test_a_path_that_cannot_be_accessed_is_a_wrong_request(command, capsys):
    assert main([command, "x" * 300]) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_environment_variables_left_by_torchrun_are_ignored(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert main(["compare", str(tmp_path / "nothing")]) == 2
