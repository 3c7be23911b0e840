"""The flow file, what it may not open, and what is made from it."""

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from interlock.cli import COMMANDS, main
from interlock.errors import InterlockError, PolicyError, UsageError
from interlock.gateway.zones.flows import SHIPPED, load
from interlock.gateway.zones.render import render


def written(tmp_path: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    document = yaml.safe_load(SHIPPED.read_text("utf-8"))
    change(document)
    path = tmp_path / "flows.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def flow(source: str, to: str, port: Any = 8443, **more: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda d: d["flows"].append({"from": source, "to": to, "port": port, **more})


@pytest.mark.parametrize(
    ("change", "got"),
    [
        (flow("people", "sandbox"), "nothing may reach into the sandbox"),
        (flow("gateway", "sandbox", 22), "nothing may reach into the sandbox"),
        (flow("sandbox", "database", 5432), "the sandbox may reach the gateway alone"),
        (flow("sandbox", "provider", 443), "the sandbox may reach the gateway alone"),
        (flow("signer", "gateway"), "the signer opens no connection"),
        (flow("gateway", "worker"), "nothing may reach it"),
        (flow("gateway", "provider", 443), "the worker alone may reach the outside"),
        (flow("provider", "gateway"), "a place that may come in has addresses"),
        (flow("people", "database", 5432), "no zone in the flow"),
        (flow("people", "elsewhere"), "neither a zone nor a place"),
        (flow("people", "gateway"), "a flow stands twice"),
        (flow("people", "gateway", 0), ">= 1"),
        (flow("people", "gateway", 80, protocol="any"), "protocol"),
        (flow("people", "gateway", 80, extra=1), "unknown field"),
        (lambda d: d["zones"].pop("signer"), "no zone signer"),
        (lambda d: d["zones"]["signer"].update(addresses=["0.0.0.0/0"]), "everywhere"),
        (lambda d: d["zones"]["signer"].update(addresses=["10.77.0.33"]), "share addresses"),
        (lambda d: d["zones"]["signer"].update(addresses=["10.77.0.81/28"]), "host bits"),
        (lambda d: d["zones"]["signer"].update(addresses=[]), "addresses"),
        (lambda d: d["zones"]["signer"].update(command="a\nUser=root"), "command"),
        (lambda d: d["places"].update({"x\ny": ["10.1.0.0/16"]}), "places"),
        (lambda d: d["places"].update(sandbox=["10.1.0.0/16"]), "a zone and a place"),
        (lambda d: d.update(interlock_zones=2), "interlock_zones"),
    ],
)
def test_a_flow_file_that_opens_too_much_is_refused(
    tmp_path: Path, change: Callable[[dict[str, Any]], Any], got: str
) -> None:
    with pytest.raises(PolicyError) as caught:
        load(written(tmp_path, change))
    assert caught.value.code == "zones-flow"
    assert got in str(caught.value.got)


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        load(tmp_path / "missing")
    assert caught.value.code == "zones-unreadable"
    for text in ("[]", "a: &a [*a]", "zones: {}\nzones: {}", "\x00"):
        (tmp_path / "f").write_text(text)
        with pytest.raises(InterlockError):
            load(tmp_path / "f")


def test_files_in_use_that_differ_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    check = ["zones", "check", "--rendered", str(out)]
    assert main(["zones", "render", "--out", str(out)]) == 0
    assert main(check) == 0
    with (out / "nftables" / "worker.nft").open("a") as stream:
        stream.write("# more\n")
    (out / "systemd" / "interlock-signer.service").unlink()
    (out / "kubernetes" / "zz-all.yaml").write_text("")
    capsys.readouterr()
    assert main(check) == 7
    assert re.findall(r"^DIFFERS (.*)$", capsys.readouterr().out, re.MULTILINE) == [
        "kubernetes/zz-all.yaml",
        "nftables/worker.nft",
        "systemd/interlock-signer.service",
    ]
    assert main(["zones", "check", "--flows", str(written(tmp_path, flow("signer", "dns")))]) == 3


def test_the_policies_are_those_of_kubernetes_and_say_the_flows() -> None:
    found = load()
    policies = {
        p["spec"]["podSelector"]["matchLabels"]["interlock/zone"]: p["spec"]
        for name, text in render(found).items()
        if name.startswith("kubernetes/")
        for p in [yaml.safe_load(text)]
        if p["apiVersion"] == "networking.k8s.io/v1" and p["kind"] == "NetworkPolicy"
    }
    assert set(policies) == set(found.zones)
    seen = set()
    for zone, spec in policies.items():
        assert set(spec) == {"podSelector", "policyTypes", "ingress", "egress"}
        assert spec["policyTypes"] == ["Ingress", "Egress"]  # without one, all is allowed
        for side, key in (("ingress", "from"), ("egress", "to")):
            for rule in spec[side]:
                assert set(rule) == {key, "ports"}
                (port,) = rule["ports"]
                for peer in rule[key]:
                    assert peer.keys() <= {"podSelector", "ipBlock"}
                    assert len(peer) == 1
                    block = peer.get("ipBlock")
                    other = (
                        next(n for n in found.places if block["cidr"] in found.places[n])
                        if block
                        else peer["podSelector"]["matchLabels"]["interlock/zone"]
                    )
                    ends = (other, zone) if key == "from" else (zone, other)
                    seen.add((*ends, port["port"], port["protocol"].lower()))
                    if block and block["cidr"] == "0.0.0.0/0":
                        assert "10.77.0.80/28" in block["except"]
    assert seen == {(f.source, f.to, f.port, f.protocol) for f in found.flows}


def test_each_unit_runs_a_command_that_exists_as_a_user_of_its_own() -> None:
    import importlib

    users = set()
    units = {n: t for n, t in render(load()).items() if n.startswith("systemd/")}
    assert len(units) == 4
    for text in units.values():
        line = re.search(r"^ExecStart=\S+/interlock (\S+) (.*)$", text, re.MULTILINE)
        assert line is not None
        assert line[1] in COMMANDS
        command = importlib.import_module(f"interlock.cli.{line[1]}").command
        known = {option for parameter in command.params for option in parameter.opts}
        assert set(re.findall(r"--[a-z-]+", line[2])) <= known
        users |= set(re.findall(r"^User=(.*)$", text, re.MULTILINE))
    assert users == {f"interlock-{z}" for z in ("console", "gateway", "signer", "worker")}


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_takes_the_units_and_finds_little_exposure(tmp_path: Path) -> None:
    for name, text in render(load()).items():
        if not name.startswith("systemd/"):
            continue
        unit = tmp_path / Path(name).name
        unit.write_text(text.replace("/opt/interlock/bin/interlock", shutil.which("true") or ""))
        for words in (["verify"], ["security", "--offline=true", "--threshold=20"]):
            done = subprocess.run(
                ["systemd-analyze", *words, str(unit)], capture_output=True, text=True, timeout=60
            )
            assert done.returncode == 0, done.stdout + done.stderr
        assert str(unit) not in done.stderr
