"""Match the secret rules over bytes: a whole block, or a stream of any length in bounded memory."""

from __future__ import annotations

import bisect
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache

from interlock.scan.secrets.anchors import AnchorSet
from interlock.scan.secrets.checks import CHECKS, entropy
from interlock.scan.secrets.placeholder import is_placeholder, is_reference
from interlock.scan.secrets.ruleset import SecretRule, builtin_rules, redaction_rules
from interlock.scan.secrets.views import TRIGGERS, views

__all__ = ["BLOCK_BYTES", "Engine", "Match", "default_engine", "redacting_engine"]

BLOCK_BYTES = 192 * 1024
_CONTEXT = 400
_TAIL = 17 * 1024
_HOLD = 8704
_NAME = re.compile(rb"[\w.\-]{1,40}$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """Where a secret is: offsets into the scanned bytes, and which rule says so.

    `secret` is the value as a program would read it: escapes decoded, folded lines joined. The
    bytes from `start` to `end` are how it was written.
    """

    rule: SecretRule
    start: int
    end: int
    secret: bytes
    checked: bool


@dataclass(frozen=True, slots=True)
class Located:
    """A match in a stream: absolute line, column, the line it stands on and where in that."""

    match: Match
    line: int
    column: int
    text: bytes
    inside: int


class Engine:
    """Rules behind one set of anchors.

    Args:
        rules: what to look for.

    Example:
        >>> engine = Engine(builtin_rules())
        >>> text = b"token = DEV-" + bytes(range(48, 58)) * 4
        >>> engine.scan(text)
        []
        >>> text = b"token = DEV-" + b"9f3a07c1d2e84b56" * 2 + b"0a1b2c3d"
        >>> [m.rule.id for m in engine.scan(text)]
        ['dwave-token']
    """

    def __init__(self, rules: Iterable[SecretRule]) -> None:
        self.rules = tuple(rules)
        self._by_anchor: dict[bytes, list[int]] = {}
        for number, rule in enumerate(self.rules):
            for anchor in rule.anchors:
                self._by_anchor.setdefault(anchor, []).append(number)
        self._anchors = AnchorSet([*self._by_anchor, *TRIGGERS])
        # random bytes hold every short literal: in binary files look for what can be reported
        self._binary = AnchorSet(a for rule in self.rules if rule.binary for a in rule.anchors)

    def scan(self, block: bytes, *, binary: bool = False) -> list[Match]:
        """Return the secrets in one block, in order, none overlapping another.

        Text is looked at as it stands and with escapes, invisible characters and folds undone.
        """
        return _best(self.all_matches(block, binary=binary))

    def all_matches(self, block: bytes, *, binary: bool = False) -> list[Match]:
        """Return every match of every rule, those that overlap too, in no order."""
        places: list[int] = []
        found = self._matches(block, places, binary=binary)
        if places and not binary:
            for view in views(block, places):
                for match in self._matches(view.data, [], binary=False):
                    span = view.span(match.start, match.end)
                    if span is not None:
                        found.append(replace(match, start=span[0], end=span[1]))
        return found

    def places(self, block: bytes) -> list[int]:
        """Return where a literal of any rule stands."""
        return [at for at, anchor in self._anchors.find(block) if anchor in self._by_anchor]

    def _matches(self, block: bytes, places: list[int], *, binary: bool) -> list[Match]:
        regions: dict[int, list[list[int]]] = {}
        found: list[Match] = []
        for offset, anchor in (self._binary if binary else self._anchors).find(block):
            if anchor not in self._by_anchor:
                places.append(offset)
                continue
            for number in self._by_anchor[anchor]:
                rule = self.rules[number]
                if binary and not rule.binary:
                    continue
                if rule.at_anchor:
                    hit = rule.expression.match(block, offset)
                    match = self._judge(rule, block, hit) if hit else None
                    if match is not None:
                        found.append(match)
                    continue
                low, high = offset - rule.window, offset + len(anchor) + rule.window
                spans = regions.setdefault(number, [])
                if spans and low <= spans[-1][1]:
                    spans[-1][1] = high
                else:
                    spans.append([max(low, 0), high])
        for number, spans in regions.items():
            rule = self.rules[number]
            for low, high in spans:
                found.extend(self._try(rule, block, low, high))
        return found

    def _try(self, rule: SecretRule, block: bytes, low: int, high: int) -> Iterator[Match]:
        position = low
        while True:
            hit = rule.expression.search(block, position, min(high, len(block)))
            if hit is None:
                return
            end = hit.end("secret")
            position = max(end, hit.start() + 1)
            if end == min(high, len(block)) and high < len(block):
                again = rule.expression.match(block, hit.start())
                if again is None:
                    continue
                hit = again
            match = self._judge(rule, block, hit)
            if match is not None:
                yield match

    def _judge(self, rule: SecretRule, block: bytes, hit: re.Match[bytes]) -> Match | None:
        """Return the match unless entropy, name, placeholder, check or context speak against it."""
        start, end = hit.span("secret")
        secret = hit["secret"]
        if rule.entropy and entropy(secret) < rule.entropy:
            return None
        if rule.exclude is not None:
            before = _NAME.search(block, max(0, hit.start("name") - 40), hit.start("name"))
            name = (before[0] if before else b"") + hit["name"]
            if rule.exclude.search(name):
                return None
        if rule.redact_only:
            if is_reference(secret):
                return None
        elif is_placeholder(secret) or (rule.check and not CHECKS[rule.check](secret)):
            return None
        if rule.context is not None and not rule.context.search(
            block, max(0, start - _CONTEXT), end + _CONTEXT
        ):
            return None
        return Match(rule=rule, start=start, end=end, secret=secret, checked=rule.check is not None)

    def stream(self, blocks: Iterable[bytes], *, binary: bool = False) -> Iterator[Located]:
        """Scan a stream of blocks and yield matches with line numbers.

        Memory holds two blocks: a match that begins near the end of a buffer waits for the next
        one, so a secret across a boundary is found once.
        """
        buffer, base, lines, line_start, done = b"", 0, 1, 0, 0
        pending = iter(blocks)
        last = False
        while not last:
            block = next(pending, None)
            last = block is None
            buffer += block or b""
            if not last and len(buffer) < BLOCK_BYTES:
                continue
            limit = len(buffer) if last else len(buffer) - _HOLD
            newlines: list[int] | None = None
            for match in self.scan(buffer, binary=binary):
                if match.start >= limit or base + match.start < done:
                    continue
                done = base + match.end
                if newlines is None:
                    newlines = _newlines(buffer)
                index = bisect.bisect_left(newlines, match.start)
                begin = newlines[index - 1] + 1 if index else line_start - base
                stop = buffer.find(b"\n", match.start)
                stop = len(buffer) if stop < 0 else stop
                first = max(begin, 0, match.start - 200)
                yield Located(
                    match,
                    lines + index,
                    match.start - begin + 1,
                    buffer[first : min(stop, match.end + 200)],
                    match.start - first,
                )
            if not last:
                cut = len(buffer) - _TAIL
                lines += buffer.count(b"\n", 0, cut)
                previous = buffer.rfind(b"\n", 0, cut)
                if previous >= 0:
                    line_start = base + previous + 1
                base += cut
                done = max(done, base + _TAIL - _HOLD)
                buffer = buffer[cut:]


def _newlines(buffer: bytes) -> list[int]:
    out, position = [], buffer.find(b"\n")
    while position >= 0:
        out.append(position)
        position = buffer.find(b"\n", position + 1)
    return out


def _best(found: list[Match]) -> list[Match]:
    """Of matches that overlap keep the specific one, then the one a check backs, the longest."""
    ranked = sorted(
        found,
        key=lambda m: (m.rule.generic, -m.rule.severity, not m.checked, m.start - m.end, m.start),
    )
    kept: list[Match] = []
    starts: list[int] = []
    for match in ranked:
        index = bisect.bisect_right(starts, match.start)
        if index and kept[index - 1].end > match.start:
            continue
        if index < len(kept) and kept[index].start < match.end:
            continue
        kept.insert(index, match)
        starts.insert(index, match.start)
    return kept


@cache
def default_engine() -> Engine:
    """Return the engine over the shipped rules."""
    return Engine(builtin_rules())


@cache
def redacting_engine() -> Engine:
    """Return the engine for live logs."""
    return Engine(redaction_rules())
