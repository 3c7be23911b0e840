import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from interlock.ledger import Ledger


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def ledger(home: Path) -> Iterator[Ledger]:
    with Ledger.open(home) as opened:
        yield opened


@pytest.fixture
def filled(home: Path) -> Path:
    """A closed ledger of 20 entries with signed heads of 10 and of 20 entries."""
    with Ledger.open(home) as ledger:
        for n in range(20):
            ledger.append("admit", {"job": f"j{n}"}, {"n": n}).wait()
            if n == 9:
                ledger.checkpoint()
    return home


@pytest.fixture
def tamper() -> Callable[[Path, str], None]:
    def run(home: Path, script: str) -> None:
        connection = sqlite3.connect(home / "ledger.db")
        connection.executescript(script)
        connection.close()

    return run
