"""The charts of a report: pure functions of plain values. Series differ by colour, and by dash or shape too."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from icd.results.report.svg import WIDTH, Scale, drawing, element, frame, line, mark, path, text, tick_text
from icd.text import shown

_LEFT, _RIGHT, _TOP = 40.0, WIDTH - 8, 20.0
_LOG = 50  # a range of this ratio is drawn on a log scale
_MOST_POINTS = 120  # of a drawn line; more cannot be seen
Points = Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """A line.

    Attributes:
        name: In the legend, or under the mouse.
        points: Ascending in x.
        role: ``0`` to ``5`` for one of the distinct lines of the legend; ``near`` and ``far`` for thin ones,
            ``dots`` for points alone.
    """

    name: str
    points: Points
    role: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A mean with its interval, where it has one, and single values; ``sure`` where the interval leaves out 0."""

    name: str
    mean: float
    low: float | None
    high: float | None
    sure: bool
    dots: Sequence[float] = ()


def lines_chart(series: Sequence[Series], x_name: str, y_name: str, label: str, *, zero: bool = False) -> Markup:
    """Draw lines over whole numbers; thin ones first, the distinct ones above, each named below the chart."""
    named = [item for item in series if item.role.isdigit()]
    xs = [x for item in series for x, _ in item.points]
    ys = [y for item in series for _, y in item.points] + ([0.0] if zero else [])
    x = Scale.over(xs, _LEFT, _RIGHT, room=0.02)
    y = Scale.over(ys, 180.0, _TOP)
    parts = frame(x, y, x_name, y_name)
    for role in ("far", "near"):
        parts += [_line(item, x, y, f"line {role}") for item in series if item.role == role]
    for item in series:
        if item.role == "dots":
            parts += [mark(x(a), y(b), "circle", "mark near", f"{a:.0f}: {shown(b)}", 2.0) for a, b in item.points]
    for item in reversed(named):
        parts.append(_line(item, x, y, f"line s{item.role}"))
        last = item.points[-1]
        parts.append(mark(x(last[0]), y(last[1]), _shape(item.role), f"mark s{item.role}", item.name, 3.0))
    for place, item in enumerate(named):
        height = 226.0 + 16 * place
        parts.append(path([(8.0, height - 4), (36.0, height - 4)], f"line s{item.role}"))
        parts.append(mark(22.0, height - 4, _shape(item.role), f"mark s{item.role}", size=3.0))
        parts.append(text(44.0, height, _cut(item.name, 56)))
    return drawing(220.0 + 16 * len(named), label, parts)


def _line(item: Series, x: Scale, y: Scale, class_: str) -> Markup:
    points = list(item.points)
    stride = max(1, -(-len(points) // _MOST_POINTS))
    kept = points[:-1:stride] + points[-1:]
    if len(kept) == 1:
        return mark(x(kept[0][0]), y(kept[0][1]), "circle", class_.replace("line", "mark"), item.name, 2.0)
    return path([(x(a), y(b)) for a, b in kept], class_, item.name)


def bars_chart(bars: Mapping[str, float], label: str) -> Markup:
    """Draw shares of 0 to 1 as bars with their names above them."""
    x = Scale(low=0.0, high=max(bars.values(), default=1.0), start=8.0, end=WIDTH - 60)
    parts = []
    for place, (name, value) in enumerate(bars.items()):
        top = 6.0 + 32 * place
        parts.append(text(8.0, top + 9, _cut(name, 52)))
        parts.append(
            element("rect", x=x.start, y=top + 13, width=max(x(value) - x.start, 0.5), height=11.0, class_="bar")
        )
        parts.append(text(WIDTH - 8, top + 23, f"{value:.0%}", text_anchor="end"))
    return drawing(10.0 + 32 * len(bars), label, parts)


def slice_chart(points: Sequence[tuple[object, float]], best: int, x_name: str, y_name: str, label: str) -> Markup:
    """Draw a value against a parameter; choices stand side by side, ranges over two powers of ten on a log scale.

    Args:
        points: Parameter and value.
        best: Place of the point that is marked.
        x_name: The parameter.
        y_name: The value.
        label: What is to be seen.
    """
    y = Scale.over([value for _, value in points], 150.0, _TOP)
    numbers = [float(at) for at, _ in points if isinstance(at, int | float) and not isinstance(at, bool)]
    is_choice = len(numbers) < len(points)
    choices = list(dict.fromkeys(str(at) for at, _ in points))
    is_log = not is_choice and min(numbers) > 0 and max(numbers) / min(numbers) >= _LOG
    at = (
        [choices.index(str(at)) for at, _ in points] if is_choice else [math.log10(n) if is_log else n for n in numbers]
    )
    x = Scale.over([*at, *([-0.5, len(choices) - 0.5] if is_choice else [])], _LEFT, _RIGHT)
    if is_choice:
        names = {float(place): _cut(choice, max(3, 48 // len(choices))) for place, choice in enumerate(choices)}
    else:
        names = {tick: tick_text(float(f"{10**tick:.2g}") if is_log else tick) for tick in x.ticks()}
    parts = [*frame(x, y, x_name, y_name, x_ticks=names)]
    order = [place for place in range(len(points)) if place != best] + [best]
    for place in order:
        shape, class_ = ("diamond", "mark s1") if place == best else ("circle", "mark s0")
        parts.append(mark(x(at[place]), y(points[place][1]), shape, class_, f"{shown(points[place][1])}", 3.0))
    return drawing(182.0, label, parts)


def spans_chart(spans: Sequence[Span], x_name: str, label: str) -> Markup:
    """Draw means with intervals and single values below each other, and the line of no difference."""
    ends = [end for span in spans for end in (span.low, span.high, span.mean) if end is not None]
    x = Scale.over([0.0, *ends, *(dot for span in spans for dot in span.dots)], 12.0, WIDTH - 12)
    bottom, parts = 12.0 + 36 * len(spans), []
    for place, span in enumerate(spans):
        top = 6.0 + 36 * place
        role, middle = "s0" if span.sure else "near", top + 21
        parts.append(text(12.0, top + 9, f"{_cut(span.name, 44)}: {span.mean:+.2f}"))
        parts.append(line(x(0.0), top + 13, x(0.0), top + 29, "chance"))
        if span.low is not None and span.high is not None:
            parts.append(line(x(span.low), middle, x(span.high), middle, f"line {role}"))
            parts += [line(x(end), middle - 5, x(end), middle + 5, f"line {role}") for end in (span.low, span.high)]
        parts += [mark(x(dot), middle, "circle", "mark s1", shown(dot), 2.0) for dot in span.dots]
        parts.append(mark(x(span.mean), middle, "diamond" if span.sure else "circle", f"mark {role}", shown(span.mean)))
    for tick in x.ticks():
        parts.append(text(x(tick), bottom + 14, tick_text(tick), text_anchor="middle"))
    parts += [line(12, bottom, WIDTH - 12, bottom, "axis")]
    parts.append(text(WIDTH - 12, bottom + 27, x_name, text_anchor="end", class_="name"))
    return drawing(bottom + 32, label, parts)


def _shape(role: str) -> str:
    return ("circle", "square", "triangle", "diamond")[int(role) % 4]


def _cut(words: str, most: int) -> str:
    return words if len(words) <= most else f"{words[: most - 1]}…"
