"""One cell that only IPython reads hides nothing in the others."""

import json
from pathlib import Path

import pytest

from interlock.scan import run
from interlock.scan.finding import Report

UNSAFE = "import pickle\nwith open('x', 'rb') as f:\n    a = pickle.load(f)\n"


def scan(path: Path) -> Report:
    return run.scan([path], families=("secrets", "code"), base=path.parent)


def notebook(path: Path, *cells: str) -> Path:
    made = [{"cell_type": "code", "source": c, "outputs": [], "metadata": {}} for c in cells]
    path.write_text(json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": made}))
    return path


@pytest.mark.parametrize(
    "cell",
    ["x = !ls", "a.b?", "f??", "?f", "x = %timeit f()", "for i in y:\n    %time f()",
     "!pip install a", "%%bash\nls", "%matplotlib inline\nx = 1"],
)  # fmt: skip
def test_what_ipython_adds_is_passed_over(tmp_path: Path, cell: str) -> None:
    report = scan(notebook(tmp_path / "a.ipynb", cell, UNSAFE))
    (found,) = [f for f in report.findings if f.rule.startswith("code.")]
    assert found.where == "cell 2"
    assert not report.notes


@pytest.mark.parametrize("cell", ["print 'two'", "SELECT 1", "x = (", "'''"])
def test_a_cell_that_is_no_python_is_named_and_hides_no_other(tmp_path: Path, cell: str) -> None:
    report = scan(notebook(tmp_path / "a.ipynb", cell, UNSAFE))
    assert [f.where for f in report.findings if f.rule.startswith("code.")] == ["cell 2"]
    (note,) = report.notes
    assert note.reason == "python-syntax"
    assert "cell 1" in note.detail


def test_an_operator_at_the_start_of_a_line_is_no_magic(tmp_path: Path) -> None:
    report = scan(notebook(tmp_path / "a.ipynb", "x = ('%s'\n% 1)\n" + UNSAFE))
    assert [f.line for f in report.findings if f.rule.startswith("code.")]
    assert not report.notes


@pytest.mark.parametrize("text", ["{}", "[]", '{"cells": 3}', '"cells"'])
def test_a_notebook_without_cells_is_broken(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.ipynb").write_text(text)
    assert [n.reason for n in scan(tmp_path / "a.ipynb").notes] == ["broken-notebook"]
