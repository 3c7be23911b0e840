"""One HTTP POST to a stranger, bounded in size and in time as a whole, whatever it does."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.parse
import urllib.request

from interlock.crypto.patience import within

__all__ = ["MAX_ANSWER", "is_http", "post"]

MAX_ANSWER = 1 << 18


def is_http(url: str) -> bool:
    """Return whether this is an http or https address."""
    try:
        parts = urllib.parse.urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        return False


def post(url: str, data: bytes, content_type: str, timeout_s: float) -> tuple[int, bytes]:
    """Return status and body of the answer.

    Args:
        url: an http or https address (`is_http`).
        data: the body sent.
        content_type: its media type.
        timeout_s: for everything together: name, connection, headers, body.

    Raises:
        OSError: no connection, or no whole answer in time (`TimeoutError`).
        ValueError: an answer that is not HTTP, or of more than `MAX_ANSWER` bytes.
    """
    try:
        return within(timeout_s, lambda: _exchange(url, data, content_type, timeout_s))
    except http.client.HTTPException as error:
        raise ValueError(f"not HTTP: {type(error).__name__}: {error}") from error


def _exchange(url: str, data: bytes, content_type: str, timeout_s: float) -> tuple[int, bytes]:
    headers = {"Content-Type": content_type}
    request = urllib.request.Request(url, data=data, headers=headers)  # noqa: S310 (`is_http`)
    try:
        answer = urllib.request.urlopen(request, timeout=timeout_s)  # noqa: S310 (`is_http`)
    except urllib.error.HTTPError as refusal:
        answer = refusal  # read like any other answer: it may be endless, too
    with answer:
        body: bytes = answer.read(MAX_ANSWER + 1)
        if len(body) > MAX_ANSWER:
            raise ValueError(f"an answer of more than {MAX_ANSWER} bytes")
        return int(answer.status), body
