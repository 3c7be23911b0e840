"""PennyLane through the guard; see docs/how-to/guard-sdks.md."""

import pennylane as qml
from pennylane import numpy as np

import interlock

device = interlock.guard(qml.device("default.qubit", wires=1))


@qml.qnode(device, diff_method="parameter-shift")
def node(x):
    """Turn one qubit."""
    qml.RX(x, 0)
    return qml.expval(qml.Z(0))


print(qml.grad(node)(np.array(0.3, requires_grad=True)), device.receipts[-1]["exact"])
