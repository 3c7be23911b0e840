import base64
import contextlib
import shutil
import socket
import struct
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from interlock.errors import BackendError, InputError, IntegrityError, SetupError
from interlock.ledger import Ledger, audit
from interlock.ledger.identity import read_vkeys
from interlock.ledger.note import Checkpoint, NoteKey, verify_checkpoint
from interlock.ledger.policy import WitnessPolicy
from interlock.ledger.tree import Tree, leaf_hash
from interlock.ledger.witness import Answer, Witness, request_body, serve, start

pytestmark = pytest.mark.enable_socket


@pytest.fixture
def witness(tmp_path: Path, ledger: Ledger) -> Witness:
    return Witness(tmp_path / "w", "witness.test/w1", {ledger.origin: ledger.public_keys})


@pytest.fixture
def url(witness: Witness) -> Iterator[str]:
    server = serve(witness, "127.0.0.1", 0)
    start(server)
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def fill(ledger: Ledger, count: int = 5) -> None:
    for _ in range(count):
        ledger.append("a", {}, {}).wait()


def keys_of(witness: Witness) -> list[NoteKey]:
    return [signer.key for signer in witness.signers]


def test_a_growing_ledger_is_cosigned_each_time(ledger: Ledger, witness: Witness, url: str) -> None:
    for size in (5, 10, 15):
        fill(ledger)
        note = ledger.cosign(url, keys_of(witness))
        head, times = verify_checkpoint(note, keys_of(witness), origin=ledger.origin)
        assert head.size == size
        assert all(times.values())
        assert witness.latest(ledger.origin)[0] == size
    assert ledger.checkpoint() == note
    policy = WitnessPolicy.parse(f"witness w {keys_of(witness)[1]}\nquorum w")
    assert audit(ledger.home, policy=policy).ok
    fill(ledger, 1)
    ledger.checkpoint()
    assert [f.kind for f in audit(ledger.home, policy=policy).faults] == ["unwitnessed"]


def test_a_head_cosigned_again_and_again_holds_one_line_of_each_key(
    ledger: Ledger, witness: Witness, url: str
) -> None:
    fill(ledger)
    first = ledger.cosign(url, keys_of(witness))
    for _ in range(40):
        note = ledger.cosign(url, keys_of(witness))
    assert note.count("\n") == first.count("\n")
    assert audit(ledger.home).ok


def test_of_a_witness_that_sends_more_than_its_lines_they_alone_are_kept(
    ledger: Ledger, witness: Witness, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(ledger)
    honest = Witness.add_checkpoint

    def talkative(self: Witness, body: str) -> Answer:
        answer = honest(self, body)
        more = [key.id + bytes([n]) * 80 for key in keys_of(self) for n in range(25)]
        text = "".join(f"— witness.test/w1 {base64.b64encode(raw).decode()}\n" for raw in more)
        return Answer(answer.status, answer.body + text) if answer.status == 200 else answer

    monkeypatch.setattr(Witness, "add_checkpoint", talkative)
    note = ledger.cosign(url, keys_of(witness))
    assert note.count("— witness.test/w1 ") == 2
    assert audit(ledger.home).ok


def test_a_rewritten_ledger_is_not_cosigned(
    home: Path, tmp_path: Path, ledger: Ledger, witness: Witness, url: str
) -> None:
    """Somebody with the keys writes another history: only the witness notices."""
    from interlock.crypto.keys import KeyStore
    from interlock.ledger.identity import Identity
    from interlock.ledger.note import sign_checkpoint

    fill(ledger)
    ledger.cosign(url, keys_of(witness))
    signers = Identity(home, KeyStore(home / "keys")).signers(0)

    def forged(leaves: list[bytes]) -> tuple[str, Tree]:
        tree = Tree(map(leaf_hash, leaves))
        head = Checkpoint(ledger.origin, len(tree), tree.root())
        lines = [s.line() for s in sign_checkpoint(head, signers, 1)]
        return head.text() + "\n" + "".join(lines), tree

    longer, tree = forged([b"%d" % n for n in range(8)])
    assert witness.add_checkpoint(request_body(5, tree.consistency(5), longer)).status == 422
    same, _ = forged([b"%d" % n for n in range(5)])
    assert witness.add_checkpoint(request_body(5, (), same)).status == 409
    shorter, _ = forged([b"1"])
    assert witness.add_checkpoint(request_body(0, (), shorter)).status == 409
    assert witness.latest(ledger.origin)[0] == 5


def test_requests_that_are_wrong_get_the_status_of_the_protocol(
    ledger: Ledger, witness: Witness, tmp_path: Path
) -> None:
    fill(ledger)
    note = ledger.checkpoint()
    with Ledger.open(tmp_path / "other") as other:
        fill(other)
        foreign = other.checkpoint()
    unsigned = note.replace(note.split("\n")[4], note.split("\n")[5])
    assert witness.add_checkpoint("nonsense").status == 400
    assert witness.add_checkpoint(request_body(9, (), note)).status == 400
    assert witness.add_checkpoint(request_body(0, (), foreign)).status == 404
    assert witness.add_checkpoint(request_body(0, (), unsigned)).status == 403
    assert witness.add_checkpoint(request_body(3, (), note)).status == 409
    assert witness.add_checkpoint(request_body(0, [bytes(32)], note)).status == 422
    assert witness.add_checkpoint(request_body(0, [bytes(32)] * 64, note)).status == 400
    assert witness.add_checkpoint(request_body(0, (), note)).status == 200


def test_state_is_kept_over_a_restart(tmp_path: Path, ledger: Ledger, witness: Witness) -> None:
    fill(ledger)
    assert witness.add_checkpoint(request_body(0, (), ledger.checkpoint())).status == 200
    again = Witness(tmp_path / "w", "witness.test/w1", {ledger.origin: ledger.public_keys})
    assert again.latest(ledger.origin) == witness.latest(ledger.origin)
    assert again.signers[0].key == witness.signers[0].key


def test_racing_requests_advance_once(ledger: Ledger, witness: Witness) -> None:
    fill(ledger)
    note = ledger.checkpoint()
    statuses: list[int] = []

    def work() -> None:
        statuses.append(witness.add_checkpoint(request_body(0, (), note)).status)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [200] + [409] * 7


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (200, "— witness.test/w1 AAAAAAAA\n", IntegrityError),
        (200, "not a line", IntegrityError),
        (409, "999\n", IntegrityError),
        (409, "many\n", BackendError),
        (409, "\u00b2\n", BackendError),
        (500, "broken", BackendError),
        (200, "x" * (1 << 19), BackendError),
    ],
)
def test_a_witness_that_lies_is_refused(
    ledger: Ledger, witness: Witness, status: int, body: str, error: type[Exception]
) -> None:
    class Liar(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *args: object) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Liar)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    fill(ledger)
    before = ledger.checkpoint()
    with pytest.raises(error):
        ledger.cosign(f"http://127.0.0.1:{server.server_address[1]}", keys_of(witness))
    server.shutdown()
    server.server_close()
    assert ledger.checkpoint() == before


def test_a_witness_that_hangs_is_given_up(ledger: Ledger, witness: Witness) -> None:
    fill(ledger)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(BackendError) as caught:
            ledger.cosign(address, keys_of(witness), timeout_s=0.2)
    assert caught.value.code == "witness-unreachable"
    with pytest.raises(BackendError):
        ledger.cosign("file:///etc/passwd", keys_of(witness))


def test_a_witness_that_drips_is_given_up(ledger: Ledger, witness: Witness) -> None:
    """Each header line comes in time; the whole answer never does."""
    fill(ledger)
    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as slow:

        def drip() -> None:
            connection, _ = slow.accept()
            with connection, contextlib.suppress(OSError):
                connection.sendall(b"HTTP/1.1 200 OK\r\n")
                while not stop.wait(0.05):
                    connection.sendall(b"X: y\r\n")

        thread = threading.Thread(target=drip, daemon=True)
        thread.start()
        address = f"http://127.0.0.1:{slow.getsockname()[1]}"
        with pytest.raises(BackendError, match="cannot be reached") as caught:
            ledger.cosign(address, keys_of(witness), timeout_s=0.3)
        assert "no whole answer" in str(caught.value.got)
        assert thread.is_alive()  # it was still dripping
        stop.set()
        thread.join(5)


@pytest.mark.parametrize("address", ["http://[::1", "http://", "http://h:port/", "ftp://h/"])
def test_an_address_that_is_none_is_said(ledger: Ledger, witness: Witness, address: str) -> None:
    fill(ledger)
    with pytest.raises(BackendError):
        ledger.cosign(address, keys_of(witness))


def test_a_fork_is_named_by_the_client(
    home: Path, tmp_path: Path, ledger: Ledger, witness: Witness, url: str
) -> None:
    fill(ledger)
    ledger.checkpoint()
    shutil.copytree(home, tmp_path / "twin")
    fill(ledger)
    ledger.cosign(url, keys_of(witness))
    with Ledger.open(tmp_path / "twin") as twin:
        fill(twin, 8)
        with pytest.raises(IntegrityError) as caught:
            twin.cosign(url, keys_of(witness))
    assert caught.value.code == "witness-conflict"


@pytest.mark.parametrize("length", ["\u00b2", "-1", "9" * 5000, ""])
def test_a_wrong_length_of_a_request_is_refused(url: str, length: str) -> None:
    port = int(url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        head = f"POST /add-checkpoint HTTP/1.1\r\nContent-Length: {length}\r\n\r\n"
        connection.sendall(head.encode("latin-1"))
        assert connection.recv(100).split()[1] == b"413"


def test_a_client_that_goes_away_is_no_fault(url: str, capfd: pytest.CaptureFixture[str]) -> None:
    address = ("127.0.0.1", int(url.rpartition(":")[2]))
    ask = b"POST /nowhere HTTP/1.1\r\nHost: w\r\n\r\n"
    reset = struct.pack("ii", 1, 0)
    for _ in range(20):
        with socket.create_connection(address, timeout=5) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
            connection.sendall(ask)  # and gone, the answer unread
    with socket.create_connection(address, timeout=5) as connection:
        connection.sendall(ask)
        assert connection.recv(100).split()[1] == b"404"
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize("start_of_it", [b"POST /add-ch", b"POST /add-checkpoint HTTP/1.1\r\n"])
def test_who_drips_is_hung_up_on_and_others_are_answered(
    ledger: Ledger,
    witness: Witness,
    url: str,
    monkeypatch: pytest.MonkeyPatch,
    start_of_it: bytes,
) -> None:
    fill(ledger)
    monkeypatch.setattr("interlock.ledger.witness._WHOLE_S", 0.5)
    address = ("127.0.0.1", int(url.rpartition(":")[2]))
    with socket.create_connection(address, timeout=30) as slow:
        slow.sendall(start_of_it)
        slow.settimeout(0.05)
        ended = False
        while not ended:  # the test's own time-out is the suite's
            try:
                slow.sendall(b"x")
                ended = slow.recv(1) == b""
            except TimeoutError:
                continue
            except OSError:
                ended = True
    assert ledger.cosign(url, keys_of(witness))


def test_more_than_it_has_places_for_are_turned_away_until_one_is_free(
    ledger: Ledger, witness: Witness, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(ledger)
    monkeypatch.setattr("interlock.ledger.witness._MAX_CONNECTIONS", 2)
    server = serve(witness, "127.0.0.1", 0)
    start(server)
    address = server.server_address[:2]
    try:
        with contextlib.ExitStack() as held:
            for _ in range(2):
                held.enter_context(socket.create_connection(address, timeout=30)).sendall(b"P")
            third = held.enter_context(socket.create_connection(address, timeout=30))
            with contextlib.suppress(ConnectionError):
                assert third.recv(1) == b""
        url = f"http://127.0.0.1:{address[1]}"
        answer = None
        while answer is None:
            with contextlib.suppress(BackendError):
                answer = ledger.cosign(url, keys_of(witness))
    finally:
        server.shutdown()
        server.server_close()


def test_a_damaged_state_cosigns_nothing(
    tmp_path: Path, ledger: Ledger, witness: Witness, url: str
) -> None:
    fill(ledger)
    ledger.cosign(url, keys_of(witness))
    (path,) = (tmp_path / "w" / "state").glob("*.head")
    path.write_bytes(path.read_bytes()[:5])
    with pytest.raises(IntegrityError) as caught:
        witness.latest(ledger.origin)
    assert caught.value.code == "witness-state"
    with pytest.raises(BackendError):
        ledger.cosign(url, keys_of(witness))


def vkey(n: int) -> str:
    return str(NoteKey(f"w{n}", 4, bytes([n]) * 32))


def test_a_quorum_of_k_of_n_is_counted() -> None:
    from tests.unit.ledger.test_note import note, signer

    witnesses = [signer(4, f"w{n}", seed=n) for n in (1, 2, 3)]
    lines = [f"witness W{n} {w.key}" for n, w in enumerate(witnesses, 1)]
    policy = WitnessPolicy.parse("\n".join([*lines, "group G 2 W1 W2 W3", "quorum G"]))
    assert policy.check(note(witnesses[0], witnesses[2])) == ["W1", "W3"]
    with pytest.raises(IntegrityError, match="too few"):
        policy.check(note(witnesses[0]))
    forged = note(witnesses[0], witnesses[1]).replace("\n7\n", "\n8\n")
    with pytest.raises(IntegrityError, match="not signed"):
        policy.check(forged)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "quorum X",
        "quorum none\nquorum none",
        f"witness none {vkey(1)}\nquorum none",
        f"witness A {vkey(1)}\nwitness A {vkey(2)}\nquorum none",
        f"witness A {vkey(1)}\nwitness B {vkey(1)}\nquorum none",
        f"witness A {vkey(1)}\ngroup G 2 A\nquorum G",
        f"witness A {vkey(1)}\ngroup G 0 A\nquorum G",
        f"witness A {vkey(1)}\ngroup G any A\ngroup H any A\nquorum H",
        "group G any B\nquorum G",
        "hello",
        "witness A nonsense\nquorum none",
    ],
)
def test_a_wrong_policy_is_refused(text: str) -> None:
    with pytest.raises(InputError) as caught:
        WitnessPolicy.parse(text)
    assert caught.value.code == "witness-policy"


def test_the_witness_publishes_its_keys(tmp_path: Path, witness: Witness) -> None:
    assert read_vkeys(tmp_path / "w" / "witness.vkeys") == keys_of(witness)
    for host, port in (("127.0.0.1", 99999), ("192.0.2.1", 0)):
        with pytest.raises(SetupError) as caught:
            serve(witness, host, port)
        assert caught.value.code == "witness-listen"
