"""Short forms: ``student: resnet8`` for ``student: {arch: resnet8}``, and what a range looks like."""

from collections.abc import Mapping
from typing import Any

TOP = ("data", "pair", "teacher", "student", "method", "training", "seed")  # parts of a template, in their order
SWEEP_KEYS = ("name", "pairs", "pair", "search", "resources")  # keys of a sweep's file that no trial has
WEIGHTS = ("cluster_scale_weights", "base_scale_weights")
RANGE_KEYS = ("low", "high", "choices", "subsets_of")

# What a name alone stands for, by the key that it is the value of; in a sweep's file some stand under ``search``.
_KEY_OF = {
    "data": "name",
    "student": "arch",
    "teacher": "arch",
    "training": "preset",
    "sampler": "name",
    "pruner": "name",
    "objective": "metric",
}
_TAGGED = ("base_loss", "augmentation")


def full_form(name: str | int, value: Any) -> Any:
    """Write a name that stands for a mapping as that mapping; anything else stays as it is."""
    if not isinstance(value, str):
        return value
    if name == "method":
        from icd.methods import METHODS  # torch, which whoever only shows documents does without

        return {"name" if value in METHODS else "recipe": value}
    if name in _TAGGED:
        return {value: {}}
    return {_KEY_OF[str(name)]: value} if name in _KEY_OF else value


def is_range(value: Any) -> bool:
    """Whether a value of a sweep's file is searched: ``{low, high}``, ``{choices}`` or ``{subsets_of}``."""
    return isinstance(value, Mapping) and any(key in value for key in RANGE_KEYS)


def is_whole(name: str | int, value: Any) -> bool:
    """Whether a mapping is one thing, which another replaces instead of being laid over it."""
    return is_range(value) or name in _TAGGED
