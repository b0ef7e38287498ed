"""Ranges and choices, as they stand in a sweep's document where a trial has values; imports no torch."""

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from icd.config.document import KeyPath
from icd.fields import FieldProblem, check_fields

_MOST_VALUES = 100_000  # of a stepped range


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A number between two ends, both included; ``integer`` follows from the field's type."""

    low: float
    high: float
    log: bool = False
    step: float | None = None
    integer: bool = False

    def __post_init__(self) -> None:
        check_fields(self, *self._problems())

    def _problems(self) -> Iterator[FieldProblem]:
        if not self.low < self.high:
            yield FieldProblem("low", f"low < high ({self.high:g}) must hold", self.low)
        if self.log and self.low <= 0:
            yield FieldProblem("low", "a logarithmic range needs low > 0", self.low)
        if self.log and self.step is not None:
            yield FieldProblem("step", "a logarithmic range has no step", self.step)
        if self.step is None or self.step <= 0 or self.log:
            return
        low, high, step = (Decimal(str(number)) for number in (self.low, self.high, self.step))
        steps = (high - low) / step
        if steps > _MOST_VALUES:
            yield FieldProblem("step", f"must leave at most {_MOST_VALUES} values", self.step)
        elif steps != int(steps):
            nearest = low + int(steps) * step
            rule = f"must be low plus a whole number of steps ({step}), such as {nearest} or {nearest + step}"
            yield FieldProblem("high", rule, self.high)

    @property
    def finite(self) -> bool:
        """Whether it holds finitely many numbers to a grid: steps, or whole numbers."""
        return self.step is not None or self.integer

    def values(self) -> tuple[float, ...]:
        """Every number of a finite interval, ascending; exact where the file's decimals are (0.1 + 2 * 0.1 is 0.3)."""
        if self.integer:
            return tuple(range(int(self.low), int(self.high) + 1, int(self.step or 1)))
        low, high, step = (Decimal(str(number)) for number in (self.low, self.high, self.step))
        return tuple(float(low + index * step) for index in range(int((high - low) / step) + 1))

    def to_data(self) -> dict[str, Any]:
        """Write it as a file has it."""
        step = {} if self.step is None else {"step": self.step}
        return {"low": self.low, "high": self.high, **({"log": True} if self.log else {}), **step}


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaleWeights:
    """One raw weight for each sampled scale, normalised afterwards; with ``gram: cells`` scale 1 has none."""

    low: float
    high: float
    log: bool = False

    @property
    def interval(self) -> Interval:
        """The range of one weight."""
        return Interval(low=self.low, high=self.high, log=self.log)

    def to_data(self) -> dict[str, Any]:
        """Write it as a file has it."""
        return self.interval.to_data()


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One of several options, which may hold ranges of their own.

    Attributes:
        options: Plain data, with ``Interval``, ``Choice`` and ``ScaleWeights`` in them.
        labels: Names of the options in Optuna and MLflow; they never look like numbers.
        places: Where each option stands below the choice in the file.
    """

    options: tuple[Any, ...]
    labels: tuple[str, ...]
    places: tuple[KeyPath, ...] = field(compare=False, repr=False, default=())

    def to_data(self) -> dict[str, Any]:
        """Write it as a file may have it."""
        return {"choices": [plain(option) for option in self.options]}

    def option(self, label: str) -> Any:
        """Give the option of a label."""
        return self.options[self.labels.index(label)]


Node = Interval | ScaleWeights | Choice


def is_node(value: Any) -> bool:
    """Whether a value is asked for."""
    return isinstance(value, Interval | ScaleWeights | Choice)


def plain(value: Any) -> Any:
    """Write a template as plain data."""
    if isinstance(value, Mapping):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value.to_data() if is_node(value) else copy.deepcopy(value)
