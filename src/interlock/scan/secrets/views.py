r"""Undo what hides a secret from an expression: escapes, invisible characters, folded lines.

A text is matched as it stands, and again, near what is undone here, as a reader would get it:
JSON, JavaScript, Python, C, URL and HTML escapes (`\u003d`, `\u{3d}`, `\U0000003d`, `\x2f`, `\057`,
`\/`, `%2B`, `&quot;`) decoded, zero-width and direction characters and colour codes of terminals
taken out, YAML block scalars and values continued over lines joined.
"""

from __future__ import annotations

import bisect
import html
import re
from collections.abc import Iterable, Iterator
from functools import cache
from operator import itemgetter

from interlock.scan.secrets.anchors import AnchorSet

__all__ = ["TRIGGERS", "View", "undone", "views"]

_MARGIN = 2600
_KEY_MARGIN = 8704
_NEAR = 400
_MAX_LINES = 200

_INK = rb"[^\s\"'`,;()\[\]{}]"
_TOKEN = rb"[A-Za-z0-9+/=_.~\-]"
_UNSEEN = rb"200[b-f]|202[a-e]|206[0-9a-f]|feff|fe0[0-9a-f]"
#: Colours (SGR), and the erasing that `grep --color` sets beside them.
_COLOUR = rb"\[[0-9;:]{0,32}[mK]"
_CODED = re.compile(
    rb"(?i)\\u(?:00(?P<u>[2-7][0-9a-f])|00ad|" + _UNSEEN + rb")"
    rb"|\\u\{0{0,4}(?:(?P<brace>[2-7][0-9a-f])|ad|" + _UNSEEN + rb")\}"
    rb"|(?-i:\\U)0000(?:00(?P<long>[2-7][0-9a-f])|00ad|" + _UNSEEN + rb")"
    rb"|\\(?:x1b|u001b|u\{1b\}|0?33|e)(?-i:" + _COLOUR + rb")"
    rb"|\\x(?P<x>2[1-9a-f]|[3-6][0-9a-f]|7[0-9a-e])"
    rb"|\\0?(?P<octal>04[1-7]|0[5-7][0-7]|1[0-6][0-7]|17[0-6])"
    rb"|\\(?P<slash>/)|\\\r?\n[ \t]*+(?=" + _INK + rb")"
)
_PERCENT = re.compile(rb"%(2[1-9A-Fa-f]|[3-6][0-9A-Fa-f]|7[0-9A-Ea-e])")
_ENTITY = re.compile(rb"&(?:quot|apos|amp|#(?:[xX][0-9a-fA-F]{2}|[0-9]{2,3}));")
_INVISIBLE = re.compile(
    rb"\xe2\x80[\x8b-\x8f\xaa-\xae]|\xe2\x81[\xa0-\xaf]|\xef\xbb\xbf|\xc2\xad|\xcd\x8f"
    rb"|\xf3\xa0[\x80-\x87][\x80-\xbf]|\xef\xb8[\x80-\x8f]|\xe1\xa0\x8e|\xe1\x85[\x9f\xa0]"
    rb"|\xe3\x85\xa4|\x1b" + _COLOUR
)
_SCALAR = re.compile(
    rb": [>|][-+0-9]{0,2}[ \t]{0,8}(?:#[^\n]{0,80})?\r?\n[ \t]{1,60}+"
    rb"(?P<token>" + _TOKEN + rb"{4,400}+)[ \t]{0,8}\r?\n"
)
_LINE = re.compile(rb"[ \t]{1,60}+(?P<token>" + _TOKEN + rb"{2,400}+)[ \t]{0,8}(?:\r?\n|\Z)")

Edit = tuple[int, int, bytes]


def _triggers() -> Iterator[bytes]:
    """The first three or four bytes, in lower case, of whatever is undone."""
    token = [bytes([c]) for c in b"abcdefghijklmnopqrstuvwxyz0123456789+/=_.~-\"'\\"]
    token += [b"\xc2", b"\xcd", b"\xe1", b"\xe2", b"\xe3", b"\xef", b"\xf3"]
    yield from (b"\\u00", b"\\u20", b"\\ufe", b"\\u{", b": >", b": |", b"\\\r\n")
    yield from (b"\\x1b", b"\\033", b"\\33[", b"\\e[")
    for digit in b"234567":
        yield b"\\x%c" % digit
        yield from (b"%%%c%c" % (digit, last) for last in b"0123456789abcdef")
    yield from (b"\\00", *(b"\\0%c" % digit for digit in b"14567"))
    yield from (b"\\1%c" % digit for digit in b"01234567")
    yield from (b"\x1b[%c" % first for first in b"0123456789;:mk")
    yield from (b"&quot", b"&apos", b"&amp;", b"&#x", *(b"&#%d" % digit for digit in range(10)))
    for head in (b"\\/", b"\xc2\xad", b"\xcd\x8f"):
        yield from (head + last for last in token)
    yield from (b"\\\n" + last for last in [b" ", b"\t", *token])
    yield from (b"\xef\xbb\xbf", b"\xe1\xa0\x8e", b"\xe1\x85\x9f", b"\xe1\x85\xa0", b"\xe3\x85\xa4")
    for head, low, high in (
        (b"\xe2\x80", 0x8B, 0x8F), (b"\xe2\x80", 0xAA, 0xAE), (b"\xe2\x81", 0xA0, 0xAF),
        (b"\xf3\xa0", 0x80, 0x87), (b"\xef\xb8", 0x80, 0x8F),
    ):  # fmt: skip
        yield from (head + bytes([last]) for last in range(low, high + 1))


#: Literals that say where something may have to be undone.
TRIGGERS = frozenset(_triggers())


def _backslash(block: bytes, place: int) -> Iterator[Edit]:
    hit = _CODED.match(block, place)
    if hit is None:
        return
    code, start = hit["u"] or hit["brace"] or hit["long"] or hit["x"], place
    if hit[0][-1:] in b"\t\n ":
        if start and re.match(_INK, block[start - 1 : start]):
            yield start, hit.end(), b""  # a token goes on in the next line
        return
    while start and place - start < 3 and block[start - 1] == 92:
        start -= 1  # JSON inside JSON escapes the backslash again
    if hit["octal"]:
        yield start, hit.end(), bytes([int(hit["octal"], 8)])
    else:
        yield start, hit.end(), hit["slash"] or (bytes([int(code, 16)]) if code else b"")


def _percent(block: bytes, place: int) -> Iterator[Edit]:
    hit = _PERCENT.match(block, place)
    if hit is not None:
        yield place, hit.end(), bytes([int(hit[1], 16)])


def _entity(block: bytes, place: int) -> Iterator[Edit]:
    hit = _ENTITY.match(block, place)
    if hit is not None:
        plain = html.unescape(hit[0].decode("ascii"))
        if plain.isascii():
            yield place, hit.end(), plain.encode()


def _scalar(block: bytes, place: int) -> Iterator[Edit]:
    """Join the lines of one YAML block scalar while each is a single token."""
    hit = _SCALAR.match(block, place)
    if hit is None:
        return
    yield place + 2, hit.start("token"), b""
    end, position = hit.end("token"), hit.end()
    for _ in range(_MAX_LINES):
        line = _LINE.match(block, position)
        if line is None:
            return
        yield end, line.start("token"), b""
        end, position = line.end("token"), line.end()


def _invisible(block: bytes, place: int) -> Iterator[Edit]:
    hit = _INVISIBLE.match(block, place)
    if hit is not None:
        yield place, hit.end(), b""


_KINDS = {b"\\"[0]: _backslash, b"%"[0]: _percent, b"&"[0]: _entity, b":"[0]: _scalar}


def _edits(block: bytes, places: Iterable[int]) -> list[Edit]:
    every = [
        edit for place in places for edit in _KINDS.get(block[place], _invisible)(block, place)
    ]
    every.sort(key=itemgetter(0, 1))
    kept: list[Edit] = []
    for edit in every:
        if not kept or edit[0] >= kept[-1][1]:
            kept.append(edit)
    return kept


class View:
    """Part of a block with its hiding undone, and the way back to the block.

    Attributes:
        data: what to match.
    """

    def __init__(self, block: bytes, low: int, high: int, edits: list[Edit]) -> None:
        parts: list[bytes] = []
        self._at: list[int] = []  # where each part begins in `data`
        self._spans: list[tuple[int, int, bool]] = []  # the part in the block; copied as it is?
        self._edits = [edit[0] for edit in edits]
        size, position = 0, low
        for start, end, text in [*edits, (high, high, b"")]:
            for part, span in (
                (block[position:start], (position, start, True)),
                (text, (start, end, False)),
            ):
                if part:
                    parts.append(part)
                    self._at.append(size)
                    self._spans.append(span)
                    size += len(part)
            position = end
        self.data = b"".join(parts)

    def _back(self, offset: int, *, end: bool) -> int:
        index = bisect.bisect_right(self._at, offset) - 1
        low, high, copied = self._spans[index]
        if copied:
            return low + offset - self._at[index] + end
        return high if end else low

    def span(self, start: int, end: int) -> tuple[int, int] | None:
        """Return where a match lies in the block, or None when nothing near it was undone."""
        low, high = self._back(start, end=False), self._back(end - 1, end=True)
        index = bisect.bisect_left(self._edits, low - _NEAR)
        if index == len(self._edits) or self._edits[index] > high + _NEAR:
            return None
        return low, high


def views(block: bytes, places: Iterable[int]) -> Iterator[View]:
    r"""Yield the parts of a block that something was undone in, given where triggers stand.

    Example:
        >>> [view.data for view in views(b'{"key": "a\\u003db"}', [10])]
        [b'{"key": "a=b"}']
    """
    edits = _edits(block, places)
    if not edits:
        return
    margin = _KEY_MARGIN if b"-----BEGIN" in block else _MARGIN
    group: list[Edit] = []
    for edit in edits:
        if group and edit[0] - group[-1][1] > 2 * margin:
            yield _view(block, group, margin)
            group = []
        group.append(edit)
    yield _view(block, group, margin)


def _view(block: bytes, group: list[Edit], margin: int) -> View:
    low, high = max(0, group[0][0] - margin), min(len(block), group[-1][1] + margin)
    return View(block, low, high, group)


@cache
def _trigger_set() -> AnchorSet:
    return AnchorSet(TRIGGERS)


def undone(text: bytes) -> bytes:
    r"""Return a short text with everything undone.

    Example:
        >>> undone("DE\u200bV-\\u0031".encode())
        b'DEV-1'
    """
    edits = _edits(text, [place for place, _ in _trigger_set().find(text)])
    return View(text, 0, len(text), edits).data if edits else text
