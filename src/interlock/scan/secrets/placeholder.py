"""Tell a value that stands for a secret from a secret: placeholders, references, sequences."""

from __future__ import annotations

import re

__all__ = ["is_placeholder", "is_reference"]

_WORDS = re.compile(
    rb"(?i)example|placeholder|change[-_ ]?me|your[-_ ]|[-_]here\b|dummy|redacted|sample|"
    rb"\{[\w-]+:?[^{}]{0,20}\}|"
    rb"not[-_ ]?a[-_ ]?(?:real|secret)|insert[-_ ]|replace[-_ ]|<[^>]{0,60}>|\*{3,}|x{6,}|"
    rb"deadbeef|cafebabe|foobar|lorem|\.\.\.|todo|fixme|mock[-_]|fake[-_]|test[-_](?:key|token)"
)
_REFERENCE = re.compile(
    rb"^(?:\$|%\(|%[A-Z_]+%|\{\{?|\[\[|<|@|&|os\.|env[.\[(]|self\.|process\.|config[.\[]|"
    rb"settings[.\[]|secrets?\.|vault[:/]|arn:|op://|ssm:|file:|none$|null$|true$|false$|"
    rb"undefined$|nil$)",
    re.IGNORECASE,
)
_POINTS = re.compile(
    rb"^(?:\$\{?\w+\}?|\$\(.*|%\(\w+\)s|%\w+%|\{\{?[\w.: ]*\}?\}?|<[^<>]*>?|"
    rb"\S{0,24}?\*{3,}(?:\(\d+\))?|"
    rb"(?:os|self|args|config|settings|secrets?|process|env|getpass)[.\[(].*|(?:vault|op|ssm|file):.*|"
    rb"none|null|nil|true|false|undefined|str|bytes|int|bool|string|required|optional)$",
    re.IGNORECASE,
)
_RUNS = (
    b"0123456789abcdefghijklmnopqrstuvwxyz0123456789",
    b"abcdefghijklmnopqrstuvwxyz0123456789",
    b"1234567890",
    b"qwertyuiopasdfghjklzxcvbnm",
)


def _has_run(low: bytes) -> bool:
    """Half of the value or more is one well-known ascending run."""
    need = max(8, len(low) // 2)
    for run in _RUNS:
        if need > len(run):
            continue
        for start in range(len(run) - need + 1):
            if run[start : start + need] in low:
                return True
    return False


def _repeats(value: bytes) -> bool:
    """The value is one short unit written again and again."""
    for size in range(1, min(9, len(value) // 2 + 1)):
        unit = value[:size]
        if (unit * (len(value) // size + 1))[: len(value)] == value and len(value) >= 3 * size:
            return True
    return False


def is_reference(value: bytes) -> bool:
    """Return whether a value names where the secret is, is masked already, or is a type.

    Example:
        >>> is_reference(b"$TOKEN"), is_reference(b"****(9)"), is_reference(b"hunter2")
        (True, True, False)
    """
    return _POINTS.match(value) is not None


def is_placeholder(value: bytes) -> bool:
    """Return whether a value is plainly not a secret itself.

    Example:
        >>> is_placeholder(b"<your-token>"), is_placeholder(b"$IBM_TOKEN")
        (True, True)
        >>> is_placeholder(b"aaaaaaaaaaaaaaaa"), is_placeholder(b"q8Zr2LmT0vXc4BnY")
        (True, False)
    """
    low = value.lower()
    return (
        len(set(value)) <= min(8, max(2, len(value) // 12))
        or bool(_REFERENCE.match(value))
        or (len(value) < 100 and bool(_WORDS.search(value)))
        or _repeats(value)
        or _has_run(low)
    )
