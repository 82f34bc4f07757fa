"""A finished run that tests of commands may change."""

import shutil

import pytest
from composing import TINY, composed

from cifar_exp.runner import run


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    out_dir = tmp_path_factory.mktemp("original") / "run"
    run(composed(*TINY, "data.workers=0"), out_dir)
    return out_dir


@pytest.fixture
def copied(original, tmp_path, monkeypatch):
    """The run moved elsewhere, and another current folder."""
    shutil.copytree(original, tmp_path / "moved")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return tmp_path / "moved"
