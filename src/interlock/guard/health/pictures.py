"""Pictures in pure Python: the device map coloured by health, the e-process over time."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape

from interlock.backends.calibration import Calibration
from interlock.guard.health.grades import Grade

__all__ = ["device_map", "evidence_chart"]

_COLOURS = {Grade.GREEN: "#1a7f37", Grade.AMBER: "#9a6700", Grade.RED: "#cf222e"}
_MARKS = {Grade.GREEN: "", Grade.AMBER: "!", Grade.RED: "x"}
_STEP = 34


def _positions(calibration: Calibration) -> list[tuple[float, float]]:
    """Place qubits so that coupled ones are near: breadth-first from a corner, in two passes.

    The two coordinates are the distances from two far-apart qubits, a metric embedding that is
    cheap and always the same for the same device.
    """
    neighbours: dict[int, list[int]] = {q: [] for q in range(calibration.num_qubits)}
    for a, b in calibration.edges:
        neighbours[a].append(b)
        neighbours[b].append(a)

    def distances(start: int) -> list[int]:
        far = [-1] * calibration.num_qubits
        far[start] = 0
        queue = [start]
        for node in queue:
            for other in neighbours[node]:
                if far[other] < 0:
                    far[other] = far[node] + 1
                    queue.append(other)
        top = max(far) + 1
        return [d if d >= 0 else top for d in far]

    first = distances(0)
    corner = first.index(max(first))
    one = distances(corner)
    other = one.index(max(one))
    two = distances(other)
    middle = max(range(calibration.num_qubits), key=lambda q: min(one[q], two[q]) * 1000 - q)
    three = distances(middle)
    raw = [
        (float(one[q] - two[q]), float(three[q]) * (1 if q <= middle else -1))
        for q in range(calibration.num_qubits)
    ]
    taken: dict[tuple[float, float], int] = {}
    placed = []
    for x, y in raw:
        times = taken.get((x, y), 0)
        taken[x, y] = times + 1
        placed.append((x + 0.8 * times, y + 0.5 * times))
    return placed


def device_map(
    calibration: Calibration,
    grades: Mapping[str, tuple[Grade, Sequence[str]]],
    used: Iterable[int] = (),
) -> str:
    """Return an SVG of the device: qubits and couplings coloured by grade, used ones ringed.

    Colour is not the only sign: AMBER carries `!`, RED `x`, and each mark has its reasons as a
    title for screen readers and pointers.
    """
    if not calibration.num_qubits:
        return "<svg xmlns='http://www.w3.org/2000/svg' width='10' height='10'></svg>"
    points = _positions(calibration)
    low_x, low_y = min(x for x, _ in points), min(y for _, y in points)
    spots = [((x - low_x) * _STEP / 1.4 + 24, (y - low_y) * _STEP + 24) for x, y in points]
    width = max(x for x, _ in spots) + 24
    height = max(y for _, y in spots) + 24
    wanted = set(used)
    size = f'viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" height="{height:.0f}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" {size}>',
        f"<title>Health of {escape(calibration.device)}, calibration {calibration.id}</title>",
    ]
    for a, b in calibration.edges:
        level, why = grades.get(f"q{a}-q{b}", (Grade.AMBER, ["not graded"]))
        (x1, y1), (x2, y2) = spots[a], spots[b]
        dash = "" if level is Grade.GREEN else ' stroke-dasharray="4 3"'
        parts.append(
            f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" '
            f'stroke="{_COLOURS[level]}" stroke-width="3"{dash}>'
            f"<title>q{a}-q{b} {level.name} {escape('; '.join(why))}</title></line>"
        )
    for index, (x, y) in enumerate(spots):
        level, why = grades.get(f"q{index}", (Grade.AMBER, ["not graded"]))
        ring = ' stroke="#0969da" stroke-width="4"' if index in wanted else ""
        parts.append(
            f'<g><circle cx="{x:.1f}" cy="{y:.1f}" r="11" fill="{_COLOURS[level]}"{ring}/>'
            f'<text x="{x:.1f}" y="{y + 4:.1f}" text-anchor="middle" font-size="10" '
            f'font-family="sans-serif" fill="#fff">{index}{_MARKS[level]}</text>'
            f"<title>q{index} {level.name} {escape('; '.join(why))}</title></g>"
        )
    return "".join(parts) + "</svg>"


def evidence_chart(log_values: Sequence[float], alpha: float, *, title: str) -> str:
    """Return an SVG of an e-process over looks, with the threshold 1/alpha.

    Args:
        log_values: natural logarithm of the e-value after each look.
        alpha: false-alarm level.
        title: what it is about.
    """
    limit = math.log(1 / alpha)
    width, height, left = 640, 220, 46
    low = min(0.0, min(log_values, default=0.0))
    high = max(limit * 1.2, max(log_values, default=0.0))

    def y(value: float) -> float:
        return height - 24 - (value - low) / (high - low) * (height - 40)

    step = (width - left - 10) / max(len(log_values) - 1, 1)
    path = " ".join(f"{left + i * step:.1f},{y(v):.1f}" for i, v in enumerate(log_values))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}"><title>{escape(title)}</title>'
        f'<line x1="{left}" x2="{width - 10}" y1="{y(limit):.1f}" y2="{y(limit):.1f}" '
        f'stroke="#cf222e" stroke-dasharray="6 4"/>'
        f'<text x="{left}" y="{y(limit) - 5:.1f}" font-size="11" font-family="sans-serif" '
        f'fill="#cf222e">alarm at evidence {1 / alpha:.0f}</text>'
        f'<line x1="{left}" x2="{width - 10}" y1="{y(0):.1f}" y2="{y(0):.1f}" stroke="#8c959f"/>'
        f'<text x="4" y="{y(0) + 4:.1f}" font-size="11" font-family="sans-serif" '
        f'fill="currentColor">1</text>'
        f'<polyline fill="none" stroke="#0969da" stroke-width="2" points="{path}"/></svg>'
    )
