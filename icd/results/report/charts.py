"""The charts of a report: pure functions of plain values. Series differ by colour, and by dash or shape too.

Here is decided where things lie; ``charts.html.j2`` draws them. Everything is on a sheet 360 units wide, which is a
phone's screen: letters stay readable there. Colours are classes, so that the page's style decides them.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from icd.results.outcome import Outcome
from icd.results.words import rendered, signed

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

    @property
    def drawn(self) -> Points:
        """The points that are drawn of a line."""
        return [*self.points[: -1 : max(1, -(-len(self.points) // _MOST_POINTS))], self.points[-1]]


def lines_chart(series: Sequence[Series], x_name: str, y_name: str, label: str, *, zero: bool = False) -> Markup:
    """Draw lines over whole numbers; thin ones first, the distinct ones above, each named below the chart."""
    x = Scale.over([a for item in series for a, _ in item.points], _LEFT, _RIGHT, room=0.02)
    y = Scale.over([b for item in series for _, b in item.points] + ([0.0] if zero else []), _BOTTOM + 30, _TOP)
    x_ticks = {tick: f"{tick:.4g}" for tick in x.ticks() if tick == int(tick)}
    named = [item for item in series if item.role.isdigit()]
    axes = {"x": x, "y": y, "x_name": x_name, "y_name": y_name, "x_ticks": x_ticks}
    return _drawn("lines", 220 + 16 * len(named), label, series=series, named=named, **axes)


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
        x_ticks = {float(place): _cut(choice, max(3, 48 // len(choices))) for place, choice in enumerate(choices)}
    else:
        is_log = min(numbers) > 0 and max(numbers) / min(numbers) >= _LOG
        at = [math.log10(number) for number in numbers] if is_log else numbers
        x = Scale.over(at, _LEFT, _RIGHT)
        places = {tick: float(f"{10**tick:.2g}") if is_log else tick for tick in x.ticks()}
        x_ticks = {tick: f"{value:.4g}" for tick, value in places.items()}
    placed = [(a, value) for a, (_, value) in zip(at, points, strict=True)]
    axes = {"x": x, "y": y, "x_name": x_name, "y_name": y_name, "x_ticks": x_ticks}
    return _drawn("slice", 182, label, best=placed.pop(best), points=placed, **axes)


def differences_chart(found: Outcome, x_name: str) -> Markup:
    """Draw each difference below the other: its interval, a dot for each seed, and the line of no difference."""
    runs, items, said, ends = {arm.label: arm.by_seed for arm in found.arms}, [], list[str](), [0.0]
    for item in found.ordered:
        if item.difference is None:
            continue
        one, other = runs[item.arm], runs[item.against]
        dots = [value - other[seed] for seed, value in one.items() if seed in other]
        items.append((item, dots))
        ends += [end for end in (item.low, item.high, item.difference, *dots) if end is not None]
        said.append(f"{item.arm} against {item.against} {signed(item.difference)}")
    x = Scale.over(ends, 12.0, WIDTH - 12)
    return _drawn("differences", 44 + 36 * len(items), "; ".join(said), items=items, x=x, x_name=x_name)


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


def _drawn(kind: str, height: int, label: str, **values: Any) -> Markup:
    """Draw a chart; the label says in one sentence what is to be seen."""
    filters = {"place": lambda place: f"{place:.1f}".removesuffix(".0"), "cut": _cut}
    return Markup(rendered("charts.html.j2", kind=kind, height=height, label=label, filters=filters, **values))


def _cut(words: str, most: int) -> str:
    return words if len(words) <= most else f"{words[: most - 1]}…"
