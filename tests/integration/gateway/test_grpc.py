"""gRPC says what REST says: the same jobs, the same refusals, the same codes."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from interlock.gateway.store import Tenant
from tests.integration.gateway.kit import Kit, bell, kit
from tests.integration.gateway.rpc import METHODS, Rpc, rpc_server, submission

QASM = """OPENQASM 3.0; include "stdgates.inc";
bit[2] c; qubit[2] q; h q[0]; cx q[0], q[1]; c = measure q;"""


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Kit, Rpc]]:
    folder = tmp_path_factory.mktemp("g")
    with kit(folder / "home") as made:
        for tenant in ("north", "south"):
            made.gateway.store.set_tenant(Tenant(name=tenant, rate=1e5, burst=1e5))
        with rpc_server(made.gateway, folder) as rpc:
            yield made, rpc


def run(both: tuple[Kit, Rpc], who: str, job: dict, **more: object) -> tuple[str, dict]:
    made, rpc = both
    name = rpc("Submit", submission(job, **more), made.key(who))["id"]
    reply = rpc("GetResult", {"id": name, "wait": 30.0}, made.key(who))
    assert not reply.get("pending")
    return name, reply["outcome"]


def test_a_job_is_released_and_both_interfaces_show_the_same(both: tuple[Kit, Rpc]) -> None:
    made, rpc = both
    name, outcome = run(both, "ada", bell(500))
    assert outcome["outcome"] == "RELEASE"
    assert sum(outcome["result"]["items"][0]["registers"]["meas"][0].values()) == 500
    key = made.key("ada")
    rest = made.call("ada", "GET", f"/v1/jobs/{name}").json()
    assert rpc("GetJob", {"id": name}, key) == rest
    assert made.call("ada", "GET", f"/v1/jobs/{name}/result").json() == outcome
    receipt = outcome["receipt"]["id"]
    theirs = made.call("ada", "GET", f"/v1/receipts/{receipt}").json()
    assert rpc("GetReceipt", {"id": receipt}, key) == theirs
    listed = rpc("ListJobs", {"limit": 200}, key)["jobs"]
    rest_list = made.call("ada", "GET", "/v1/jobs?limit=200").json()["jobs"]
    assert [j["id"] for j in listed] == [j["id"] for j in rest_list]
    admin = made.key("adm")
    for call, path in (("GetTenant", "tenant"), ("GetPolicy", "policy"), ("GetLedger", "ledger")):
        ours, rests = rpc(call, {}, admin), made.call("adm", "GET", f"/v1/{path}").json()
        rests.pop("windows", None)
        if call != "GetLedger":
            assert ours == rests
    assert rpc("ListBackends", {}, key) == made.call("ada", "GET", "/v1/backends").json()


def test_a_job_can_be_watched_to_its_end(both: tuple[Kit, Rpc]) -> None:
    made, rpc = both
    name = rpc("Submit", bell(50), made.key("ada"))["id"]
    states = [view["state"] for view in rpc("Watch", {"id": name}, made.key("ada"))]
    assert states[-1] == "done"
    assert set(states) <= {"queued", "running", "done"}
    assert len(states) == len(set(states))


def test_an_idempotency_key_holds_across_both_interfaces(both: tuple[Kit, Rpc]) -> None:
    made, rpc = both
    first = rpc("Submit", submission(bell(77), idempotency_key="across"), made.key("ada"))
    again = made.call("ada", "POST", "/v1/jobs", bell(77), idempotency_key="across")
    assert first["created"] is True
    assert (again.status_code, again.json()["id"]) == (200, first["id"])
    other = submission(bell(78), idempotency_key="across")
    assert rpc.fails("Submit", other, made.key("ada")) == ("ALREADY_EXISTS", "idempotency-key")


def test_openqasm_goes_through_either(both: tuple[Kit, Rpc]) -> None:
    made, rpc = both
    job = bell(64, programs=[{"qasm3": QASM, "shots": 64}])
    _, ours = run(both, "ada", job)
    _, rests = made.run("ada", job)
    assert ours["result"]["items"] == rests["result"]["items"]
    assert set(ours["result"]["items"][0]["registers"]["c"][0]) <= {"00", "11"}
    for wrong in ("OPENQASM 3.0; nonsense", "OPENQASM 2.0;", "x" * 100):
        bad = bell(1, programs=[{"qasm3": wrong, "shots": 1}])
        code = made.call("ada", "POST", "/v1/jobs", bad).json()["code"]
        assert rpc.fails("Submit", bad, made.key("ada")) == ("INVALID_ARGUMENT", code)


@pytest.mark.parametrize(
    ("who", "call", "asked", "status", "code"),
    [
        ("", "GetJob", {"id": "x"}, "UNAUTHENTICATED", "unauthenticated"),
        ("ada", "GetJob", {"id": "0" * 28}, "NOT_FOUND", "job-unknown"),
        ("ada", "GetJob", {"id": "../x"}, "INVALID_ARGUMENT", "request-format"),
        ("ada", "Watch", {"id": "0" * 28}, "NOT_FOUND", "job-unknown"),
        ("ada", "GetPolicy", {}, "PERMISSION_DENIED", "forbidden"),
        ("ada", "GetLedger", {}, "PERMISSION_DENIED", "forbidden"),
        ("ada", "ListApprovals", {}, "PERMISSION_DENIED", "forbidden"),
        ("ada", "ListJobs", {"limit": 9999}, "INVALID_ARGUMENT", "request-format"),
        ("ada", "Submit", {"kind": "sample"}, "INVALID_ARGUMENT", "job-format"),
        ("ada", "Submit", bell(0), "INVALID_ARGUMENT", "job-values"),
        ("ada", "Revoke", {"kind": "person", "value": "x"}, "INVALID_ARGUMENT", "request-format"),
        ("ada", "Revoke", {"kind": "key", "value": "x"}, "PERMISSION_DENIED", "forbidden"),
        ("adm", "SetTenant", {"name": "south", "weight": 2.0}, "PERMISSION_DENIED", "forbidden"),
        ("adm", "SetTenant", {"name": "north", "weight": -1.0}, "INVALID_ARGUMENT",
         "request-format"),
        ("lea", "Approve", {"subject": "0" * 64, "gate": "g"}, "NOT_FOUND", "approval-unknown"),
    ],
)  # fmt: skip
def test_a_refusal_has_its_status_and_stable_code(
    both: tuple[Kit, Rpc], who: str, call: str, asked: dict, status: str, code: str
) -> None:
    made, rpc = both
    assert rpc.fails(call, asked, made.key(who) if who else "") == (status, code)


def test_every_call_but_health_needs_a_credential(both: tuple[Kit, Rpc]) -> None:
    _, rpc = both
    assert rpc("Health") == {"ready": True}
    for name in METHODS:
        if name != "Health":
            assert rpc.fails(name) == ("UNAUTHENTICATED", "unauthenticated")
            assert rpc.fails(name, {}, "ilk_0123456789abcdef_wrong")[0] == "UNAUTHENTICATED"


def test_another_tenant_sees_nothing(both: tuple[Kit, Rpc]) -> None:
    made, rpc = both
    name, outcome = run(both, "ada", bell())
    key = made.key("sol")
    for call in ("GetJob", "Watch", "GetResult", "Cancel"):
        assert rpc.fails(call, {"id": name}, key) == ("NOT_FOUND", "job-unknown")
    receipt = rpc.fails("GetReceipt", {"id": outcome["receipt"]["id"]}, key)
    assert receipt == rpc.fails("GetReceipt", {"id": "1-" + "0" * 16}, key)
    assert receipt == ("NOT_FOUND", "receipt-unknown")
    assert name not in [j["id"] for j in rpc("ListJobs", {}, key).get("jobs", [])]


def test_a_revoked_session_ends_while_it_watches(tmp_path: Path) -> None:
    with kit(tmp_path / "home", workers=0) as made, rpc_server(made.gateway, tmp_path) as rpc:
        name = rpc("Submit", bell(), made.key("ben"))["id"]
        made.gateway.store.set_tenant(Tenant(name="north"))
        method = METHODS["Watch"]
        assert method.server_streaming
        from google.protobuf import message_factory

        kind = message_factory.GetMessageClass(method.output_type)
        asks = message_factory.GetMessageClass(method.input_type)
        stream = rpc.channel.unary_stream(
            "/interlock.v1.Gateway/Watch", response_deserializer=kind.FromString
        )(
            asks(id=name).SerializeToString(), timeout=30,
            metadata=[("authorization", f"Bearer {made.key('ben')}")],
        )  # fmt: skip
        assert next(stream).state == "queued"
        made.gateway.access.revoke("principal", "ben", "north", "left")
        with pytest.raises(grpc.RpcError) as caught:
            next(stream)
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_a_limited_call_says_when_to_come_back(tmp_path: Path) -> None:
    with kit(tmp_path / "home", workers=0) as made, rpc_server(made.gateway, tmp_path) as rpc:
        made.gateway.store.set_tenant(Tenant(name="north", rate=0.001, burst=2))
        key = made.key("ada")
        done = [rpc("Submit", bell(), key)["created"] for _ in range(2)]
        assert done == [True, True]
        assert rpc.fails("Submit", bell(), key) == ("RESOURCE_EXHAUSTED", "rate-limited")


def test_the_committed_code_is_that_of_the_proto_file(tmp_path: Path) -> None:
    import importlib.resources

    from google.protobuf import descriptor_pb2

    from interlock.gateway import gateway_pb2

    source = Path(str(importlib.resources.files("interlock.gateway"))).parents[1]
    out = tmp_path / "set"
    name = "interlock/gateway/gateway.proto"
    # In a process of its own: its protobuf library aborts beside that of another extension.
    protoc = [sys.executable, "-m", "grpc_tools.protoc"]
    subprocess.run([*protoc, f"-I{source}", f"--descriptor_set_out={out}", name], check=True)
    (made,) = descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes()).file
    kept = descriptor_pb2.FileDescriptorProto()
    gateway_pb2.DESCRIPTOR.CopyToProto(kept)
    for message in made.message_type:
        for field in [*message.field, *(f for n in message.nested_type for f in n.field)]:
            field.ClearField("json_name")
    assert made == kept
