"""Files made to make the scanner slow: time grows with size, not faster."""

import time

import pytest

from interlock.scan.code.modules import check_python, check_qasm
from interlock.scan.finding import Report
from interlock.scan.notebook import pieces
from interlock.scan.secrets.engine import default_engine

DOUBLING = "a0 = 'xy'\n" + "".join(f"a{n} = a{n - 1} + a{n - 1}\n" for n in range(1, 70))

PYTHON = {
    "doubling texts": DOUBLING + "import os\ngetattr(os, a69)('x')\n",
    "one name many times": "x = 1\n" + "x = f(x)\n" * 10_000,
    "many circuits": "from qiskit import QuantumCircuit\n"
    + "".join(f"def f{n}():\n    q = QuantumCircuit(1)\n    q.h(0)\n" for n in range(1500))
    + "g(q)\n" * 5000,
    "many loads": "import yaml\n" + "class L(yaml.Loader): pass\nyaml.load(x, Loader=L)\n" * 3000,
    "long sums": "x = " + "+".join(["'a'"] * 900) + "\nimport os\ngetattr(os, x)()\n",
    "a chain of calls": "x = a" + ".b()" * 900,
}
QASM = {
    "unclosed comments": "/*" * 200_000,
    "closed comments": "/**/" * 100_000,
    "spaces": "OPENQASM 3.0;" + "measure" + " " * 300_000 + "x;",
    "equals": "=" * 300_000 + ";",
    "parentheses": "rx" + "(" * 100_000 + ";",
    "braces": "{" * 200_000 + "}" * 200_000,
}
SECRETS = {
    "keys that begin": b"-----BEGIN PRIVATE KEY-----\n" * 8000,
    "key lines": b"-----BEGIN PRIVATE KEY-----\n" + b"QUJD" * 50_000,
    "tokens that begin": b"-eyJabcdefghijk" * 8000,
    "words": b"ionq token " * 20_000,
    "quotes": b"token" + b"\\'" * 100_000,
    "vendors": b"iqm_ " * 30_000,
    "urls": b"a://" * 40_000,
    "passwords": b"password: " * 20_000,
    "names": b"a" * 200_000 + b"_token='" + b"b" * 200_000,
}


@pytest.mark.parametrize("name", PYTHON)
def test_python(name: str) -> None:
    start = time.process_time()
    check_python(PYTHON[name], "x.py", Report())
    assert time.process_time() - start < 5


@pytest.mark.parametrize("name", QASM)
def test_qasm(name: str) -> None:
    start = time.process_time()
    check_qasm(QASM[name], "x.qasm", Report())
    assert time.process_time() - start < 5


@pytest.mark.parametrize("name", SECRETS)
def test_secrets(name: str) -> None:
    start = time.process_time()
    default_engine().scan(SECRETS[name])
    assert time.process_time() - start < 5


def test_notebooks() -> None:
    start = time.process_time()
    raw = b'{"cells": ["' + b'\\"' * 1_000_000 + b'"]}'
    assert len(pieces(raw)) == 1
    for broken in (b'"' + b'\\"' * 500_000, b'{"a": "' * 20_000):
        with pytest.raises(Exception, match="decoded"):
            pieces(broken)
    assert time.process_time() - start < 5
