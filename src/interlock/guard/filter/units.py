"""Units of the quantities that quantum programs return, and their exact or CODATA 2018 factors."""

from __future__ import annotations

__all__ = ["UNITS", "convert", "known"]

_HARTREE_J = 4.3597447222071e-18
_MOL = 6.02214076e23

#: unit -> (dimension, factor to the base of the dimension). Currencies do not convert.
UNITS: dict[str, tuple[str, float]] = {
    "1": ("fraction", 1.0),
    "%": ("fraction", 1e-2),
    "bp": ("fraction", 1e-4),
    "ppm": ("fraction", 1e-6),
    "J": ("energy", 1.0),
    "eV": ("energy", 1.602176634e-19),
    "meV": ("energy", 1.602176634e-22),
    "hartree": ("energy", _HARTREE_J),
    "mhartree": ("energy", _HARTREE_J / 1000),
    "Ry": ("energy", _HARTREE_J / 2),
    "kJ/mol": ("energy", 1000 / _MOL),
    "kcal/mol": ("energy", 4184 / _MOL),
    "m": ("length", 1.0),
    "nm": ("length", 1e-9),
    "pm": ("length", 1e-12),
    "angstrom": ("length", 1e-10),
    "bohr": ("length", 5.29177210903e-11),
    "s": ("time", 1.0),
    "ms": ("time", 1e-3),
    "us": ("time", 1e-6),
    "ns": ("time", 1e-9),
    "Hz": ("frequency", 1.0),
    "kHz": ("frequency", 1e3),
    "MHz": ("frequency", 1e6),
    "GHz": ("frequency", 1e9),
    "K": ("temperature", 1.0),
    "mK": ("temperature", 1e-3),
    "kg": ("mass", 1.0),
    "Da": ("mass", 1.66053906660e-27),
    "rad": ("angle", 1.0),
    "deg": ("angle", 3.141592653589793 / 180),
    "USD": ("USD", 1.0),
    "EUR": ("EUR", 1.0),
    "GBP": ("GBP", 1.0),
    "JPY": ("JPY", 1.0),
}


def known(unit: str) -> bool:
    """Return whether a unit is in the table."""
    return unit in UNITS


def convert(value: float, unit: str, to: str) -> float:
    """Convert between two units of one dimension.

    Raises:
        ValueError: an unknown unit, or another dimension.

    Example:
        >>> round(convert(1.0, "hartree", "eV"), 6)
        27.211386
    """
    for name in (unit, to):
        if name not in UNITS:
            raise ValueError(f"unknown unit {name!r}")
    if unit == to:
        return value
    if UNITS[unit][0] != UNITS[to][0]:
        raise ValueError(f"{unit} is a unit of {UNITS[unit][0]}, {to} one of {UNITS[to][0]}")
    return value * UNITS[unit][1] / UNITS[to][1]
