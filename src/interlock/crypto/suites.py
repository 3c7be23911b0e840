"""Which algorithms do what: one registry of suites by use, and a home's choice among them.

A suite is a name for algorithms that act together. `algorithms.json` in a home names the suite of
each use, so that a change is a change of configuration: what was signed or sealed before names its
own suite and still verifies. What the registry does not allow is refused with the reason.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from interlock.crypto import files
from interlock.errors import InputError, SetupError, UsageError

__all__ = ["FILE", "USES", "Use", "algorithms", "choose", "chosen", "suites"]

#: The configuration in a home: use -> suite.
FILE = "algorithms.json"
_QUANTUM = "a quantum computer breaks it: only beside a quantum-safe algorithm"
_ALONE = "it is young: only beside Ed25519, so that one of the two holds"
_NO_TYPE = "C2SP assigns it no signature type, so other readers of checkpoints could not verify it"


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """What algorithms are used for.

    Attributes:
        what: in a few words.
        suites: suite -> its algorithms; the first is the default.
        refused: suite -> why it is not allowed.
    """

    what: str
    suites: Mapping[str, tuple[str, ...]]
    refused: Mapping[str, str] = field(default_factory=dict)

    @property
    def default(self) -> str:
        """The suite of a home that chose none."""
        return next(iter(self.suites))


#: The registry.
USES: dict[str, Use] = {
    "ledger": Use(
        what="heads of the ledger",
        suites={"ed25519+ml-dsa-44": ("ed25519", "ml-dsa-44")},
        refused={
            "ed25519": _QUANTUM,
            "ml-dsa-44": _ALONE,
            "ed25519+ml-dsa-65": _NO_TYPE,
            "ed25519+ml-dsa-87": _NO_TYPE,
        },
    ),
    "artefacts": Use(
        what="weights, checkpoints, evidence bundles",
        suites={
            "ed25519+ml-dsa-65": ("ed25519", "ml-dsa-65"),
            "ed25519+ml-dsa-87": ("ed25519", "ml-dsa-87"),
        },
        refused={
            "ed25519": _QUANTUM,
            "ml-dsa-65": _ALONE,
            "ml-dsa-87": _ALONE,
            "ed25519+ml-dsa-44": "artefacts live long: NIST level 3 at least",
        },
    ),
    "envelopes": Use(
        what="files and bytes encrypted to a key",
        suites={"x25519-mlkem768": ("x25519-mlkem768",), "cnsa": ("cnsa",)},
        refused={"x25519": _QUANTUM, "rsa-2048": _QUANTUM, "p-256": _QUANTUM},
    ),
}


def suites(use: str) -> Mapping[str, tuple[str, ...]]:
    """Return the suites allowed for a use, the default first."""
    return _use(use).suites


def algorithms(use: str, suite: str) -> tuple[str, ...]:
    """Return the algorithms of a suite.

    Raises:
        UsageError: there is no such suite, or it is not allowed for this use.

    Example:
        >>> algorithms("artefacts", "ed25519+ml-dsa-87")
        ('ed25519', 'ml-dsa-87')
    """
    known = _use(use)
    if suite in known.refused:
        raise UsageError(
            f"this suite is not allowed for {use}",
            code="algorithm-forbidden",
            got=f"{suite}: {known.refused[suite]}",
            expected="one of " + ", ".join(known.suites),
            fix=f"name one of them in {FILE}, or with `interlock keys use {use} SUITE`",
        )
    if suite not in known.suites:
        raise UsageError(
            f"no such suite for {use}",
            code="algorithm-unknown",
            got=str(suite)[:60],
            expected="one of " + ", ".join(known.suites),
            fix="name a suite this version has, or upgrade Interlock",
        )
    return known.suites[suite]


def chosen(home: Path, use: str) -> str:
    """Return the suite that a home uses; the default where it chose none.

    Raises:
        InputError: its `algorithms.json` cannot be read.
        UsageError: it names an unknown use, or a suite that is unknown or not allowed.
    """
    return _read(home).get(use, _use(use).default)


def choose(home: Path, use: str, suite: str) -> str:
    """Write a home's choice; return the suite before."""
    algorithms(use, suite)
    with files.locked(home / f"{FILE}.lock"):
        found = _read(home)
        before = found.get(use, _use(use).default)
        text = json.dumps(found | {use: suite}, indent=1, sort_keys=True)
        files.write_private(home / FILE, text.encode() + b"\n", mode=0o644)
    return before


def _read(home: Path) -> dict[str, str]:
    path = home / FILE
    try:
        if path.stat().st_mode & 0o022:
            raise SetupError(
                "others can change the choice of algorithms",
                code="key-permissions",
                got=f"{path} has mode {path.stat().st_mode & 0o777:04o}",
                expected="no right to write for group and others",
                fix=f"chmod go-w {path}, and look at what it says",
            )
        raw = path.read_bytes()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise files.storage_error(path, error) from error
    try:
        document = json.loads(raw)
        if not isinstance(document, dict) or not all(isinstance(v, str) for v in document.values()):
            raise ValueError("no object of texts")
    except (ValueError, RecursionError) as error:
        raise InputError(
            "the choice of algorithms cannot be read",
            code="algorithms-file",
            got=f"{home / FILE}: {error}",
            expected='{"artefacts": "ed25519+ml-dsa-65", ...}',
            fix="mend the file, or remove it for the defaults",
        ) from error
    for use, suite in document.items():
        algorithms(use, suite)
    return document


def _use(name: str) -> Use:
    if name not in USES:
        raise UsageError(
            "no such use of algorithms",
            code="algorithm-unknown",
            got=str(name)[:60],
            expected="one of " + ", ".join(USES),
            fix="name one of them",
        )
    return USES[name]
