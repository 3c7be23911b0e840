"""A patch that takes secrets out of plain files and leaves code that still runs."""

from __future__ import annotations

import ast
import difflib
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from interlock.scan.finding import ScanFinding

__all__ = ["patch_of"]

_SHELL = (".sh", ".bash", ".zsh", ".env")
_EXPANDED = (".yml", ".yaml", ".toml")
_LITERAL = re.compile(r"([bBrRuU]{0,2})(\"\"\"|'''|\"|')(.*)\2", re.DOTALL)


def _variable(finding: ScanFinding) -> str:
    name = finding.rule.split(".", 1)[1].replace("-credential", "-api-token")
    return re.sub(r"\W+", "_", name).upper()


def _lines(text: str) -> list[str]:
    """Split at line feeds alone, as git does."""
    return re.findall(r"[^\n]*\n|[^\n]+", text)


def _python(text: str, secret: str, variable: str) -> str | None:
    """Read whole string literals from the environment, blank the rest; None if it cannot."""
    if re.search(r"\r(?!\n)|\f", text):  # ast and git would count lines differently
        return None
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    lines = [line.encode() for line in _lines(text)]
    changed = 0
    for node, form in sorted(_literals(tree, text, secret), key=_place, reverse=True):
        line = lines[node.lineno - 1]
        call = f'os.environ["{variable}"]{".encode()" if form else ""}'.encode()
        lines[node.lineno - 1] = line[: node.col_offset] + call + line[node.end_col_offset :]
        changed = node.lineno
    done = b"".join(lines).decode()
    if changed:
        imported = _with_import(done, tree, changed)
        if imported is None:
            return None
        done = imported
    done = done.replace(secret, f"REMOVED-{variable}")
    try:
        ast.parse(done)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    return done


def _place(item: tuple[ast.Constant, bool]) -> tuple[int, int]:
    return item[0].lineno, item[0].col_offset


def _literals(tree: ast.Module, text: str, secret: str) -> Iterator[tuple[ast.Constant, bool]]:
    """Yield the one-line literals that are the secret and no more, and whether each is bytes."""
    alone = {id(n.value) for n in ast.walk(tree) if isinstance(n, ast.Expr)}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Constant) or node.value not in (secret, secret.encode()):
            continue
        if id(node) in alone or node.end_lineno != node.lineno:
            continue
        written = _LITERAL.fullmatch(ast.get_source_segment(text, node) or "")
        if written and written[3] == secret:
            yield node, isinstance(node.value, bytes)


def _with_import(done: str, tree: ast.Module, first: int) -> str | None:
    """Add `import os` after the docstring and the `__future__` imports, unless it is there."""
    after, before = 0, 0
    for index, node in enumerate(tree.body):
        names = node.names if isinstance(node, ast.Import) and node.lineno < first else []
        if any(a.name.split(".")[0] == "os" and a.asname is None for a in names):
            return done
        future = isinstance(node, ast.ImportFrom) and node.module == "__future__"
        text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if future or (text and index == 0):
            after = node.end_lineno or node.lineno
        elif not before:
            marks = getattr(node, "decorator_list", [])
            before = min(n.lineno for n in (node, *marks))
    if after and before == after:  # a statement shares the line
        return None
    lines = _lines(done)
    at = before - 1
    if after and any(line.strip() for line in lines[after:at]):  # comments stay with what they say
        at = after
    end = "\r\n" if lines and lines[0].endswith("\r\n") else "\n"
    return "".join([*lines[:at], f"import os{end}", *lines[at:]])


def _shell(text: str, secret: str, variable: str) -> str | None:
    """Read the secret from the environment; None where single quotes or a here-document hold it."""
    if "<<" in text:
        return None
    out, at, quote = "", 0, ""
    while at < len(text):
        here = text[at]
        if text.startswith(secret, at) and quote != "'":
            out, at = out + "${" + variable + "}", at + len(secret)
            continue
        if not quote and text.startswith(f"'{secret}'", at):
            out, at = out + '"${' + variable + '}"', at + len(secret) + 2
            continue
        size = 1
        if here == "\\" and quote != "'":
            size = 2
        elif here in "'\"" and quote in ("", here):
            quote = "" if quote else here
        elif here == "#" and not quote and (at == 0 or text[at - 1].isspace()):
            size = len(text[at:].split("\n", 1)[0])
        piece = text[at : at + size]
        out, at = (
            out + (piece.replace(secret, f"REMOVED-{variable}") if size > 2 else piece),
            (at + size),
        )
    return None if secret in out else out


def _replace(text: str, finding: ScanFinding, suffix: str) -> str | None:
    secret, variable = finding.secret.decode("utf-8", "replace"), _variable(finding)
    if suffix in (".py", ".pyw"):
        return _python(text, secret, variable)
    if suffix in _SHELL:
        return _shell(text, secret, variable)
    holder = "${" + variable + "}" if suffix in _EXPANDED else f"REMOVED-{variable}"
    return text.replace(secret, holder)


def patch_of(
    findings: Iterable[ScanFinding], base: Path, real: Mapping[str, str] | None = None
) -> tuple[str, list[ScanFinding]]:
    """Return a unified diff that takes the secrets out of plain files, and what it leaves.

    The removed lines hold the secrets, as any such patch must: write it with `write_private`.
    Left are names of files, secrets written with escapes or over lines, notebooks, archives and
    binary files, Python that would no longer parse, and shell where nothing is expanded: for
    `strip_notebook` or their owner. `real` gives the path behind a masked one.
    """
    by_path: dict[str, list[ScanFinding]] = defaultdict(list)
    left: list[ScanFinding] = []
    for item in findings:
        if item.line and "!" not in item.path and not item.path.endswith(".ipynb"):
            by_path[item.path].append(item)
        else:
            left.append(item)
    out: list[str] = []
    for shown, items in sorted(by_path.items()):
        name = (real or {}).get(shown, shown)
        path = base / name
        try:
            before = path.read_bytes().decode()
        except (OSError, UnicodeDecodeError):
            left.extend(items)
            continue
        if not name.isprintable() or '"' in name:  # git would want it quoted
            left.extend(items)
            continue
        after = before
        for item in items:
            secret = item.secret.decode("utf-8", "replace")
            done = (
                _replace(after, item, path.suffix.lower() or Path(name).name)
                if (secret in after)
                else None
            )
            if done is not None:
                after = done
            elif secret in after or secret not in before:
                left.append(item)
        out += _diff(before, after, name)
    return "".join(out), left


def _diff(before: str, after: str, name: str) -> Iterator[str]:
    was, now = _lines(before), _lines(after)
    for line in difflib.unified_diff(was, now, f"a/{name}", f"b/{name}"):
        yield line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n"
