"""Drawing with text: SVG elements, scales and ticks. Colours are classes, so that the page's style decides them.

Everything is drawn on a sheet 360 units wide, which is a phone's screen: letters stay readable there.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

WIDTH = 360.0
_ROOM = 0.04  # of a scale's length, left free at both ends


def element(tag: str, *inside: str, **attributes: object) -> Markup:
    """Write an element; ``class_`` is ``class`` and ``a_b`` is ``a-b``. Text inside and attributes are escaped."""
    pairs = {name.rstrip("_").replace("_", "-"): value for name, value in attributes.items() if value is not None}
    words = Markup("").join(Markup(' {}="{}"').format(name, _plain(value)) for name, value in pairs.items())
    body = Markup("").join(escape(part) for part in inside)
    return Markup("<{}{}>{}</{}>").format(Markup(tag), words, body, Markup(tag))


def drawing(height: float, label: str, parts: Iterable[Markup]) -> Markup:
    """Put parts on a sheet; ``label`` says in one sentence what is to be seen."""
    box = f"0 0 {WIDTH:g} {_plain(height)}"
    return element("svg", element("title", label), *parts, viewBox=box, role="img", aria_label=label, class_="chart")


def text(x: float, y: float, words: str, **attributes: object) -> Markup:
    """Write a line of text; ``text_anchor`` is start, middle or end."""
    return element("text", words, x=x, y=y, **attributes)


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Markup:
    """Draw a straight line."""
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def path(points: Sequence[tuple[float, float]], class_: str, title: str = "") -> Markup:
    """Draw a broken line through points; ``title`` is shown under the mouse."""
    steps = "L".join(f"{_plain(x)} {_plain(y)}" for x, y in points)
    return element("path", *([element("title", title)] if title else []), d=f"M{steps}", class_=class_)


def mark(x: float, y: float, shape: str, class_: str, title: str = "", size: float = 4.0) -> Markup:
    """Draw a ``circle``, ``square``, ``diamond`` or ``triangle`` about a point."""
    inside = [element("title", title)] if title else []
    if shape == "circle":
        return element("circle", *inside, cx=x, cy=y, r=size, class_=class_)
    corners = {
        "square": ((-1, -1), (1, -1), (1, 1), (-1, 1)),
        "diamond": ((0, -1.5), (1.5, 0), (0, 1.5), (-1.5, 0)),
        "triangle": ((0, -1.4), (1.3, 1), (-1.3, 1)),
    }[shape]
    points = " ".join(f"{_plain(x + size * 0.9 * a)},{_plain(y + size * 0.9 * b)}" for a, b in corners)
    return element("polygon", *inside, points=points, class_=class_)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """Maps values to places on the sheet.

    Attributes:
        low: Value at ``start``.
        high: Value at ``end``.
        start: Place of ``low``.
        end: Place of ``high``; smaller than ``start`` for an axis that points up.
    """

    low: float
    high: float
    start: float
    end: float

    @classmethod
    def over(cls, values: Iterable[float], start: float, end: float, *, room: float = _ROOM) -> "Scale":
        """Give a scale that holds all values with some room; one value alone stands in the middle."""
        found = list(values)
        low, high = (min(found), max(found)) if found else (0.0, 1.0)
        width = (high - low) * room if high > low else max(abs(high), 1.0) * 0.05
        return cls(low=low - width, high=high + width, start=start, end=end)

    def __call__(self, value: float) -> float:
        return self.start + (self.end - self.start) * (value - self.low) / (self.high - self.low)

    def ticks(self, most: int = 5) -> list[float]:
        """Give round values within the scale."""
        rough = (self.high - self.low) / most
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
        first = math.ceil(self.low / step - 1e-9)
        return [round(n * step, 12) for n in range(first, math.floor(self.high / step + 1e-9) + 1)]


def frame(x: Scale, y: Scale, x_name: str, y_name: str, *, x_ticks: Mapping[float, str] | None = None) -> list[Markup]:
    """Draw grid lines, tick labels and the names of both axes; whole numbers on the first, unless ticks are given."""
    if x_ticks is None:
        x_ticks = {tick: tick_text(tick) for tick in x.ticks() if tick == int(tick)}
    parts = [text(4, 11, y_name, class_="name")]
    for tick in y.ticks():
        parts += [line(x.start, y(tick), x.end, y(tick), "grid")]
        parts += [text(x.start - 4, y(tick) + 3.5, tick_text(tick), text_anchor="end")]
    for tick, name in x_ticks.items():
        parts += [line(x(tick), y.start, x(tick), y.start + 3, "axis")]
        parts += [text(x(tick), y.start + 14, name, text_anchor="middle")]
    parts += [line(x.start, y.start, x.end, y.start, "axis")]
    return [*parts, text(x.end, y.start + 27, x_name, text_anchor="end", class_="name")]


def tick_text(value: float) -> str:
    """Write a tick's value in few letters."""
    for limit, letter in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= limit:
            return f"{value / (1e3 if letter == 'k' else limit):.4g}{letter}"
    return f"{value:.4g}"


def _plain(value: object) -> str:
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else str(value)
