from interlock.errors import InputError


def test_an_error_says_what_was_wrong_got_expected_and_what_to_do() -> None:
    error = InputError("bad", code="input-bad", got="a", expected="b", fix="c")
    text = error.diagnostics()
    for part in ("error[input-bad]: bad", "a", "b", "c", "#input-bad"):
        assert part in text
