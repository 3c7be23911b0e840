"""Canaries in sensitive columns: values that nobody has, and the search for them in a job.

A column is marked as sensitive by planting canaries in it: rows with random values that are kept,
with the column's data label, in `canaries.json` of the home. Wherever such a value turns up in a
job, the column it stands in has reached the circuit. This shows a flow of data that happened; it
cannot show that none is possible (Denning, CACM 19(5), 1976, for what would).
"""

from __future__ import annotations

import base64
import math
import secrets
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from interlock.crypto import files
from interlock.errors import InputError, StorageError

__all__ = ["Canary", "Encoding", "Hit", "plant", "read", "register", "search"]

FILE = "canaries.json"
#: Rows planted in a column: two of them must be found where digits were lost.
ROWS = 3
#: Where no digit was lost; the tests count what comes this near by chance.
EXACT = 1e-12
#: What single precision leaves of a value.
SINGLE = 1e-6
#: What compiling makes of an angle, beside turns by a quarter.
_FACTORS = (1.0, -1.0, 0.5, -0.5, 2.0, -2.0)

_FUNCTIONS: dict[str, Callable[[float], float]] = {
    "identity": lambda v: v,
    "arcsin": lambda v: math.asin(v) if -1 <= v <= 1 else math.nan,
    "arccos": lambda v: math.acos(v) if -1 <= v <= 1 else math.nan,
    "arctan": math.atan,
    "log": lambda v: math.log(v) if v > 0 else math.nan,
    "square": lambda v: v * v,
    "sqrt": lambda v: math.sqrt(v) if v >= 0 else math.nan,
}


class Encoding(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How a pipeline turns a column into angles: function(scale * value + offset).

    Attributes:
        scale: for instance pi / (max - min).
        offset: added after.
        function: applied last.
        decimals: it rounds to so many; None when it does not.
    """

    scale: float = 1.0
    offset: float = 0.0
    function: Literal["identity", "arcsin", "arccos", "arctan", "log", "square", "sqrt"] = (
        "identity"
    )
    decimals: Annotated[int, msgspec.Meta(ge=0, le=15)] | None = None

    def of(self, value: float) -> float:
        """Return what becomes of a value; NaN when the function has no answer."""
        made = _FUNCTIONS[self.function](self.scale * value + self.offset)
        return made if self.decimals is None else round(made, self.decimals)


class Canary(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A column's canaries.

    Attributes:
        tenant: whose column.
        column: its name.
        label: its data label.
        numbers: planted values of a column of numbers, else empty.
        texts: planted values of a column of text, else empty.
    """

    tenant: str
    column: str
    label: str
    numbers: tuple[float, ...] = ()
    texts: tuple[str, ...] = ()


class Hit(msgspec.Struct, frozen=True, kw_only=True):
    """A canary that was found.

    Attributes:
        tenant: of the column.
        column: where it was planted.
        label: of the column.
        where: `parameters`, `circuit`, `observables`, `payload` or `names`.
        encoding: number of the encoding in the policy, counted from 1; 0 for the value itself.
        exact: whether no digit was lost.
    """

    tenant: str
    column: str
    label: str
    where: str
    encoding: int
    exact: bool


def plant(column: Sequence[str], *, tenant: str, name: str, label: str) -> tuple[Canary, list[str]]:
    """Return canaries for a column, like its values, and the cells to plant.

    Args:
        column: its cells.
        tenant: whose it is.
        name: of the column.
        label: its data label.

    Raises:
        InputError: the column is empty.
    """
    cells = [c.strip() for c in column if c.strip()]
    if not cells or not name or not label or ":" in label:
        raise InputError(
            "canaries cannot be planted in this column",
            code="canary-column",
            got=f"column {name!r} with {len(cells)} cells, label {label!r}",
            expected="a column with values, and a data label without a colon",
            fix="check the name of the column and --label",
        )
    try:
        values = [float(c) for c in cells]
    except ValueError:
        texts = tuple(f"Q{secrets.token_hex(8)}" for _ in range(ROWS))
        return Canary(tenant=tenant, column=name, label=label, texts=texts), list(texts)
    low, high = min(values), max(values)
    if not math.isfinite(low + high):
        low, high = 0.0, 1.0
    # Within the column's range, so that scaling to it works as before.
    drawn = [secrets.SystemRandom().uniform(low, high if high > low else low + 1) for _ in range(3)]
    made = Canary(tenant=tenant, column=name, label=label, numbers=tuple(drawn))
    return made, [repr(v) for v in drawn]


def read(home: Path) -> tuple[Canary, ...]:
    """Return the canaries of a home; none when none were planted.

    Raises:
        StorageError: the file is there and cannot be read: nothing can be searched for.
    """
    raw = files.read_private(home / FILE)
    if raw is None:
        return ()
    try:
        return msgspec.json.decode(raw, type=tuple[Canary, ...])
    except msgspec.MsgspecError as error:
        raise StorageError(
            "the canaries of this home cannot be read",
            code="canary-file",
            got=f"{type(error).__name__}: {error}",
            expected=f"what `interlock canary plant` wrote to {home / FILE}",
            fix="restore the file, or remove it and plant again",
        ) from error


def register(home: Path, made: Canary) -> None:
    """Keep a column's canaries."""
    known = (*read(files.private_dir(home)), made)
    files.write_private(home / FILE, msgspec.json.encode(known))


def search(
    planted: Iterable[Canary],
    encodings: Sequence[Encoding],
    numbers: Mapping[str, NDArray[np.float64]],
    texts: Mapping[str, Sequence[str]],
    payloads: Sequence[bytes],
) -> list[Hit]:
    """Return every column whose canaries are found.

    Args:
        planted: the canaries.
        encodings: as the pipeline declares them; the value itself is always searched too.
        numbers: where -> values.
        texts: where -> strings.
        payloads: what goes to the provider, as bytes.
    """
    forms = [Encoding(), *encodings]
    found: dict[tuple[str, str, str, str, int], Hit] = {}

    def add(canary: Canary, where: str, encoding: int, exact: bool) -> None:
        key = (canary.tenant, canary.column, canary.label, where, encoding)
        if key not in found or exact:
            found[key] = Hit(tenant=canary.tenant, column=canary.column, label=canary.label,
                             where=where, encoding=encoding, exact=exact)  # fmt: skip

    for canary in planted:
        for index, form in enumerate(forms):
            values = [v for v in map(form.of, canary.numbers) if math.isfinite(v)]
            for where, array in numbers.items():
                hit = _numeric(values, array, form.decimals)
                if hit is not None:
                    add(canary, where, index, hit)
            if any(p in payload for v in values for p in _packed(v, form) for payload in payloads):
                add(canary, "payload", index, True)
        for text in canary.texts:
            for where, strings in texts.items():
                if any(form in s for s in strings for form in _spelt(text)):
                    add(canary, where, 0, True)
            if any(f.encode() in payload for f in _spelt(text) for payload in payloads):
                add(canary, "payload", 0, True)
        for value in map(repr, canary.numbers):
            for where, strings in texts.items():
                if any(value in s for s in strings):
                    add(canary, where, 0, True)
    return [found[key] for key in sorted(found)]


def _numeric(
    values: Sequence[float], array: NDArray[np.float64], decimals: int | None
) -> bool | None:
    """Return True for a find without loss, False for one with loss of digits, None for none."""
    if not len(array) or not values:
        return None
    near = 0
    for value in values:
        if decimals is None or decimals >= 9:
            for factor in _FACTORS:
                rest = np.abs(_remainder(array * factor - value, math.pi / 2))
                if bool((rest <= EXACT * max(1.0, abs(value))).any()):
                    return True
        slack = SINGLE * max(1.0, abs(value))
        if decimals is not None:
            slack = max(slack, 0.51 * 10.0**-decimals)
        rest = np.abs(array - value)
        if abs(value) <= 2 * math.pi:  # a larger one, wrapped, has too few digits left to tell
            rest = np.abs(_remainder(array - value, 2 * math.pi))
        near += bool((rest <= slack).any())
    return False if near >= 2 else None


def _remainder(values: NDArray[np.float64], period: float) -> NDArray[np.float64]:
    made: NDArray[np.float64] = values - np.round(values / period) * period
    return made


def _packed(value: float, form: Encoding) -> Iterator[bytes]:
    """Yield how a value stands in bytes: as a double either way round, and as text."""
    if form.decimals is None and abs(value) < 1e38:  # a rounded value is met by chance
        single = struct.unpack("<f", struct.pack("<f", value))[0]
        yield from (struct.pack(f"{order}d", v) for order in "<>" for v in (value, single))
        yield repr(value).encode()


def _spelt(text: str) -> tuple[str, ...]:
    raw = text.encode()
    return (
        text,
        raw.hex(),
        base64.b64encode(raw).decode().rstrip("=")[:-1],
    )
