"""Constants made once in a process."""

from collections.abc import Callable, Hashable
from functools import wraps
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


def kept(make: Callable[P, T], *, most: int = 0) -> Callable[P, T]:
    """Remember what a pure function gave for each of its arguments, for good, or the newest ``most`` of them.

    For matrices on a device: copying one there makes a training step wait, and a recorded step (a CUDA graph) reads the
    address it was recorded with, so what a thread was given must stay that very object. ``functools.cache`` replaces it
    where two threads come at once. Without ``most`` they must be small; with it, more than one trial asks for.
    """
    found: dict[tuple[Hashable, ...], T] = {}

    @wraps(make)
    def given(*args: P.args, **kwargs: P.kwargs) -> T:
        key = (*args, *sorted(kwargs.items()))
        if (value := found.get(key)) is None:
            value = found.setdefault(key, make(*args, **kwargs))
            for old in list(found)[:-most] if most else ():
                found.pop(old, None)
        return value

    return given
