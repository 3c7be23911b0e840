"""What a client says of an estimate, and what the gateway counts for it."""

import pytest

from interlock.circuits.canonical import Circuit, Operation
from interlock.gateway.wire import ProgramWire, _program


@pytest.mark.parametrize(
    ("observables", "rows", "executions"),
    [
        (["{'ZZ': 1.0}"], 0, 1),
        (["{'ZZ': 1.0, 'XX': 0.5, 'ZI': 1.0}"], 0, 2),
        (["{'ZZ': 1.0}", "{'XX': 1.0}"], 0, 2),
        (["{'ZZ': 1.0, 'XX': 0.5}"], 3, 6),
        (["{'ZZ': 1.0}", "{'XX': 1.0, 'YY': 1.0}"], 2, 3),
        (["{'??': 1.0, '!!': 1.0}"], 0, 2),
        (["{'ZZ': "], 0, None),
        (["3"], 0, None),
    ],
)
def test_an_estimate_counts_every_basis_it_measures(
    observables: list[str], rows: int, executions: int | None
) -> None:
    import json

    angle: tuple[str, ...] = ("t",) if rows else ()
    circuit = Circuit(num_qubits=2, operations=(Operation("rx", angle or (0.1,), (0,)),))
    wire = ProgramWire(
        circuit=json.loads(circuit.to_json()),
        parameters=angle,
        values=tuple((0.1,) for _ in range(rows)),
        observables=tuple(observables),
        precision=0.1,
    )
    assert _program(wire, "estimate", 0).executions == executions
