"""The direction of imports between the rooms of the package."""

import ast
from collections.abc import Iterable
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import cifar_exp

PACKAGE = Path(cifar_exp.__file__).parent
# From the ground up: a room imports only from its own row and the rows above it.
LAYERS = (
    ("errors",),
    ("safe_io",),
    ("compute",),
    ("models", "config"),
    ("run_dir",),
    ("data", "evaluation"),
    ("explain", "training"),
    ("reports", "trackers"),
    ("compare",),
    ("network",),
    ("build", "outputs", "drawing"),
    ("stages",),
    ("runner", "loaded_run"),
    ("sweeps",),
    ("cli",),
)
# Slow to import; a run imports them where it uses them.
LATE = {"albumentations", "captum", "jinja2", "matplotlib", "pandas", "torchvision"}
LAYER_OF = {room: level for level, rooms in enumerate(LAYERS) for room in rooms}


def imports() -> dict[str, set[str]]:
    """The modules of the package that each module imports, wherever the import statement stands."""
    found = {}
    for name, path in MODULES.items():
        names = imported(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        found[name] = {other for other in names if other in MODULES and other not in ("cifar_exp", name)}
    return found


def imported(nodes: Iterable[ast.AST]) -> set[str]:
    """The modules that import statements among ``nodes`` name, of the package and of libraries."""
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.module:
            inside = [f"{node.module}.{alias.name}" for alias in node.names]
            found |= {full if full in MODULES else node.module for full in inside}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found


def module_name(path: Path) -> str:
    parts = ("cifar_exp", *path.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in PACKAGE.rglob("*.py") if "vendor" not in path.parts}


def room_of(name: str) -> str:
    return name.split(".")[1]


def test_no_module_imports_itself_through_others():
    graph = imports()
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"circle of imports: {' <- '.join(error.args[1])}")


def test_rooms_import_downwards():
    upwards = [
        f"{name} imports {other}"
        for name, others in imports().items()
        if name not in ("cifar_exp", "cifar_exp.__main__")
        for other in others
        if LAYER_OF[room_of(other)] > LAYER_OF[room_of(name)]
    ]
    assert not upwards, "\n".join(sorted(upwards))


def test_the_start_of_a_run_imports_no_library_that_only_some_runs_need():
    reached, waiting = set(), ["cifar_exp.runner"]
    while waiting:
        name = waiting.pop()
        package = name.rpartition(".")[0]
        if name in reached or name not in MODULES:
            continue
        reached.add(name)
        # Statements in functions and under TYPE_CHECKING are not at the top level.
        names = imported(ast.parse(MODULES[name].read_text(encoding="utf-8")).body)
        assert not LATE & {other.partition(".")[0] for other in names}, name
        waiting += [*names, package]
    assert len(reached) > 50


def test_the_package_has_few_rooms():
    modules = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__", "__main__"}
    rooms = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert len(modules) <= 8
    assert len(rooms) <= 14
