"""What is kept is made once and stays the same object, whichever thread asks."""

import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import torch

from icd.data.warps import _rotation_table
from icd.kept import kept


def test_equal_arguments_give_the_same_object() -> None:
    @kept
    def make(name: str, size: int = 1) -> list[str]:
        """Make it."""
        return [name] * size

    assert make("a", size=2) is make("a", size=2)
    assert make("a", size=2) == ["a", "a"]
    assert make("a") is not make("b")
    assert make.__doc__ == "Make it."


def test_the_newest_are_kept_where_they_are_limited() -> None:
    @partial(kept, most=2)
    def make(number: int) -> list[int]:
        return [number]

    first, second, _ = make(0), make(1), make(2)
    assert make(1) is second
    assert make(0) is not first
    assert make(0) == first


def test_rotation_tables_of_searched_angles_do_not_pile_up() -> None:
    tables = [weakref.ref(_rotation_table(4, degrees, 2, torch.device("cpu"))) for degrees in range(10, 20)]
    assert [table() is not None for table in tables] == [False] * 6 + [True] * 4


def test_threads_that_come_at_once_get_the_same_object() -> None:
    both_there = threading.Barrier(2)

    @kept
    def make(name: str) -> object:
        both_there.wait(timeout=60)  # both find nothing and make one
        return object()

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(make, ["a", "a"])
    assert first is second
    assert make("a") is first
