"""Plots as SVG, each complete in itself: lines over steps, and points with error bars. Hovering names what is drawn."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 640, 300
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 14, 40
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f5f00", "#4d4d4d")
"""Okabe and Ito's, which people who see few colours can tell apart, and two more."""


@dataclass(frozen=True)
class Line:
    """A named line of (x, y) points."""

    name: str
    points: Sequence[tuple[float, float]]
    colour: int


@dataclass(frozen=True)
class Point:
    """A named point; ``low`` and ``high`` are the ends of its interval, ``size`` the area of its disc from 0 to 1."""

    name: str
    x: float
    y: float
    low: float
    high: float
    size: float
    colour: int


def lines(drawn: Sequence[Line], x: str, y: str) -> str:
    """A plot of lines."""
    frame = Frame([p for line in drawn for p in line.points], x, y)
    return frame.page("".join(_line(frame, line) for line in drawn))


def points(drawn: Sequence[Point], x: str, y: str) -> str:
    """A plot of points."""
    frame = Frame([(p.x, end) for p in drawn for end in (p.low, p.high, p.y)], x, y)
    return frame.page("".join(_point(frame, point) for point in drawn))


def colour(number: int) -> str:
    """Of the thing of this number; they come round again."""
    return COLOURS[number % len(COLOURS)]


class Frame:
    """Axes with round numbers around everything that is drawn."""

    def __init__(self, drawn: Sequence[tuple[float, float]], x: str, y: str) -> None:
        self.names = (x, y)
        self.xs, self.ys = ticks([p[0] for p in drawn]), ticks([p[1] for p in drawn])

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Where a point lies on the page."""
        across = (x - self.xs[0]) / (self.xs[-1] - self.xs[0])
        up = (y - self.ys[0]) / (self.ys[-1] - self.ys[0])
        return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)

    def page(self, inside: str) -> str:
        """The plot, with what was drawn in it."""
        text = "".join(self._axes())
        return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img">{text}{inside}</svg>'

    def _axes(self) -> Iterator[str]:
        bottom = HEIGHT - BOTTOM
        for tick in self.xs:
            px, _ = self.at(tick, self.ys[0])
            yield f'<line class="grid" x1="{px:.1f}" y1="{TOP}" x2="{px:.1f}" y2="{bottom}"/>'
            yield f'<text x="{px:.1f}" y="{bottom + 16}" text-anchor="middle">{tick:g}</text>'
        for tick in self.ys:
            _, py = self.at(self.xs[0], tick)
            yield f'<line class="grid" x1="{LEFT}" y1="{py:.1f}" x2="{WIDTH - RIGHT}" y2="{py:.1f}"/>'
            yield f'<text x="{LEFT - 6}" y="{py + 4:.1f}" text-anchor="end">{tick:g}</text>'
        x, y = map(escape, self.names)
        yield f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 6}" text-anchor="middle">{x}</text>'
        middle = (TOP + bottom) / 2
        yield f'<text transform="rotate(-90)" x="{-middle}" y="14" text-anchor="middle">{y}</text>'


def ticks(values: Sequence[float], about: int = 5) -> list[float]:
    """Round numbers, evenly apart, around all values: 1, 2 or 5 times a power of ten.

    Example:
        >>> ticks([0.2, 3.9])
        [0.0, 1.0, 2.0, 3.0, 4.0]
        >>> ticks([7.0])
        [6.0, 6.5, 7.0, 7.5, 8.0]
    """
    low, high = min(values), max(values)
    if low == high:
        low, high = low - abs(low or 1) / 10, high + abs(high or 1) / 10
    rough = (high - low) / about
    power = 10 ** math.floor(math.log10(rough))
    step = next(step for step in (power, 2 * power, 5 * power, 10 * power) if step >= rough)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)]


def _line(frame: Frame, line: Line) -> str:
    places = " ".join(f"{px:.1f},{py:.1f}" for px, py in (frame.at(*point) for point in line.points))
    shape = f'<polyline points="{places}" fill="none" stroke="{colour(line.colour)}" stroke-width="1.5"/>'
    return f"<g><title>{escape(line.name)}</title>{shape}</g>"


def _point(frame: Frame, point: Point) -> str:
    (px, py), (_, low), (_, high) = (frame.at(point.x, y) for y in (point.y, point.low, point.high))
    radius, ink = 4 + 8 * math.sqrt(point.size), colour(point.colour)
    bar = f'<line x1="{px:.1f}" y1="{low:.1f}" x2="{px:.1f}" y2="{high:.1f}" stroke="{ink}" stroke-width="2"/>'
    disc = f'<circle cx="{px:.1f}" cy="{py:.1f}" r="{radius:.1f}" fill="{ink}" fill-opacity=".55" stroke="{ink}"/>'
    return f"<g><title>{escape(point.name)}</title>{bar}{disc}</g>"
