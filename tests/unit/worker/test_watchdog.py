"""Files of stacks: one is left only where there is a stack."""

import errno
import os
from pathlib import Path

import pytest

from icd.search.core.attempts import Location
from icd.search.core.messages import EpochDone, Finished, Up
from icd.worker.main import run_attempt
from icd.worker.watchdog import Watchdog
from tests.workers import Book


def test_the_empty_file_of_a_process_that_was_killed_is_removed(tmp_path: Path) -> None:
    attempt = Book(tmp_path, 1).next_attempt()
    assert attempt is not None
    folder = attempt.stack.parent
    folder.mkdir(parents=True, exist_ok=True)
    killed, hung = folder / "stack-90.txt", folder / "stack-91.txt"
    killed.touch()
    hung.write_text("Thread 0x1\n")
    said: list[Up] = []
    with Watchdog(attempt, said.append):
        assert attempt.stack.exists()
    assert sorted(folder.glob("stack-*.txt")) == [hung]
    assert said == []


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS])
def test_a_disk_that_takes_no_stack_pauses_the_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    attempt, said = Book(tmp_path, 1).next_attempt(), list[Up]()
    assert attempt is not None

    class Driver:
        location = Location(host="here")

        def send(self, message: Up) -> None:
            said.append(message)

        def report(self, epoch: EpochDone) -> bool:
            return True

        def stop_asked(self) -> bool:
            return False

    def full(self: Path, *_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code), str(self))

    monkeypatch.setattr(Path, "mkdir", full)
    run_attempt(attempt, Driver(), lambda *_, **__: pytest.fail("nothing can be kept"))
    (end,) = [message.result for message in said if isinstance(message, Finished)]
    assert end.kind == "disk"
    assert os.strerror(code) in end.reason
