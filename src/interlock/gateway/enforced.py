"""`interlock run --enforced`: the gateway outside, the program in the sandbox, one socket between.

What is printed and counted comes from the gateway's side: the program cannot write it.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import weakref
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from interlock.crypto.files import private_dir
from interlock.errors import SetupError
from interlock.gateway import runs
from interlock.gateway.caps import SANDBOX, Caps, open_cage
from interlock.gateway.sandbox import SOCKET, Sandbox, kept_from
from interlock.guard import events
from interlock.guard.launch import follow
from interlock.types import Mode

__all__ = ["EnforcedProgram"]

START_S = 60.0

#: Runs the command line without what the program may write on the path of imports, and drains
#: and tidies up when whoever started it is killed.
_BOOT = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGTERM, 0, 0, 0)  # PR_SET_PDEATHSIG
parent = int(sys.argv.pop(1))
if os.getppid() != parent:
    raise SystemExit(1)
run = sys.argv.pop(1)
project, *kept = sys.argv.pop(1).split(os.pathsep)
def inside(p, folder):
    p = os.path.realpath(p)
    return p == folder or p.startswith(folder + os.sep)
sys.path[:] = [
    p for p in sys.path if not inside(p, project) or any(inside(p, k) for k in kept)
]
from interlock.cli import main
from interlock.gateway import runs
try:
    main()
finally:
    if os.getppid() != parent:
        runs.remove(run)
"""


def _apart(paths: Iterable[str], project: Path, kept: Sequence[Path]) -> list[str]:
    """Return the paths of imports that the program of a project cannot write."""
    out = []
    for name in paths:
        path = Path(name).resolve()
        if not path.is_relative_to(project) or any(path.is_relative_to(k) for k in kept):
            out.append(name)
    return out


class EnforcedProgram:
    """A program that runs in the sandbox against its own gateway.

    Args:
        command: the program and its arguments.
        home: folder of ledger, state, keys, credentials; never seen inside.
        policy: policy file, or None for the starter policy.
        pipeline: name under which releases are counted.
        project: the folder the program may read and write.
        stdout: where its standard output goes, or None to leave it.
        caps: what it may use of the machine; the level they are held at is recorded.

    Raises:
        SetupError: gateway or sandbox cannot be set up.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        home: Path,
        policy: str | None = None,
        pipeline: str = "default",
        project: Path | None = None,
        stdout: Any = None,
        caps: Caps | None = None,
    ) -> None:
        run = runs.new_name()
        root = runs.folder(run)
        root.mkdir(mode=0o700)
        self._tidy = weakref.finalize(self, runs.remove, run)
        self._events = root / "events.ndjson"
        self._events.touch(mode=0o600)
        uds = root / "gateway" / "gateway.sock"
        project = (project or Path.cwd()).resolve()
        kept = kept_from(project)
        # Nothing that the program can write may be imported out here, now or after its end.
        sys.path[:] = _apart(sys.path, project, kept)
        inherited = os.environ.get("PYTHONPATH", "").split(os.pathsep)
        paths = _apart(filter(None, inherited), project, kept)
        home = private_dir(home.absolute())
        arguments = ["serve", "--home", str(home), "--socket", str(uds)]
        arguments += ["--name", run, "--log-level", "warning"]
        if policy:
            arguments += ["--policy", str(Path(policy).absolute())]
        self.cage = open_cage(caps or Caps())
        told = {events.EVENTS: str(self._events), SANDBOX: json.dumps(self.cage.describe())}
        self._gateway = subprocess.Popen(  # noqa: S603 - our own command
            [
                sys.executable,
                "-P",
                "-c",
                _BOOT,
                str(os.getpid()),
                run,
                os.pathsep.join(map(str, (project, *kept))),
                *arguments,
            ],
            env={**os.environ, **told, "PYTHONPATH": os.pathsep.join(paths)},
            cwd=home,  # not the project: libraries read settings from where they are started
            start_new_session=True,
        )
        try:
            self._wait_for(uds)
            site = str(Path(events.__file__).parent / "hooks" / "site")
            self._program = Sandbox(
                command=command,
                project=project,
                socket=uds,
                environment={
                    "PYTHONPATH": site,
                    "INTERLOCK_RUN": "1",
                    events.URL: f"unix:{SOCKET}",
                    events.PIPELINE: pipeline,
                },
                hidden=(home,),
                fixed=(Path(policy),) if policy else (),
                cage=self.cage,
                stdout=stdout.fileno() if stdout is not None else None,
            )
        except BaseException:
            self.cage.close()
            self._stop_gateway()
            self._tidy()
            raise

    def _wait_for(self, uds: Path) -> None:
        end = time.monotonic() + START_S
        while time.monotonic() < end and self._gateway.poll() is None:
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
                probe.settimeout(START_S)
                probe.connect(str(uds))
                # It listens before it has opened its home, which it may refuse.
                probe.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
                if probe.recv(1):
                    return
            time.sleep(0.02)
        raise SetupError(
            "the gateway did not start",
            code="gateway-start",
            got=f"exit code {self._gateway.poll()}; its message is above",
            expected=f"a socket within {START_S:g} s",
            fix="mend what the message names",
        )

    def lines(self, mode: Mode) -> Iterator[dict[str, Any] | None]:
        """Yield events as they come, and None while there are none, until the program has ended."""
        return follow(self._events, self._program, mode)

    def ask(self, _number: int) -> None:
        """End the sandbox; the gateway settles and signs, then it ends too."""
        self._program.kill()

    def kill(self) -> None:
        """End the sandbox."""
        self._program.kill()

    def silent(self) -> list[int]:
        """Return nothing: a sandbox can always be ended."""
        return []

    def close(self) -> int:
        """Wait for the program, stop its gateway, and return the program's exit code."""
        try:
            code = self._program.wait()
        finally:
            self._stop_gateway()
            self._tidy()
        return code if code >= 0 else 128 - code

    @property
    def killed(self) -> str | None:
        """Why the sandbox was ended from outside, or None."""
        return self._program.killed

    def _stop_gateway(self) -> None:
        if self._gateway.poll() is None:
            self._gateway.send_signal(signal.SIGTERM)
            try:
                self._gateway.wait(30)
            except subprocess.TimeoutExpired:
                self._gateway.kill()
                self._gateway.wait()
