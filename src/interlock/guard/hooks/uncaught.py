"""How an error of the guard that a guarded program does not catch is shown: without its inside."""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path
from types import TracebackType

from interlock.errors import InterlockError

__all__ = ["install"]

_PACKAGE = str(Path(__file__).parents[2]) + os.sep


def install() -> None:
    """Show such errors up to where the program calls the guard.

    A program that shows errors in its own way does so; `python -X dev` shows everything.
    """
    if sys.excepthook is sys.__excepthook__ and not sys.flags.dev_mode:
        sys.excepthook = _show


def _show(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if not isinstance(error, InterlockError):
        sys.__excepthook__(kind, error, trace)
        return
    shown = traceback.TracebackException(kind, error, trace)
    inside = [n for n, frame in enumerate(shown.stack) if frame.filename.startswith(_PACKAGE)]
    if inside:
        del shown.stack[inside[0] :]
    shown.__cause__ = shown.__context__ = None
    sys.stderr.write("".join(shown.format()))
