"""The flow file: zones, places, and who may open a connection to whom."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from interlock.errors import PolicyError, UsageError
from interlock.guard.policy import parse_yaml

__all__ = ["SHIPPED", "Flow", "Map", "Network", "Zone", "load"]

SHIPPED = Path(__file__).with_name("zones.yaml")
#: What every flow file has, because each has a rule of its own below.
ZONES = ("console", "gateway", "sandbox", "signer", "worker")
Name = Annotated[str, msgspec.Meta(pattern=r"^[a-z]([a-z0-9-]{0,30}[a-z0-9])?$")]
Command = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9 %./:_-]*$")]
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Zone(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A zone: where it is, and the `interlock` command that runs there, if one does."""

    addresses: Annotated[list[str], msgspec.Meta(min_length=1)]
    command: Command = ""


class Flow(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"source": "from"}, order=True
):
    """`source` may open a connection to this port of `to`; answers come back by themselves."""

    source: Name
    to: Name
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)]
    protocol: Literal["tcp", "udp"] = "tcp"


class Map(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole flow file."""

    interlock_zones: Literal[1]
    zones: dict[Name, Zone]
    places: dict[Name, Annotated[list[str], msgspec.Meta(min_length=1)]]
    flows: list[Flow]

    def networks(self, name: str) -> list[Network]:
        """Return the addresses of a zone or a place."""
        texts = self.zones[name].addresses if name in self.zones else self.places[name]
        return [ipaddress.ip_network(t) for t in texts]

    def wide(self, name: str) -> bool:
        """Return whether a place is everything that has no other name."""
        return any(n.prefixlen == 0 for n in self.networks(name))

    def named(self, version: int) -> list[Network]:
        """Return all addresses of one IP version that have a name."""
        names = [n for n in (*self.zones, *self.places) if not self.wide(n)]
        return sorted(
            (n for name in names for n in self.networks(name) if n.version == version), key=str
        )


def load(path: Path | None = None) -> Map:
    """Read a flow file, the shipped one by default, and check it.

    Raises:
        UsageError: it cannot be read.
        PolicyError: it is wrong, or opens a way that no zone may have.
    """
    path = path or SHIPPED
    try:
        raw: Any = parse_yaml(path.read_text("utf-8"), path.name)
        found = msgspec.convert(raw, Map)
        for name in (*found.zones, *found.places):
            found.networks(name)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            "the flow file cannot be read",
            code="zones-unreadable",
            got=f"{path}: {type(error).__name__}",
            expected="a YAML file",
            fix="leave it out for the shipped one",
        ) from error
    except (msgspec.ValidationError, ValueError) as error:
        raise _wrong(str(error)) from error
    for problem in _problems(found):
        raise _wrong(problem)
    return found


def _problems(found: Map) -> Iterator[str]:
    if missing := [z for z in ZONES if z not in found.zones]:
        yield f"no zone {', '.join(missing)}"
        return
    names = [*found.zones, *found.places]
    if twice := found.zones.keys() & found.places.keys():
        yield f"{min(twice)} is a zone and a place"
    for name in found.zones:
        if found.wide(name):
            yield f"the zone {name} is everywhere"
    for one, other in combinations([n for n in names if not found.wide(n)], 2):
        for a in found.networks(one):
            if any(a.version == b.version and a.overlaps(b) for b in found.networks(other)):
                yield f"{one} and {other} share addresses"
    for flow in found.flows:
        for name in (flow.source, flow.to):
            if name not in names:
                yield f"a flow names {name}, which is neither a zone nor a place"
                return
        if flow.source not in found.zones and flow.to not in found.zones:
            yield f"no zone in the flow {flow.source} -> {flow.to}"
        yield from _never(found, flow)
    if len(set(found.flows)) != len(found.flows):
        yield "a flow stands twice"


def _never(found: Map, flow: Flow) -> Iterator[str]:
    """What no flow file may open: the ways along which a lost zone would spread."""
    shown = f"{flow.source} -> {flow.to}"
    if flow.to == "sandbox":
        yield f"{shown}: nothing may reach into the sandbox"
    if flow.source == "sandbox" and flow.to != "gateway":
        yield f"{shown}: the sandbox may reach the gateway alone"
    if flow.source == "signer":
        yield f"{shown}: the signer opens no connection"
    if flow.to == "worker":
        yield f"{shown}: the worker takes its jobs from the queue; nothing may reach it"
    if flow.to in found.places and found.wide(flow.to) and flow.source != "worker":
        yield f"{shown}: the worker alone may reach the outside"
    if flow.source in found.places and found.wide(flow.source):
        yield f"{shown}: a place that may come in has addresses"


def _wrong(got: str) -> PolicyError:
    return PolicyError(
        "the flow file is wrong",
        code="zones-flow",
        got=got[:300],
        expected="zones with addresses of their own, and only the flows they need",
        fix="compare it with the shipped one: `interlock zones show`",
    )
