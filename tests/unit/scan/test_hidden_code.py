"""Code that a file name, an encoding or a text that is run would hide from the code rules."""

import os
from pathlib import Path

import pytest

from interlock.scan.pysource import declared_text
from interlock.scan.scanner import ScanOptions, scan_paths

LOAD = 'pickle.load(open("x", "rb"))'
HIDDEN = {
    "utf7.py": f"# coding: utf-7\n#+AAo-import pickle+AAo-{LOAD}\nx = 1\n",
    "second.py": f"#!/bin/x\n# vim: set fileencoding=utf_7 :\n#+AAo-import pickle+AAo-{LOAD}\n",
    "escape.py": f"# -*- coding: unicode_escape -*-\n#\\nimport pickle\\n{LOAD}\n",
    "script": f"#!/usr/bin/env python3\nimport pickle\n{LOAD}\n",
    "train.cgi": f"#!/usr/bin/python3.11 -u\nimport pickle\n{LOAD}\n",
    "run.py": f"exec('''\n    import pickle\n    {LOAD}\n''')\n",
    "twice.py": 'exec("exec(\\"import pickle; pickle.load(f)\\")")\n',
    "compiled.py": "exec(compile(b'import pickle; pickle.load(f)', '', 'exec'))\n",
    "builtin.py": "import builtins\nbuiltins.exec('import pickle; pickle.load(f)')\n",
}
PLAIN = {
    "latin.py": "# coding: latin-1\n# import pickle; pickle.load(f)\nx = 1\n",
    "no_such.py": "# coding: no-such\nx = 1\n",
    "quoted.py": "import re\nre.compile('pickle.load')\ntext = 'import pickle; pickle.load(f)'\n",
    "shell": f"#!/bin/sh\nimport pickle\n{LOAD}\n",
    "value.py": "exec('')\neval('1 + 1')\nexec('not python')\neval(b'\\xff')\nmodel.eval()\n",
}


@pytest.mark.parametrize("name", HIDDEN)
def test_hidden_code_is_judged(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(HIDDEN[name])
    report = scan_paths([tmp_path], ScanOptions(base=tmp_path))
    assert (name, "code.unsafe-load") in {(f.path, f.rule) for f in report.findings}
    assert all(f.line >= 1 for f in report.findings)


@pytest.mark.parametrize("name", PLAIN)
def test_what_is_not_run_is_not_judged(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(PLAIN[name])
    report = scan_paths([tmp_path], ScanOptions(base=tmp_path))
    assert [f.rule for f in report.findings if f.rule == "code.unsafe-load"] == []
    assert report.notes == []


def test_any_cookie_and_any_bytes_are_read_or_left() -> None:
    names = (b"utf-7", b"hex", b"rot13", b"zlib", b"idna", b"punycode", b"utf-16", b"mbcs", b"-.-")
    for name in names:
        for _ in range(20):
            assert isinstance(declared_text(b"# coding: " + name + b"\n" + os.urandom(300)), str)


def test_a_zip_application_is_no_script(tmp_path: Path) -> None:
    data = b"#!/usr/bin/env python3\nPK\x03\x04" + bytes(range(256)) * 40
    (tmp_path / "app.pyz").write_bytes(data)
    report = scan_paths([tmp_path], ScanOptions(base=tmp_path))
    assert report.binary == 1
    assert report.notes == []
