"""The charts: places on the sheet follow the values."""

import re
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest
from markupsafe import Markup

from icd.results.report.charts import WIDTH, Scale, Series, differences_chart, lines_chart, slice_chart
from tests.reports import confirmation


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
    root = parsed(lines_chart([Series(name="t", points=[(1, 5.0)], role="near")], "epoch", "value", "one"))
    assert len(of_class(root, "circle", "mark near")) == 1


def test_a_slice_shows_every_trial_and_marks_the_best() -> None:
    root = parsed(slice_chart([(0.5, 10.0), (64.0, 30.0), (8.0, 20.0)], 1, "weight", "val/top1", "what is seen"))
    places = [float(item.attrib["cx"]) for item in of_class(root, "circle", "mark s0")]
    assert len(of_class(root, "polygon", "mark s1")) == 1
    ticks = [item.text for item in root.iter("text")]
    assert {"1", "10"} <= set(ticks), "two powers of ten are drawn on a log scale"
    assert places[0] < places[1]
    choices = parsed(slice_chart([("kd", 1.0), ("dkd", 2.0), ("kd", 3.0)], 2, "loss", "val/top1", "what is seen"))
    assert {"kd", "dkd"} <= {item.text for item in choices.iter("text")}


def test_an_interval_reaches_from_low_to_high_and_leaves_the_line_of_no_difference_where_it_is_shown() -> None:
    found = confirmation()
    open_ = tuple(replace(item, low=None, high=None, verdict="open") for item in found.comparisons[3:])
    root = parsed(differences_chart(replace(found, comparisons=(*found.comparisons[:3], *open_)), "points"))
    zero, *others = ({x for x, _ in points(path)} for path in of_class(root, "path", "chance"))
    assert len(zero) == 1
    assert all(other == zero for other in others)
    first = max((points(path) for path in of_class(root, "path", "line s0")), key=lambda ends: ends[1][0] - ends[0][0])
    assert first[0][0] > max(zero), "trial 7 against KD leaves out 0"
    assert len(of_class(root, "path", "line near")) == 3, "one that is not shown, none of one that is open"
    shown = sum(item.shown for item in found.comparisons[:3])
    assert (len(of_class(root, "polygon", "mark s0")), len(of_class(root, "circle", "mark near"))) == (shown, 4 - shown)
    assert len(of_class(root, "circle", "mark s1")) == 4 * 4


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
    evil = '"><script>'
    svg = str(lines_chart([Series(name=evil, points=[(1, 5.0), (2, 6.0)], role="0")], evil, evil, evil))
    assert "<script>" not in svg
    root = ET.fromstring(svg)
    assert root.attrib["aria-label"] == evil
    assert [item.text for item in root.iter("text")].count(evil) == 3
