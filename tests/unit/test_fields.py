"""Ranges beside fields."""

import pickle
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pytest

from icd.fields import (
    Count,
    FieldError,
    FieldProblem,
    NonNegative,
    Positive,
    Range,
    Seed,
    annotations,
    check_fields,
    choices_of,
    field_problems,
    ranges_of,
)


@dataclass(frozen=True, kw_only=True)
class Settings:
    rate: Positive = 0.1
    share: Annotated[float, Range(above=0, at_most=0.5)] = 0.2
    steps: Count = 1
    seed: Seed = 0
    widths: tuple[Count, ...] = (1, 2)
    limit: Positive | None = None
    mode: Literal["fast", "exact"] = "fast"
    name: str = "x"

    def __post_init__(self) -> None:
        check_fields(self)


@pytest.mark.parametrize(
    ("bound", "rule", "inside", "outside"),
    [
        (Range(above=0), "x > 0 must hold", (1e-300, 5), (0, -1)),
        (Range(at_least=1), "x >= 1 must hold", (1, 2), (0.999, -1)),
        (Range(at_most=3), "x <= 3 must hold", (3, -9), (3.001,)),
        (Range(below=3), "x < 3 must hold", (2.999,), (3, 4)),
        (Range(above=0, at_most=0.5), "0 < x <= 0.5 must hold", (0.5, 0.1), (0, 0.51)),
        (Range(at_least=0, below=1), "0 <= x < 1 must hold", (0, 0.99), (1, -0.1)),
    ],
)
def test_range(bound: Range, rule: str, inside: tuple[float, ...], outside: tuple[float, ...]) -> None:
    assert bound.rule("x") == rule
    assert all(bound.holds(value) for value in inside)
    assert not any(bound.holds(value) for value in outside)
    assert not bound.holds(float("nan"))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"rate": -1}, "rate > 0 must hold, but got -1"),
        ({"rate": 0.0}, "rate > 0 must hold, but got 0.0"),
        ({"share": 0.6}, "0 < share <= 0.5 must hold, but got 0.6"),
        ({"steps": 0}, "steps >= 1 must hold, but got 0"),
        ({"seed": 2**63}, None),
        ({"seed": -1}, None),
        ({"widths": (1, 0)}, "widths[1] >= 1 must hold, but got 0"),
        ({"limit": -2.0}, "limit > 0 must hold, but got -2.0"),
        ({"rate": float("nan")}, "rate must be finite, but got nan"),
        ({"rate": float("inf")}, "rate must be finite, but got inf"),
        ({"mode": "slow"}, "mode must be one of 'fast', 'exact', but got 'slow'"),
        ({"rate": -1, "steps": 0}, "rate > 0 must hold, but got -1; steps >= 1 must hold, but got 0"),
    ],
)
def test_wrong_values(values: dict[str, Any], message: str | None) -> None:
    with pytest.raises(FieldError) as caught:
        Settings(**values)
    assert isinstance(caught.value, ValueError)
    assert len(caught.value.problems) == len(values)
    if message is not None:
        assert str(caught.value) == message


def test_right_values() -> None:
    Settings()
    Settings(rate=1e-12, share=0.5, seed=2**63 - 1, widths=(), limit=None, mode="exact")


def test_only_given_fields_are_checked() -> None:
    assert field_problems(Settings, {"steps": 0}) == [FieldProblem("steps", "steps >= 1 must hold", 0)]
    assert field_problems(Settings, {}) == []
    assert field_problems(Settings, {"name": 3, "rate": "many"}) == []


def test_more_problems_are_added() -> None:
    extra = FieldProblem("name", "name must be short", "x" * 3)
    with pytest.raises(FieldError, match=r"^name must be short, but got 'xxx'$"):
        check_fields(Settings(), None, extra)


def test_annotations() -> None:
    hints = annotations(Settings)
    assert list(hints) == ["rate", "share", "steps", "seed", "widths", "limit", "mode", "name"]
    assert ranges_of(hints["widths"]) == ranges_of(hints["steps"]) == (Range(at_least=1),)
    assert ranges_of(hints["limit"]) == (Range(above=0),)
    assert ranges_of(hints["mode"]) == ranges_of(hints["name"]) == ()
    assert choices_of(hints["mode"]) == ("fast", "exact")
    assert choices_of(Literal["a"] | None) == ("a",)
    assert choices_of(hints["rate"]) == choices_of(NonNegative) == ()


def test_error_survives_pickling() -> None:
    with pytest.raises(FieldError) as caught:
        Settings(rate=-1, widths=(0,))
    twin = pickle.loads(pickle.dumps(caught.value))
    assert type(twin) is FieldError
    assert str(twin) == str(caught.value)
    assert twin.problems == caught.value.problems
