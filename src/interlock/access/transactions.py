"""One transaction of a database, with its errors as Interlock's own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from interlock.errors import StorageError

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

__all__ = ["transaction"]


@contextmanager
def transaction(engine: Engine) -> Iterator[Connection]:
    """Run one transaction; what the database raises becomes a `StorageError`."""
    from sqlalchemy.exc import SQLAlchemyError

    try:
        with engine.begin() as connection:
            yield connection
    except SQLAlchemyError as error:
        raise StorageError(
            "the database refused",
            code="database",
            got=f"{type(error).__name__}: {str(error).splitlines()[0]}",
            expected=f"a working database at {engine.url.render_as_string(hide_password=True)}",
            fix="check that it runs and has space; nothing was changed by this call",
        ) from error
