"""What is kept is made once and stays the same object, whichever thread asks."""

import threading
from concurrent.futures import ThreadPoolExecutor

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
