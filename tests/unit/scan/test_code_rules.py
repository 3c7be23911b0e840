"""Each code rule fires on its positive cases, not on its negative ones, and has a docs section."""

import importlib.util
import json
import re
import sys
import time
from pathlib import Path

import pytest

from interlock.scan import run
from interlock.scan.code.base import Module
from interlock.scan.code.modules import check_python, check_qasm, code_rules
from interlock.scan.code.qasm import QASM_RULES
from interlock.scan.finding import Report

ROOT = Path(__file__).parents[3]
SPEC = importlib.util.spec_from_file_location("cases", ROOT / "benchmarks/scan_code_cases.py")
assert SPEC is not None
assert SPEC.loader is not None
CASES = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(CASES)


def flat(table: dict[str, tuple[list[str], list[str]]]) -> list[tuple[str, bool, str]]:
    return [
        (rule, bool(kind == 0), text)
        for rule, pair in table.items()
        for kind in (0, 1)
        for text in pair[kind]
    ]


@pytest.mark.parametrize(("rule", "wanted", "text"), flat(CASES.PYTHON))
def test_a_python_rule_fires_where_it_should_and_only_there(
    rule: str, wanted: bool, text: str
) -> None:
    report = Report()
    found = {item.rule for item in check_python(text, "x.py", report)}
    assert report.notes == []
    assert (f"code.{rule}" in found) is wanted


@pytest.mark.parametrize(("rule", "wanted", "text"), flat(CASES.QASM))
def test_a_qasm_rule_fires_where_it_should_and_only_there(
    rule: str, wanted: bool, text: str
) -> None:
    found = {item.rule for item in check_qasm(text, "x.qasm", Report())}
    assert (f"code.{rule}" in found) is wanted


def test_every_rule_has_cases_reasons_and_a_docs_section() -> None:
    text = (ROOT / "docs/reference/scan-code.md").read_text("utf-8")
    for rule in (*code_rules(), *QASM_RULES):
        table = CASES.QASM if rule.id.startswith("qasm-") else CASES.PYTHON
        assert all(table[rule.id])
        assert rule.why
        assert rule.fix
        assert f"\n## {rule.id}\n" in text
    assert {r.id for r in code_rules()} == set(CASES.PYTHON)


def test_a_finding_in_a_notebook_names_its_cell_and_line(tmp_path: Path) -> None:
    def cell(kind: str, *lines: str) -> dict[str, object]:
        return {"cell_type": kind, "metadata": {}, "outputs": [], "source": list(lines)}

    cells = [
        cell("markdown", "pickle.load(x)"),
        cell("code", "%matplotlib inline\n", "import pickle"),
        cell("code", "a = 1\n", "m = pickle.load(f)"),
    ]
    path = tmp_path / "n.ipynb"
    path.write_text(json.dumps({"cells": cells, "metadata": {}, "nbformat": 4}, indent=1))
    (finding,) = run.scan([path], families=("code",), base=tmp_path).findings
    assert finding.rule == "code.unsafe-load"
    assert finding.where == "cell 3"
    assert "m = pickle.load(f)" in path.read_text().split("\n")[finding.line - 1]


def test_third_party_rules_are_not_enabled_by_being_installed() -> None:
    assert all(type(rule).__module__.startswith("interlock.") for rule in code_rules())


@pytest.mark.parametrize("text", [
    "import torch as t\nt.load('a')\n", "from torch import load as x\nx('a')\n",
    "import torch\nread = torch.load\nread('a')\n", "import pickle as json\njson.loads(b)\n",
    "from torch.serialization import load\nload('a')\n",
    "import torch.serialization as s\ns.load('a', weights_only=False)\n",
    "def f():\n    import joblib as j\n    return j.load('a')\n",
])  # fmt: skip
def test_an_alias_hides_no_unsafe_load(text: str) -> None:
    assert [f.rule for f in check_python(text, "a.py", Report())] == ["code.unsafe-load"]


@pytest.mark.parametrize("text", [
    "import json as torch\ntorch.load(f)\n", "from json import load as x\nx(f)\n",
    "from torch.serialization import load as x\nx('a', weights_only=True)\n",
])  # fmt: skip
def test_an_alias_of_something_else_is_no_unsafe_load(text: str) -> None:
    assert check_python(text, "a.py", Report()) == []


def blind_zone() -> list[str]:
    text = (ROOT / "docs/reference/scan-code.md").read_text("utf-8")
    section = text.split("\n## Blind zone\n", 1)[1].split("\n## ", 1)[0]
    return re.findall(r"```python\n(.*?)```", section, re.DOTALL)


def test_the_blind_zone_is_published() -> None:
    assert len(blind_zone()) >= 10


@pytest.mark.parametrize("text", blind_zone())
def test_what_the_docs_call_unseen_is_unseen(text: str) -> None:
    report = Report()
    assert check_python(text, "a.py", report) == []
    assert report.notes == []


def test_names_that_go_in_circles_end() -> None:
    text = "import pickle\na = b\nb = a\nfor i in x:\n    a = b\n    b = a\n    a.loads(b)\n"
    assert check_python(text, "a.py", Report()) == []
    deep = "import pickle\nx0 = pickle\n"
    deep += "".join(f"x{n + 1} = x{n}\n" for n in range(2000)) + "x2000.loads(1)\n"
    assert check_python(deep, "a.py", Report()) == []


def test_a_long_chain_of_calls_costs_no_more_than_its_length() -> None:
    chain = "import pickle\nx = q" + ".a(1)" * 200 + "\n"
    chain += "y = " + "getattr(" * 30 + "pickle" + ", 'b')" * 30 + "\n"
    module = Module(chain)
    steps = 0

    def count(*_: object) -> None:
        nonlocal steps
        steps += 1

    sys.setprofile(count)
    try:
        found = [module.name(call) for call in module.calls]
    finally:
        sys.setprofile(None)
    assert len(found) == 230
    assert steps < 2_000_000  # doubling at each level would be over a trillion


def test_a_deep_chain_hides_no_later_load() -> None:
    names = "".join(f"x{n + 1} = x{n}\n" for n in range(60))
    text = f"import pickle\nx0 = pickle.loads\n{names}x60(1)\nx0(2)\n"
    assert [f.line for f in check_python(text, "a.py", Report())] == [64]


@pytest.mark.parametrize("text", [
    'connect("q8Zr2LmT0vXc4BnY")', 'login("kim", "sunshineorange")', 'd = {"password": "sunny"}',
    'f(token="sunshineorange")', 'header = "apiKey " + "sunshine"',
    'QiskitRuntimeService(token="sunshineorange")',
])  # fmt: skip
def test_an_excerpt_shows_no_text_that_may_be_a_secret(text: str) -> None:
    found = check_python(f"import pickle\npickle.load(f); {text}", "a.py", Report())
    assert found
    for finding in found:
        assert "****" in finding.excerpt
        assert "sunny" not in finding.excerpt
        assert "sunshine" not in finding.excerpt
        assert "q8Zr" not in finding.excerpt


@pytest.mark.parametrize("text", [
    'get_backend("ibm_brisbane_twin")', 'get_backend("ibmq_qasm_simulator")',
    'b = "ibmq_16_melbourne"', 'print("Results on a simulator today")',
])  # fmt: skip
def test_an_excerpt_shows_names_and_prose(text: str) -> None:
    (finding,) = check_python(f"import pickle\npickle.load(f); {text}", "a.py", Report())
    assert finding.excerpt.endswith(text)


def test_the_excerpt_of_a_long_line_costs_no_more_than_its_length() -> None:
    start = time.process_time()
    check_python("eval(x); a = [" + '"some words here", ' * 40_000 + "]", "a.py", Report())
    assert time.process_time() - start < 20
