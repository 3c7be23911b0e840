"""One player of the CHSH game, as a program of its own: `python -m interlock.crypto.qkd.player`.

For each round it draws its setting, writes it as one byte, and reads its answer as one byte. A full
stop ends the game; the player then writes its own record of all rounds, one byte a round.
"""

from __future__ import annotations

import secrets
import sys

__all__ = ["main"]


def main() -> None:
    """Play until told to stop."""
    answers, settings = sys.stdin.buffer, sys.stdout.buffer
    record = bytearray()
    while True:
        setting = secrets.randbits(1)
        settings.write(b"%d" % setting)
        settings.flush()
        answer = answers.read(1)
        if answer not in (b"0", b"1"):
            break
        record.append(2 * setting + int(answer))
    settings.write(bytes(record))
    settings.flush()


if __name__ == "__main__":
    main()
