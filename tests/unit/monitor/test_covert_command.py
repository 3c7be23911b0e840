"""`interlock monitor covert`: honest timing passes, a channel is found, odd files are refused."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

from interlock.cli import main
from interlock.cli.monitor import command
from interlock.monitor.covert import embed, legitimate


def written(path, gaps, name="gap_ns"):
    np.savetxt(path, gaps, header=name, comments="", fmt="%.6f")
    return path


@pytest.fixture(scope="module")
def honest(tmp_path_factory):
    gaps = legitimate(200 * 700, rng=np.random.default_rng(0))
    return written(tmp_path_factory.mktemp("covert") / "honest.csv", gaps)


def asked(*arguments):
    return CliRunner().invoke(
        command, ["covert", *map(str, arguments), "--length", "200"], standalone_mode=False
    )


def test_a_channel_is_found_and_honest_timing_is_not(honest, tmp_path):
    rng = np.random.default_rng(1)
    quiet = written(tmp_path / "quiet.csv", legitimate(4000, rng=rng))
    loud = written(tmp_path / "loud.csv", embed(legitimate(4000, rng=rng), "jitterbug", rng=rng))
    got = asked(honest, loud)
    assert got.return_value == 9, got.output
    assert got.output.count("ALARM") == 20
    assert "20 windows of 200 intervals: 20 found, 20 in alarm" in got.output
    rows = [json.loads(line) for line in asked(honest, quiet, "--json").output.splitlines()]
    assert rows[-1]["windows"] == 20
    assert rows[-1]["untested"] == 0
    more = written(tmp_path / "more.csv", legitimate(4150, rng=rng))
    assert "NOT TESTED the last 150 intervals" in asked(honest, more).output
    assert json.loads(asked(honest, more, "--json").output.splitlines()[-1])["untested"] == 150
    assert rows[-1]["found"] <= 2
    below = asked(honest, loud, "--budget-bits-per-s", "1e12")
    assert below.return_value == 0
    assert "20 found, 0 in alarm" in below.output


def test_what_cannot_be_tested_is_refused(honest, tmp_path):
    short = written(tmp_path / "short.csv", legitimate(50, rng=0))
    two = tmp_path / "two.csv"
    two.write_text("a,b\n" + "1,2\n" * 400)
    for arguments, code in (
        ((honest, short), "monitor-covert-intervals"),
        ((honest, two), "monitor-covert-intervals"),
        ((honest, honest, "--channel", "none"), "monitor-covert-intervals"),
        ((two, honest, "--channel", "a"), "monitor-covert-fit"),
        ((tmp_path / "none.csv", honest), "monitor-file"),
    ):
        assert asked(*arguments).exception.code == code


@pytest.mark.parametrize(
    "words",
    [
        ["monitor", "covert", "a.csv", "b.csv", "--budget-bits-per-s"],
        ["monitor", "covert", "a.csv", "b.csv", "--false-positive"],
        ["monitor", "triage", "--hours"],
        ["monitor", "triage", "--window-s"],
        ["health", "show", "--backend", "manila", "--horizon-h"],
    ],
)
def test_nan_is_no_budget_and_no_time(words, capsys):
    assert main([*words, "nan"]) == 2
    assert "no finite number" in capsys.readouterr().err
