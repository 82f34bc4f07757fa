"""The documents name only files that exist, and CONTRIBUTING only names in the code."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCUMENTS = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_named_files_exist(document):
    text = document.read_text(encoding="utf-8").partition("\n## Add a scheduler")[0]  # its files are examples
    named = re.findall(r"\b(?:benchmarks|cifar_exp|conf|docs|hydra_plugins|tests)/(?:[\w-]+/)*(?:[\w-]+\.\w+)?", text)
    linked = re.findall(r"\]\((?!https?:)([^)#]+)", text)
    paths = [ROOT / name for name in named] + [document.parent / link for link in linked]
    assert not [str(path.relative_to(ROOT)) for path in paths if not path.exists()]


def test_names_in_the_table_of_places_exist():
    section = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split("\n## ")[2:4]
    named = set(re.findall(r"`([A-Za-z_]\w*)`", "".join(section)))
    sources = [*ROOT.glob("cifar_exp/**/*.py"), *ROOT.glob("hydra_plugins/**/*.py"), ROOT / "setup.cfg"]
    sources.append(ROOT / "tests/config/test_compose.py")
    code = set(re.findall(r"\w+", "".join(path.read_text(encoding="utf-8") for path in sources)))
    assert {"METRICS_COLUMNS", "derived_seed"} <= named
    assert named <= code, named - code
