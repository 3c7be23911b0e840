"""Files that a sandboxed program is given: standard streams, shared memory, the policy."""

import os
from pathlib import Path

import pytest

from interlock.errors import UsageError
from interlock.gateway.caps import Caps, open_cage
from tests.integration.gateway.test_escape import sandbox

STREAMS = """
import os, sys
got = []
for name, flags in ((0, os.O_RDWR), (1, os.O_RDONLY), (2, os.O_RDWR | os.O_TRUNC)):
    fd = os.open(f'/proc/self/fd/{name}', flags | os.O_NONBLOCK)
    try:
        got.append(os.pread(fd, 100, 0))
        os.pwrite(fd, b'OWNED', 0)
    except OSError:
        pass
    os.close(fd)
print(sys.stdin.read().upper(), got)
print('a remark', file=sys.stderr)
"""


def test_files_given_as_standard_streams_cannot_be_opened_anew(tmp_path: Path) -> None:
    given, out, errors = (tmp_path / name for name in ("in.txt", "out.txt", "errors.txt"))
    for path in (given, out, errors):
        path.write_text("kept\n")
    kept = [os.dup(fd) for fd in (0, 2)]
    with given.open() as source, out.open("a") as said, errors.open("a") as remarks:
        os.dup2(source.fileno(), 0)
        os.dup2(remarks.fileno(), 2)
        try:
            made, _ = sandbox(tmp_path, STREAMS, stdout=said.fileno())
        finally:
            for number, fd in zip((0, 2), kept, strict=True):
                os.dup2(fd, number)
                os.close(fd)
        assert made.wait(60) == 0, errors.read_text()
    assert given.read_text() == "kept\n"
    assert out.read_text() == "kept\nKEPT\n []\n"
    assert errors.read_text() == "kept\na remark\n"


def test_a_folder_given_as_standard_input_is_no_way_out(tmp_path: Path) -> None:
    script = "import os\ntry: print(os.listdir(0))\nexcept OSError: print('nothing')\n"
    kept, folder = os.dup(0), os.open(tmp_path, os.O_RDONLY)
    os.dup2(folder, 0)
    try:
        made, out = sandbox(tmp_path, script)
    finally:
        os.dup2(kept, 0)
        os.close(kept)
        os.close(folder)
    assert made.wait(60) == 0
    assert out.read_text() == "nothing\n"


def test_the_program_can_use_processes_of_python(tmp_path: Path) -> None:
    script = "import multiprocessing as m\nwith m.Pool(2) as p: print(p.map(abs, [-1, 2]))\n"
    made, out = sandbox(tmp_path, script, cage=open_cage(Caps(memory_mb=512)))
    assert made.wait(120) == 0
    assert out.read_text() == "[1, 2]\n"


def test_the_policy_in_the_project_cannot_be_changed(tmp_path: Path) -> None:
    policy = tmp_path / "project" / "rules" / "strict.yaml"
    policy.parent.mkdir(parents=True)
    policy.write_text("real")
    script = (
        "import os, pathlib\n"
        "print(pathlib.Path('rules/strict.yaml').read_text())\n"
        "pathlib.Path('mine').write_text('mine')\n"
        "for act in (lambda: pathlib.Path('rules/strict.yaml').write_text('mine'),\n"
        "            lambda: os.replace('mine', 'rules/strict.yaml'),\n"
        "            lambda: os.unlink('rules/strict.yaml'), lambda: os.rename('rules', 'x')):\n"
        "    try:\n        act()\n        print('did')\n"
        "    except OSError:\n        print('refused')\n"
    )
    made, out = sandbox(tmp_path, script, fixed=(policy,))
    assert made.wait(60) == 0
    assert out.read_text().split() == ["real", *["refused"] * 4]
    assert policy.read_text() == "real"


@pytest.mark.parametrize("link", ["strict.yaml", "rules"])
def test_a_policy_behind_a_link_in_the_project_is_refused(tmp_path: Path, link: str) -> None:
    project = tmp_path / "project"
    (project / "real").mkdir(parents=True)
    (project / "real" / "strict.yaml").write_text("real")
    (project / link).symlink_to("real/strict.yaml" if "." in link else "real")
    policy = project / link if "." in link else project / link / "strict.yaml"
    with pytest.raises(UsageError) as caught:
        sandbox(tmp_path, "", fixed=(policy,))
    assert caught.value.code == "sandbox-project"
