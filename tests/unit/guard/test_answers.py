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
            kind = socket.AF_UNIX, socket.SOCK_DGRAM
            with socket.socket(*kind) as nobody, answers._short(tmp_path) as near:
                nobody.sendto(b"?", f"{near}/{os.getpid()}.answers")
            os._exit(len(answers.silent(tmp_path)))
        finally:
            os._exit(9)
    assert os.waitpid(child, 0)[1] == 0


def test_it_answers_in_a_folder_with_a_long_path(tmp_path: Path) -> None:
    folder = tmp_path / ("long-" * 30)
    folder.mkdir()
    child = os.fork()
    if not child:
        try:
            answers.answer(folder)
            there = [path.name for path in folder.iterdir()] == [f"{os.getpid()}.answers"]
            os._exit(len(answers.silent(folder)) if there else 8)
        finally:
            os._exit(9)
    assert os.waitpid(child, 0)[1] == 0
