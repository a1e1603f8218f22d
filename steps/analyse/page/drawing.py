"""Numbers as paths of SVG, on a square of `SIDE` units whose origin is at the bottom left; reads and writes nothing."""

from collections.abc import Iterable

SIDE = 300


def line(points: Iterable[tuple[float, float]]) -> str:
    """A line through points, each two numbers from 0 to 1."""
    return "M" + "L".join(f"{SIDE * x:.1f} {SIDE * (1 - y):.1f}" for x, y in points)


def points(points: Iterable[tuple[float, float]]) -> str:
    """A dot at each point, each two numbers from 0 to 1, for a stroke with round ends."""
    return "".join(f"M{SIDE * x:.0f} {SIDE * (1 - y):.0f}h0" for x, y in points)
