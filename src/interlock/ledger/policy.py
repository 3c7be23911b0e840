"""Who must have seen a checkpoint: logs, witnesses and a quorum, in the C2SP tlog-policy format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from interlock.errors import InputError, IntegrityError, InterlockError
from interlock.ledger.note import COSIGN_ED25519, ML_DSA_44, NoteKey, verify_checkpoint

__all__ = ["WitnessPolicy"]


@dataclass(frozen=True, slots=True, kw_only=True)
class WitnessPolicy:
    """A quorum over witnesses and groups of witnesses.

    Attributes:
        logs: verifier keys of logs; empty when the log is known otherwise.
        witnesses: name in the policy -> key.
        urls: name in the policy -> where to submit.
        groups: name -> (how many, of which).
        quorum: a witness, a group, or `none`.

    Example:
        >>> WitnessPolicy.parse("quorum none").quorum
        'none'
    """

    logs: tuple[NoteKey, ...]
    witnesses: Mapping[str, NoteKey]
    urls: Mapping[str, str]
    groups: Mapping[str, tuple[int, tuple[str, ...]]]
    quorum: str

    @classmethod
    def parse(cls, text: str) -> WitnessPolicy:
        """Read a policy file.

        Raises:
            InputError: a line is not of the format, a name is unknown or used twice, or the
                quorum is missing.
        """
        return _Parser().parse(text)

    def check(self, note: str) -> list[str]:
        """Raise unless the quorum has cosigned the note; return the witnesses that have.

        Raises:
            IntegrityError: too few of them, or a signature that does not verify.
        """
        seen = [name for name, key in self.witnesses.items() if _cosigned(note, key)]
        if self.quorum != "none" and not self._reached(self.quorum, set(seen)):
            raise IntegrityError(
                "too few witnesses have cosigned the checkpoint",
                code="witness-quorum",
                got=", ".join(seen) or "none",
                expected=f"quorum {self.quorum}",
                fix="submit it with `interlock ledger witness`, or ask for a cosigned checkpoint",
            )
        return seen

    def _reached(self, name: str, seen: set[str]) -> bool:
        if name in self.witnesses:
            return name in seen
        count, members = self.groups[name]
        return sum(self._reached(member, seen) for member in members) >= count


def _cosigned(note: str, key: NoteKey) -> bool:
    try:
        verify_checkpoint(note, [key])
    except InterlockError as error:
        if error.code == "checkpoint-signature" and error.got == "no signature by this key":
            return False
        raise
    return True


class _Parser:
    def __init__(self) -> None:
        self.logs: list[NoteKey] = []
        self.witnesses: dict[str, NoteKey] = {}
        self.urls: dict[str, str] = {}
        self.groups: dict[str, tuple[int, tuple[str, ...]]] = {}
        self.quorum: str | None = None
        self._members: set[str] = set()

    def parse(self, text: str) -> WitnessPolicy:
        for number, line in enumerate(text.split("\n"), 1):
            words = line.replace("\t", " ").split()
            if not words or words[0].startswith("#"):
                continue
            try:
                self._line(words)
            except (ValueError, InterlockError) as error:
                raise _bad(f"line {number}: {line[:80]!r}", str(error)) from error
        if self.quorum is None:
            raise _bad("no quorum line", "exactly one")
        return WitnessPolicy(
            logs=tuple(self.logs),
            witnesses=self.witnesses,
            urls=self.urls,
            groups=self.groups,
            quorum=self.quorum,
        )

    def _line(self, words: list[str]) -> None:
        match words:
            case ["log", vkey] | ["log", vkey, _]:
                self.logs.append(NoteKey.parse(vkey))
            case ["witness", name, vkey, *url] if len(url) <= 1:
                self._witness(name, NoteKey.parse(vkey), url)
            case ["group", name, count, *members] if members:
                self._group(name, count, members)
            case ["quorum", name]:
                if self.quorum is not None:
                    raise ValueError("exactly one quorum line")
                if name != "none":
                    self._known(name)
                self.quorum = name
            case _:
                raise ValueError("log, witness, group or quorum with its words")

    def _witness(self, name: str, key: NoteKey, url: list[str]) -> None:
        self._new(name)
        if key.kind not in (COSIGN_ED25519, ML_DSA_44):
            raise ValueError("a witness key has type 0x04 or 0x06")
        if any(key.public == other.public for other in self.witnesses.values()):
            raise ValueError("each witness key once")
        self.witnesses[name] = key
        if url:
            self.urls[name] = url[0]

    def _group(self, name: str, count: str, members: list[str]) -> None:
        self._new(name)
        words = {"all": len(members), "any": 1}
        need = words[count] if count in words else int(count)
        if not 1 <= need <= len(members):
            raise ValueError(f"a count between 1 and {len(members)}")
        for member in members:
            self._known(member)
            if member in self._members:
                raise ValueError(f"{member} in one group only")
            self._members.add(member)
        self.groups[name] = (need, tuple(members))

    def _new(self, name: str) -> None:
        if name == "none" or name in self.witnesses or name in self.groups:
            raise ValueError(f"a name other than {name}")

    def _known(self, name: str) -> None:
        if name not in self.witnesses and name not in self.groups:
            raise ValueError(f"{name} to be defined on a line before")


def _bad(got: str, expected: str) -> InputError:
    return InputError(
        "the witness policy cannot be read",
        code="witness-policy",
        got=got,
        expected=expected,
        fix="see c2sp.org/tlog-policy",
    )
