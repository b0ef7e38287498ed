"""Constants made once in a process and never dropped."""

from collections.abc import Callable, Hashable
from functools import wraps
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


def kept(make: Callable[P, T]) -> Callable[P, T]:
    """Remember what a pure function gave for each of its arguments, for good.

    For small matrices on a device: copying one there makes a training step wait, and a recorded step (a CUDA graph)
    reads the address it was recorded with, so what a thread was given must stay that very object. ``functools.cache``
    replaces it where two threads come at once.
    """
    found: dict[tuple[Hashable, ...], T] = {}

    @wraps(make)
    def given(*args: P.args, **kwargs: P.kwargs) -> T:
        key = (*args, *sorted(kwargs.items()))
        if key not in found:
            found.setdefault(key, make(*args, **kwargs))
        return found[key]

    return given
