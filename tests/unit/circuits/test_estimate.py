"""Estimated durations: gates, delays and loops count; what is not known is said to be unknown."""

import pytest

from interlock.circuits.estimate import estimate, shot_seconds
from interlock.circuits.packs import Limits
from interlock.circuits.qasm import parse
from interlock.circuits.target import Target

HEAD = 'OPENQASM 3.0; include "stdgates.inc"; input float a; qubit[2] q; bit[2] c; '
GATES = {"x": {(0,): 1e-6, (1,): 2e-6}, "cx": {(0, 1): 5e-6}, "measure": {(0,): 1e-5, (1,): 1e-5}}
DEVICE = Target(name="device", num_qubits=2, gates=GATES, cycle_s=2e-9)


def seconds(text, target=DEVICE):
    return shot_seconds(parse(HEAD + text), target)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("x q[0]; cx q[0], q[1]; c[0] = measure q[0];", 1.6e-5),
        ("x q[0]; delay[3ms] q[0]; x q[0];", 3.002e-3),
        ("delay[3ms] q[0]; delay[1ms] q[1]; cx q[0], q[1];", 3.005e-3),
        ("delay[1000dt] q[0];", 2e-6),
        ("for int i in [0:9] { delay[1s] q[0]; rx(i) q[1]; }", 10.0),
        ("if (c[0]) { delay[2s] q[0]; } else { x q[0]; }", 2.0),
        ("delay[1s] q[0]; barrier q; delay[1s] q[1];", 2.0),
    ],
)
def test_delays_and_loops_count(text, wanted):
    assert seconds(text) == pytest.approx(wanted)


def test_delays_count_on_a_device_that_tells_nothing_else():
    for target in (Target(name="simulator"), Target(name="bare", gates={"x": None})):
        assert seconds("x q[0]; delay[1000s] q[0];", target) == 1000.0
        assert seconds("delay[1000dt] q[0];", target) is None


@pytest.mark.parametrize(
    "text", ["x q[0]; delay[a s] q[0];", "x q[0]; for int i in [0:9] { delay[i s] q[0]; }"]
)
def test_a_delay_of_unknown_length_makes_no_estimate(text):
    assert seconds(text) is None


def test_delays_cost_what_the_seconds_cost():
    limits = Limits(usd_per_second=2.0)
    made = estimate(parse(HEAD + "x q[0]; delay[1s] q[0];"), DEVICE, limits, shots=10)
    assert made.seconds == pytest.approx(10.00001)
    assert made.usd == pytest.approx(20.00002)
    assert estimate(parse(HEAD + "h q[0];"), Target(name="s"), limits, shots=10).seconds is None
