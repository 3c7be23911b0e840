"""The command `interlock`, also `python -m interlock`; it can be ended before it is imported."""

from __future__ import annotations

import signal

__all__ = ["main"]


def main() -> None:
    """Run the command line. Ctrl-C while it is being imported ends it without a word.

    Nothing has been begun by then, and a traceback of half an import says nothing.
    """
    ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if ours:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from interlock.cli import main as run

    if ours:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    run()


if __name__ == "__main__":
    main()
