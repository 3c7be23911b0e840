"""The gateway's log: one JSON object a line, on standard error, without secrets."""

from __future__ import annotations

import json
import logging
import sys
import threading
import traceback
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from interlock.scan.live import LineRedactor, known_values

__all__ = ["FACTS", "JsonLines", "install", "log", "quiet_dbos"]

log = logging.getLogger("interlock.gateway")

#: Name of the `extra` that carries a record's facts: text by name.
FACTS = "facts"
#: Longer texts are cut: a log line is no place for a body.
MAX_TEXT = 4000
MAX_FRAMES = 40


class JsonLines(logging.Formatter):
    r"""Formats a record as one line of JSON.

    Every text goes through the redactor of `interlock.scan`, which knows the forms of tokens, and
    besides hides the provider credentials of the home and the secrets of the environment. An
    exception is told by its type and its places, not by its text, which may hold a tenant's data.

    Args:
        home: whose `credentials` folder holds what must not be shown.

    Example:
        >>> record = logging.LogRecord("a", 30, "", 0, "two\nlines", (), None)
        >>> json.loads(JsonLines().format(record))["message"]
        'two\nlines'
    """

    def __init__(self, home: Path | None = None) -> None:
        super().__init__()
        self._home = home

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; one that cannot be redacted is withheld, and says so."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
        }
        try:
            hidden = (*known_values(), *self._credentials())
            line["message"] = _clean(record.getMessage(), hidden)
            facts = {str(k): str(v) for k, v in (getattr(record, FACTS, None) or {}).items()}
            line |= {k: _clean(v, hidden) for k, v in facts.items() if k not in line}
        except Exception as error:  # noqa: BLE001 - unredacted text must not leave
            line["message"] = f"withheld: {type(error).__name__} while redacting"
        if record.exc_info and record.exc_info[0] is not None:
            line["error"] = record.exc_info[0].__name__
            line["trace"] = _places(record.exc_info[2])
        return json.dumps(line)

    def _credentials(self) -> Iterable[bytes]:
        """Return what the credential files hold now: they may be replaced while we run."""
        if self._home is None:
            return
        folder = self._home / "credentials"
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            if path.is_file():
                yield path.read_bytes().strip()


def _clean(text: str, hidden: Iterable[bytes]) -> str:
    values = sorted(hidden, key=len, reverse=True)
    redactor = LineRedactor(values=values)  # a fresh one: no record is the context of another
    # Cut only what is clean: a cut through a secret would hide it from the redactor.
    lines = text.encode(errors="backslashreplace").split(b"\n")
    return b"\n".join(map(redactor, lines)).decode(errors="replace")[:MAX_TEXT]


def _places(trace: Any) -> list[str]:
    frames = traceback.extract_tb(trace)[-MAX_FRAMES:]
    return [f"{Path(f.filename).name}:{f.lineno} {f.name}" for f in frames]


def quiet_dbos() -> None:
    """Keep DBOS from printing in a form of its own: it does unless its logger has a handler."""
    logger = logging.getLogger("dbos")
    logger.handlers, logger.propagate = [logging.NullHandler()], True


def install(home: Path, level: str = "info", stream: TextIO | None = None) -> logging.Handler:
    """Send every log of this process, warnings and dead threads included, to one place.

    Args:
        home: of the gateway.
        level: `debug`, `info`, `warning` or `error`.
        stream: where to, standard error by default.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonLines(home))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    # A handler that somebody gave the server's loggers would pass the redactor by, and a level
    # set by an earlier server in this process would swallow its warnings.
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate, logger.disabled = [], True, False
        logger.setLevel(logging.NOTSET)
    # Each pass over each circuit is a line at level info, and none says whose.
    logging.getLogger("qiskit").setLevel(max(logging.WARNING, root.level))
    quiet_dbos()
    logging.captureWarnings(True)

    def died(told: threading.ExceptHookArgs) -> None:
        if told.exc_value is not None:
            name = told.thread.name if told.thread else ""
            where = (told.exc_type, told.exc_value, told.exc_traceback)
            log.error("a thread died", exc_info=where, extra={FACTS: {"thread": name}})

    threading.excepthook = died
    return handler
