"""What the bytes of a Python file say about it: that it is one, and in which encoding it runs."""

from __future__ import annotations

import codecs
import re

__all__ = ["declared_text", "is_script"]

_SCRIPT = re.compile(rb"\A(?:\xef\xbb\xbf)?#![^\n]{0,200}\bpython[\d.]*\b")
#: PEP 263: in a comment on the first line, or on the second after a comment or an empty line.
_COOKIE = re.compile(
    rb"\A(?:\xef\xbb\xbf)?(?:[ \t\f]*(?:#[^\r\n]*)?\r?[\r\n])?"
    rb"[ \t\f]*#[^\r\n]*?coding[:=][ \t]*([-\w.]+)"
)
#: Slow on long texts, and not what anybody writes programs in.
_LEFT_OUT = {"idna", "punycode", "undefined"}


def is_script(head: bytes) -> bool:
    """Return whether a file without a telling name is Python: its first line says so.

    Example:
        >>> is_script(b"#!/usr/bin/env python3"), is_script(b"#!/bin/sh")
        (True, False)
    """
    return _SCRIPT.match(head) is not None


def declared_text(raw: bytes) -> str:
    r"""Return the text as Python reads it, when its encoding cookie makes that another than UTF-8.

    In `utf-7` and `unicode_escape` a comment can hold lines of code (PEP 263).

    Example:
        >>> declared_text(b"# coding: utf-7\n#+AAo-import os\n").split("\n")[2]
        'import os'
        >>> declared_text(b"# coding: utf-8\nx = 1\n")
        ''
    """
    found = _COOKIE.match(raw)
    if found is None:
        return ""
    try:
        name = codecs.lookup(found[1].decode("ascii").replace("_", "-")).name
        text = "" if name in _LEFT_OUT else raw.decode(name, "replace")
    except (LookupError, ValueError):  # no encoding of texts: Python does not run it either
        return ""
    return "" if text.encode("utf-8", "replace") == raw else text
