"""Names that someone else chose: no spreadsheet runs them, and no terminal is steered by them."""

import pytest
from compare_runs import make_run, write_predictions

from cifar_exp.cli.main import main
from cifar_exp.compare.discover import find_runs, read_runs
from cifar_exp.compare.output import as_csv
from cifar_exp.run_dir import tables
from cifar_exp.safe_io.untrusted import printable, spreadsheet_safe, spreadsheet_text

FORMULAS = ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(1)", "\t=1", "\r=1", "'=1", "''=1", "=", "-", "a=1", "'a", "-x"]


@pytest.mark.parametrize("name", FORMULAS)
def test_names_that_a_spreadsheet_would_run_are_written_as_text_and_read_back(tmp_path, name):
    rows = [{"label": name, "fine": "x", "confidence": -0.5}]
    tables.write_table(tmp_path / "a.csv", ("label", "fine", "confidence", name), rows)
    text = (tmp_path / "a.csv").read_bytes().decode()
    cells = text.replace("\n", ",").split(",")
    assert not any(cell.strip('"').startswith(("=", "+", "@", "\t", "\r")) for cell in cells)
    assert "-0.5" in cells
    table = tables.read_table(tmp_path / "a.csv")
    assert table["label"].tolist() == [name]
    assert table["confidence"].tolist() == [-0.5]
    assert table.columns[3] == name
    assert spreadsheet_text(spreadsheet_safe(name)) == name


def test_numbers_written_as_text_stay_numbers():
    for number in ("-1", "+1", "-0.5", "-1e-05", "-inf", "=1"[1:]):
        assert spreadsheet_safe(number) == number


def test_what_compare_writes_is_safe_too(tmp_path, capsys):
    for number, name in enumerate(("=cmd()", "plain")):
        run = make_run(tmp_path / "runs" / str(number), name=name, augment__name=f"@{number}", seed=number)
        write_predictions(run, [True, True, True, False], source="=image")
    runs = read_runs(find_runs([tmp_path / "runs"])[0])
    assert runs["config.name"].tolist() == ["=cmd()", "plain"]
    assert ",'=cmd()" in as_csv(runs)
    assert main(["compare", str(tmp_path / "runs"), "--out", str(tmp_path / "out"), "--format", "csv"]) == 0
    printed = capsys.readouterr().out
    for text in (printed, (tmp_path / "out" / "comparison.csv").read_text()):
        assert "'@0" in text
        assert ",@0" not in text


def test_what_is_printed_keeps_letters_and_loses_commands():
    assert printable("größe 犬 ok") == "größe 犬 ok"
    assert printable("a\x1b[2J\x9b\u202eb\x00\r") == "a\\x1b[2J\\x9b\\u202eb\\x00\\r"
