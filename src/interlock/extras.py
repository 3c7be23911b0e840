"""Which extra brings a module that is not installed."""

from __future__ import annotations

import re
from importlib import metadata

from interlock.errors import SetupError

__all__ = ["extra_of", "missing", "to_install"]

#: Modules whose package has another name.
_PACKAGES = {
    "OpenSSL": "pyopenssl", "braket": "amazon-braket-sdk", "mqt": "mqt-qcec", "re2": "google-re2",
    "sklearn": "scikit-learn", "yaml": "pyyaml",
}  # fmt: skip
_REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+).*?(?:extra\s*==\s*['\"]([^'\"]+)['\"])")


def extra_of(module: str) -> str | None:
    """Return the extra that brings a module, the smallest where several do; None if none does.

    Example:
        >>> extra_of("qiskit_aer.primitives"), extra_of("cirq"), extra_of("nowhere")
        ('qiskit', 'cirq', None)
    """
    top = module.partition(".")[0]
    wanted = _normal(_PACKAGES.get(top, top))
    brings: dict[str, list[str]] = {}
    for line in metadata.requires("interlock") or ():
        if found := _REQUIREMENT.match(line):
            brings.setdefault(found[2], []).append(_normal(found[1]))
    fitting = [
        (len(packages), extra)
        for extra, packages in brings.items()
        if extra not in ("all", "dev") and {wanted, f"{wanted}-core"} & {*packages}
    ]
    return min(fitting)[1] if fitting else None


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def to_install(module: str) -> str:
    """Return what to do about a module that is not installed.

    Example:
        >>> to_install("qiskit_aer")
        "pip install 'interlock[qiskit]'"
    """
    extra = extra_of(module)
    return f"pip install 'interlock[{extra}]'" if extra else f"install the package of {module!r}"


def missing(error: ModuleNotFoundError) -> SetupError:
    """Return the error for a module that is not installed, with how to install it.

    Example:
        >>> missing(ModuleNotFoundError("No module named 'cirq'", name="cirq")).fix
        "pip install 'interlock[cirq]'"
    """
    name = error.name or ""
    return SetupError(
        f"{name.partition('.')[0]} is not installed",
        code="extra-missing",
        got=str(error),
        expected="what this part of Interlock needs",
        fix=to_install(name),
    )
