"""Load the secret rules: data files, expanded, checked and compiled once."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from interlock.errors import PolicyError
from interlock.scan.finding import Severity
from interlock.scan.secrets.checks import CHECKS

__all__ = ["SecretRule", "builtin_rules", "load_rules", "redaction_rules"]

_QUOTE = r"""(?:[bruf]?\\{0,3}["'`]{1,3})?"""
_TYPED = r"\s{0,3}:\s{0,3}(?:str|bytes|string|Optional\[str\])\s{0,3}=\s{0,3}"
# the last: {name: TOKEN, value: ...} of containers and templates
_EQUALS = r"=>|:=|={1,2}|:|%3[Dd]|,?\s{1,40}+[\"']?value[\"']?\s{0,3}[:=]"
# space after it, or the value in the next line, however deep
_AFTER = r"(?:\s{0,8}|[ \t]{0,4}\r?\n[ \t]{0,120}+)"

#: What `${NAME}` stands for inside an expression.
MACROS = {
    # a token begins: not inside a word, or right after an escaped newline or a colour code
    "B": r"(?:(?<![A-Za-z0-9_])|(?<=\\[nrt])|(?<=[\[;]\dm)|(?<=\d\dm)|(?<=%[23][0-9A-Fa-f]))",
    # a token ends
    "E": r"(?![A-Za-z0-9+/=_\-])",
    # between a name and its value: assignment, call, header, flag or plain space
    "LOOSE": (
        rf"\\{{0,3}}[\"'`\])]{{0,3}}(?:{_TYPED}|\s{{0,8}}(?:{_EQUALS}|,|\(){_AFTER}|"
        rf"\s{{1,4}}(?:is\s{{1,2}})?)[\[({{]?{_QUOTE}(?:(?:bearer|apikey|basic|token)\s{{1,3}})?"
    ),
    # an assignment only
    "ASSIGN": (
        rf"\\{{0,3}}[\"'`\]]{{0,3}}(?:{_TYPED}|\s{{0,8}}(?:{_EQUALS}){_AFTER}|"
        rf"(?<=[\"']),\s{{0,3}}(?=[\"'])){_QUOTE}"
    ),
    # "scheme " + "value": a text joined from two
    "JOINED": r"\s{0,2}\\?[\"'`]\s{0,3}\+\s{0,3}[bruf]?\\?[\"'`]",
    # an assignment whose value is quoted
    "ASSIGN_QUOTED": (
        rf"\\{{0,3}}[\"'`\]]{{0,3}}(?:{_TYPED}|\s{{0,8}}(?:{_EQUALS})\s{{0,8}}|"
        r"(?<=[\"']),\s{0,3})[bruf]?\\{0,3}[\"'`]"
    ),
}
_EDGE = re.compile(r"(?:\$\{E\}|\(\?!\[[^\]]+\]\))$")
_KEYS = {
    "id", "title", "provider", "severity", "anchors", "expression", "exclude", "context", "window",
    "entropy", "check", "binary", "generic", "at_anchor", "revoke", "source",
    "positive", "negative", "redact_only",
    "vendors", "shapes",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretRule:
    """One compiled rule.

    Attributes:
        id: stable name.
        anchors: lower-case literals; the expression is tried only near one.
        expression: bytes pattern with a group `secret` and perhaps `name`.
        exclude: a name matching this is not reported.
        context: must match within 400 bytes of the secret.
        window: bytes looked at on either side of an anchor.
        entropy: least bits a character of the secret.
        check: name of a structure check in `checks.CHECKS`.
        binary: also tried in binary files.
        at_anchor: the expression begins at its anchor and is tried only there.
        generic: loses to any other rule on the same text.
        redact_only: tried on live logs alone; any value counts that refers to nothing else.
        positive: templates that must be found.
        negative: templates that must not be.
    """

    id: str
    title: str
    provider: str
    severity: Severity
    anchors: tuple[bytes, ...]
    expression: re.Pattern[bytes]
    exclude: re.Pattern[bytes] | None
    context: re.Pattern[bytes] | None
    window: int
    entropy: float
    check: str | None
    binary: bool
    generic: bool
    at_anchor: bool
    redact_only: bool
    revoke: str
    source: str
    positive: tuple[str, ...]
    negative: tuple[str, ...]


def _bad(where: str, message: str, got: str, expected: str) -> PolicyError:
    return PolicyError(
        f"{where}: {message}",
        code="scan-rule-invalid",
        got=got,
        expected=expected,
        fix="mend the rule file; docs/reference/scan-secrets.md lists the fields",
    )


def _pattern(where: str, text: str, extra: dict[str, str]) -> re.Pattern[bytes]:
    for name, value in {**MACROS, **extra}.items():
        text = text.replace("${" + name + "}", value)
    try:
        return re.compile(text.encode())
    except re.error as error:
        raise _bad(where, "expression does not compile", str(error), "a Python pattern") from error


def _fill(value: Any, names: dict[str, str], words: list[str]) -> Any:
    if isinstance(value, str):
        for name, text in names.items():
            value = value.replace("{" + name + "}", text)
        return value
    if isinstance(value, list):
        out: list[Any] = []
        for item in value:
            out.extend(words if item == "{words}" else [_fill(item, names, words)])
        return out
    return value


def _expand(raw: dict[str, Any]) -> Iterable[tuple[dict[str, Any], dict[str, str]]]:
    """One entry of the file is one rule, or one rule for each row of its table."""
    vendors, shapes = raw.pop("vendors", None), raw.pop("shapes", None)
    if vendors:
        for vendor, name, *words in vendors:
            word = words[0].strip("_.")
            names = {"vendor": vendor, "name": name, "word": word, "WORD": word.upper()}
            alternatives = "|".join(re.escape(w) for w in words)
            filled = {k: _fill(v, names, words) for k, v in raw.items() if k != "expression"}
            yield {**filled, "expression": raw["expression"]}, {"WORDS": alternatives}
    elif shapes:
        for vendor, name, shape, sample, *words in shapes:
            names = {"vendor": vendor, "name": name, "word": words[0], "sample": sample}
            filled = {k: _fill(v, names, words) for k, v in raw.items() if k != "expression"}
            yield {**filled, "expression": raw["expression"]}, {"SHAPE": shape}
    else:
        yield raw, {}


def _loosened(expression: str) -> str:
    """A token of its own shape wherever it stands: letters before or after it do not count."""
    if not expression.startswith("${B}(?P<secret>"):
        return expression
    return _EDGE.sub("", expression.removeprefix("${B}"))


def _compile(
    where: str, raw: dict[str, Any], extra: dict[str, str], *, loose: bool = False
) -> SecretRule:
    where = f"{where}: rule {raw.get('id', '?')}"
    unknown = set(raw) - _KEYS
    if unknown:
        raise _bad(where, "unknown field", ", ".join(sorted(unknown)), ", ".join(sorted(_KEYS)))
    for needed in ("id", "title", "severity", "anchors", "expression", "source", "positive"):
        if not raw.get(needed):
            raise _bad(where, f"{needed} is missing", "nothing", f"a value for {needed}")
    if raw.get("check") and raw["check"] not in CHECKS:
        raise _bad(where, "no such check", str(raw["check"]), ", ".join(sorted(CHECKS)))
    if str(raw["severity"]).upper() not in Severity.__members__:
        raise _bad(where, "no such severity", str(raw["severity"]), "low to critical")
    if any(len(str(a)) < 3 for a in raw["anchors"]):
        raise _bad(where, "anchor too short", str(raw["anchors"]), "three characters or more")
    written = str(raw["expression"])
    expression = _pattern(where, _loosened(written) if loose else written, extra)
    if "secret" not in expression.groupindex:
        raise _bad(where, "expression has no group", "", "(?P<secret>...)")
    return SecretRule(
        id=str(raw["id"]),
        title=str(raw["title"]),
        provider=str(raw.get("provider", "general")),
        severity=Severity[str(raw["severity"]).upper()],
        anchors=tuple(str(a).lower().encode() for a in raw["anchors"]),
        expression=expression,
        exclude=_pattern(where, raw["exclude"], extra) if raw.get("exclude") else None,
        context=_pattern(where, raw["context"], extra) if raw.get("context") else None,
        window=int(raw.get("window", 320)),
        entropy=float(raw.get("entropy", 0.0)),
        check=raw.get("check"),
        binary=bool(raw.get("binary", False)),
        generic=bool(raw.get("generic", raw.get("redact_only", False))),
        at_anchor=bool(raw.get("at_anchor", False)),
        redact_only=bool(raw.get("redact_only", False)),
        revoke=str(raw.get("revoke", "")),
        source=str(raw["source"]),
        positive=tuple(raw["positive"]),
        negative=tuple(raw.get("negative", ())),
    )


def load_rules(
    path: Path, text: str | None = None, *, loose: bool = False
) -> tuple[SecretRule, ...]:
    """Read one rule file; `loose` as for a live log.

    Raises:
        PolicyError: the file is not TOML or a rule in it is wrong.
    """
    where = path.name
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8") if text is None else text)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise _bad(where, "cannot be read", str(error), "a TOML file of rules") from error
    if data.get("version") != 1:
        raise _bad(where, "unknown version", str(data.get("version")), "version = 1")
    return tuple(
        _compile(where, raw, extra, loose=loose)
        for entry in data.get("rule", ())
        for raw, extra in _expand(dict(entry))
    )


@cache
def builtin_rules() -> tuple[SecretRule, ...]:
    """Return the shipped rules, sorted by id.

    Example:
        >>> "dwave-token" in {rule.id for rule in builtin_rules()}
        True
    """
    return tuple(rule for rule in _shipped(loose=False) if not rule.redact_only)


@cache
def redaction_rules() -> tuple[SecretRule, ...]:
    """Return the rules for live logs: tokens inside words too, and any value beside its name.

    Example:
        >>> {rule.id for rule in redaction_rules()} > {rule.id for rule in builtin_rules()}
        True
    """
    return _shipped(loose=True)


def _shipped(*, loose: bool) -> tuple[SecretRule, ...]:
    folder = files("interlock.scan") / "rules"
    rules: list[SecretRule] = []
    for item in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if item.name.endswith(".toml"):
            text = item.read_text(encoding="utf-8")
            rules.extend(load_rules(Path(item.name), text, loose=loose))
    return tuple(sorted(rules, key=lambda rule: rule.id))
