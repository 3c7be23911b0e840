"""Our header bytes are RFC 8785, by an independent implementation."""

import json

import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from interlock.ledger.entry import Draft, draft, format_time, parse_time

NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True)
TEXT = st.text(st.characters(exclude_categories=["Cs"]))
VALUES = st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | TEXT


@given(st.dictionaries(NAMES, VALUES), st.integers(0, 2**53 - 1))
def test_headers_are_canonical(header: dict[str, object], index: int) -> None:
    fields, _ = draft("event", header, {})  # type: ignore[arg-type]
    made = Draft(
        event="event", header=header, fields=fields, payload={}, data=b"{}",
        key="00ff", seal=bytes, stored=b"stored",
    )  # type: ignore[arg-type]  # fmt: skip
    raw, _ = made.place(index, "t")
    assert raw == rfc8785.dumps(json.loads(raw))
    assert json.loads(raw)["header"] == header


@given(st.integers(0, 4_000_000_000_000_000))
def test_times_survive_their_text_and_sort_like_it(microseconds: int) -> None:
    text = format_time(microseconds * 1000)
    assert parse_time(text) == microseconds * 1000
    assert (format_time(microseconds * 1000 + 1_000_000) > text) is True
