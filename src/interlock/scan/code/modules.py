"""Run the code rules over Python and OpenQASM text."""

from __future__ import annotations

import ast
import re
import textwrap
import warnings
from collections.abc import Iterator
from dataclasses import replace
from functools import cache

from interlock import plugins
from interlock.scan.code.base import CodeRule, Hit, Module, RuleFacts
from interlock.scan.code.qasm import QASM_RULES, QasmProgram
from interlock.scan.finding import Report, ScanFinding, printable
from interlock.scan.secrets.mask import veiled

__all__ = ["GROUP", "check_python", "check_qasm", "code_rules"]

GROUP = "interlock.scan"
#: Parsed, a literal takes five hundred times its size in memory.
_MAX_PARSED = 1024 * 1024
_RUNS_TEXT = {"exec", "eval", "compile"}
_QUOTED = re.compile(r"""(["'])([^"']{4,})\1""")
_SECRETIVE = re.compile(
    r"(?i)(?:token|key|secret|passw|pwd|credential|auth|login|account)[\w\-]*\s?"
    r"""(?:["'`\])]{0,2}\s{0,4}(?:[:=(,+]\s{0,4}){0,2}[bruf]?|\([^()]{0,60})$"""
)


@cache
def code_rules(extra: tuple[str, ...] = ()) -> tuple[CodeRule, ...]:
    """Return the shipped rules and the third-party ones named: installed is not enabled."""
    names = [
        name
        for name in plugins.installed(GROUP)
        if name in extra or plugins.source_of(GROUP, name).distribution == "interlock"
    ]
    return tuple(plugins.load(GROUP, name)() for name in names)


def check_python(text: str, shown: str, report: Report) -> list[ScanFinding]:
    """Return what the rules say of one module; text that does not parse is noted."""
    if len(text) > _MAX_PARSED:
        report.note(shown, "too-large-to-parse", f"over {_MAX_PARSED} characters: no code rules")
        return []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module = Module(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        detail = f"line {error.lineno}" if isinstance(error, SyntaxError) else type(error).__name__
        report.note(shown, "python-syntax", detail)
        return []
    lines = text.split("\n")
    found: list[ScanFinding] = []
    for rule in code_rules():
        try:
            hits = list(rule.check(module))
        except RecursionError:
            report.note(shown, "python-syntax", f"nested too deep for {rule.id}")
            continue
        found.extend(_finding(rule, hit, shown, lines) for hit in hits)
    for node, inner in _run_texts(module):
        for item in check_python(inner, shown, Report()):
            message = f"in a text that is run: {item.message}"
            place = replace(item, line=node.lineno, column=node.col_offset + 1, message=message)
            found.append(place)
    return found


def _run_texts(module: Module) -> Iterator[tuple[ast.Call, str]]:
    """Yield the calls of `exec`, `eval` and `compile` on a text written out, and the text."""
    for call in module.calls:
        named = isinstance(call.func, ast.Name) or module.name(call.func).startswith("builtins.")
        if named and call.args and module.name(call.func).rpartition(".")[2] in _RUNS_TEXT:
            text = call.args[0].value if isinstance(call.args[0], ast.Constant) else None
            if isinstance(text, bytes):
                text = text.decode("utf-8", "replace")
            if isinstance(text, str):
                yield call, textwrap.dedent(text).strip()


def check_qasm(text: str, shown: str, report: Report) -> list[ScanFinding]:
    """Return what the rules say of one OpenQASM 2 or 3 program."""
    program = QasmProgram(text)
    if not program.version and not program.statements:
        report.note(shown, "qasm-empty")
        return []
    lines = text.split("\n")
    return [_finding(rule, hit, shown, lines) for rule in QASM_RULES for hit in rule.check(program)]


def _hidden(line: str, *, all_texts: bool) -> str:
    """Mask each quoted text that may be a secret: where a name says so, or when it is no words."""

    def veil(found: re.Match[str]) -> str:
        quote, text = found[1], found[2]
        told = all_texts or _SECRETIVE.search(line[max(0, found.start() - 120) : found.start()])
        return f"{quote}{'****' if told else veiled(text)}{quote}"

    return _QUOTED.sub(veil, line)


def _finding(rule: RuleFacts, hit: Hit, shown: str, lines: list[str]) -> ScanFinding:
    line = lines[hit.line - 1] if 0 < hit.line <= len(lines) else ""
    return ScanFinding(
        rule=f"code.{rule.id}",
        title=rule.title,
        message=hit.message,
        severity=rule.severity,
        confidence=rule.confidence,
        risk=max(1, int(rule.severity) - {"high": 0, "medium": 5, "low": 15}[rule.confidence]),
        path=shown,
        line=hit.line,
        column=hit.column,
        excerpt=printable(_hidden(line.strip(), all_texts=rule.id == "token-in-code")),
        why=rule.why,
        fix=rule.fix,
        length=hit.length,
        anchor=" ".join(line.split()),
    )
