"""Text as it is searched: what shows nothing is gone, what looks alike is alike."""

from __future__ import annotations

import unicodedata

__all__ = ["fold", "skeleton", "visible"]

#: Default-ignorable code points (Unicode DerivedCoreProperties): they show nothing.
_INVISIBLE: dict[int, str | None] = dict.fromkeys([
    0x00AD, 0x034F, 0x061C, 0x17B4, 0x17B5, *range(0x180B, 0x1810), *range(0x200B, 0x2010),
    *range(0x202A, 0x202F), *range(0x2060, 0x2070), *range(0xFE00, 0xFE10), 0xFEFF,
    *range(0xFFF0, 0xFFF9), *range(0x1BCA0, 0x1BCA4), *range(0x1D173, 0x1D17B),
    *range(0xE0000, 0xE1000),
]) | dict.fromkeys([0x115F, 0x1160, 0x3164, 0xFFA0], " ")  # fmt: skip
#: Small Cyrillic, Greek, Armenian and phonetic letters, and the Latin ones they look like.
_LOOK_ALIKE = {
    0x0430: "a", 0x0435: "e", 0x043E: "o", 0x0440: "p", 0x0441: "c", 0x0443: "y", 0x0445: "x",
    0x0456: "i", 0x0458: "j", 0x0455: "s", 0x04BB: "h", 0x0501: "d", 0x051B: "q", 0x051D: "w",
    0x043A: "k", 0x043C: "m", 0x0442: "t", 0x043D: "h", 0x0432: "b",
    0x03B1: "a", 0x03B5: "e", 0x03B9: "i", 0x03BF: "o", 0x03C1: "p", 0x03C5: "u", 0x03BD: "v",
    0x03BA: "k", 0x03C4: "t", 0x03C7: "x",
    0x0131: "i", 0x0251: "a", 0x0261: "g", 0x0269: "i", 0x1D0F: "o", 0x057D: "u", 0x0578: "n",
    0x0585: "o",
}  # fmt: skip


def visible(text: str) -> str:
    """Return text without what shows nothing, in NFKC, with ASCII digits and dashes.

    Example:
        >>> visible("4" + chr(0x2066) + chr(0x0661) + chr(0x2013) + chr(0xFF11))
        '41-1'
    """
    shown = unicodedata.normalize("NFKC", text.translate(_INVISIBLE)).translate(_INVISIBLE)
    if shown.isascii():
        return shown
    return "".join(map(_plain, shown))


def _plain(char: str) -> str:
    if char.isdecimal():
        return str(unicodedata.decimal(char))
    return "-" if unicodedata.category(char) == "Pd" or char == "\u2212" else char


def fold(text: str) -> str:
    """Return text as it is searched: `visible`, case folded, one blank between words.

    Example:
        >>> fold("IGNORE" + chr(0x200B) + "  all")
        'ignore all'
    """
    return " ".join(visible(text).casefold().split())


def skeleton(folded: str) -> str:
    """Return folded text without accents, look-alike letters made Latin. For English phrases.

    Example:
        >>> skeleton(fold(chr(0x0406) + "gn" + chr(0x00F3) + "re"))
        'ignore'
    """
    if folded.isascii():
        return folded
    apart = unicodedata.normalize("NFKD", folded)
    return "".join(c for c in apart if not unicodedata.combining(c)).translate(_LOOK_ALIKE)
