"""The worked examples of CONTRIBUTING.md, followed as they stand there."""

import importlib
import re
import sys
from collections.abc import Callable, Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import composing
import pytest
from hydra.core.config_store import ConfigStore

from cifar_exp.config.compose import compose_config, compose_job
from cifar_exp.config.schema import REGISTRY, ExperimentConfig
from cifar_exp.errors import RequestError

ROOT = Path(__file__).parents[2]
SECTION = (ROOT / "CONTRIBUTING.md").read_text().partition("\n## Add a scheduler")[2].partition("\n## ")[0]
EXAMPLES = {example.partition("\n")[0]: example for example in SECTION.split("\n### ")[1:]}


@pytest.fixture
def restored() -> Iterator[Callable[[dict[Any, Any]], None]]:
    """A function that notes a dictionary; afterwards it has its old content again."""
    noted: list[tuple[dict[Any, Any], dict[Any, Any]]] = []
    yield lambda mapping: noted.append((mapping, dict(mapping)))
    for mapping, before in noted:
        mapping.clear()
        mapping.update(before)


def module_of(path: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module of a file, or a new module if there is no such file; test modules are loaded separately."""
    name = path.removesuffix(".py").replace("/", ".")
    is_test = name.startswith("tests.")
    if (ROOT / path).is_file() and not is_test:
        return importlib.import_module(name)
    monkeypatch.setitem(sys.modules, name, ModuleType(name))
    if (ROOT / path).is_file():
        spec = spec_from_file_location(name, ROOT / path)
        monkeypatch.setitem(sys.modules, name, module_from_spec(spec))
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


@pytest.mark.parametrize("title", EXAMPLES)
def test_an_example_works_as_it_is_written(title, tmp_path, monkeypatch, restored):
    blocks = dict(re.findall(r"`([\w/]+\.\w+)`:\n\n```\w+\n(.*?)```", EXAMPLES[title], re.DOTALL))
    assert len(blocks) == 4
    (yaml,) = [path for path in blocks if path.endswith(".yaml")]
    _, group, option = yaml.removesuffix(".yaml").split("/")
    with pytest.raises(RequestError, match=f"{group}={option}: no such option"):
        compose_job([f"{group}={option}"])

    def composed(*overrides: str) -> ExperimentConfig:
        return compose_config(overrides, config_dir=tmp_path)

    monkeypatch.setattr(composing, "composed", composed)
    for mapping in (REGISTRY[group].schemas, REGISTRY[group].targets, ConfigStore.instance().repo[group]):
        restored(mapping)
    (tmp_path / group).mkdir()
    (tmp_path / group / f"{option}.yaml").write_text(blocks.pop(yaml))
    tests = {}
    for path, code in blocks.items():
        module = module_of(path, monkeypatch)
        restored(module.__dict__)
        before = set(module.__dict__)
        exec(compile(code, path, "exec"), module.__dict__)
        if path.startswith("tests/"):
            tests = {name: value for name, value in module.__dict__.items() if name not in before}
    functions = [value for name, value in tests.items() if name.startswith("test_")]
    assert len(functions) == 1
    functions[0]()
    assert getattr(composed(f"{group}={option}"), group).name == option
