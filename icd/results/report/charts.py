"""The charts of a report: pure functions of plain values. Series differ by colour, and by dash or shape too."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from icd.results.report.blocks import shown
from icd.results.report.svg import WIDTH, Scale, drawing, element, frame, line, mark, path, text, tick_text

_LEFT, _RIGHT, _TOP = 40.0, WIDTH - 8, 20.0
_MOST_POINTS = 120  # of a drawn line; more cannot be seen
Points = Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """A line.

    Attributes:
        name: In the legend, or under the mouse.
        points: Ascending in x.
        role: ``0`` to ``5`` for one of the distinct lines of the legend; ``near`` and ``far`` for thin ones.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A length, with a mark for what chance reaches; None where it is not known."""

    name: str
    value: float | None
    chance: float | None
    clear: bool


def lines_chart(series: Sequence[Series], x_name: str, y_name: str, label: str, *, zero: bool = False) -> Markup:
    """Draw lines over whole numbers; thin ones first, the distinct ones above, each named below the chart."""
    named = [item for item in series if item.role.isdigit()]
    xs = [x for item in series for x, _ in item.points]
    ys = [y for item in series for _, y in item.points] + ([0.0] if zero else [])
    x = Scale.over(xs, _LEFT, _RIGHT, room=0.02)
    y = Scale.over(ys, 210.0, _TOP)
    parts = frame(x, y, x_name, y_name, whole_x=True)
    for role in ("far", "near"):
        parts += [_line(item, x, y, f"line {role}") for item in series if item.role == role]
    for item in reversed(named):
        parts.append(_line(item, x, y, f"line s{item.role}"))
        last = item.points[-1]
        parts.append(mark(x(last[0]), y(last[1]), _shape(item.role), f"mark s{item.role}", item.name, 3.0))
    for place, item in enumerate(named):
        height = 256.0 + 16 * place
        parts.append(path([(8.0, height - 4), (36.0, height - 4)], f"line s{item.role}"))
        parts.append(mark(22.0, height - 4, _shape(item.role), f"mark s{item.role}", size=3.0))
        parts.append(text(44.0, height, _cut(item.name, 56)))
    return drawing(250.0 + 16 * len(named), label, parts)


def _line(item: Series, x: Scale, y: Scale, class_: str) -> Markup:
    points = list(item.points)
    stride = max(1, -(-len(points) // _MOST_POINTS))
    kept = points[:-1:stride] + points[-1:]
    if len(kept) == 1:
        return mark(x(kept[0][0]), y(kept[0][1]), "circle", class_.replace("line", "mark"), item.name, 2.0)
    return path([(x(a), y(b)) for a, b in kept], class_, item.name)


def bars_chart(bars: Sequence[Bar], label: str) -> Markup:
    """Draw bars with their names above them; a bar that does not pass its chance mark is hollow."""
    most = max((max(bar.value or 0.0, bar.chance or 0.0) for bar in bars), default=0.0) or 1.0
    x = Scale(low=0.0, high=most, start=8.0, end=WIDTH - 88)
    parts = []
    for place, bar in enumerate(bars):
        top = 6.0 + 32 * place
        parts.append(text(8.0, top + 9, _cut(bar.name, 52)))
        if bar.value is None:
            parts.append(text(8.0, top + 23, "not known", class_="faint"))
            continue
        width = max(x(bar.value) - x.start, 0.5)
        class_ = "bar clear" if bar.clear else "bar"
        parts.append(element("rect", x=x.start, y=top + 13, width=width, height=11.0, class_=class_))
        if bar.chance is not None:
            parts.append(line(x(bar.chance), top + 10, x(bar.chance), top + 27, "chance"))
        parts.append(text(WIDTH - 8, top + 23, f"{bar.value:.0%}{'' if bar.clear else ', chance'}", text_anchor="end"))
    return drawing(10.0 + 32 * len(bars), label, parts)


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
