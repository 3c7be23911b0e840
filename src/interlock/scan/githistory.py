"""Scan what a repository ever held: every blob, commit and tag of its object store, once.

Those reachable from a ref or the reflog are named by their path and commit; the others (dropped
commits, amended ones, files that were staged alone) as unreachable.
"""

from __future__ import annotations

import io
import itertools
import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO

from interlock.errors import InputError, SetupError
from interlock.scan.scanner import Scanner

__all__ = ["scan_history"]

_KINDS = (b"blob", b"commit", b"tag")
_MAX_BLOB = 256 * 1024 * 1024
_SAFE = (
    "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "-c", "protocol.allow=never",
    "-c", "core.pager=cat", "-c", "log.showSignature=false",
)  # fmt: skip


def _environment() -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    return {
        **kept,
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_NO_REPLACE_OBJECTS": "1",
    }


def _git(repo: Path, *arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603 - fixed arguments, no shell
        ["git", "-C", str(repo), *_SAFE, *arguments],  # noqa: S607 - the git the user runs
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=_environment(),
    )


def _objects(repo: Path, scanner: Scanner) -> dict[str, str]:
    """What refs and reflog reach; where an object is broken, what can be reached without it."""
    try:
        process = _git(repo, "rev-parse", "--git-dir")
    except FileNotFoundError as error:
        raise SetupError(
            "git is not installed",
            code="scan-git-missing",
            got="no git on PATH",
            expected="git 2.30 or later",
            fix="install git, or scan the tree without --git-history",
        ) from error
    _, problem = process.communicate()
    if process.returncode:
        raise InputError(
            "the git history cannot be read",
            code="scan-git-unreadable",
            got=problem.decode("utf-8", "replace").strip()[:200],
            expected="a git repository this user may read",
            fix="check the path; git config --global --add safe.directory PATH if you trust it",
        )
    process = _git(repo, "rev-list", "--objects", "--all", "--reflog")
    out, problem = process.communicate()
    if process.returncode:
        said = problem.decode("utf-8", "replace").strip().splitlines()[-1:] or [
            "git rev-list failed"
        ]
        detail = f"{said[0][:160]}: the other objects were looked at, without their paths"
        scanner.report.note(str(repo), "git-object", detail)
    found: dict[str, str] = {}
    for line in out.decode("utf-8", "replace").splitlines():
        name, _, path = line.partition(" ")
        found.setdefault(name, path)
    return found


def _unreachable(repo: Path, reachable: dict[str, str], scanner: Scanner) -> set[str]:
    """Every other blob, commit and tag in the store; a list that fails is noted."""
    process = _git(
        repo, "cat-file", "--batch-all-objects", "--batch-check=%(objectname) %(objecttype)"
    )
    out, _ = process.communicate()
    if process.returncode:
        scanner.report.note(str(repo), "git-object", "unreachable objects cannot be listed")
    rows = (line.partition(" ") for line in out.decode("ascii", "replace").splitlines())
    return {name for name, _, kind in rows if kind != "tree" and name not in reachable}


def _names(repo: Path) -> Iterator[str]:
    """Every path any commit added or renamed to, and the name of every ref."""
    for arguments in (
        ("log", "--all", "--reflog", "-m", "--no-renames", "--diff-filter=A", "--name-only",
         "--format=", "-z"),
        ("for-each-ref", "--format=%(refname)%00"),
    ):  # fmt: skip
        out, _ = _git(repo, *arguments).communicate()
        seen = dict.fromkeys(out.split(b"\0"))
        yield from (name.decode("utf-8", "replace").strip("\n") for name in seen if name.strip())


def scan_history(repo: Path, scanner: Scanner) -> None:
    """Scan all blobs, commits and tags; findings name the commit that brought them.

    The report says how many of each were looked at.

    Raises:
        InputError: not a repository.
        SetupError: git is missing.
    """
    report = scanner.report
    objects = _objects(repo, scanner)
    shallow, _ = _git(repo, "rev-parse", "--is-shallow-repository").communicate()
    if shallow.strip() == b"true":
        report.note(str(repo), "git-shallow", "older commits are not in this clone")
    for name in _names(repo):
        scanner.names(name)
    loose = _unreachable(repo, objects, scanner)
    before = len(report.findings)
    counts = dict.fromkeys(("blob", "commit", "tag", "unreachable"), 0)
    store = _Store(repo)
    try:
        for name, path in itertools.chain(objects.items(), ((n, "") for n in sorted(loose))):
            kind = _one(scanner, store, name, path)
            if kind in counts:
                counts[kind] += 1
                counts["unreachable"] += name in loose
    except KeyboardInterrupt:
        report.interrupted = True
    finally:
        store.close()
    report.commits += counts["commit"] + counts["tag"]
    report.covered.append(
        f"git history of {repo}: {counts['blob']} blob(s), {counts['commit']} commit(s) and "
        f"{counts['tag']} tag(s) with authors, headers and messages, {counts['unreachable']} of "
        "them unreachable; names of paths and refs"
    )
    commits: dict[str, str] = {}
    paths: dict[str, set[str]] = {}
    for index in range(before, len(report.findings)):
        finding = report.findings[index]
        blob = finding.where.rpartition("blob ")[2]
        if blob in loose:
            where = finding.where.replace(f"blob {blob}", f"unreachable {blob[:12]}")
            report.findings[index] = replace(finding, where=where)
            continue
        if blob not in commits:
            commits[blob] = _introduced(repo, blob) if not report.interrupted else ""
        where = finding.where.replace(f"blob {blob}", f"commit {commits[blob][:12] or 'unknown'}")
        report.findings[index] = replace(finding, where=where)
        for path in _paths(repo, blob, paths) - {finding.path.partition("!")[0]}:
            inner = "".join(finding.path.partition("!")[1:])
            report.findings.append(replace(finding, path=path + inner, where=where))


def _paths(repo: Path, blob: str, known: dict[str, set[str]]) -> set[str]:
    """Every path a commit gave the blob: an allowed path must not cover another."""
    if blob not in known:
        out, _ = _git(
            repo, "log", "--all", "--reflog", "-m", "--no-renames", "--raw", "--no-abbrev",
            f"--find-object={blob}", "--format=", "-z",
        ).communicate()  # fmt: skip
        parts = out.split(b"\0")
        known[blob] = {
            path.decode("utf-8", "replace")
            for head, path in itertools.pairwise(parts)
            if head.lstrip().startswith(b":") and head.split()[3:4] == [blob.encode()]
        }
    return known[blob]


class _Store:
    """`git cat-file --batch`, started again when a broken object has ended it."""

    def __init__(self, repo: Path) -> None:
        self._repo = repo
        self._process: subprocess.Popen[bytes] | None = None

    def fetch(self, name: str) -> tuple[bytes, int, bytes | None]:
        """Return kind, size and content of an object; no content when it is over the limit.

        Raises:
            LookupError: the object is missing or broken.
        """
        process = self._process or _git(self._repo, "cat-file", "--batch")
        self._process = process
        stdin, stdout = process.stdin, process.stdout
        if stdin is None or stdout is None:
            raise SetupError("no pipe to git", code="scan-git-missing")
        try:
            stdin.write(name.encode() + b"\n")
            stdin.flush()
            header = stdout.readline().split()
            if len(header) == 3:
                kind, size = header[1], int(header[2])
                wanted = kind in _KINDS and size <= _MAX_BLOB
                data = _exactly(stdout, size, keep=wanted)
                stdout.read(1)
                return kind, size, data if wanted else None
        except (OSError, EOFError, ValueError):
            header = []
        if len(header) != 2:  # it said no `missing`: it has ended
            self.close()
        raise LookupError(name)

    def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            process.communicate()


def _exactly(stdout: IO[bytes], size: int, *, keep: bool) -> bytes:
    blocks = []
    while size:
        block = stdout.read(min(size, 1 << 20))
        if not block:
            raise EOFError
        size -= len(block)
        if keep:
            blocks.append(block)
    return b"".join(blocks)


def _one(scanner: Scanner, store: _Store, name: str, path: str) -> str:
    """Scan an object; return its kind, or an empty string if it was passed over."""
    report = scanner.report
    try:
        kind, size, data = store.fetch(name)
    except LookupError:
        report.note(path or name, "git-object", "missing or broken")
        return ""
    if data is None:
        if kind == b"blob":
            report.note(path or name, "too-large", f"blob of {size} bytes")
        return ""
    first = len(report.findings)
    shown = path if kind == b"blob" else f"({kind.decode()} message)"
    if kind == b"blob":
        scanner.stream(io.BytesIO(data), shown or name)
        report.files += 1
    else:
        said, _, message = data.partition(b"\n\n")
        scanner.blocks([message], shown, "", binary=False)
        scanner.blocks([said], f"({kind.decode()} header)", "", binary=False)
    label = f"blob {name}"
    for index in range(first, len(report.findings)):
        finding = report.findings[index]
        where = f"{finding.where}, {label}" if finding.where else label
        report.findings[index] = replace(finding, where=where)
    return kind.decode()


def _introduced(repo: Path, blob: str) -> str:
    process = _git(
        repo, "log", "--all", "--reflog", f"--find-object={blob}", "--format=%H", "--reverse"
    )
    out, _ = process.communicate()
    return out.decode().split("\n", 1)[0] or blob
