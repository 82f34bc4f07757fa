"""``docs/notebook.ipynb`` runs, with progress bars, and contains its outputs."""

import re
from pathlib import Path

import nbformat
from notebooks import executed, without_progress

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "docs" / "notebook.ipynb"


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def printed(notebook, stream):
    return "".join(
        output.text for cell in code_cells(notebook) for output in cell.outputs if output.get("name") == stream
    )


def kinds(notebook):
    return [[sorted(output.get("data", {"text": 0})) for output in cell.outputs] for cell in code_cells(notebook)]


def test_the_notebook_runs_and_contains_its_outputs(tmp_path, monkeypatch):
    for variable in ("JUPYTER_RUNTIME_DIR", "IPYTHONDIR"):
        monkeypatch.setenv(variable, str(tmp_path / variable))
    monkeypatch.delenv("MPLBACKEND", raising=False)  # set by an earlier test; the kernel would show no figures
    kept = nbformat.read(NOTEBOOK, as_version=4)
    new = executed(NOTEBOOK, tmp_path)
    assert "epoch 4/4" in printed(new, "stderr")  # a progress bar
    assert "test accuracy" in printed(kept, "stdout")
    assert kinds(kept) == kinds(without_progress(new))
    text = NOTEBOOK.read_text(encoding="utf-8")
    assert text.count('"image/png"') == 3
    assert len(text) < 400_000
    assert not re.search(f"{re.escape(str(ROOT))}|/home/|/root/|site-packages", text)
