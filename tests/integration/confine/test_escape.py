"""Ways out of a confined child, each tried in earnest."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from interlock.confine import ForkServer, Level, Limits, probe, run_confined
from interlock.errors import BackendError, InputError, SetupError
from tests.integration.confine import hostile

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Landlock and seccomp are Linux")

MODULE = hostile.__name__
NAMES = tuple(n for n, v in vars(hostile).items() if getattr(v, "__module__", "") == MODULE)
FAST = Limits(cpu_s=2, wall_s=10, memory_mb=256)


@pytest.fixture(scope="module")
def server() -> Iterator[ForkServer]:
    root = str(Path(__file__).parents[3])
    if root not in sys.path:
        sys.path.insert(0, root)
    os.environ["INTERLOCK_TEST_SECRET"] = "s3cret"
    with ForkServer(tuple(f"{MODULE}:{n}" for n in NAMES), minimum=Level.CONFINED) as made:
        yield made
    del os.environ["INTERLOCK_TEST_SECRET"]


def attempt(server: ForkServer, name: str, payload: bytes = b"", limits: Limits = FAST) -> bytes:
    done = server.run(f"{MODULE}:{name}", payload, limits)
    assert done.level is Level.CONFINED
    return done.result


def refused(server: ForkServer, name: str, payload: bytes = b"", limits: Limits = FAST) -> str:
    with pytest.raises(BackendError) as caught:
        attempt(server, name, payload, limits)
    return f"{caught.value.code} {caught.value.got}"


def test_this_machine_reaches_the_highest_level() -> None:
    assert probe().level is Level.CONFINED, probe().missing


def test_files_cannot_be_read_written_listed_or_removed(server: ForkServer, tmp_path: Path) -> None:
    secret = tmp_path / "token"
    secret.write_text("secret")
    home = Path.home() / ".interlock-escape-test"
    home.write_text("secret")
    try:
        for path in (secret, home, Path("/etc/passwd"), Path(f"/proc/{os.getpid()}/environ")):
            assert "PermissionError" in refused(server, "read_file", str(path).encode())
    finally:
        home.unlink()
    for name in ("/proc/self/environ", "/proc/self/mem", f"/proc/{server.pid}/environ"):
        assert "Error" in refused(server, "read_file", name.encode())
    assert "PermissionError" in refused(server, "write_file", str(tmp_path / "new").encode())
    assert "PermissionError" in refused(server, "write_file", b"/dev/shm/interlock-escape")
    assert "PermissionError" in refused(server, "list_dir", str(tmp_path).encode())
    assert "PermissionError" in refused(server, "unlink", str(secret).encode())
    assert secret.read_text() == "secret"
    assert not (tmp_path / "new").exists()


def test_only_the_named_paths_can_be_read(server: ForkServer, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a").write_text("allowed")
    (tmp_path / "b").write_text("no")
    limits = Limits(wall_s=10, read_paths=(str(tmp_path / "in"),))
    inside = str(tmp_path / "in" / "a").encode()
    assert attempt(server, "read_file", inside, limits) == b"escaped allowed"
    for path in (tmp_path / "b", tmp_path / "in" / ".." / "b"):
        assert "PermissionError" in refused(server, "read_file", str(path).encode(), limits)


@pytest.mark.parametrize("family", ["inet", "inet6", "unix"])
def test_no_sockets(server: ForkServer, family: str) -> None:
    assert "PermissionError" in refused(server, "connect", family.encode())


def test_the_socket_of_the_job_is_gone(server: ForkServer) -> None:
    assert b"Bad file descriptor" in attempt(server, "receive")


@pytest.mark.parametrize("name", ["execute", "execve", "fork_bomb", "kill_parent"])
def test_no_programs_processes_or_signals(server: ForkServer, name: str) -> None:
    assert "Error" in refused(server, name)
    assert server.pid is not None
    os.kill(server.pid, 0)


def test_threads_only_when_asked_for(server: ForkServer) -> None:
    assert "can't start new thread" in refused(server, "thread")
    assert attempt(server, "thread", b"", Limits(wall_s=10, threads=True)) == b"threaded"
    assert "Error" in refused(server, "fork_bomb", b"", Limits(wall_s=10, threads=True))


def test_no_tracing_of_the_caller(server: ForkServer) -> None:
    victim = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        assert b"not permitted" in attempt(server, "ptrace", str(victim.pid).encode())
    finally:
        victim.kill()
        victim.communicate()


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="numbers of x86-64")
@pytest.mark.parametrize(
    "number",
    {
        "mount": 165, "unshare": 272, "setns": 308, "bpf": 321, "keyctl": 250, "add_key": 248,
        "process_vm_readv": 310, "process_vm_writev": 311, "io_uring_setup": 425,
        "perf_event_open": 298, "userfaultfd": 323, "memfd_create": 319, "pidfd_open": 434,
        "init_module": 175, "kexec_load": 246, "ptrace": 101, "personality": 135, "chroot": 161,
        "setuid": 105, "prctl": 157, "shmget": 29, "msgget": 68, "inotify_init": 253,
        "clone3": 435, "vfork": 58, "execveat": 322, "open_by_handle_at": 304, "splice": 275,
    }.items(),
    ids=lambda item: item[0],
)  # fmt: skip
def test_dangerous_system_calls_fail(server: ForkServer, number: tuple[str, int]) -> None:
    got = attempt(server, "raw_syscall", str(number[1]).encode())
    assert got in (b"Operation not permitted", b"Function not implemented")


def test_memory_is_bounded(server: ForkServer) -> None:
    assert "MemoryError" in refused(server, "memory_hog", b"1024")
    assert attempt(server, "memory_hog", b"64").startswith(b"escaped")


def test_processor_time_and_wall_time_are_bounded(server: ForkServer) -> None:
    assert "worker-died" in refused(server, "cpu_hog", b"", Limits(cpu_s=1, wall_s=120))
    assert "worker-timeout" in refused(server, "sleeper", b"", Limits(wall_s=0.3))


def test_output_is_bounded(server: ForkServer) -> None:
    limits = Limits(wall_s=10, max_result_bytes=100_000)
    assert "worker-output" in refused(server, "flood", b"5000000", limits)
    assert len(attempt(server, "flood", b"90000", limits)) == 90000


def test_no_secrets_and_no_descriptors_are_inherited(server: ForkServer) -> None:
    assert b"s3cret" not in attempt(server, "environment")
    assert attempt(server, "descriptors") == b"[0, 1, 2, 4, 5]"


def test_a_crash_is_reported_and_the_next_job_runs(server: ForkServer) -> None:
    assert refused(server, "segfault") == "worker-died signal 11"
    assert "PanicError" in refused(server, "panic")
    assert "worker-died" in refused(server, "forge")
    assert attempt(server, "flood", b"3") == b"xxx"


def test_an_error_of_ours_comes_back_as_itself(server: ForkServer) -> None:
    with pytest.raises(InputError) as caught:
        attempt(server, "own_error")
    assert (caught.value.code, caught.value.fix) == ("input-bad", "f")


def test_a_killed_zygote_is_reported_once_and_replaced(server: ForkServer) -> None:
    seen: list[str] = []
    runner = threading.Thread(target=lambda: seen.append(refused(server, "sleeper")))
    runner.start()
    time.sleep(0.3)
    assert server.pid is not None
    os.kill(server.pid, 9)
    runner.join(5)
    assert seen
    assert "worker-died" in seen[0]
    assert attempt(server, "flood", b"3") == b"xxx"


def test_jobs_of_several_threads_do_not_mix(server: ForkServer) -> None:
    sizes = [b"%d" % n for n in range(1, 25)]
    results: dict[bytes, int] = {}

    def work(size: bytes) -> None:
        results[size] = len(attempt(server, "flood", size))

    threads = [threading.Thread(target=work, args=(s,)) for s in sizes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {size: int(size) for size in sizes}


def test_an_unknown_entry_and_a_broken_start_are_refused(server: ForkServer) -> None:
    with pytest.raises(SetupError, match="does not know"):
        server.run("os:system", b"true")
    with pytest.raises(SetupError) as caught:
        run_confined("interlock.no_such_module:f", b"")
    assert caught.value.code == "worker-start"
