"""The guard at the other end of a URL: the same `submit`, but the gateway walks the path.

The circuit goes out in its canonical form, as JSON. What the gateway gives back is checked to be
for what was sent before the SDK's own result is made from it.
"""

from __future__ import annotations

import http.client
import json
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from interlock.access.dpop import Prover
from interlock.errors import (
    BackendError,
    DeniedError,
    HeldError,
    InputError,
    InterlockError,
    RefusedError,
    UsageError,
)
from interlock.guard import threads
from interlock.guard.control import Program
from interlock.guard.jobs import Released
from interlock.guard.pipeline import Trace
from interlock.guard.record import Receipt
from interlock.guard.result import Estimates, Result, Samples
from interlock.types import Outcome

__all__ = ["RemoteGuard", "result_of"]

WAIT_S = 20.0
#: How long a gateway that has taken a job may be away: it restarts, and has the job still.
RESTART_S = 60.0
PAUSE_S = 0.5


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout_s: float) -> None:
        super().__init__("gateway", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class RemoteGuard:
    """Sends jobs to a gateway.

    Args:
        url: `https://host:port`, `unix:/path/to.sock`, or `http://127.0.0.1:port`.
        token: access token or API key; a function is asked before every request.
        dpop: holder of the key that the token is bound to; each request then carries a proof.
        ca: file of the CAs to trust; the system's by default.
        certificate: (chain, key) of the client's own certificate.
        allow_classical: accept a gateway without post-quantum key agreement.
        pipeline: name under which releases are counted.
        timeout_s: how long to wait for a job.
        on_line: told the facts of each job that has ended.
    """

    remote = True

    def __init__(
        self,
        url: str,
        *,
        token: str | Callable[[], str] | None = None,
        dpop: Prover | None = None,
        ca: str | Path | None = None,
        certificate: tuple[str, str] | None = None,
        allow_classical: bool = False,
        pipeline: str = "default",
        timeout_s: float = 3600.0,
        on_line: Callable[[dict[str, Any]], None] | None = None,
    ) -> None:
        self.url = url
        self._parts = urlsplit(url)
        loopback = self._parts.hostname in ("127.0.0.1", "localhost", "::1")
        known = self._parts.scheme in ("https", "unix")
        if not known and not (self._parts.scheme == "http" and loopback):
            raise UsageError(
                "this is no URL of a gateway",
                code="gateway-url",
                got=url[:200],
                expected="https://HOST:PORT or unix:/PATH",
                fix="use https; plain http only reaches loopback",
            )
        self._token = token
        self._dpop = dpop
        self._ca = Path(ca) if ca else None
        self._certificate = certificate
        self._allow_classical = allow_classical
        self._pipeline = pipeline
        self._timeout_s = timeout_s
        self._on_line = on_line
        self._local = threading.local()

    def _connect(self) -> http.client.HTTPConnection:
        if self._parts.scheme == "unix":
            return _UnixConnection(self._parts.path, WAIT_S + 30.0)
        host = self._parts.hostname or ""
        if self._parts.scheme == "http":
            return http.client.HTTPConnection(host, self._parts.port or 80, timeout=WAIT_S + 30.0)
        from interlock.crypto.tls import Files, connect

        pair = self._certificate
        connection = http.client.HTTPConnection(host, self._parts.port or 443)
        connection.sock = connect(
            host,
            self._parts.port or 443,
            authority=self._ca,
            certificate=Files(chain=Path(pair[0]), key=Path(pair[1])) if pair else None,
            allow_classical=self._allow_classical,
            timeout_s=WAIT_S + 30.0,
        )
        return connection

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] = {}
    ) -> tuple[int, Any]:
        """Ask the gateway; returns the status and the parsed answer.

        Raises:
            InterlockError: the gateway's own error, with its code.
            BackendError: it cannot be reached.
        """
        token = self._token() if callable(self._token) else self._token
        content = {"content-type": "application/json"} if body is not None else {}
        for attempt in (1, 2):
            extra = self._shown(method, path, token)
            connection: http.client.HTTPConnection | None = getattr(self._local, "connection", None)
            fresh = connection is None
            try:
                if connection is None:
                    connection = self._local.connection = self._connect()
                connection.request(method, path, body, {**headers, **extra, **content})
                reply = connection.getresponse()
                raw = reply.read(256 * 1024 * 1024)
                if reply.length:  # a gateway that was killed midway; http.client does not say so
                    raise http.client.IncompleteRead(raw, reply.length)
                break
            except (OSError, http.client.HTTPException) as error:
                self.close()
                if fresh or attempt == 2:
                    raise BackendError(
                        "the gateway cannot be reached",
                        code="gateway-unreachable",
                        got=f"{self.url}: {type(error).__name__}: {error}",
                        expected="an answer",
                        fix="check the URL, and that `interlock serve` runs",
                    ) from error
        try:
            answer = json.loads(raw) if raw else None
        except ValueError as error:
            raise _odd(f"status {reply.status}, {len(raw)} B that are no JSON") from error
        if reply.status >= 400:
            raise _error_of(answer, reply.status)
        return reply.status, answer

    def _ask_again(self, path: str) -> tuple[int, Any]:
        """Ask what may be asked twice, for as long as a restart of the gateway takes."""
        end = time.monotonic() + RESTART_S
        while True:
            try:
                return self.request("GET", path)
            except BackendError as error:
                if error.code != "gateway-unreachable" or time.monotonic() > end:
                    raise
            time.sleep(PAUSE_S)

    def _shown(self, method: str, path: str, token: str | None) -> dict[str, str]:
        """Return the headers that show who asks; a proof is good for one attempt."""
        if not token:
            return {}
        if self._dpop is None:
            return {"authorization": f"Bearer {token}"}
        base = self.url if self._parts.scheme != "unix" else "http://gateway"
        proof = self._dpop.proof(method, base.rstrip("/") + path, token)
        return {"authorization": f"DPoP {token}", "dpop": proof}

    def submit(
        self,
        programs: Sequence[Program],
        *,
        kind: str,
        backend_name: str,
        seed: int | None = None,
        labels: Sequence[str] = (),
        **_ignored: Any,
    ) -> Released:
        """Send a job and wait until the gateway releases or refuses it.

        Raises:
            DeniedError: the path denied it; the receipt is in `receipt`.
            HeldError: it waits for an approval.
            BackendError: the gateway cannot be reached, or gave no answer in time.
        """
        import secrets

        body = msgspec.json.encode(
            {
                "kind": kind,
                "backend": backend_name,
                "programs": [_program(p) for p in programs],
                "seed": seed,
                "labels": list(labels),
                "pipeline": self._pipeline,
            }
        )
        return self._released(self.outcome(body, secrets.token_hex(16)), programs)

    def outcome(self, body: bytes, key: str) -> dict[str, Any]:
        """Send a submission under an idempotency key and wait for the outcome, refusals too.

        The same key again gives the outcome of the same job.

        Raises:
            InterlockError: the gateway does not take it, with its code.
            BackendError: the gateway cannot be reached, or gave no answer in time.
        """
        _, made = self.request("POST", "/v1/jobs", body, {"idempotency-key": key, **_traced()})
        path = f"/v1/jobs/{made['id']}/result?wait={WAIT_S:g}"
        end = time.monotonic() + self._timeout_s
        while True:
            status, outcome = self._ask_again(path)
            if status == 200:
                return dict(outcome)
            if time.monotonic() > end:
                raise BackendError(
                    "the job has not ended in time",
                    code="gateway-timeout",
                    got=f"job {made['id']} after {self._timeout_s:g} s",
                    expected="an outcome",
                    fix=f"ask again later: GET /v1/jobs/{made['id']}/result",
                )

    def __deepcopy__(self, memo: dict[int, Any]) -> RemoteGuard:
        """Return the client itself: it holds connections, not state."""
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        """Refuse: a token must not end up in a pickle.

        Raises:
            UsageError: always.
        """
        raise UsageError(
            "a guard at a gateway cannot be pickled",
            code="guard-pickle",
            got=f"an attempt to pickle the guard at {self.url}",
            expected="a guard made in the process that uses it",
            fix="call interlock.guard(..., url=...) in the worker process",
        )

    def start(self, programs: Sequence[Program], **options: Any) -> Future[Released]:
        """Send a job and return the future of its end; see `submit`."""
        return threads.in_background(lambda: self.submit(programs, **options))

    def _released(self, outcome: Any, programs: Sequence[Program]) -> Released:
        line = outcome.get("line")
        if line and self._on_line:
            self._on_line(line)
        receipt = None
        if outcome.get("receipt"):
            receipt = msgspec.convert(outcome["receipt"], Receipt)
        if outcome["outcome"] not in ("RELEASE", "FALLBACK"):
            error = _error_of(outcome.get("error"), 403, outcome["outcome"])
            if isinstance(error, RefusedError):
                error.receipt = receipt
            raise error
        if receipt is None:
            raise _odd("a result without a receipt")
        result = result_of(outcome["result"])
        if len(result.items) != len(programs):
            raise _odd(f"{len(result.items)} results for {len(programs)} circuits")
        return Released(
            result=result,
            receipt=receipt,
            trace=Trace(outcome=Outcome(outcome["outcome"]), stages=()),
        )

    def close(self) -> None:
        """Let go of this thread's connection."""
        connection = getattr(self._local, "connection", None)
        if connection is not None:
            connection.close()
            self._local.connection = None


def _traced() -> dict[str, str]:
    """Return the caller's OpenTelemetry span as a header, so that the job is part of its trace."""
    if "opentelemetry.trace" not in sys.modules:
        return {}
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return {k: v for k, v in carrier.items() if k == "traceparent"}


def _program(program: Program) -> dict[str, Any]:
    return {
        "circuit": msgspec.Raw(program.circuit.to_json()),
        "parameters": program.parameters,
        "values": [[float(v) for v in row] for row in program.values],
        "shots": program.shots,
        "observables": program.observables,
        "precision": program.precision,
    }


def result_of(plain: Any) -> Result:
    """Read a result as the gateway writes it.

    Raises:
        InputError: it is no result.
    """
    try:
        items: list[Samples | Estimates] = []
        for item in plain["items"]:
            fields = {k: v for k, v in item.items() if k != "kind"}
            if item["kind"] == "samples":
                items.append(msgspec.convert(fields, Samples))
            else:
                items.append(msgspec.convert(fields, Estimates))
        return Result(
            items=tuple(items),
            seconds=float(plain["seconds"]),
            seed=plain["seed"],
            level=str(plain["level"]),
            extra=dict(plain["extra"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise _odd(f"a result that cannot be read ({type(error).__name__}: {error})") from error


def _error_of(body: Any, status: int, outcome: str = "") -> InterlockError:
    body = body if isinstance(body, dict) else {}
    cls: type[InterlockError] = {
        "HOLD": HeldError, "DENY": DeniedError, "FAILED": BackendError,
    }.get(outcome, {401: RefusedError, 403: RefusedError, 404: InputError, 422: InputError}.get(
        status, BackendError))  # fmt: skip
    return cls(
        str(body.get("title") or body.get("message") or f"the gateway answered {status}"),
        code=str(body.get("code") or "gateway-answer"),
        got=body.get("got"),
        expected=body.get("expected"),
        fix=body.get("fix"),
    )


def _odd(got: str) -> InputError:
    return InputError(
        "the gateway's answer cannot be used",
        code="gateway-answer",
        got=got,
        expected="what this version's gateway answers",
        fix="use the same version of Interlock on both sides",
    )
