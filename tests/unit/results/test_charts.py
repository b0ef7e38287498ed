"""The charts: places on the sheet follow the values."""

import re
import xml.etree.ElementTree as ET

import pytest
from markupsafe import Markup

from icd.results.report.charts import (
    Axis,
    Bar,
    Dot,
    Series,
    Span,
    bars_chart,
    lines_chart,
    parallel_chart,
    scatter_chart,
    spans_chart,
)
from icd.results.report.svg import WIDTH, Scale, element, tick_text


def parsed(svg: Markup) -> ET.Element:
    root = ET.fromstring(str(svg))
    for number in re.findall(r'(?:x|y|cx|cy|x1|x2|y1|y2)="(-?[\d.]+)"', str(svg)):
        assert 0 <= float(number) <= max(WIDTH, float(root.attrib["viewBox"].split()[3]))
    return root


def points(path: ET.Element) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r"([-\d.]+) ([-\d.]+)", path.attrib["d"])]


def of_class(root: ET.Element, tag: str, class_: str) -> list[ET.Element]:
    return [item for item in root.iter(tag) if set(class_.split()) <= set(item.attrib.get("class", "").split())]


def test_lines_rise_with_their_values() -> None:
    rising = Series(name="best", points=[(1, 10.0), (2, 20.0), (3, 25.0)], role="0")
    thin = [Series(name=f"t{n}", points=[(1, 1.0 + n), (2, 2.0 + n)], role="near") for n in range(7)]
    root = parsed(lines_chart([rising, *thin], "epoch", "val/top1", "what is seen"))
    drawn = points(next(path for path in of_class(root, "path", "line s0") if path.find("title") is not None))
    assert len(drawn) == 3
    assert [x for x, _ in drawn] == sorted(x for x, _ in drawn)
    assert [y for _, y in drawn] == sorted((y for _, y in drawn), reverse=True)
    assert len(of_class(root, "path", "line near")) == 7
    assert root.attrib["aria-label"] == "what is seen"
    assert "best" in [item.text for item in root.iter("text")]


def test_a_long_line_is_thinned_and_keeps_its_end() -> None:
    line = Series(name="long", points=[(float(epoch), epoch / 10) for epoch in range(1, 1001)], role="near")
    root = parsed(lines_chart([line], "epoch", "value", "long"))
    drawn = points(of_class(root, "path", "line near")[0])
    assert len(drawn) <= 122
    assert drawn[-1][0] == max(x for x, _ in drawn)
    assert drawn[-1][1] == min(y for _, y in drawn)


def test_one_epoch_is_a_mark() -> None:
    root = parsed(lines_chart([Series(name="t", points=[(1, 5.0)], role="far")], "epoch", "value", "one"))
    assert len(of_class(root, "circle", "mark far")) == 1


@pytest.mark.parametrize("log", [False, True])
def test_scatter_has_a_mark_for_each_trial(log: bool) -> None:
    dots = [Dot(name=f"t{n}", x=10.0**n, y=50.0 + n, role="front" if n < 2 else "trial") for n in range(4)]
    dots.append(Dot(name="KD", x=5.0, y=49.0, role="baseline"))
    root = parsed(scatter_chart(dots, "seconds", "top1", "a front", log_x=log))
    named = [item for item in root.iter() if item.find("title") is not None and "mark" in item.attrib.get("class", "")]
    assert len(named) == 5
    circles = [item for item in named if item.tag.endswith("circle")]
    assert [float(item.attrib["cx"]) for item in circles] == sorted(float(item.attrib["cx"]) for item in circles)


def test_parallel_lines_cross_every_axis_and_break_where_a_value_is_missing() -> None:
    axes = [Axis(name="a"), Axis(name="b", log=True), Axis(name="value")]
    rows = [{"a": n / 4, "b": 10.0**n, "value": float(n)} for n in range(4)] + [{"a": 0.5, "value": 0.5}]
    root = parsed(parallel_chart(axes, rows, [f"t{n}" for n in range(5)], "lines", maximize=True))
    paths = [path for path in root.iter("path") if path.find("title") is not None]
    assert len(paths) == 4  # the fifth row is two marks
    assert len([c for c in root.iter("circle") if "mark" in c.attrib["class"]]) == 2
    assert all(len(points(path)) == 3 for path in paths)
    best = points(of_class(root, "path", "line s0")[0])
    assert all(x == pytest.approx(WIDTH - 12) for x, _ in best)
    assert [y for _, y in best] == sorted(y for _, y in best)


def test_parallel_minimised_marks_the_smallest() -> None:
    rows = [{"a": float(n), "value": float(n)} for n in range(5)]
    root = parsed(parallel_chart([Axis(name="a"), Axis(name="value")], rows, list("abcde"), "x", maximize=False))
    (best,) = of_class(root, "path", "line s0")
    assert best.find("title").text == "a"


def test_bars_are_as_long_as_their_values() -> None:
    bars = [Bar(name=name, value=value, chance=0.1, clear=value > 0.1) for name, value in (("x", 0.8), ("y", 0.2))]
    root = parsed(bars_chart([*bars, Bar(name="z", value=None, chance=None, clear=False)], "importance"))
    widths = [float(item.attrib["width"]) for item in root.iter("rect")]
    assert widths[0] == pytest.approx(4 * widths[1], rel=0.01)
    words = [item.text for item in root.iter("text")]
    assert {"x", "80%", "y", "20%", "z", "not known"} <= set(words)


def test_spans_reach_from_low_to_high() -> None:
    spans = [
        Span(name="a", mean=1.0, low=0.5, high=1.5, sure=True),
        Span(name="b", mean=0.1, low=-1, high=1.2, sure=False, dots=[-0.9, 0.2, 1.0]),
        Span(name="c", mean=0.3, low=None, high=None, sure=False),
    ]
    root = parsed(spans_chart(spans, "points", "differences"))
    zero, *others = of_class(root, "line", "chance")
    assert {item.attrib["x1"] for item in others} == {zero.attrib["x1"]}
    first = max(of_class(root, "line", "line s0"), key=lambda item: float(item.attrib["x2"]) - float(item.attrib["x1"]))
    assert float(first.attrib["x1"]) > float(zero.attrib["x1"])
    assert (len(of_class(root, "polygon", "mark s0")), len(of_class(root, "circle", "mark near"))) == (1, 2)
    assert len(of_class(root, "circle", "mark s1")) == 3


@pytest.mark.parametrize(
    ("low", "high", "log", "ticks"),
    [
        (0.0, 10.0, False, [0, 2, 4, 6, 8, 10]),
        (0.13, 0.48, False, [0.2, 0.3, 0.4]),
        (1.0, 100.0, True, [1, 3, 10, 30, 100]),
        (-1.0, 1.0, False, [-1, -0.5, 0, 0.5, 1]),
    ],
)
def test_ticks_are_round(low: float, high: float, log: bool, ticks: list[float]) -> None:
    assert Scale(low=low, high=high, start=0, end=1, log=log).ticks() == pytest.approx(ticks)


def test_a_scale_of_equal_values_stands_in_the_middle() -> None:
    for log in (False, True):
        assert Scale.over([3.0, 3.0], 0.0, 10.0, log=log)(3.0) == pytest.approx(5.0)


def test_text_and_attributes_are_escaped() -> None:
    made = element("text", "<script>", class_='"><b', x=1.0)
    assert "<script>" not in made
    assert ET.fromstring(str(made)).attrib["class"] == '"><b'
    assert ET.fromstring(str(made)).text == "<script>"


def test_ticks_are_short() -> None:
    assert [tick_text(value) for value in (0.25, 12345.0, 2.5e6, 3e9)] == ["0.25", "12.35k", "2.5M", "3G"]
