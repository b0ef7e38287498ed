"""The charts of a report: pure functions of plain values. Series differ by colour, and by dash or shape too.

Everything is drawn on a sheet 360 units wide, which is a phone's screen: letters stay readable there. Colours are
classes, so that the page's style decides them.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from icd.results.outcome import Outcome
from icd.results.words import signed
from icd.text import shown

WIDTH = 360.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 40.0, WIDTH - 8, 20.0, 150.0
_ROOM = 0.04  # of a scale's length, left free at both ends
_LOG = 50  # a range of this ratio is drawn on a log scale
_MOST_POINTS = 120  # of a drawn line; more cannot be seen
Points = Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """A line."""

    name: str  # in the legend, or under the mouse
    points: Points  # ascending in x
    role: str  # ``0`` to ``5`` for a distinct line of the legend, ``near`` for a thin one, ``dots`` for points alone


def lines_chart(series: Sequence[Series], x_name: str, y_name: str, label: str, *, zero: bool = False) -> Markup:
    """Draw lines over whole numbers; thin ones first, the distinct ones above, each named below the chart."""
    named = [item for item in series if item.role.isdigit()]
    x = Scale.over([a for item in series for a, _ in item.points], _LEFT, _RIGHT, room=0.02)
    y = Scale.over([b for item in series for _, b in item.points] + ([0.0] if zero else []), _BOTTOM + 30, _TOP)
    parts = _frame(x, y, x_name, y_name)
    parts += [_curve(item, x, y, "near") for item in series if item.role == "near"]
    for item in series:
        if item.role == "dots":
            parts += [_mark(x(a), y(b), "near", f"{a:.0f}: {shown(b)}", 2.0) for a, b in item.points]
    for item in reversed(named):
        a, b = item.points[-1]
        parts += [_curve(item, x, y, f"s{item.role}"), _mark(x(a), y(b), f"s{item.role}", item.name, 3.0)]
    for place, item in enumerate(named):
        height = 226.0 + 16 * place
        parts += [_line([(8.0, height - 4), (36.0, height - 4)], f"line s{item.role}")]
        parts += [_text(44.0, height, _cut(item.name, 56))]
    return _drawing(220.0 + 16 * len(named), label, parts)


def slice_chart(points: Sequence[tuple[object, float]], best: int, x_name: str, y_name: str, label: str) -> Markup:
    """Draw points of a parameter and a value, the one at place ``best`` marked.

    Choices stand side by side; ranges over two powers of ten are drawn on a log scale.
    """
    y = Scale.over([value for _, value in points], _BOTTOM, _TOP)
    numbers = [float(at) for at, _ in points if isinstance(at, int | float) and not isinstance(at, bool)]
    if len(numbers) < len(points):
        choices = list(dict.fromkeys(str(at) for at, _ in points))
        at = [float(choices.index(str(at))) for at, _ in points]
        x = Scale.over([*at, -0.5, len(choices) - 0.5], _LEFT, _RIGHT)
        names = {float(place): _cut(choice, max(3, 48 // len(choices))) for place, choice in enumerate(choices)}
    else:
        is_log = min(numbers) > 0 and max(numbers) / min(numbers) >= _LOG
        at = [math.log10(number) for number in numbers] if is_log else numbers
        x = Scale.over(at, _LEFT, _RIGHT)
        places = {tick: float(f"{10**tick:.2g}") if is_log else tick for tick in x.ticks()}
        names = {tick: f"{value:.4g}" for tick, value in places.items()}
    marks = [_mark(x(a), y(value), "s0", shown(value), 3.0) for a, (_, value) in zip(at, points, strict=True)]
    marks[best] = _mark(x(at[best]), y(points[best][1]), "s1", shown(points[best][1]), 3.0, is_diamond=True)
    marks.append(marks.pop(best))
    return _drawing(182.0, label, [*_frame(x, y, x_name, y_name, x_ticks=names), *marks])


def differences_chart(found: Outcome, x_name: str) -> Markup:
    """Draw each difference below the other: its interval, a dot for each seed, and the line of no difference."""
    items = [(item, item.difference) for item in found.ordered if item.difference is not None]
    runs = {arm.label: arm.by_seed for arm in found.arms}
    dots = [
        [value - runs[item.against][seed] for seed, value in runs[item.arm].items() if seed in runs[item.against]]
        for item, _ in items
    ]
    ends = [end for item, mean in items for end in (item.low, item.high, mean) if end is not None]
    x = Scale.over([0.0, *ends, *(dot for own in dots for dot in own)], 12.0, WIDTH - 12)
    bottom, parts = 12.0 + 36 * len(items), list[Markup]()
    for place, ((item, mean), own) in enumerate(zip(items, dots, strict=True)):
        top, role = 6.0 + 36 * place, "s0" if item.shown else "near"
        middle, name = top + 21, f"{item.arm} against {item.against}"
        parts.append(_text(12.0, top + 9, f"{_cut(name, 44)}: {signed(mean)}"))
        parts.append(_line([(x(0.0), top + 13), (x(0.0), top + 29)], "chance"))
        if item.low is not None and item.high is not None:
            parts.append(_line([(x(item.low), middle), (x(item.high), middle)], f"line {role}"))
            for end in (item.low, item.high):
                parts.append(_line([(x(end), middle - 5), (x(end), middle + 5)], f"line {role}"))
        parts += [_mark(x(dot), middle, "s1", shown(dot), 2.0) for dot in own]
        parts.append(_mark(x(mean), middle, role, shown(mean), is_diamond=item.shown))
    parts += [_text(x(tick), bottom + 14, f"{tick:.4g}", text_anchor="middle") for tick in x.ticks()]
    parts.append(_line([(12.0, bottom), (WIDTH - 12, bottom)], "axis"))
    parts.append(_text(WIDTH - 12, bottom + 27, x_name, text_anchor="end", class_="name"))
    label = "; ".join(f"{item.arm} against {item.against} {signed(mean)}" for item, mean in items)
    return _drawing(bottom + 32, label, parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """Maps values from ``low`` to ``high`` to places on the sheet from ``start`` to ``end``; the latter may fall."""

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


def element(tag: str, *inside: str, **attributes: object) -> Markup:
    """Write an element; ``class_`` is ``class`` and ``a_b`` is ``a-b``. Text inside and attributes are escaped."""
    pairs = {name.rstrip("_").replace("_", "-"): value for name, value in attributes.items()}
    words = Markup("").join(Markup(' {}="{}"').format(name, _plain(value)) for name, value in pairs.items())
    body = Markup("").join(escape(part) for part in inside)
    return Markup("<{}{}>{}</{}>").format(Markup(tag), words, body, Markup(tag))


def _drawing(height: float, label: str, parts: Iterable[Markup]) -> Markup:
    """Put parts on a sheet; the label says in one sentence what is to be seen."""
    box = f"0 0 {WIDTH:g} {_plain(height)}"
    return element("svg", element("title", label), *parts, viewBox=box, role="img", aria_label=label, class_="chart")


def _frame(x: Scale, y: Scale, x_name: str, y_name: str, *, x_ticks: Mapping[float, str] | None = None) -> list[Markup]:
    """Draw grid lines, tick labels and the names of both axes; whole numbers on the first, unless ticks are given."""
    if x_ticks is None:
        x_ticks = {tick: f"{tick:.4g}" for tick in x.ticks() if tick == int(tick)}
    parts = [_text(4, 11, y_name, class_="name")]
    for tick in y.ticks():
        parts += [_line([(x.start, y(tick)), (x.end, y(tick))], "grid")]
        parts += [_text(x.start - 4, y(tick) + 3.5, f"{tick:.4g}", text_anchor="end")]
    for tick, name in x_ticks.items():
        parts += [_line([(x(tick), y.start), (x(tick), y.start + 3)], "axis")]
        parts += [_text(x(tick), y.start + 14, name, text_anchor="middle")]
    parts += [_line([(x.start, y.start), (x.end, y.start)], "axis")]
    return [*parts, _text(x.end, y.start + 27, x_name, text_anchor="end", class_="name")]


def _curve(item: Series, x: Scale, y: Scale, role: str) -> Markup:
    points = list(item.points)
    kept = points[: -1 : max(1, -(-len(points) // _MOST_POINTS))] + points[-1:]
    if len(kept) == 1:
        return _mark(x(kept[0][0]), y(kept[0][1]), role, item.name, 2.0)
    return _line([(x(a), y(b)) for a, b in kept], f"line {role}", item.name)


def _text(x: float, y: float, words: str, **attributes: object) -> Markup:
    return element("text", words, x=x, y=y, **attributes)


def _line(points: Points, class_: str, title: str = "") -> Markup:
    """Draw a broken line through points; the title is shown under the mouse."""
    steps = "L".join(f"{_plain(x)} {_plain(y)}" for x, y in points)
    return element("path", *([element("title", title)] if title else []), d=f"M{steps}", class_=class_)


def _mark(x: float, y: float, role: str, title: str, size: float = 4.0, *, is_diamond: bool = False) -> Markup:
    """Draw a circle or a diamond about a point."""
    if not is_diamond:
        return element("circle", element("title", title), cx=x, cy=y, r=size, class_=f"mark {role}")
    reach = 1.35 * size
    corners = ((x, y - reach), (x + reach, y), (x, y + reach), (x - reach, y))
    points = " ".join(f"{_plain(a)},{_plain(b)}" for a, b in corners)
    return element("polygon", element("title", title), points=points, class_=f"mark {role}")


def _plain(value: object) -> str:
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else str(value)


def _cut(words: str, most: int) -> str:
    return words if len(words) <= most else f"{words[: most - 1]}…"
