"""Asking witnesses for cosignatures. A witness that lies, lags or hangs costs only its own line."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from interlock.errors import BackendError, IntegrityError, InterlockError
from interlock.ledger.note import Checkpoint, NoteKey, parse_note, verify_checkpoint
from interlock.ledger.post import is_http, post
from interlock.ledger.witness import request_body

__all__ = ["ask", "merged"]

_SIZE = re.compile(r"[0-9]{1,19}")


def ask(
    url: str,
    note: str,
    keys: Sequence[NoteKey],
    prove: Callable[[int], Sequence[bytes]],
    *,
    timeout_s: float = 10.0,
) -> str:
    """Return the signature lines with which a witness cosigns a note.

    Args:
        url: the witness's submission prefix.
        note: the signed checkpoint.
        keys: the witness's keys; lines by other keys are dropped.
        prove: gives the consistency proof from an older size.
        timeout_s: how long to wait for each answer, from the connection to its last byte.

    Raises:
        BackendError: no answer, or a refusal.
        IntegrityError: the witness has cosigned another history, or its signature is wrong.
    """
    checkpoint = Checkpoint.parse(parse_note(note)[0])
    old, status, text = 0, 409, ""
    for _ in range(3):
        path = prove(old) if 0 < old < checkpoint.size else ()
        status, text = _post(url, request_body(old, path, note), timeout_s)
        if status != 409:
            break
        size = text.strip()
        if _SIZE.fullmatch(size) is None:
            raise _refused(url, status, text)
        if int(size) > checkpoint.size or int(size) == old:
            raise _conflict(url, int(size), checkpoint.size)
        old = int(size)
    if status == 422 and old:
        # The proof from the witness's own size is this ledger's: another root stands there.
        raise _conflict(url, old, checkpoint.size)
    if status != 200:
        raise _refused(url, status, text)
    return _accepted(url, note, text, keys)


def _accepted(url: str, note: str, text: str, keys: Sequence[NoteKey]) -> str:
    body = note.rpartition("\n\n")[0] + "\n\n" + text
    try:
        signatures = parse_note(body)[1]
        verify_checkpoint(body, keys)
    except InterlockError as error:
        raise IntegrityError(
            "the witness's answer is not a cosignature by its keys",
            code="witness-answer",
            got=f"{url}: {error.message}",
            expected="a line by each of the witness's keys",
            fix="check the witness's keys; do not count this witness",
        ) from error
    # The first of each key is the one that was verified; a witness that sends more is not heeded.
    by_key = {(s.name, s.key_id): s.line() for s in reversed(signatures)}
    return "".join(by_key[key.name, key.id] for key in keys)


def merged(note: str, lines: str) -> str:
    """Return a note with new signature lines, each in place of the one before by the same key.

    Asked again and again about the same head, a witness would fill it beyond what a note holds.

    Raises:
        InputError: with them the note holds more than a reader takes.
    """
    text, old = parse_note(note)
    new = parse_note(f"{text}\n{lines}")[1]
    fresh = {(s.name, s.key_id) for s in new}
    kept = [s for s in old if (s.name, s.key_id) not in fresh]
    note = f"{text}\n" + "".join(s.line() for s in (*kept, *new))
    parse_note(note)
    return note


def _post(url: str, body: str, timeout_s: float) -> tuple[int, str]:
    if not is_http(url):
        raise _refused(url, 0, "not an http or https address")
    try:
        target = url.rstrip("/") + "/add-checkpoint"
        status, raw = post(target, body.encode(), "text/plain; charset=utf-8", timeout_s)
    except (OSError, ValueError) as error:
        raise BackendError(
            "the witness cannot be reached",
            code="witness-unreachable",
            got=f"{url}: {error}",
            expected=f"an answer within {timeout_s} s",
            fix="check the address, start the witness, or go on with the others of the quorum",
        ) from error
    return status, raw.decode("utf-8", "replace")


def _conflict(url: str, seen: int, size: int) -> IntegrityError:
    return IntegrityError(
        "the witness has cosigned a history that this ledger does not continue",
        code="witness-conflict",
        got=f"{seen} entries at {url}",
        expected=f"a prefix of these {size} entries",
        fix="this ledger was cut or forked: keep it, and compare with other copies",
    )


def _refused(url: str, status: int, text: str) -> BackendError:
    return BackendError(
        "the witness did not cosign",
        code="witness-refused",
        got=f"{url}: {status} {text.strip()[:200]!r}",
        expected="200 and signature lines",
        fix="give the witness this ledger's origin and keys (ledger.vkeys)",
    )
