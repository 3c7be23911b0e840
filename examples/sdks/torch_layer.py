"""torch through the guard; see docs/how-to/guard-sdks.md."""

import cirq
import sympy
import torch

import interlock
from interlock.training import DeviceLayer

a, b = cirq.LineQubit.range(2)
x, w = sympy.symbols("x w")
circuit = cirq.Circuit(cirq.ry(x)(a), cirq.CNOT(a, b), cirq.ry(2 * w)(b))
plain = DeviceLayer(circuit, cirq.Simulator(seed=1), inputs=("x",), shots=500)
layer = interlock.guard(plain)
layer(torch.tensor([[0.3], [0.9]])).sum().backward()
print(layer.weights.grad, layer.receipts.label)
