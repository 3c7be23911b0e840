"""systemd units, nftables rules and Kubernetes NetworkPolicies, made from a flow file."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from interlock.gateway.zones.flows import Flow, Map, Network

__all__ = ["render"]

_MADE = "Made by `interlock zones render` from the flow file: change that, not this."
_LABEL = "interlock/zone"
_HARDENING = """\
UMask=0077
NoNewPrivileges=yes
CapabilityBoundingSet=
AmbientCapabilities=
PrivateDevices=yes
PrivateTmp=yes
PrivateUsers=yes
ProtectSystem=strict
ProtectHome=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
ProcSubset=pid
RemoveIPC=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
SystemCallErrorNumber=EPERM"""


def render(found: Map) -> dict[str, str]:
    """Return the files, by path in the output folder."""
    import yaml

    out = {}
    for name in sorted(found.zones):
        out[f"nftables/{name}.nft"] = _nftables(found, name)
        out[f"kubernetes/{name}.yaml"] = f"# {_MADE}\n" + yaml.safe_dump(
            _policy(found, name), sort_keys=False
        )
        if found.zones[name].command:
            out[f"systemd/interlock-{name}.service"] = _unit(found, name)
    return out


def _flows(found: Map, *, source: str = "", to: str = "") -> list[Flow]:
    """Return the flows of one end, those to the outside last."""
    chosen = [f for f in found.flows if source in (f.source, "") and to in (f.to, "")]
    return sorted(chosen, key=lambda f: (found.wide(f.to), f))


# -- nftables


def _rules(found: Map, flow: Flow, *, peer: str, side: str) -> Iterable[str]:
    for version in (4, 6):
        networks = [n for n in found.networks(peer) if n.version == version]
        if not networks:
            continue
        family = "ip" if version == 4 else "ip6"
        port = f"{flow.protocol} dport {flow.port} accept"
        if found.wide(peer):
            named = found.named(version)
            yield (
                f"{family} {side} != {_set(named)} {port}"
                if named
                else (f"meta nfproto ipv{version} {port}")
            )
        else:
            yield f"{family} {side} {_set(networks)} {port}"


def _set(networks: Iterable[Network]) -> str:
    return "{ " + ", ".join(map(str, networks)) + " }"


def _nftables(found: Map, zone: str) -> str:
    # Neighbours must be found for IPv6 to work at all; ARP is below this table.
    neighbours = "{ nd-neighbor-solicit, nd-neighbor-advert, nd-router-advert }"
    common = ["ct state established,related accept", f"icmpv6 type {neighbours} accept"]
    incoming = [*common, 'iif "lo" accept']
    for flow in _flows(found, to=zone):
        incoming += _rules(found, flow, peer=flow.source, side="saddr")
    outgoing = [*common, 'oif "lo" accept']
    for flow in _flows(found, source=zone):
        outgoing += _rules(found, flow, peer=flow.to, side="daddr")
    # Whoever is inside learns at once that a way is closed; whoever is outside learns nothing.
    outgoing.append("counter reject with icmpx admin-prohibited")
    incoming.append("counter drop")
    lines = [f"# {_MADE}", f"# Load it where the zone {zone} runs: nft -f {zone}.nft"]
    lines += ["table inet interlock", "delete table inet interlock", "table inet interlock {"]
    for hook, rules in (("input", incoming), ("output", outgoing), ("forward", [])):
        lines += [f"  chain {hook} {{", f"    type filter hook {hook} priority 0; policy drop;"]
        lines += [f"    {rule}" for rule in rules]
        lines.append("  }")
    return "\n".join([*lines, "}", ""])


# -- Kubernetes


def _peers(found: Map, name: str) -> list[dict[str, Any]]:
    if name in found.zones:
        return [{"podSelector": {"matchLabels": {_LABEL: name}}}]
    blocks = []
    for network in found.networks(name):
        block: dict[str, Any] = {"cidr": str(network)}
        if network.prefixlen == 0 and (named := found.named(network.version)):
            block["except"] = [str(n) for n in named]
        blocks.append({"ipBlock": block})
    return blocks


def _policy(found: Map, zone: str) -> dict[str, Any]:
    def rules(flows: Iterable[Flow], side: str) -> list[dict[str, Any]]:
        return [
            {
                side: _peers(found, f.source if side == "from" else f.to),
                "ports": [{"protocol": f.protocol.upper(), "port": f.port}],
            }
            for f in flows
        ]

    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": f"interlock-{zone}"},
        "spec": {
            "podSelector": {"matchLabels": {_LABEL: zone}},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": rules(_flows(found, to=zone), "from"),
            "egress": rules(_flows(found, source=zone), "to"),
        },
    }


# -- systemd


def _unit(found: Map, zone: str) -> str:
    peers = {f.to for f in _flows(found, source=zone)} | {f.source for f in _flows(found, to=zone)}
    networks = sorted({str(n) for p in peers for n in found.networks(p)})
    return f"""\
# {_MADE}
[Unit]
Description=Interlock zone: {zone}
After=network-online.target nftables.service
Wants=network-online.target

[Service]
Type=exec
User=interlock-{zone}
Group=interlock-{zone}
StateDirectory=interlock-{zone}
StateDirectoryMode=0700
RuntimeDirectory=interlock-{zone}
RuntimeDirectoryMode=0700
Environment=INTERLOCK_HOME=/var/lib/interlock-{zone}
EnvironmentFile=-/etc/interlock/{zone}.env
ExecStart=/opt/interlock/bin/interlock {found.zones[zone].command}
KillSignal=SIGTERM
TimeoutStopSec=90
Restart=on-failure
RestartSec=1
MemoryMax=8G
TasksMax=512
LimitNOFILE=65536
IPAddressDeny=any
IPAddressAllow=localhost {" ".join(networks)}
{_HARDENING}

[Install]
WantedBy=multi-user.target
"""
