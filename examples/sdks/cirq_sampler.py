"""Cirq through the guard; see docs/how-to/guard-sdks.md."""

import cirq

import interlock

a, b = cirq.LineQubit.range(2)
bell = cirq.Circuit(cirq.H(a), cirq.CNOT(a, b), cirq.measure(a, b, key="m"))
sampler = interlock.guard(cirq.Simulator(seed=1))
result = sampler.run(bell, repetitions=100)
print(result.histogram(key="m"), result.interlock["outcome"])
