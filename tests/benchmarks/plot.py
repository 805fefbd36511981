"""The goals as a picture: each ratio as a multiple of its goal, on a logarithmic axis, with its spread.

One self-contained SVG. A goal is met right of the line at 1, and missed left of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import ceil, floor, log10
from typing import Final
from xml.sax.saxutils import escape

from tests.benchmarks.measures import Bound, Measure, figure

_MET: Final = "#1b7f4b"
_MISSED: Final = "#b3361e"
_INK: Final = "#1f2328"
_FAINT: Final = "#d0d7de"
_LABELS: Final = 480
_AXIS: Final = 400
_FIGURES: Final = 320
_ROW: Final = 26
_TOP: Final = 84
_TICKS: Final = (1.0, 2.0, 5.0)


def svg(measures: Sequence[Measure], *, title: str, subtitle: str) -> str:
    """Returns the picture of the measures that have a goal, in their order."""
    drawn = [(measure, measure.bound) for measure in measures if measure.bound is not None]
    margins = [bound.margin(ratio) for measure, bound in drawn for ratio in (*measure.spread, measure.ratio)]
    axis = _Axis([margin for margin in margins if margin > 0] or [1.0])
    width, height = _LABELS + _AXIS + _FIGURES, _TOP + _ROW * len(drawn) + 44
    bottom = _TOP + _ROW * len(drawn)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
        ' font-family="system-ui, sans-serif" font-size="13">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        _text(16, 28, title, size=17, weight="bold"),
        _text(16, 48, subtitle, size=12),
        *axis.draw(bottom),
    ]
    for number, (measure, bound) in enumerate(drawn):
        parts += _row(measure, bound, axis, _TOP + _ROW * number + _ROW / 2)
    parts.append(_text(_LABELS + axis.x_of(1), bottom + 36, "times better than the goal", anchor="middle", size=12))
    return "\n".join([*parts, "</svg>"]) + "\n"


class _Axis:
    """An axis with powers of ten, and 2 and 5 between them, from below the smallest to above the largest value. It
    always contains 1.
    """

    def __init__(self, values: Sequence[float]) -> None:
        self.low, self.high = min(*values, 0.9, 0.9) * 0.9, max(*values, 1.1, 1.1) * 1.1

    def x_of(self, value: float) -> float:
        share = (log10(max(value, self.low)) - log10(self.low)) / (log10(self.high) - log10(self.low))
        return round(share * _AXIS, 1)

    def draw(self, bottom: int) -> Iterator[str]:
        powers = range(floor(log10(self.low)), ceil(log10(self.high)) + 1)
        ticks = [t * 10.0**p for p in powers for t in _TICKS if self.low <= t * 10.0**p <= self.high]
        last = -100.0
        for tick in ticks:
            x, goal = self.x_of(tick), tick == 1
            colour, wide = (_INK, 1.6) if goal else (_FAINT, 1)
            yield (
                f'<line x1="{_LABELS + x}" x2="{_LABELS + x}" y1="{_TOP - 6}" y2="{bottom}" stroke="{colour}"'
                f' stroke-width="{wide}"/>'
            )
            if goal or (x - last > 34 and abs(x - self.x_of(1)) > 34):
                yield _text(_LABELS + x, bottom + 16, f"{tick:g}", anchor="middle", size=12)
                last = x


def _row(measure: Measure, bound: Bound, axis: _Axis, y: float) -> Iterator[str]:
    colour = _MET if measure.met else _MISSED
    least, greatest = sorted(bound.margin(ratio) for ratio in measure.spread)
    left, right = _LABELS + axis.x_of(least), _LABELS + axis.x_of(greatest)
    yield _text(16, y + 4, measure.goal, weight="bold")
    yield _text(52, y + 4, measure.name)
    yield f'<line x1="{left}" x2="{right}" y1="{y}" y2="{y}" stroke="{colour}" stroke-width="3" stroke-opacity="0.45"/>'
    yield f'<circle cx="{_LABELS + axis.x_of(bound.margin(measure.ratio))}" cy="{y}" r="5" fill="{colour}"/>'
    beside = measure.unit if measure.limit_name is None else f"× {measure.limit_name}"
    verdict = "met" if measure.met else "missed"
    yield _text(
        _LABELS + _AXIS + 16, y + 4, f"{figure(measure.ratio)} {beside}, goal {bound}: {verdict}", colour=colour
    )


def _text(
    x: float,
    y: float,
    content: str,
    *,
    size: int = 13,
    weight: str = "normal",
    anchor: str = "start",
    colour: str = _INK,
) -> str:
    return (
        f'<text x="{x}" y="{y}" font-size="{size}" font-weight="{weight}" text-anchor="{anchor}" fill="{colour}">'
        f"{escape(content)}</text>"
    )
