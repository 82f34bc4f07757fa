"""The programs that the tests do not run still fit the package: the names that they take from it exist."""

import ast
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted(
    path for folder in ("benchmarks", "tests/helpers", "tests/stress") for path in (ROOT / folder).rglob("*.py")
)
PROGRAM = re.compile(r"^(from|import) cifar_exp\b", re.MULTILINE)  # in a string


def missing_names(source: str) -> list[str]:
    """Names of the package that a program uses and that do not exist.

    They are imported, attributes of an imported module, or patched as in ``patch.object(module, "name")``. A program in
    a string, which the script starts in a process of its own, counts as part of the script.
    """
    nodes = list(ast.walk(ast.parse(source)))
    imported: dict[str, object] = {}
    missing = []
    for name, bound_as in package_imports(nodes):
        try:
            imported[bound_as] = find(name)
        except (ImportError, AttributeError):
            missing.append(name)
    for name, attribute in attributes(nodes):
        module = imported.get(name)
        if isinstance(module, ModuleType) and not hasattr(module, attribute):
            missing.append(f"{module.__name__}.{attribute}")
    for node in nodes:
        match node:
            case ast.Constant(str(text)) if PROGRAM.search(text):
                missing += missing_names(text)
    return missing


def package_imports(nodes: list[ast.AST]) -> Iterator[tuple[str, str]]:
    """The full name of each import from the package, and the name that the program gives it."""
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "cifar_exp":
            yield from ((f"{node.module}.{alias.name}", alias.asname or alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            names = [alias for alias in node.names if alias.name.split(".")[0] == "cifar_exp"]
            yield from ((alias.name, alias.asname or alias.name) for alias in names)


def attributes(nodes: list[ast.AST]) -> Iterator[tuple[str, str]]:
    """Pairs of a plain name and an attribute of it, written as ``name.attribute`` or ``call(name, "attribute")``."""
    for node in nodes:
        match node:
            case ast.Attribute(ast.Name(name), attribute):
                yield name, attribute
            case ast.Call(args=[ast.Name(name), ast.Constant(str(attribute)), *_]):
                yield name, attribute


def find(name: str) -> object:
    """A module, or a name in a module.

    Raises:
        ImportError: no such module.
        AttributeError: the module has no such name.
    """
    parent, _, leaf = name.rpartition(".")
    if not parent:
        return import_module(name)
    module = import_module(parent)
    return getattr(module, leaf) if hasattr(module, leaf) else import_module(name)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_script_uses_names_that_exist(path: Path):
    assert not missing_names(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("program", "missing"),
    [
        ("from cifar_exp.gone import run", "cifar_exp.gone.run"),
        ("from cifar_exp import stages, gone", "cifar_exp.gone"),
        ("import cifar_exp.gone", "cifar_exp.gone"),
        ("from cifar_exp import stages\nstages.gone(1)", "cifar_exp.stages.gone"),
        ("from cifar_exp import stages\npatch.object(stages, 'gone')", "cifar_exp.stages.gone"),
        ('PROGRAM = """import sys\nfrom cifar_exp import gone"""', "cifar_exp.gone"),
        ("def f():\n    from cifar_exp import stages as s\n    return s.gone", "cifar_exp.stages.gone"),
    ],
)
def test_missing_name_is_found(program: str, missing: str):
    assert missing_names(program) == [missing]
