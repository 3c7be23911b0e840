"""The gateway's log: JSON, one line a record, and never a secret."""

import io
import json
import logging
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from interlock.gateway import logs

CREDENTIAL = "plain-looking-credential"


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    monkeypatch.setenv("LAB_TOKEN", "environment-secret-value")
    (tmp_path / "credentials").mkdir()
    (tmp_path / "credentials" / "ibm").write_text(CREDENTIAL + "\n")
    stream, root = io.StringIO(), logging.getLogger()
    before, level, hook = root.handlers, root.level, threading.excepthook
    logs.install(tmp_path, "info", stream)
    yield stream
    logging.captureWarnings(False)
    root.handlers, threading.excepthook = before, hook
    root.setLevel(level)


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(x) for x in stream.getvalue().splitlines()]


def test_a_record_is_one_line_with_its_facts(written: io.StringIO) -> None:
    logs.log.info("forged\n{}", extra={logs.FACTS: {"call": "GET /v1/jobs", "level": "x"}})
    (line,) = lines(written)
    assert line.pop("time").endswith("+00:00")
    assert line == {
        "level": "info",
        "logger": "interlock.gateway",
        "message": "forged\n{}",
        "call": "GET /v1/jobs",
    }


@pytest.mark.parametrize(
    "secret",
    [CREDENTIAL, "environment-secret-value", "DEV-" + "0b7c9e2f4a" * 4],
)
def test_no_secret_is_written_wherever_it_stands(written: io.StringIO, secret: str) -> None:
    other = logging.getLogger("uvicorn.error")
    logs.log.warning("token=%s", secret)
    other.warning("x" * 5000 + f" token={secret}")
    logs.log.info("a fact", extra={logs.FACTS: {"got": f"token={secret}"}})
    try:
        raise ValueError(f"token={secret}")
    except ValueError:
        other.exception("it failed")
    assert len(lines(written)) == 4
    assert secret not in written.getvalue()


def test_a_credential_replaced_meanwhile_is_hidden_too(
    written: io.StringIO, tmp_path: Path
) -> None:
    (tmp_path / "credentials" / "ibm").write_text("the-second-credential")
    logs.log.info("the-second-credential")
    assert "second" not in written.getvalue()


def test_an_exception_is_told_by_type_and_place(written: io.StringIO) -> None:
    try:
        raise KeyError("circuit of tenant north")
    except KeyError as error:
        logs.log.error("failed", exc_info=error)
    (line,) = lines(written)
    assert line["error"] == "KeyError"
    assert line["trace"][-1].startswith("test_logs.py:")
    assert "north" not in written.getvalue()


def test_what_cannot_be_redacted_is_withheld(
    written: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("no rules")

    monkeypatch.setattr(logs, "LineRedactor", broken)
    logs.log.info("token %s", CREDENTIAL, extra={logs.FACTS: {"got": CREDENTIAL}})
    (line,) = lines(written)
    assert line["message"] == "withheld: RuntimeError while redacting"
    assert CREDENTIAL not in written.getvalue()


def test_an_unreadable_credential_withholds_the_record(
    written: io.StringIO, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(_: Path) -> bytes:
        raise PermissionError

    monkeypatch.setattr(Path, "read_bytes", denied)
    logs.log.info(CREDENTIAL)
    assert lines(written)[0]["message"].startswith("withheld")


def test_warnings_threads_and_dbos_go_the_same_way(written: io.StringIO) -> None:
    warnings.warn(f"token={CREDENTIAL}", UserWarning, stacklevel=1)
    thread = threading.Thread(target=lambda: {}[CREDENTIAL], name="t")
    thread.start()
    thread.join()
    logging.getLogger("dbos").error("no database")
    assert [x["logger"] for x in lines(written)] == ["py.warnings", "interlock.gateway", "dbos"]
    assert lines(written)[1]["thread"] == "t"
    assert CREDENTIAL not in written.getvalue()


def test_handlers_of_the_server_do_not_pass_the_redactor_by(tmp_path: Path) -> None:
    past, root = io.StringIO(), logging.getLogger()
    before, level, hook = root.handlers, root.level, threading.excepthook
    server = logging.getLogger("uvicorn")
    server.addHandler(logging.StreamHandler(past))
    server.propagate = False
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
    try:
        logs.install(tmp_path, "info", stream := io.StringIO())
        logging.getLogger("uvicorn.error").warning("heard")
    finally:
        logging.captureWarnings(False)
        root.handlers, threading.excepthook = before, hook
        root.setLevel(level)
    assert [x["message"] for x in lines(stream)] == ["heard"]
    assert not past.getvalue()
