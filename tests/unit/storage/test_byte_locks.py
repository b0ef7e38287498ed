"""Bytes are held by one at a time, whether the others are threads or processes."""

import fcntl
import os
import struct
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from icd.storage.byte_locks import ByteLocks
from tests.crash.forks import forked


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "claims").touch()
    return tmp_path / "claims"


def hold(locks: ByteLocks, places: list[int], book: Path, name: str, seconds: float = 0.2) -> None:
    with locks.held(places):
        for what in ("in", "out"):
            with book.open("a") as file:
                file.write(f"{what} {name}\n")
            time.sleep(seconds)


def lines(book: Path) -> list[str]:
    return book.read_text().split("\n")[:-1] if book.exists() else []


@pytest.mark.parametrize("shared", [True, False], ids=["one-object", "two-objects"])
def test_threads_and_processes_keep_each_other_out(path: Path, tmp_path: Path, shared: bool) -> None:
    """Two threads here, which may share an object, and two in another process, all after byte 2."""
    book = tmp_path / "book"

    def work(process: str) -> int:
        first = ByteLocks(path)
        second = first if shared else ByteLocks(path)
        claims = ((first, [0, 1, 2], f"{process}1"), (second, [4, 3, 2], f"{process}2"))
        threads = [threading.Thread(target=hold, args=(locks, places, book, name)) for locks, places, name in claims]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for locks in {first, second}:
            locks.close()
        return 0

    other = forked(lambda: work("b"))
    work("a")
    assert os.waitpid(other, 0)[1] == 0
    told = lines(book)
    assert len(told) == 8
    assert [line.split()[0] for line in told] == ["in", "out"] * 4
    assert {line.split()[1] for line in told} == {"a1", "a2", "b1", "b2"}


def test_closing_another_object_lets_go_of_nothing(path: Path, tmp_path: Path) -> None:
    """The older locks are dropped when any descriptor of the file is closed, by whichever thread."""
    book, closed, locks = tmp_path / "book", tmp_path / "closed", ByteLocks(path)

    def second() -> int:
        while not closed.exists():
            time.sleep(0.01)
        hold(ByteLocks(path), [7], book, "second", 0.0)
        return 0

    def close_another() -> None:
        ByteLocks(path).close()
        closed.touch()

    other = forked(second)  # before a thread has a lock that the fork would inherit
    holder = threading.Thread(target=hold, args=(locks, [7], book, "first", 0.4))
    holder.start()
    while not lines(book):
        time.sleep(0.01)
    closer = threading.Thread(target=close_another)
    closer.start()
    holder.join()
    closer.join()
    assert os.waitpid(other, 0)[1] == 0
    locks.close()
    assert lines(book) == ["in first", "out first", "in second", "out second"]


def test_other_bytes_are_free(path: Path) -> None:
    locks, inside = ByteLocks(path), threading.Barrier(2, timeout=20)

    def meet(place: int) -> None:
        with locks.held([place]):
            inside.wait()  # only if both are in at once

    threads = [threading.Thread(target=meet, args=(place,)) for place in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not inside.broken
    locks.close()


def test_a_file_that_was_removed_still_locks(path: Path, tmp_path: Path) -> None:
    """A trial that has a cache open keeps it when the cache is dropped."""
    book, locks = tmp_path / "book", ByteLocks(path)
    path.unlink()
    hold(locks, [1], book, "held", 0.0)
    locks.close()
    assert lines(book) == ["in held", "out held"]


def test_bytes_are_taken_in_ascending_order(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two that take the same bytes in two orders can wait for each other for ever."""
    taken: list[int] = []
    by_opening = fcntl.fcntl

    def opened(handle: int, command: int, lock: Any) -> Any:
        taken.append(struct.unpack("hhqqi", lock)[2])
        return by_opening(handle, command, lock)

    locks = ByteLocks(path)
    monkeypatch.setattr(fcntl, "fcntl", opened)
    with locks.held([5, 3, 9, 3]):
        pass
    locks.close()
    assert taken == [3, 5, 9]
