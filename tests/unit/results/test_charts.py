"""The charts: places on the sheet follow the values."""

import re
import xml.etree.ElementTree as ET

import pytest
from markupsafe import Markup

from icd.results.report.charts import (
    Series,
    Span,
    bars_chart,
    lines_chart,
    slice_chart,
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


def test_bars_are_as_long_as_their_values() -> None:
    root = parsed(bars_chart({"x": 0.8, "y": 0.2}, "importance"))
    widths = [float(item.attrib["width"]) for item in root.iter("rect")]
    assert widths[0] == pytest.approx(4 * widths[1], rel=0.01)
    words = [item.text for item in root.iter("text")]
    assert {"x", "80%", "y", "20%"} <= set(words)


def test_a_slice_shows_every_trial_and_marks_the_best() -> None:
    root = parsed(slice_chart([(0.5, 10.0), (64.0, 30.0), (8.0, 20.0)], 1, "weight", "val/top1", "what is seen"))
    places = [float(item.attrib["cx"]) for item in of_class(root, "circle", "mark s0")]
    assert len(of_class(root, "polygon", "mark s1")) == 1
    ticks = [item.text for item in root.iter("text")]
    assert {"1", "10"} <= set(ticks), "two powers of ten are drawn on a log scale"
    assert places[0] < places[1]
    choices = parsed(slice_chart([("kd", 1.0), ("dkd", 2.0), ("kd", 3.0)], 2, "loss", "val/top1", "what is seen"))
    assert {"kd", "dkd"} <= {item.text for item in choices.iter("text")}


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
    ("low", "high", "ticks"),
    [
        (0.0, 10.0, [0, 2, 4, 6, 8, 10]),
        (0.13, 0.48, [0.2, 0.3, 0.4]),
        (-1.0, 1.0, [-1, -0.5, 0, 0.5, 1]),
    ],
)
def test_ticks_are_round(low: float, high: float, ticks: list[float]) -> None:
    assert Scale(low=low, high=high, start=0, end=1).ticks() == pytest.approx(ticks)


def test_a_scale_of_equal_values_stands_in_the_middle() -> None:
    assert Scale.over([3.0, 3.0], 0.0, 10.0)(3.0) == pytest.approx(5.0)


def test_text_and_attributes_are_escaped() -> None:
    made = element("text", "<script>", class_='"><b', x=1.0)
    assert "<script>" not in made
    assert ET.fromstring(str(made)).attrib["class"] == '"><b'
    assert ET.fromstring(str(made)).text == "<script>"


def test_ticks_are_short() -> None:
    assert [tick_text(value) for value in (0.25, 12345.0, 2.5e6, 3e9)] == ["0.25", "12.35k", "2.5M", "3G"]
