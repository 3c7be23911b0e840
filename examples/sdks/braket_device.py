"""Braket through the guard; see docs/how-to/guard-sdks.md."""

from braket.circuits import Circuit
from braket.devices import LocalSimulator

import interlock

device = interlock.guard(LocalSimulator())
task = device.run(Circuit().h(0).cnot(0, 1), shots=100)
print(task.result().measurement_counts, task.result().interlock["outcome"])
