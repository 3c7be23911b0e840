"""Personal data in folded text: patterns, with their check digits where there are any."""

from __future__ import annotations

from collections.abc import Iterator

from interlock.guard.filter.schema import linear_pattern

__all__ = ["pii_spans"]

_PATTERNS: dict[str, str] = {
    "email": (
        r"(?:[\pL\pN._%+'-]+|\"[^\"@]+\") ?(?:@|\(at\)|\[at\]) ?"
        r"(?:[\pL\pN-]+(?:\.|\(dot\)|\[dot\]))+\pL{2,}"
    ),
    "card": r"\d(?:[ ._/-]?\d){12,}",
    "iban": r"[a-z]{2}\d{2}",
    "us-ssn": r"\d{3}[- .]\d{2}[- .]\d{4}",
    "phone": r"(?:\+|\b00)\d{1,3}[ .-]?(?:\(?\d{1,4}\)?[ .-]?){2,5}\d{2,4}\b",
    "ipv4": r"\b(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(?:25[0-5]|2[0-4]\d|1?\d?\d)\b",
}
#: How a payment card begins (ISO/IEC 7812 ranges of the networks), asked of doubtful ones.
_BRAND = r"^(?:4|5[0-9]|2[2-7]|3[0-9]|6)"
#: Country and length of an IBAN (ISO 13616).
_IBANS = """
    ad24 ae23 al28 at20 az28 ba20 be16 bg22 bh22 bi27 br29 by28 ch21 cr22 cy28 cz24 de22 dj27
    dk18 do28 ee20 eg29 es24 fi18 fk18 fo18 fr27 gb22 ge22 gi23 gl18 gr27 gt28 hr21 hu28 ie22
    il23 iq23 is26 it27 jo30 kw30 kz20 lb28 lc32 li21 lt20 lu20 lv21 ly25 mc27 md24 me22 mk19
    mn20 mr27 mt31 mu30 ni28 nl18 no15 om23 pk24 pl28 ps29 pt25 qa29 ro24 rs22 ru33 sa24 sc31
    sd18 se24 si19 sk24 sm27 so23 st25 sv28 tl23 tn24 tr26 ua29 va22 vg24 xk20
"""
_IBAN_LENGTH = {entry[:2]: int(entry[2:]) for entry in _IBANS.split()}


def pii_spans(text: str, kinds: tuple[str, ...]) -> Iterator[tuple[str, int, int]]:
    """Yield (kind, start, end) in the folded text; card and IBAN only with right check digits.

    Example:
        >>> [k for k, *_ in pii_spans("pay 4111 1111 1111 1111", ("card",))]
        ['card']
    """
    for kind in kinds:
        for match in linear_pattern(_PATTERNS[kind]).finditer(text):
            start, end = match.start(), match.end()
            if kind == "card":
                yield from (("card", a, b) for a, b in _cards(text, start, end))
            elif kind == "iban":
                stop = _iban_end(text, start)
                if stop:
                    yield kind, start, stop
            elif kind != "us-ssn" or _is_ssn(text, start, end):
                yield kind, start, end


def _cards(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield the cards in a run of digits: the whole run, or groups of four and more in it."""
    glued = start > 0 and (text[start - 1].isalnum() or text[start - 1] == "_")
    if _is_card(text[start:end], sure=not glued):
        yield start, end
        return
    groups = [m.span() for m in linear_pattern(r"\d+").finditer(text[start:end])]
    first = 0
    while first < len(groups):
        for last in range(first, min(first + 5, len(groups))):
            chosen = groups[first : last + 1]
            if any(b - a < 4 for a, b in chosen):
                break
            a, b = start + chosen[0][0], start + chosen[-1][1]
            if _is_card(text[a:b], sure=False):
                yield a, b
                first = last
                break
        first += 1


def _is_card(text: str, *, sure: bool) -> bool:
    digits = "".join(c for c in text if c.isdigit())
    if not 13 <= len(digits) <= 19 or not _luhn(digits):
        return False
    return sure or linear_pattern(_BRAND).search(digits) is not None


def _luhn(digits: str) -> bool:
    total = 0
    for index, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + index % 2)
        total += value - 9 * (value > 9)
    return total % 10 == 0


def _iban_end(text: str, start: int) -> int:
    """Return where the IBAN that starts here ends, 0 when there is none."""
    length = _IBAN_LENGTH.get(text[start : start + 2], 0)
    found, at = "", start
    while len(found) < length and at < len(text):
        char = text[at]
        if char.isascii() and char.isalnum():
            found += char
        elif char not in " .-/" or text[at - 1] in " .-/":
            return 0
        at += 1
    if not length or len(found) < length:
        return 0
    turned = found[4:] + found[:4]
    return at if int("".join(str(int(c, 36)) for c in turned)) % 97 == 1 else 0


def _is_ssn(text: str, start: int, end: int) -> bool:
    """Return whether a number was ever given out: no area 000, 666 or 900 on, no zero part."""
    inside = not (start and text[start - 1].isdigit()) and not text[end : end + 1].isdigit()
    area, group, serial = text[start : start + 3], text[start + 4 : start + 6], text[end - 4 : end]
    given = area not in ("000", "666") and area < "900" and group != "00" and serial != "0000"
    return inside and given
