import copy
import dataclasses
import pickle
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interlock.circuits.data import (
    Amplitudes,
    Counts,
    Order,
    Probabilities,
    Sensitivity,
    amplitudes_from_tensor,
    amplitudes_of_job,
    counts_of,
    distance,
    export_amplitudes,
    from_tensor,
    ordered,
    probabilities_of,
    sensitivity_of,
    to_tensor,
)
from interlock.errors import DeniedError, InputError, SetupError

seeds = st.integers(0, 2**32 - 1)
widths = st.integers(1, 6)


def state(n, seed):
    rng = np.random.default_rng(seed)
    values = rng.normal(size=2**n) + 1j * rng.normal(size=2**n)
    return Amplitudes(values / np.linalg.norm(values), Order.LITTLE)


def numbers(value):
    return export_amplitudes(value, Sensitivity.RESTRICTED)


@given(widths, seeds)
@settings(deadline=None, max_examples=60)
def test_round_trips(n, seed):
    value = state(n, seed)
    there = ordered(value, Order.BIG)
    assert np.array_equal(numbers(ordered(there, Order.LITTLE)), numbers(value))
    shares = probabilities_of(value)
    assert np.allclose(ordered(probabilities_of(there), Order.LITTLE).values, shares.values)
    counts = counts_of(shares, 1000, rng=seed)
    assert counts.shots == 1000
    assert ordered(ordered(counts, Order.BIG), Order.LITTLE) == counts
    left = probabilities_of(ordered(counts, Order.BIG))
    assert np.array_equal(left.values, ordered(probabilities_of(counts), Order.BIG).values)
    assert np.array_equal(from_tensor(to_tensor(shares), Order.LITTLE).values, shares.values)


@given(st.integers(2, 5), seeds)
@settings(deadline=None, max_examples=40)
def test_the_order_means_what_qiskit_means(n, seed):
    from qiskit.quantum_info import Statevector

    value = state(n, seed)
    vector = Statevector(numbers(value))
    shares = probabilities_of(value)
    for bits, share in vector.probabilities_dict().items():
        assert np.isclose(shares.values[int(bits, 2)], share)
    first = vector.probabilities([0])[1]
    big = probabilities_of(ordered(value, Order.BIG)).values
    assert np.isclose(big[2 ** (n - 1) :].sum(), first)


def test_the_wrong_order_is_caught():
    little = probabilities_of(Counts({"001": 10}, 3, Order.LITTLE))
    big = probabilities_of(Counts({"100": 10}, 3, Order.BIG))
    with pytest.raises(InputError) as error:
        distance(little, big)
    assert error.value.code == "data-order"
    assert distance(little, ordered(big, Order.LITTLE)) == 0.0


@pytest.mark.parametrize(
    "values",
    [
        [1.01, 0], [1, 1], [np.nan, 1], [np.inf, 0], [1, 0, 0], [], [[1, 0], [0, 1]], ["1", "0"],
        [True, False], np.array([1, 0], np.float16), None, [0, 0],
    ],
)  # fmt: skip
def test_unsound_values_are_refused(values):
    for kind in (Amplitudes, Probabilities):
        with pytest.raises(InputError) as error:
            kind(values, Order.LITTLE)
        assert error.value.code == "data-invalid"


def test_negative_probabilities_and_wrong_counts():
    with pytest.raises(InputError):
        Probabilities([1.5, -0.5], Order.LITTLE)
    for counts in ({"0": 1}, {"002": 1}, {"00 ": 1}, {"000": -1}, {"000": 1.5}, {"000": True}, {}):
        with pytest.raises(InputError):
            Counts(counts, 3, Order.LITTLE)
    with pytest.raises(ValueError, match="middle"):
        Counts({"000": 1}, 3, "middle")


def test_values_cannot_be_changed_afterwards():
    source = np.array([1.0, 0.0])
    kept = Probabilities(source, Order.LITTLE)
    source[0] = 7.0
    assert kept.values[0] == 1.0
    with pytest.raises(ValueError, match="read-only"):
        kept.values[0] = 2.0


def test_amplitudes_stay_out_of_logs_and_leave_only_with_a_clearance():
    secret = Amplitudes([0.6, 0.8], Order.LITTLE, Sensitivity.RESTRICTED)
    assert "0.6" not in f"{secret!r} {secret}"
    with pytest.raises(DeniedError) as error:
        export_amplitudes(secret, Sensitivity.CONFIDENTIAL)
    assert error.value.code == "data-clearance"
    assert "0.6" not in error.value.diagnostics()
    assert export_amplitudes(secret, Sensitivity.RESTRICTED)[1] == 0.8
    assert ordered(secret, Order.BIG).sensitivity is Sensitivity.RESTRICTED


def test_amplitudes_have_no_side_door():
    secret = Amplitudes([0.6, 0.8], Order.LITTLE, Sensitivity.RESTRICTED)
    assert not hasattr(secret, "values")
    for lower in (
        lambda: setattr(secret, "sensitivity", Sensitivity.PUBLIC),
        lambda: dataclasses.replace(secret, sensitivity=Sensitivity.PUBLIC),
        lambda: dataclasses.asdict(secret),
        lambda: np.asarray(secret, dtype=complex),
        lambda: vars(secret),
    ):
        with pytest.raises((AttributeError, TypeError)):
            lower()
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(DeniedError):
            pickle.dumps(secret, protocol)
    assert copy.copy(secret) is copy.deepcopy(secret) is secret
    for wrong in (99, "RESTRICTED", None):
        with pytest.raises(InputError):
            export_amplitudes(secret, wrong)
        with pytest.raises(InputError):
            Amplitudes([1, 0], Order.LITTLE, wrong)


def test_tensors_keep_their_digits():
    import torch

    value = Probabilities([0.25, 0.75], Order.BIG)
    assert to_tensor(value).dtype is torch.float64
    for dtype in (torch.float16, torch.int64, torch.bfloat16):
        with pytest.raises(InputError):
            to_tensor(value, dtype=dtype)
    with pytest.raises(InputError):
        from_tensor(torch.tensor([0.5, 0.6]), Order.BIG)


@given(widths, seeds)
@settings(deadline=None, max_examples=30)
def test_amplitudes_go_round_by_tensors_with_a_clearance_only(n, seed):
    value = state(n, seed)
    with pytest.raises(DeniedError) as error:
        to_tensor(value)
    assert error.value.code == "data-clearance"
    tensor = to_tensor(value, clearance=Sensitivity.INTERNAL)
    back = amplitudes_from_tensor(tensor, Order.LITTLE)
    assert np.array_equal(numbers(back), numbers(value))
    turned = amplitudes_from_tensor(tensor.conj(), Order.LITTLE)
    assert np.array_equal(numbers(turned), numbers(value).conj())
    assert np.isclose(float(tensor.abs().square().sum()), 1.0)


@given(widths, seeds, st.sampled_from([1.01, 0.99, float("nan"), float("inf"), 0.0]))
@settings(deadline=None, max_examples=40)
def test_a_wrong_norm_is_refused_and_never_mended(n, seed, factor):
    import torch

    value = numbers(state(n, seed))
    for make in (
        lambda: Amplitudes(value * factor, Order.BIG),
        lambda: amplitudes_from_tensor(torch.tensor(value * factor), Order.BIG),
        lambda: Probabilities(np.abs(value) ** 2 * factor, Order.BIG),
        lambda: from_tensor(torch.tensor(np.abs(value) ** 2 * factor), Order.BIG),
    ):
        with pytest.raises(InputError) as error:
            make()
        assert error.value.code == "data-invalid"


@given(st.integers(2, 6), seeds)
@settings(deadline=None, max_examples=30)
def test_counts_read_in_the_wrong_order_are_caught_or_symmetric(n, seed):
    shares = probabilities_of(state(n, seed))
    counts = counts_of(shares, 500, rng=seed)
    mistaken = Counts(counts.counts, n, Order.BIG)
    with pytest.raises(InputError) as error:
        distance(probabilities_of(counts), probabilities_of(mistaken))
    assert error.value.code == "data-order"
    apart = distance(probabilities_of(counts), ordered(probabilities_of(mistaken), Order.LITTLE))
    same = {bits[::-1]: c for bits, c in counts.counts.items()} == counts.counts
    assert (apart == 0) == same


@pytest.mark.parametrize("reader", list(Sensitivity))
@pytest.mark.parametrize("label", list(Sensitivity))
def test_amplitudes_leave_only_where_their_label_allows(reader, label):
    value = Amplitudes([1.0, 0.0], Order.LITTLE, label)
    if reader >= label:
        assert export_amplitudes(value, reader)[0] == 1.0
        assert to_tensor(value, clearance=reader)[0] == 1.0
        return
    for leave in (export_amplitudes, lambda v, c: to_tensor(v, clearance=c)):
        with pytest.raises(DeniedError):
            leave(value, reader)


@given(st.lists(st.sampled_from(["public", "internal", "confidential", "restricted"])))
def test_the_highest_label_of_the_job_counts(levels):
    labels = ["study-7", "subject:kim", *(f"sensitivity:{level}" for level in levels)]
    wanted = max((Sensitivity[x.upper()] for x in levels), default=Sensitivity.INTERNAL)
    assert sensitivity_of(labels) is wanted
    made = amplitudes_of_job([1, 0], Order.BIG, labels)
    assert made.sensitivity is wanted
    for clearance in Sensitivity:
        if clearance >= wanted:
            assert export_amplitudes(made, clearance).tolist() == [1, 0]
        else:
            with pytest.raises(DeniedError) as error:
                export_amplitudes(made, clearance)
            assert error.value.code == "data-clearance"


@pytest.mark.parametrize(
    "labels",
    [
        ["sensitivity:"], ["sensitivity:secret"], ["sensitivity:PUBLIC"], ["Sensitivity: public"],
        "sensitivity:restricted",
    ],
)  # fmt: skip
def test_a_level_that_there_is_not_is_refused(labels):
    with pytest.raises(InputError) as error:
        sensitivity_of(labels)
    assert error.value.code == "data-label"


def test_a_label_counts_however_its_first_half_is_written():
    assert sensitivity_of([" Sensitivity:confidential"]) is Sensitivity.CONFIDENTIAL


def test_without_torch_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(SetupError) as error:
        to_tensor(Probabilities([1.0, 0.0], Order.BIG))
    assert error.value.code == "extra-missing"
    assert "interlock[torch]" in error.value.fix
