"""Ranges and choices, as they stand in a sweep's document where a trial has values; imports no torch."""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from icd.config.document import KeyPath
from icd.fields import Checked, FieldProblem

GONE: Any = object()  # what is left of a part of a template that is left out
MOST_VALUES = 100_000  # of a stepped range, and points of a grid


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval(Checked):
    """A number between two ends, both included; ``integer`` follows from the field's type."""

    low: float
    high: float
    log: bool = False
    step: float | None = None
    integer: bool = False

    def rules(self) -> Iterator[FieldProblem]:
        if not self.low < self.high:
            yield FieldProblem("low", f"low < high ({self.high:g}) must hold", self.low)
        if self.log and self.low <= 0:
            yield FieldProblem("low", "a logarithmic range needs low > 0", self.low)
        if self.log and self.step is not None:
            yield FieldProblem("step", "a logarithmic range has no step", self.step)
        if self.step is None or self.step <= 0 or self.log:
            return
        if self.count > MOST_VALUES:
            yield FieldProblem("step", f"must leave at most {MOST_VALUES} values", self.step)
        elif (nearest := self.at(self.count - 1)) != self.high:
            steps = f"low plus a whole number of steps ({self.step:g})"
            yield FieldProblem("high", f"must be {steps}, such as {nearest:g} or {self.at(self.count):g}", self.high)

    @property
    def finite(self) -> bool:
        """Whether it holds finitely many numbers to a grid: steps, or whole numbers."""
        return self.step is not None or self.integer

    @property
    def count(self) -> int:
        """How many numbers a finite interval holds."""
        low, high, step = (Decimal(str(number)) for number in (self.low, self.high, self.step or 1))
        return int((high - low) / step) + 1

    def values(self) -> Sequence[float]:
        """Every number of a finite interval, ascending; exact where the file's decimals are (0.1 + 2 * 0.1 is 0.3)."""
        if self.integer:
            return range(int(self.low), int(self.high) + 1, int(self.step or 1))
        return tuple(map(self.at, range(self.count)))

    def at(self, index: int) -> float:
        """Give a number of an interval with steps as the file's decimals make it."""
        return float(Decimal(str(self.low)) + index * Decimal(str(self.step)))

    def to_data(self) -> dict[str, Any]:
        """Write it as a file has it."""
        step = {} if self.step is None else {"step": self.step}
        return {"low": self.low, "high": self.high, **({"log": True} if self.log else {}), **step}


class ScaleWeights(Interval):
    """Of one raw weight for each sampled scale, normalised afterwards; with ``gram: cells`` scale 1 has none."""

    __slots__ = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One of several options, which may hold ranges of their own."""

    options: tuple[Any, ...]  # plain data, with ``Interval``, ``Choice`` and ``ScaleWeights`` in them
    labels: tuple[str, ...]  # names of the options in Optuna and MLflow; they never look like numbers
    places: tuple[KeyPath, ...] = field(compare=False, repr=False, default=())  # below the choice in the file

    def to_data(self) -> dict[str, Any]:
        """Write it as a file may have it."""
        return {"choices": plain(self.options)}

    def option(self, label: str) -> Any:
        """Give the option of a label."""
        return self.options[self.labels.index(label)]


Node = Interval | Choice


def is_node(value: Any) -> bool:
    """Whether a value is asked for."""
    return isinstance(value, Interval | Choice)


def changed(template: Any, change: Callable[[Node], Any]) -> Any:
    """Copy a template with something else, or ``GONE``, in place of every range and choice.

    A list that loses a part is gone, and so is a mapping that loses all.
    """
    if is_node(template):
        return change(template)
    if isinstance(template, list | tuple):
        items = [changed(item, change) for item in template]
        return GONE if any(item is GONE for item in items) else items
    if not isinstance(template, Mapping):
        return copy.deepcopy(template)
    inner = {name: changed(item, change) for name, item in template.items()}
    found = {name: item for name, item in inner.items() if item is not GONE}
    return found if found or not template else GONE


def plain(template: Any) -> Any:
    """Write a template as plain data."""
    return changed(template, lambda node: node.to_data())
