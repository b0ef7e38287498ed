"""Ranges written beside the fields they bound, so that a dataclass is its own schema.

``temperature: Positive = 4.0`` says type, range and default once. The same annotation is checked when the value is
built, gives the rule printed for a wrong configuration file, and bounds a search space.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from functools import cache
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

import annotated_types


@dataclass(frozen=True, slots=True, kw_only=True)
class Range(annotated_types.GroupedMetadata):
    """Bounds of a number, or of every number of a tuple; pydantic reads them too."""

    above: float | None = None
    at_least: float | None = None
    at_most: float | None = None
    below: float | None = None

    def __iter__(self) -> Iterator[object]:
        """Give the bounds one by one, as libraries that read annotations expect them."""
        bounds = (
            (annotated_types.Gt, self.above),
            (annotated_types.Ge, self.at_least),
            (annotated_types.Le, self.at_most),
            (annotated_types.Lt, self.below),
        )
        return (kind(bound) for kind, bound in bounds if bound is not None)

    def holds(self, value: float) -> bool:
        """Whether the value is inside; NaN never is."""
        return (
            (self.above is None or value > self.above)
            and (self.at_least is None or value >= self.at_least)
            and (self.at_most is None or value <= self.at_most)
            and (self.below is None or value < self.below)
        )

    def rule(self, name: str) -> str:
        """Write the bounds as a person would: ``0 < share <= 0.5 must hold``."""
        low = f"{_shown(self.above)} < " if self.above is not None else ""
        low = f"{_shown(self.at_least)} <= " if self.at_least is not None else low
        high = f" < {_shown(self.below)}" if self.below is not None else ""
        high = f" <= {_shown(self.at_most)}" if self.at_most is not None else high
        if low and not high:
            value = self.above if self.above is not None else self.at_least
            return f"{name} {'>' if self.above is not None else '>='} {_shown(value)} must hold"
        return f"{low}{name}{high} must hold"


def _shown(bound: float | None) -> str:
    return str(bound) if isinstance(bound, int) else f"{bound:g}"  # 2**63 - 1 in full, not 9.22337e+18


Positive = Annotated[float, Range(above=0)]
NonNegative = Annotated[float, Range(at_least=0)]
Count = Annotated[int, Range(at_least=1)]
NonNegativeInt = Annotated[int, Range(at_least=0)]
Seed = Annotated[int, Range(at_least=0, at_most=2**63 - 1)]


class FieldProblem(NamedTuple):
    """One field whose value breaks its rule; ``field`` is ``name`` or ``name[i]``."""

    field: str
    rule: str
    value: object


class FieldError(ValueError):
    """A value object was given numbers outside their ranges; carries all of them."""

    def __init__(self, problems: Iterable[FieldProblem]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(f"{rule}, but got {value!r}" for _, rule, value in self.problems))

    def __reduce__(self) -> tuple[type, tuple[object, ...]]:
        return type(self), (self.problems,)


@cache
def annotations(cls: Any) -> Mapping[str, Any]:
    """Give the type of every field of a dataclass, ranges included."""
    hints = get_type_hints(cls, include_extras=True)
    return {field.name: hints[field.name] for field in fields(cls)}


@cache
def ranges_of(annotation: Any) -> tuple[Range, ...]:
    """Collect the ranges inside an annotation, through ``Annotated``, unions and tuples."""
    if get_origin(annotation) is Literal:
        return ()
    found = tuple(item for item in getattr(annotation, "__metadata__", ()) if isinstance(item, Range))
    return found + tuple(inner for arg in get_args(annotation) for inner in ranges_of(arg))


@cache
def choices_of(annotation: Any) -> tuple[object, ...]:
    """Give the allowed values of a ``Literal`` field, empty for any other."""
    if get_origin(annotation) is Annotated:
        return choices_of(get_args(annotation)[0])
    if get_origin(annotation) is Union or type(annotation).__name__ == "UnionType":
        return tuple(choice for arg in get_args(annotation) for choice in choices_of(arg))
    return get_args(annotation) if get_origin(annotation) is Literal else ()


def field_problems(cls: type, values: Mapping[str, object]) -> list[FieldProblem]:
    """Check the given fields against their ranges; absent fields and fields of other types are left alone."""
    problems = []
    for name, annotation in annotations(cls).items():
        if name in values:
            problems += _value_problems(name, values[name], annotation)
    return problems


def check_fields(instance: Any, *more: FieldProblem | None) -> None:
    """Raise one ``FieldError`` for every field of a dataclass that is out of range, and for ``more``."""
    values = {field.name: getattr(instance, field.name) for field in fields(instance)}
    problems = field_problems(type(instance), values) + [problem for problem in more if problem is not None]
    if problems:
        raise FieldError(problems)


class Checked:
    """A dataclass whose fields are checked when it is made: their ranges, and what ``rules`` says of several."""

    __slots__ = ()

    def __post_init__(self) -> None:
        check_fields(self, *self.rules())

    def rules(self) -> Iterable[FieldProblem]:
        """Give the fields that do not go together."""
        return ()


def _value_problems(name: str, value: object, annotation: Any) -> list[FieldProblem]:
    if isinstance(value, tuple):
        return [
            problem
            for index, item in enumerate(value)
            for problem in _value_problems(f"{name}[{index}]", item, annotation)
        ]
    choices = choices_of(annotation)
    if choices and not ranges_of(annotation) and value is not None and value not in choices:
        listed = ", ".join(repr(choice) for choice in choices)
        return [FieldProblem(name, f"{name} must be one of {listed}", value)]
    if isinstance(value, bool) or not isinstance(value, int | float):
        return []
    if not math.isfinite(value):
        return [FieldProblem(name, f"{name} must be finite", value)]
    return [FieldProblem(name, bound.rule(name), value) for bound in ranges_of(annotation) if not bound.holds(value)]
