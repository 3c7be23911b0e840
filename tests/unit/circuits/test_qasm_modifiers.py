"""Chains of modifiers are read up to a bound, and refused at their place beyond it."""

import pytest

from interlock.circuits.qasm import parse
from interlock.errors import InputError


def test_a_chain_of_modifiers_has_a_bound():
    head = 'OPENQASM 3.0; include "stdgates.inc"; qubit[1] q;\n'
    assert parse(head + "inv @ " * 4 + "s q[0];").operations[0].name == "s"
    with pytest.raises(InputError) as error:
        parse(head + "inv @ " * 50_000 + "s q[0];")
    assert error.value.code == "circuit-too-large"
    assert "line 2, column" in error.value.message
