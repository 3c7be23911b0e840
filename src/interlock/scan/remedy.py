"""Put right what was found: a patch, a revoke hook, notebooks without outputs, history advice."""

from __future__ import annotations

import difflib
import json
import os
import re
import shlex
import subprocess
import tempfile
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from interlock.errors import InputError, SetupError, StorageError
from interlock.scan.finding import ScanFinding
from interlock.scan.notebook import strip_outputs

__all__ = ["HISTORY_ADVICE", "patch_of", "run_revoke_hook", "strip_notebook", "write_private"]

HISTORY_ADVICE = """\
These secrets are in the git history. In this order:
  1. Revoke each one at its issuer now. Nothing else makes it harmless.
  2. Read the issuer's access log since the commit named beside it.
  3. Rewrite: git filter-repo --replace-text FILE  (a line for each: literal:SECRET==>REMOVED)
  4. Force-push every branch and tag, delete old clones, forks and caches, tell the others.
  5. Scan again: interlock scan --git-history .
"""


def _variable(finding: ScanFinding) -> str:
    name = finding.rule.split(".", 1)[1].replace("-credential", "-api-token")
    return re.sub(r"\W+", "_", name).upper()


def _replace(text: str, finding: ScanFinding, suffix: str) -> str:
    secret = finding.secret.decode("utf-8", "replace")
    variable = _variable(finding)
    if suffix == ".py":
        quoted = re.compile(r"[brf]{0,2}([\"'])" + re.escape(secret) + r"\1")
        text, count = quoted.subn(f'os.environ["{variable}"]', text)
        if count and not re.search(r"^import os\b", text, re.MULTILINE):
            text = _with_import(text)
    holder = (
        "${" + variable + "}"
        if suffix in (".sh", ".env", ".yml", ".yaml", ".toml")
        else (f"REMOVED-{variable}")
    )
    return text.replace(secret, holder)


def _with_import(text: str) -> str:
    """Add `import os` before the first import that is not from `__future__`."""
    lines = text.split("\n")
    for index, line in enumerate(lines):
        plain = line.startswith(("import ", "from ")) and not line.startswith("from __future__")
        if plain:
            return "\n".join([*lines[:index], "import os", *lines[index:]])
    return "import os\n" + text


def patch_of(findings: Iterable[ScanFinding], base: Path) -> str:
    """Return a unified diff that takes the secrets out of plain files.

    The removed lines hold the secrets, as any such patch must: write it with `write_private`.
    Notebooks, archives and binary files are left to `strip_notebook` and to their owner.
    """
    by_path: dict[str, list[ScanFinding]] = defaultdict(list)
    for item in findings:
        if item.secret and "!" not in item.path and not item.path.endswith(".ipynb"):
            by_path[item.path].append(item)
    out: list[str] = []
    for name, items in sorted(by_path.items()):
        path = base / name
        try:
            before = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            continue
        after = before
        for item in items:
            after = _replace(after, item, path.suffix.lower())
        if after != before:
            out.extend(
                difflib.unified_diff(
                    before.splitlines(keepends=True),
                    after.splitlines(keepends=True),
                    f"a/{name}",
                    f"b/{name}",
                )
            )
    return "".join(line if line.endswith("\n") else line + "\n" for line in out)


def write_private(path: Path, text: str) -> None:
    """Write a file only its owner can read, replacing what was there in one step.

    Raises:
        StorageError: the file cannot be written; what was there stays.
    """
    temporary = None
    try:
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".interlock-")
        with os.fdopen(descriptor, "w", encoding="utf-8") as handle:
            handle.write(text)
        Path(temporary).replace(path)
    except OSError as error:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        raise StorageError(
            "a file cannot be written",
            code="scan-output",
            got=f"{path}: {error.strerror}",
            expected="a writable place with room",
            fix="choose another file, or make room",
        ) from error


def strip_notebook(path: Path) -> int:
    """Take outputs and counts out of a notebook in place; return how many outputs went.

    Raises:
        InputError: not a notebook, or a link.
    """
    if path.is_symlink() or not path.is_file():
        raise InputError(
            "not an ordinary notebook file",
            code="scan-notebook-broken",
            got=str(path),
            expected="a .ipynb file",
            fix="name the file itself",
        )
    text, removed = strip_outputs(path.read_bytes())
    mode = path.stat().st_mode & 0o777
    write_private(path, text.decode())
    path.chmod(mode)
    return removed


def run_revoke_hook(command: str, finding: ScanFinding, *, timeout_s: float = 30.0) -> int:
    """Hand one secret to a program that revokes it: JSON on its standard input, never in arguments.

    Returns the program's exit code.

    Raises:
        SetupError: it cannot be started or does not end in time.
    """
    provider = finding.rule.split(".", 1)[1]
    payload = {
        "version": 1,
        "rule": finding.rule,
        "provider": provider,
        "path": finding.path,
        "line": finding.line,
        "where": finding.where,
        "secret": finding.secret.decode("utf-8", "replace"),
    }
    try:
        done = subprocess.run(  # noqa: S603 - the user's own command, no shell
            shlex.split(command),
            input=json.dumps(payload).encode(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=timeout_s,
            check=False,
        )
    except (OSError, ValueError, subprocess.TimeoutExpired, IndexError) as error:
        raise SetupError(
            "the revoke hook failed",
            code="scan-revoke-hook",
            got=type(error).__name__,
            expected=f"a program that ends within {timeout_s:g} s",
            fix="run it by hand with a JSON object on its standard input",
        ) from None
    return done.returncode
