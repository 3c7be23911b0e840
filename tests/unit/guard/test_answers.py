"""A guarded process answers whether its Python can still be interrupted."""

import os
import socket
from pathlib import Path

from interlock.guard import answers


def test_a_question_without_an_address_does_not_end_the_answers(tmp_path: Path) -> None:
    child = os.fork()
    if not child:
        answers.answer(tmp_path)
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as nobody:
                nobody.sendto(b"?", str(tmp_path / f"{os.getpid()}.answers"))
            os._exit(len(answers.silent(tmp_path)))
        finally:
            os._exit(9)
    assert os.waitpid(child, 0)[1] == 0
