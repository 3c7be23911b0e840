"""The generated firewalls in real network namespaces: what may pass does, nothing else."""

import contextlib
import ipaddress
import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from interlock.gateway.zones.flows import Map, load
from interlock.gateway.zones.render import render

# In one namespace: listen on each port, say so, wait, try every address and port at once, wait.
PROBE = """
import json, select, socket, sys, time
address, ports, others = json.loads(sys.argv[1])
held = []
for port in ports:
    s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind((address, port)); s.listen(64); held.append(s)
print("ready", flush=True); sys.stdin.readline()
tries = {}
for name, other in others.items():
    for port in ports:
        s = socket.socket(); s.setblocking(False); held.append(s)
        try:
            s.connect((other, port))
        except BlockingIOError:
            tries[s.fileno()] = (s, name, port)
        except OSError:
            pass
poll = select.poll(); [poll.register(fd, select.POLLOUT) for fd in tries]
done, end = [], time.monotonic() + 4
while tries and (left := end - time.monotonic()) > 0:
    for fd, _ in poll.poll(left * 1000):
        poll.unregister(fd); s, name, port = tries.pop(fd)
        if s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0:
            done.append([name, port])
print(json.dumps(done), flush=True); sys.stdin.readline()
"""


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, capture_output=True, text=True, timeout=60, check=True)


def possible() -> bool:
    try:
        name = f"ilp{uuid.uuid4().hex[:8]}"
        run("ip", "netns", "add", name)
        try:
            run("ip", "netns", "exec", name, "nft", "list", "ruleset")
        finally:
            run("ip", "netns", "del", name)
    except (OSError, subprocess.CalledProcessError):
        return False
    return True


pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not possible(), reason="needs root, iproute2 and nftables"
)


def address_of(found: Map, name: str) -> str:
    """Return one address; the outside is anywhere without a name, here on the same wire."""
    network = found.networks(name)[0]
    if network.prefixlen == 0:
        return "10.200.0.9"
    return str(ipaddress.ip_address(int(network.network_address) + 3))


@pytest.fixture
def wires() -> Iterator[dict[str, str]]:
    """A namespace for each zone and place, all on one switch in a namespace of its own."""
    found = load()
    tag = f"il{uuid.uuid4().hex[:6]}"
    switch, names = f"{tag}-sw", [*found.zones, *found.places]
    spaces = {name: f"{tag}-{name}" for name in names}
    try:
        for space in (switch, *spaces.values()):
            run("ip", "netns", "add", space)
        run("ip", "-n", switch, "link", "add", "name", "sw0", "type", "bridge")
        run("ip", "-n", switch, "link", "set", "sw0", "up")
        for n, name in enumerate(names):
            run("ip", "-n", switch, "link", "add", "name", f"p{n}", "type", "veth", "peer", "name",
                "eth", "netns", spaces[name])  # fmt: skip
            run("ip", "-n", switch, "link", "set", f"p{n}", "master", "sw0", "up")
            address = f"{address_of(found, name)}/8"
            run("ip", "-n", spaces[name], "address", "add", address, "dev", "eth")
            run("ip", "-n", spaces[name], "link", "set", "eth", "up")
            run("ip", "-n", spaces[name], "link", "set", "lo", "up")
        yield spaces
    finally:
        for space in (switch, *spaces.values()):
            with contextlib.suppress(subprocess.CalledProcessError):
                run("ip", "netns", "del", space)


def matrix(found: Map, spaces: dict[str, str]) -> set[tuple[str, str, int]]:
    """Return (from, to, port) of each connection that could be opened."""
    ports = sorted({f.port for f in found.flows if f.protocol == "tcp"} | {9999})
    at = {name: address_of(found, name) for name in spaces}
    probes = {}
    try:
        for name, space in spaces.items():
            others = {o: a for o, a in at.items() if o != name}
            probes[name] = subprocess.Popen(
                ["ip", "netns", "exec", space, sys.executable, "-I", "-c", PROBE,
                 json.dumps([at[name], ports, others])],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
            )  # fmt: skip
        for probe in probes.values():
            assert probe.stdout is not None
            assert probe.stdout.readline() == "ready\n"
        for probe in probes.values():
            assert probe.stdin is not None
            probe.stdin.write("go\n")
        opened = set()
        for name, probe in probes.items():
            assert probe.stdout is not None
            opened |= {(name, to, port) for to, port in json.loads(probe.stdout.readline())}
        return opened
    finally:
        for probe in probes.values():
            probe.kill()
            probe.communicate()


def guard(found: Map, spaces: dict[str, str], tmp_path: Path) -> None:
    for name in found.zones:
        rules = tmp_path / f"{name}.nft"
        rules.write_text(render(found)[f"nftables/{name}.nft"])
        run("ip", "netns", "exec", spaces[name], "nft", "-c", "-f", str(rules))
        for _ in range(2):  # loading it again changes nothing
            run("ip", "netns", "exec", spaces[name], "nft", "-f", str(rules))


def test_what_is_allowed_passes_and_nothing_else(wires: dict[str, str], tmp_path: Path) -> None:
    found = load()
    count = len(wires) * (len(wires) - 1) * len({f.port for f in found.flows if f.port != 53} | {0})
    assert len(matrix(found, wires)) == count, "the wires themselves must carry everything"
    guard(found, wires, tmp_path)
    allowed = {(f.source, f.to, f.port) for f in found.flows if f.protocol == "tcp"}
    between = {x for x in matrix(found, wires) if {x[0], x[1]} & set(found.zones)}
    assert between == allowed


@pytest.mark.parametrize("lost", ["sandbox", "worker", "console"])
def test_a_zone_that_was_taken_over_gains_nothing_against_the_others(
    wires: dict[str, str], tmp_path: Path, lost: str
) -> None:
    """Whoever is root in a zone drops its rules; those of the other zones still hold."""
    found = load()
    guard(found, wires, tmp_path)
    run("ip", "netns", "exec", wires[lost], "nft", "flush", "ruleset")
    reached = {(to, port) for source, to, port in matrix(found, wires) if source == lost}
    zones = {x for x in reached if x[0] in found.zones}
    assert zones == {
        (f.to, f.port) for f in found.flows if f.source == lost and f.to in found.zones
    }
