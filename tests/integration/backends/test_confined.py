"""Every job in a fresh confined child: same answers, faults named, nothing to steal."""

import os
import signal
import threading
import time

import numpy as np
import pytest
from qiskit import QuantumCircuit, transpile
from qiskit.circuit import Parameter
from qiskit.quantum_info import SparsePauliOp

from interlock.backends import ConfinedEstimator, ConfinedSampler, TwinEstimator, TwinSampler, twin
from interlock.backends.confined import shared_server
from interlock.backends.worker import pack, unpack
from interlock.confine import Level, Limits
from interlock.errors import BackendError, InputError


def bell(angle: Parameter | float = np.pi / 2) -> QuantumCircuit:
    circuit = QuantumCircuit(2)
    circuit.ry(angle, 0)
    circuit.cx(0, 1)
    return circuit


def test_a_confined_sampler_gives_the_same_counts() -> None:
    backend = twin("manila")
    measured = bell(Parameter("a"))
    measured.measure_all()
    isa = transpile(measured, backend, seed_transpiler=1)
    pub = (isa, np.linspace(0, 3, 4).reshape(2, 2, 1))
    confined = ConfinedSampler(backend, seed=5)
    ours = confined.run([pub], shots=300).result()[0]
    theirs = TwinSampler(backend, seed=5).run([pub], shots=300).result()[0]
    assert ours.data.shape == (2, 2)
    assert np.array_equal(ours.data.meas.array, theirs.data.meas.array)
    assert confined.last is not None
    assert confined.last.level is Level.CONFINED
    assert confined.isolation_level == "confined"


def test_a_confined_estimator_gives_the_same_values() -> None:
    backend = twin("manila")
    isa = transpile(bell(), backend, seed_transpiler=1)
    pub = (
        isa,
        [
            SparsePauliOp("ZZ").apply_layout(isa.layout),
            SparsePauliOp("XX").apply_layout(isa.layout),
        ],
    )
    ours = ConfinedEstimator(backend, seed=5).run([pub]).result()[0].data
    again = ConfinedEstimator(backend, seed=5).run([pub]).result()[0].data
    theirs = TwinEstimator(backend, seed=5).run([pub]).result()[0].data
    assert np.array_equal(ours.evs, again.evs)
    assert np.all(np.abs(ours.evs - theirs.evs) < 5 * np.hypot(ours.stds, theirs.stds))
    assert ConfinedEstimator(backend).isolation_level == "confined"


def test_a_noisy_aer_simulator_runs_in_the_worker() -> None:
    from qiskit_aer import AerSimulator
    from qiskit_aer.noise import NoiseModel, ReadoutError, depolarizing_error

    model = NoiseModel()
    model.add_all_qubit_quantum_error(depolarizing_error(0.5, 2), ["cx"])
    model.add_readout_error(ReadoutError([[0.9, 0.1], [0.2, 0.8]]), [0])
    measured = bell()
    measured.measure_all()
    noisy = ConfinedSampler(AerSimulator(noise_model=model), seed=5).run([measured]).result()
    ideal = ConfinedSampler(AerSimulator(), seed=5).run([measured]).result()
    assert len(noisy[0].data.meas.get_counts()) == 4
    assert set(ideal[0].data.meas.get_counts()) == {"00", "11"}


def test_a_deadline_and_a_memory_limit_are_named() -> None:
    from qiskit_aer import AerSimulator

    wide = QuantumCircuit(27)
    for _ in range(60):
        wide.h(range(27))
        wide.cx(range(26), range(1, 27))
        wide.rx(0.3, range(27))
    wide.measure_all()
    slow = ConfinedSampler(
        AerSimulator(method="statevector"), limits=Limits(wall_s=0.5, threads=True, memory_mb=8192)
    )
    with pytest.raises(BackendError) as caught:
        slow.run([wide]).result()
    assert caught.value.code == "worker-timeout"
    small = ConfinedSampler(
        AerSimulator(method="statevector"), limits=Limits(memory_mb=64, threads=True)
    )
    with pytest.raises(BackendError) as caught:
        small.run([wide]).result()
    assert caught.value.code in ("worker-crashed", "worker-died")


def test_a_killed_worker_is_named_and_the_next_job_runs() -> None:
    backend = twin("manila")
    measured = bell()
    measured.measure_all()
    isa = transpile(measured, backend, seed_transpiler=1)
    sampler = ConfinedSampler(backend, seed=1)
    sampler.run([isa]).result()
    pid = shared_server().pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    time.sleep(0.1)
    assert sampler.run([isa], shots=10).result()[0].data.meas.num_shots == 10
    assert shared_server().pid != pid


def test_jobs_from_several_threads() -> None:
    backend = twin("manila")
    measured = bell()
    measured.measure_all()
    isa = transpile(measured, backend, seed_transpiler=1)
    found: dict[int, int] = {}

    def work(shots: int) -> None:
        result = ConfinedSampler(backend, seed=1).run([isa], shots=shots).result()
        found[shots] = result[0].data.meas.num_shots

    threads = [threading.Thread(target=work, args=(n,)) for n in range(10, 18)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {n: n for n in range(10, 18)}


def test_errors_of_the_device_come_back_as_themselves() -> None:
    measured = QuantumCircuit(3)
    measured.h(0)
    measured.measure_all()
    with pytest.raises(InputError) as caught:
        ConfinedSampler(twin("manila")).run([measured]).result()
    assert caught.value.code == "circuit-not-isa"
    with pytest.raises(InputError) as caught:
        ConfinedSampler(object())
    assert caught.value.code == "worker-backend"


@pytest.mark.parametrize(
    "data",
    [b"", b"\x00\x00\x00\x02{}", b"\x00\x00\xff\xff{}", pack({}, b"abc")[:-1], pack({}) + b"x",
     b'\x00\x00\x00\x0f{"_sizes":[-1]}', b'\x00\x00\x00\x0e{"_sizes":"a"}'],
)  # fmt: skip
def test_malformed_messages_are_refused(data: bytes) -> None:
    with pytest.raises(BackendError) as caught:
        unpack(data)
    assert caught.value.code == "worker-message"
