"""Put right what was found: a revoke hook, notebooks without outputs, history advice."""

from __future__ import annotations

import errno
import json
import os
import shlex
import subprocess
import tempfile
from pathlib import Path

from interlock.errors import InputError, SetupError, StorageError
from interlock.scan.finding import ScanFinding
from interlock.scan.notebook import strip_outputs
from interlock.scan.secrets.ruleset import builtin_rules

__all__ = ["HISTORY_ADVICE", "run_revoke_hook", "strip_notebook", "write_private"]

HISTORY_ADVICE = """\
These secrets are in the git history. In this order:
  1. Revoke each one at its issuer now. Nothing else makes it harmless.
  2. Read the issuer's access log since the commit named beside it.
  3. Rewrite: git filter-repo --replace-text FILE  (a line for each: literal:SECRET==>REMOVED)
  4. Force-push every branch and tag, delete old clones, forks and caches, tell the others.
  5. Scan again: interlock scan --git-history .
"""


def write_private(path: Path, text: str) -> None:
    """Write a file only its owner can read, replacing what was there in one step.

    Raises:
        StorageError: the file cannot be written; what was there stays.
    """
    temporary = None
    try:
        if path.is_symlink() or (path.exists() and not path.is_file()):
            raise OSError(errno.EINVAL, "a link, folder, device or FIFO is not replaced")
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".interlock-")
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as handle:
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
    provider = next((r.provider for r in builtin_rules() if f"secret.{r.id}" == finding.rule), "")
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
