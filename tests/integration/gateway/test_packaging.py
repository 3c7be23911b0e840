"""Container file and Kubernetes manifests, checked without a cluster or a container engine."""

import copy
import json
import os
import re
import signal
import stat
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from dockerfile_parse import DockerfileParser

from interlock.cli.serve import command as serve
from interlock.cli.witness import command as witness
from interlock.gateway.zones.flows import SHIPPED, load
from interlock.gateway.zones.render import render
from interlock.ledger import Ledger

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "packaging" / "kubernetes"
CONTAINER = ROOT / "packaging" / "container" / "Containerfile"
ZONES = ("gateway", "console", "worker", "signer")
#: The oldest Kubernetes whose kubelet speaks post-quantum TLS, and the newest with a schema.
VERSIONS = ("1.33", "1.37")


def documents() -> list[dict[str, Any]]:
    listed = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())["resources"]
    return [d for name in listed for d in yaml.safe_load_all((FOLDER / name).read_text())]


def kinds(kind: str) -> dict[str, Any]:
    return {d["metadata"]["name"]: d for d in documents() if d["kind"] == kind}


# -- the manifests


@pytest.mark.parametrize("version", VERSIONS)
def test_every_manifest_fits_the_schema(version: str) -> None:
    found = documents()
    assert len(found) == 23
    for document in found:
        kubernetes_validate.validate(document, version, strict=True)


def test_a_misspelt_field_does_not_fit_the_schema() -> None:
    document = kinds("Deployment")["interlock-gateway"]
    document["spec"]["template"]["spec"]["automountServiceAccounttoken"] = False
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(document, VERSIONS[-1], strict=True)


def test_every_file_is_in_the_kustomization() -> None:
    listed = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())["resources"]
    there = {str(p.relative_to(FOLDER)) for p in FOLDER.rglob("*.yaml")} - {"kustomization.yaml"}
    assert set(listed) == there


VOLUMES = {"configMap", "emptyDir", "persistentVolumeClaim", "projected", "secret"}


def faults(deployment: dict[str, Any]) -> Iterator[str]:
    """What keeps a deployment from Pod Security `restricted`, and from what we ask besides."""
    pod = deployment["spec"]["template"]["spec"]
    for name in ("hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace"):
        if pod.get(name):
            yield name
    if pod.get("automountServiceAccountToken") is not False:
        yield "token"
    whole = pod.get("securityContext", {})
    if not whole.get("runAsNonRoot") or not whole.get("runAsUser") or not whole.get("runAsGroup"):
        yield "root"
    if whole.get("seccompProfile", {}).get("type") != "RuntimeDefault":
        yield "seccomp"
    for volume in pod["volumes"]:
        if set(volume) - {"name"} - VOLUMES:
            yield f"volume {volume['name']}"
    for container in (*pod.get("initContainers", ()), *pod["containers"]):
        own = container.get("securityContext", {})
        if own.get("allowPrivilegeEscalation") is not False or own.get("privileged"):
            yield "privileges"
        if own.get("capabilities") != {"drop": ["ALL"]}:
            yield "capabilities"
        if own.get("readOnlyRootFilesystem") is not True:
            yield "root file system"
        if {"runAsUser", "runAsNonRoot", "seccompProfile"} & set(own):
            yield "weaker container"
        if any("hostPort" in p for p in container.get("ports", ())):
            yield "hostPort"
        resources = container.get("resources", {})
        if not {"cpu", "memory"} <= set(resources.get("limits", {})):
            yield "limits"
        for variable in container.get("env", ()):
            if "value" in variable:
                yield f"a value in {variable['name']}"
        if {"sh", "bash", "/bin/sh"} & set(container.get("command", ())):
            yield "shell"
    for container in pod["containers"]:
        if not {"startupProbe", "livenessProbe", "readinessProbe"} <= set(container):
            yield "probes"


@pytest.mark.parametrize("zone", ZONES)
def test_deployments_are_hardened(zone: str) -> None:
    assert list(faults(kinds("Deployment")[f"interlock-{zone}"])) == []


def _in_pod(change: Callable[[dict[str, Any]], Any]) -> Callable[[dict[str, Any]], Any]:
    return lambda d: change(d["spec"]["template"]["spec"])


BREAKS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "hostNetwork": _in_pod(lambda p: p.update(hostNetwork=True)),
    "token": _in_pod(lambda p: p.pop("automountServiceAccountToken")),
    "root": _in_pod(lambda p: p["securityContext"].update(runAsUser=0)),
    "seccomp": _in_pod(lambda p: p["securityContext"].pop("seccompProfile")),
    "volume host": _in_pod(lambda p: p["volumes"].append({"name": "host", "hostPath": {}})),
    "privileges": _in_pod(
        lambda p: p["containers"][0]["securityContext"].update(allowPrivilegeEscalation=True)
    ),
    "capabilities": _in_pod(
        lambda p: p["initContainers"][0]["securityContext"].pop("capabilities")
    ),
    "root file system": _in_pod(
        lambda p: p["containers"][0]["securityContext"].pop("readOnlyRootFilesystem")
    ),
    "weaker container": _in_pod(
        lambda p: p["containers"][0]["securityContext"].update(runAsUser=0)
    ),
    "limits": _in_pod(lambda p: p["containers"][0]["resources"].pop("limits")),
    "a value in TOKEN": _in_pod(
        lambda p: p["containers"][0]["env"].append({"name": "TOKEN", "value": "x"})
    ),
    "shell": _in_pod(lambda p: p["initContainers"][0].update(command=["sh", "-c", "true"])),
    "probes": _in_pod(lambda p: p["containers"][0].pop("livenessProbe")),
}


@pytest.mark.parametrize("fault", BREAKS)
def test_each_weakening_is_noticed(fault: str) -> None:
    changed = copy.deepcopy(kinds("Deployment")["interlock-gateway"])
    BREAKS[fault](changed)
    assert fault in list(faults(changed))


def test_network_policies_are_those_of_the_flow_file() -> None:
    rendered = render(load(SHIPPED))
    assert set(kinds("Deployment")) == {f"interlock-{zone}" for zone in ZONES}
    for zone in ZONES:
        text = (FOLDER / "network" / f"{zone}.yaml").read_text()
        assert text == rendered[f"kubernetes/{zone}.yaml"]
        labels = kinds("Deployment")[f"interlock-{zone}"]["spec"]["template"]["metadata"]["labels"]
        assert labels == {"interlock/zone": zone}
    deny = kinds("NetworkPolicy")["interlock-default-deny"]["spec"]
    assert deny == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    assert "interlock-worker" not in kinds("Service")  # nothing reaches the broker
    for name, service in kinds("Service").items():
        (port,) = service["spec"]["ports"]
        zone = name.removeprefix("interlock-")
        assert port["port"] in {f.port for f in load(SHIPPED).flows if f.to == zone}


def test_only_the_worker_sees_provider_credentials() -> None:
    def secrets(name: str) -> set[str]:
        volumes = kinds("Deployment")[name]["spec"]["template"]["spec"]["volumes"]
        return {v["secret"]["secretName"] for v in volumes if "secret" in v}

    having = [zone for zone in ZONES if "interlock-credentials" in secrets(f"interlock-{zone}")]
    assert having == ["worker"]
    assert secrets("interlock-signer") == set()  # not the ledger's keys either


def test_namespace_accounts_and_budgets() -> None:
    labels = kinds("Namespace")["interlock"]["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    accounts = kinds("ServiceAccount")
    for name, deployment in kinds("Deployment").items():
        assert deployment["spec"]["template"]["spec"]["serviceAccountName"] in accounts
        assert accounts[name]["automountServiceAccountToken"] is False
        selector = kinds("PodDisruptionBudget")[name]["spec"]["selector"]
        assert selector == deployment["spec"]["selector"]
    assert kinds("Deployment")["interlock-gateway"]["spec"]["replicas"] > 1


@pytest.mark.parametrize("zone", ZONES)
def test_the_commands_are_ones_that_exist(zone: str) -> None:
    pod = kinds("Deployment")[f"interlock-{zone}"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    command, *given = container["args"]
    asked = {"serve": serve, "witness": witness}[command]
    known = {option for parameter in asked.params for option in parameter.opts}
    assert {a.partition("=")[0] for a in given} <= known
    of_the_flow_file = str(load(SHIPPED).zones[zone].command).split()
    assert of_the_flow_file[0] == command
    containers = (*pod.get("initContainers", ()), container)
    assert {m["name"] for c in containers for m in c["volumeMounts"]} == {
        v["name"] for v in pod["volumes"]
    }
    if command == "witness":
        return
    asked = next(e for e in container["env"] if e["name"] == "INTERLOCK_DATABASE_URL")
    assert "secretKeyRef" in asked["valueFrom"]


def inline(command: list[str], *changed: str) -> list[str]:
    """A command of a manifest with the Python of here and paths of here."""
    assert command[0] == "/opt/interlock/bin/python"
    return [sys.executable, *command[1 : len(command) - len(changed)], *changed]


def test_the_init_container_makes_a_private_home(tmp_path: Path) -> None:
    pod = kinds("Deployment")["interlock-worker"]["spec"]["template"]["spec"]
    seed, home = tmp_path / "seed", tmp_path / "state" / "home"
    home.parent.mkdir()
    for folder, file in (("keys", "kek"), ("home", "backends.yaml"), ("credentials", "ibm")):
        real = seed / folder / "..2026"  # a Secret is mounted as links into a dated folder
        real.mkdir(parents=True)
        (real / file).write_text("old")
        (real / file).chmod(0o440)
        (seed / folder / "..data").symlink_to("..2026")
        (seed / folder / file).symlink_to(f"..data/{file}")
    run = inline(pod["initContainers"][0]["command"], str(seed), str(home))
    for text in ("old", "new"):
        for folder, file in (("keys", "kek"), ("home", "backends.yaml"), ("credentials", "ibm")):
            path = seed / folder / "..2026" / file
            path.chmod(0o640)
            path.write_text(text)
        subprocess.run(run, check=True, timeout=60)
    made = {str(p.relative_to(home)): p.read_text() for p in home.rglob("*") if p.is_file()}
    assert made == {"keys/kek": "old", "backends.yaml": "new", "credentials/ibm": "new"}
    assert all(not stat.S_IMODE(p.stat().st_mode) & 0o077 for p in (home, *home.rglob("*")))


def test_the_workers_probes_answer_for_a_gateway(tmp_path: Path) -> None:
    (container,) = kinds("Deployment")["interlock-worker"]["spec"]["template"]["spec"]["containers"]
    place = tmp_path / "run" / "g.sock"
    alive = inline(container["livenessProbe"]["exec"]["command"], str(place), "/healthz")
    ready = inline(container["readinessProbe"]["exec"]["command"], str(place), "/readyz")
    assert subprocess.run(alive, capture_output=True, timeout=60, check=False).returncode != 0
    process = subprocess.Popen(
        [sys.executable, "-m", "interlock.cli", "serve", "--home", str(tmp_path / "home"),
         "--socket", str(place), "--workers", "0"], stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert process.stderr is not None
        assert json.loads(process.stderr.readline())["message"] == "serving"
        for _ in range(50):
            if subprocess.run(ready, capture_output=True, check=False).returncode == 0:
                break
            time.sleep(0.2)
        assert subprocess.run(alive, timeout=60, check=False).returncode == 0
        other = [*alive[:-1], "/no-such-page"]
        assert subprocess.run(other, timeout=60, check=False).returncode == 1
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=90)


def test_the_signer_ends_when_it_is_asked_to_though_it_is_process_one(tmp_path: Path) -> None:
    (container,) = kinds("Deployment")["interlock-signer"]["spec"]["template"]["spec"]["containers"]
    with Ledger.open(tmp_path / "log"):
        pass
    changed = {"--home": str(tmp_path / "w"), "--log": str(tmp_path / "log" / "ledger.vkeys"),
               "--host": "127.0.0.1", "--port": "0"}  # fmt: skip
    pairs = [a.partition("=")[::2] for a in container["args"][1:]]
    arguments = [f"{name}={changed.get(name, value)}" for name, value in pairs]
    process = subprocess.Popen(
        ["unshare", "--pid", "--fork", "--kill-child", sys.executable, "-m", "interlock.cli",
         "witness", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    said = process.stdout.readline()
    if not said.startswith("witness"):
        pytest.skip(f"no process namespace here: {process.communicate()[1]}")
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(children[0]), signal.SIGTERM)
    process.communicate(timeout=20)
    assert process.returncode == 0


# -- the container file


def steps(folder: Path) -> list[dict[str, Any]]:
    parser = DockerfileParser(path=str(folder), cache_content=True)
    parser.content = CONTAINER.read_text()
    return [s for s in parser.structure if s["instruction"] != "COMMENT"]


def test_the_image_has_no_shell_and_is_not_root(tmp_path: Path) -> None:
    found = steps(tmp_path)
    begins = [i for i, s in enumerate(found) if s["instruction"] == "FROM"]
    assert len(begins) == 2
    last = found[begins[-1] :]
    said = {s["instruction"]: s["value"] for s in last}
    assert "RUN" not in said  # nothing runs in an image without a shell
    assert "ADD" not in {s["instruction"] for s in found}
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", said["USER"])
    for name in ("ENTRYPOINT", "CMD"):
        assert isinstance(json.loads(said[name]), list)
    copies = [s["value"] for s in last if s["instruction"] == "COPY"]
    assert copies == ["--from=build --chown=0:0 /opt/interlock /opt/interlock"]  # not writable
    bases = [s["value"] for s in found[: begins[0]] if s["instruction"] == "ARG"]
    assert "distroless" in next(b for b in bases if b.startswith("RUN="))
    assert not re.search(r"(?i)token|secret|password", CONTAINER.read_text())


def test_what_the_image_is_built_from_exists(tmp_path: Path) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    text = CONTAINER.read_text()
    (extras,) = re.findall(r'"\.\[([a-z,]+)\]"', text)
    assert set(extras.split(",")) <= set(project["optional-dependencies"])
    for step in steps(tmp_path):
        if step["instruction"] == "COPY" and "--from" not in step["value"]:
            for source in step["value"].split()[:-1]:
                assert (ROOT / source).exists(), source
    assert "interlock" in project["scripts"]
    user = re.search(r"^USER (\d+):(\d+)$", text, re.MULTILINE)
    assert user is not None
    for deployment in kinds("Deployment").values():
        whole = deployment["spec"]["template"]["spec"]["securityContext"]
        assert (str(whole["runAsUser"]), str(whole["runAsGroup"])) == user.groups()
