"""The documents name only files that exist."""

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
