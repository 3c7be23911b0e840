"""Show where a secret is without showing it, and rate what it puts at risk."""

from __future__ import annotations

import re

from interlock.scan.finding import ScanFinding, printable
from interlock.scan.secrets.engine import Located
from interlock.scan.secrets.ruleset import SecretRule
from interlock.scan.secrets.views import undone

__all__ = ["finding_of", "mask", "veiled"]

_STRUCTURAL = {"base62-crc", "macaroon", "jwt", "pem", "aws-key-id", "base64-64", "basic"}
_LONG = re.compile(r"""[A-Za-z0-9+/_=\-]{16,}|(?=[^\s"'=:,(){}\[\]]*\d)[^\s"'=:,(){}\[\]]{7,}""")
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
_DIGITS = re.compile(r"\d+")
_NAMELIKE = re.compile(r"[\-/]{0,2}[A-Za-z_](?:[A-Za-z0-9]|[_.\-/](?![_.\-/]{2}))*=?")
_NAME_END = re.compile(r"""["'`\])]{0,3}\s{0,8}(?:[:=(,]|=>|:=)?\s{0,8}[\[({]?[bruf]?["'`]{0,3}$""")
_CUT = re.compile(rb"^\S+")
_TESTISH = re.compile(r"(?i)(?:^|/)(?:tests?|testdata|fixtures?|examples?|docs?)(?:/|$)")


def mask(rule: SecretRule, secret: bytes) -> str:
    """Return the public prefix of a secret, stars, and its length.

    Example:
        >>> from interlock.scan.secrets.ruleset import builtin_rules
        >>> rule = next(r for r in builtin_rules() if r.id == "dwave-token")
        >>> mask(rule, b"DEV-" + b"0" * 40)
        'DEV-****(44)'
    """
    low = secret.lower()
    prefix = next((a for a in rule.anchors if not rule.generic and low.startswith(a)), b"")
    if rule.id == "private-key":
        prefix = b"-----BEGIN "
    return f"{secret[: len(prefix)].decode('ascii', 'replace')}****({len(secret)})"


def _is_words(text: str) -> bool:
    """Words of a natural length, joined as in names: no token is spelt so."""
    for part in re.findall(r"[A-Za-z]+", text):
        words = _WORD.findall(part)
        # a mixed-case part is a name only if its humps are as long as words are
        if max(map(len, words)) > 14 or (len(words) > 1 and 2 * len(part) < 9 * len(words)):
            return False
    return True


def _veil(found: re.Match[str]) -> str:
    text = found[0]
    named = _NAME_END.match(found.string, found.end()) and len(_DIGITS.findall(text)) <= 2
    plain = named or not _DIGITS.search(text)
    return text if plain and _NAMELIKE.fullmatch(text) and _is_words(text) else "****"


def veiled(text: str) -> str:
    """Mask whatever may be a secret in text before one; identifiers and the secret's name stay."""
    return _LONG.sub(_veil, text)


def _risk(rule: SecretRule, path: str, *, structural: bool) -> int:
    risk = int(rule.severity)
    risk += 5 if structural else 0
    risk -= 10 if rule.generic else 0
    risk -= 15 if _TESTISH.search(path) else 0
    return max(1, min(100, risk))


def finding_of(
    located: Located, path: str, line: int, where: str, earlier: list[bytes]
) -> ScanFinding:
    """Turn a match into a finding whose excerpt holds no secret, this or an earlier one."""
    match, rule = located.match, located.match.rule
    before = located.text[: located.inside]
    if located.inside >= 200:
        before = _CUT.sub(b"", before)
    before = undone(before)
    for other in earlier:
        before = before.replace(other, b"****")
    text = veiled(before.decode("utf-8", "replace").lstrip())[-80:]
    shown = mask(rule, match.secret)
    structural = rule.check in _STRUCTURAL
    return ScanFinding(
        rule=f"secret.{rule.id}",
        title=rule.title,
        message=f"{rule.title}: {shown}",
        severity=rule.severity,
        confidence="high" if structural else "low" if rule.generic else "medium",
        risk=_risk(rule, path, structural=structural),
        path=path,
        line=line,
        column=located.column,
        where=where,
        excerpt=printable(text + shown),
        why="whoever can read this file, its history or its log can act as the owner",
        fix=f"{rule.revoke} Then load it from the environment or a vault.",
        length=len(match.secret),
        secret=match.secret,
    )
