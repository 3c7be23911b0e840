"""`interlock heartbeat`."""

from __future__ import annotations

import json
import math

import click


@click.command()
@click.option(
    "--rounds",
    "count",
    default=5000,
    show_default=True,
    type=click.IntRange(min=1),
    help="How many to play.",
)
@click.option("--healthy", default=2.8, show_default=True, help="CHSH value of the healthy link.")
@click.option("--noise", default=0.01, show_default=True, help="Error of the entangling gate.")
@click.option("--intercept", default=0.0, show_default=True, help="Share of pairs intercepted.")
@click.option("--seed", type=int, help="Repeat a run of the source; settings stay random.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    count: int, healthy: float, noise: float, intercept: float, seed: int | None, as_json: bool
) -> int:
    """Play CHSH rounds between two processes and test the channel; 1 when it looks disturbed.

    The pairs are simulated by Qiskit Aer. What is shown is a channel and its devices: nothing
    about weights or other data, and no proof against a classical cheat on one machine.
    """
    from interlock.crypto.qkd.heartbeat import ClassicalityTest, DriftTest, chsh_value, rounds
    from interlock.crypto.qkd.pairs import AerPairs

    source = AerPairs(noise=noise, intercept=intercept, seed=seed)
    local, drift = ClassicalityTest(), DriftTest(healthy)
    played, shown_at = [], None
    with click.progressbar(length=count, label="rounds", hidden=as_json) as bar:
        for trial in rounds(source, count):
            played.append(trial)
            if local.update(trial.won) >= 1e6 and shown_at is None:
                shown_at = local.trials
            drift.update(trial.won)
            if len(played) % 100 == 0:
                bar.update(100)
    value = chsh_value(played)
    win = (4 + value) / 8
    spread = 8 * 1.96 * math.sqrt(max(win * (1 - win), 1e-12) / count)
    disturbed = drift.alarmed_at is not None or shown_at is None
    if as_json:
        document = {
            "source": "Qiskit Aer (simulation)",
            "rounds": count,
            "chsh": value,
            "chsh_95": [value - spread, value + spread],
            "not_local_after": shown_at,
            "drift_alarm_after": drift.alarmed_at,
            "disturbed": disturbed,
            "says_nothing_about": "weights or other data",
        }
        click.echo(json.dumps(document, indent=1))
        return int(disturbed)
    click.echo("source     Qiskit Aer (simulation), two players in processes of their own")
    click.echo(f"S          {value:.3f} +- {spread:.3f} in {count} rounds; local models reach 2")
    said = f"e >= 10^6 after {shown_at} rounds" if shown_at else "not shown"
    click.echo(f"not local  {said}")
    alarm = f"ALARM after {drift.alarmed_at} rounds" if drift.alarmed_at else "no alarm"
    click.echo(f"drift      {alarm} (healthy {healthy}, margin 0.08)")
    click.echo("This tests a channel and its devices. It says nothing about weights or other data.")
    return int(disturbed)
