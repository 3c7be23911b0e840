"""A package that is not installed is named with the extra that brings it."""

import subprocess
import sys
from importlib import metadata

import pytest

from interlock.errors import SetupError
from interlock.extras import extra_of, missing


@pytest.mark.parametrize(
    ("module", "extra"),
    [("qiskit_aer", "qiskit"), ("cirq.sim", "cirq"), ("braket.circuits", "braket"),
     ("torch", "torch"), ("psycopg", "postgres"), ("re2", "filter"), ("mqt.qcec", "equivalence")],
)  # fmt: skip
def test_the_extra_brings_the_module(module: str, extra: str) -> None:
    assert extra_of(module) == extra
    assert extra in (metadata.metadata("interlock").get_all("Provides-Extra") or [])


def test_a_module_of_nobody_is_only_named() -> None:
    error = missing(ModuleNotFoundError("No module named 'nowhere'", name="nowhere"))
    assert error.code == "extra-missing"
    assert error.fix == "install the package of 'nowhere'"


def test_a_command_without_its_packages_says_what_to_install() -> None:
    hide = """
import sys
class Hide:
    def find_spec(self, name, *_):
        if name.partition('.')[0] == 'qiskit':
            raise ModuleNotFoundError(f'No module named {name!r}', name=name)
sys.meta_path.insert(0, Hide())
from interlock.cli import main
sys.exit(main(['demo']))
"""
    done = subprocess.run(
        [sys.executable, "-c", hide], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 5
    assert "Traceback" not in done.stderr
    assert "pip install 'interlock[qiskit]'" in done.stderr


def test_a_layer_without_torch_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import interlock.training

    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "interlock.training.device_layer", raising=False)
    with pytest.raises(SetupError) as error:
        _ = interlock.training.DeviceLayer
    assert "interlock[torch]" in str(error.value.fix)
