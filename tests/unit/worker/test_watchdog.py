"""Files of stacks: one is left only where there is a stack."""

from pathlib import Path

from icd.search.core.messages import Up
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
