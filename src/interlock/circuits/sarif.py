"""Diagnostics as SARIF 2.1.0 (OASIS), for code-scanning tools."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import metadata
from typing import Any

from interlock.circuits.check import CheckedFile, Diagnostic

__all__ = ["sarif"]

_LEVELS = {"error": "error", "warning": "warning", "note": "note"}


def sarif(files: Sequence[CheckedFile]) -> dict[str, Any]:
    """Return a SARIF log with one run."""
    rules: dict[str, Diagnostic] = {}
    for file in files:
        for problem in file.problems:
            rules.setdefault(problem.rule, problem)
    names = sorted(rules)
    return {
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "interlock check",
                        "version": metadata.version("interlock"),
                        "rules": [
                            {
                                "id": f"check/{name}",
                                "shortDescription": {"text": rules[name].message},
                                "help": {"text": rules[name].fix or rules[name].message},
                            }
                            for name in names
                        ],
                    }
                },
                "results": [
                    _result(file, problem, names.index(problem.rule))
                    for file in files
                    for problem in file.problems
                ],
            }
        ],
    }


def _result(file: CheckedFile, problem: Diagnostic, index: int) -> dict[str, Any]:
    place: dict[str, Any] = {"artifactLocation": {"uri": file.path}}
    if problem.line is not None:
        place["region"] = {"startLine": problem.line, "startColumn": problem.column or 1}
    text = f"{problem.message}: got {problem.got}, expected {problem.expected}. {problem.fix}."
    return {
        "ruleId": f"check/{problem.rule}",
        "ruleIndex": index,
        "level": _LEVELS[problem.severity],
        "message": {"text": text},
        "locations": [{"physicalLocation": place}],
    }
