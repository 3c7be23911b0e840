"""`interlock monitor edge`: score a file beside the device; no sample leaves."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    import numpy.typing as npt

    from interlock.monitor.frames import Frame

__all__ = ["edge"]


@click.command("edge")
@click.argument("bundle", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--public", required=True, type=click.Path(path_type=Path), help="Its signer's keys.")
@click.option("--block", default=256, show_default=True, type=click.IntRange(1, 65_536),
              help="Rows a summary.")  # fmt: skip
@click.option("--least-version", default=1, show_default=True, help="Refuse an older bundle.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def edge(
    bundle: Path, file: Path, public: Path, block: int, least_version: int, as_json: bool
) -> None:
    """Score FILE by the signed BUNDLE; of each block only count, flagged rows and peak are told."""
    from interlock.cli.detector import public_key
    from interlock.cli.show import printable
    from interlock.monitor.edge import EdgeDetector
    from interlock.monitor.ingest.files import read_frames

    now_s = int(time.time())
    detector = EdgeDetector(bundle, public_key(public), now_s=now_s, least_version=least_version)
    rows = over = blocks = 0
    frames = read_frames(file, say=lambda line: click.echo(printable(line), err=True))
    for part in _blocks(frames, block):
        told = detector.score(part)
        rows, over, blocks = rows + told.rows, over + told.over, blocks + 1
        if as_json:
            line = {"rows": told.rows, "over": told.over, "peak": round(told.peak, 4)}
            click.echo(json.dumps(line))
        elif told.over:
            click.echo(f"block {blocks:>6}  {told.over} of {told.rows} rows over, "
                       f"peak {told.peak:.4g}")  # fmt: skip
    click.echo(json.dumps({"rows": rows, "over": over, "blocks": blocks}) if as_json
               else f"{rows} rows in {blocks} blocks, {over} over the limit")  # fmt: skip


def _blocks(frames: Iterator[Frame], size: int) -> Iterator[npt.NDArray[np.float64]]:
    """Yield the rows in blocks; the last may be short."""
    import numpy as np

    held: npt.NDArray[np.float64] | None = None
    for frame in frames:
        held = frame.original if held is None else np.concatenate([held, frame.original])
        whole = len(held) // size * size
        for at in range(0, whole, size):
            yield held[at : at + size]
        held = held[whole:]
    if held is not None and len(held):
        yield held
