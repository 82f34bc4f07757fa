"""The direction of imports between the rooms of the package."""

import ast
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
LAYER_OF = {room: level for level, rooms in enumerate(LAYERS) for room in rooms}


def imports() -> dict[str, set[str]]:
    """The modules of the package that each module imports, wherever the import statement stands."""
    found = {}
    names = {module_name(path): path for path in PACKAGE.rglob("*.py") if "vendor" not in path.parts}
    for name, path in names.items():
        found[name] = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                inside = [f"{node.module}.{alias.name}" for alias in node.names]
                found[name] |= {full if full in names else node.module for full in inside}
            elif isinstance(node, ast.Import):
                found[name] |= {alias.name for alias in node.names}
        found[name] = {other for other in found[name] if other in names and other not in ("cifar_exp", name)}
    return found


def module_name(path: Path) -> str:
    parts = ("cifar_exp", *path.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


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


def test_the_package_has_few_rooms():
    modules = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__", "__main__"}
    rooms = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert len(modules) <= 8
    assert len(rooms) <= 14
