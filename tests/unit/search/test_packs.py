"""Several trials in one process, as the executor sees them: who is told what, and who goes down with whom."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from icd.search.processes import ProcessExecutor
from tests.workers import Answer, Book, epoch, launch_packs, outcome

Hand = dict[int, dict[str, Any]]


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[..., ProcessExecutor]]:
    made: list[ProcessExecutor] = []

    def go(
        book: Book,
        answer: Answer,
        places: tuple[str, ...] = ("", "", ""),
        pack: int = 3,
        tick: Callable[[ProcessExecutor], None] = lambda executor: None,
    ) -> ProcessExecutor:
        executor = ProcessExecutor(places, tmp_path / "logs", pack=pack, launch=launch_packs(answer))
        made.append(executor)
        executor.run(book, lambda: tick(executor))
        return executor

    yield go
    for executor in made:
        executor.close()


def company(hand: Hand) -> float:
    """Who is in hand, as a number that fits into metrics: 1 for trial 0, 2 for trial 1, 4 for trial 2, ..."""
    return float(sum(2**number for number in hand))


def test_every_answer_reaches_its_own_trial(run: Any) -> None:
    def answer(command: dict[str, Any], hand: Hand, say: Any) -> None:
        if command["do"] == "attempt" and len(hand) == 3:
            for number in (2, 0, 1):
                say("epoch", **epoch(hand[number]))
        elif command["do"] == "answer":
            say("outcome", **outcome(hand[command["number"]], "complete" if command["go"] else "stopped"))

    book = Book(3, stops=(0,))
    run(book, answer)
    assert [told.number for told in book.epochs] == [2, 0, 1]
    assert {end.number: end.kind for end in book.ends} == {2: "complete", 0: "stopped", 1: "complete"}


def test_a_place_is_filled_at_once_and_the_others_are_left_in_peace(run: Any) -> None:
    """Trial 0 stays to the end; the others come and go beside it."""

    def answer(command: dict[str, Any], hand: Hand, say: Any) -> None:
        if command["do"] == "attempt" and command["task"]["number"] > 0:
            say("epoch", **epoch(command["task"], company=company(hand), pid=os.getpid()))
        elif command["do"] == "answer":
            kind = {1: "diverged", 2: "setup", 3: "error"}.get(command["number"], "complete")
            say("outcome", **outcome(hand[command["number"]], kind))
            if command["number"] == 6:
                say("outcome", **outcome(hand[0], "complete"))

    book = Book(7, attempts=1)
    run(book, answer, ("", ""), 2)
    assert [told.metrics["company"] for told in book.epochs] == [1 + 2**number for number in range(1, 7)]
    assert len({told.metrics["pid"] for told in book.epochs}) == 1
    assert book.kinds == ["diverged", "setup", "error", "complete", "complete", "complete", "complete"]


def test_trials_spread_over_the_processes_before_they_share_one(run: Any) -> None:
    def answer(command: dict[str, Any], hand: Hand, say: Any) -> None:
        if command["do"] == "attempt":
            say("epoch", **epoch(command["task"], company=company(hand), pid=os.getpid()))
        else:
            time.sleep(0.3)  # the other process has had its trial by now
            say("outcome", **outcome(hand[command["number"]], "complete"))

    book = Book(2)
    run(book, answer, ("0", "0", "1", "1"), 2)
    assert {told.metrics["company"] for told in book.epochs} == {1, 2}
    assert len({told.metrics["pid"] for told in book.epochs}) == 2


def test_progress_is_told_for_each(run: Any) -> None:
    def answer(command: dict[str, Any], hand: Hand, say: Any) -> None:
        if len(hand) == 2:
            for number in (0, 1):
                say("alive", number=number, epoch=number + 1, step=3, steps=9)
            time.sleep(0.5)
            for task in list(hand.values()):
                say("outcome", **outcome(task, "complete"))

    seen: list[Any] = []
    run(Book(2), answer, ("", ""), 2, lambda executor: seen.append(dict(executor.progress())))
    assert {0: {"epoch": 1, "step": 3, "steps": 9}, 1: {"epoch": 2, "step": 3, "steps": 9}} in seen


def test_a_death_ends_every_attempt_once_and_the_first_time_they_go_on_together(run: Any) -> None:
    def answer(command: dict[str, Any], hand: Hand, say: Any) -> None:
        if len(hand) == 3 and all(task["attempt"] == 1 for task in hand.values()):
            os.kill(os.getpid(), signal.SIGKILL)
        elif len(hand) == 3:
            for task in list(hand.values()):
                say("outcome", **outcome(task, "complete"))

    book = Book(3)
    run(book, answer)
    assert [(end.number, end.kind) for end in book.ends[:3]] == [(0, "killed"), (1, "killed"), (2, "killed")]
    assert all(end.reason.startswith("process killed (signal 9); see ") for end in book.ends[:3])
    assert book.kinds[3:] == ["complete"] * 3


def test_a_trial_that_kills_its_process_each_time_ends_up_alone_and_fails_alone(run: Any) -> None:
    def answer(command: dict[str, Any], hand: Hand, say: Any) -> None:
        time.sleep(0.05)  # so that its neighbours are there
        if 1 in hand and (len(hand) == 3 or hand[1]["attempt"] > 2):
            os.kill(os.getpid(), signal.SIGKILL)
        elif 1 not in hand:
            for task in list(hand.values()):
                say("epoch", **epoch(task, company=company(hand)))
                say("outcome", **outcome(task, "complete"))

    book = Book(6, attempts=4)
    run(book, answer)
    assert book.kinds_of(1) == ["killed"] * 4
    for number in (0, 2, 3, 4, 5):
        kinds = book.kinds_of(number)
        assert kinds[-1] == "complete"
        assert kinds.count("killed") <= 2, "nobody goes down with it a third time"
    assert sum(book.kinds_of(number).count("killed") for number in (0, 2, 3, 4, 5)) == 4
    fell_twice = [number for number in range(6) if book.kinds_of(number) == ["killed", "killed", "complete"]]
    companies = {told.metrics["company"] for told in book.epochs if told.number in fell_twice}
    assert companies <= {2**number for number in fell_twice}, "they go on alone"


def test_one_that_hangs_ends_its_process_and_the_others_go_on(run: Any) -> None:
    def answer(command: dict[str, Any], hand: Hand, say: Any) -> None:
        if hand.keys() < {0, 1, 2}:
            return
        if hand[0]["attempt"] > 1:
            for task in list(hand.values()):
                say("outcome", **outcome(task, "complete"))
            return
        for step in range(40):  # trial 1 makes no step; the others are slow
            for number in (0, 2):
                say("alive", number=number, epoch=1, step=step, steps=40)
            time.sleep(0.1)

    book = Book(3, hang_seconds=1.0)
    run(book, answer)
    assert [(end.number, end.kind) for end in book.ends[:3]] == [(1, "hang"), (0, "lost"), (2, "lost")]
    assert book.ends[0].reason.startswith("no progress for 1 s; stack in ")
    assert [end.reason for end in book.ends[1:3]] == ["its neighbour, trial 1, hung"] * 2
    assert book.kinds[3:] == ["complete"] * 3


@pytest.mark.parametrize(("kind", "what"), [("gpu", "had an error of CUDA"), ("memory", "ran out of memory")])
def test_a_process_that_is_spoilt_is_ended_with_all_its_trials(run: Any, kind: str, what: str) -> None:
    """All say at once that CUDA is broken, as they would; that is one fault of the GPU."""

    def answer(command: dict[str, Any], hand: Hand, say: Any) -> None:
        if len(hand) == 3 and hand[2]["attempt"] == 1:
            for number in (2, 0, 1):
                say("outcome", **outcome(hand[number], kind, f"CUDA error {os.getpid()}"))
            signal.pause()
        elif hand and hand[max(hand)]["attempt"] > 1:
            for task in list(hand.values()):
                say("epoch", **epoch(task, company=company(hand)))
                say("outcome", **outcome(task, "complete"))

    book = Book(3)
    run(book, answer, ("7", "7", "7"))
    assert [(end.number, end.kind) for end in book.ends[:3]] == [(2, kind), (0, "lost"), (1, "lost")]
    assert [end.reason for end in book.ends[1:3]] == [f"its neighbour, trial 2, {what}"] * 2
    assert book.kinds[3:] == ["complete"] * 3
    assert [end.place and end.place.gpu for end in book.ends[:3]] == ["7", None, None]
    if kind == "memory":
        assert 4.0 in [told.metrics["company"] for told in book.epochs if told.number == 2], "it goes on alone"


def test_a_process_that_has_to_go_takes_nothing_new_and_ends_with_its_last_trial(run: Any) -> None:
    def answer(command: dict[str, Any], hand: Hand, say: Any) -> None:
        if command["do"] == "attempt" and hand.keys() == {0, 1} and hand[0]["attempt"] == 1:
            say("epoch", **epoch(hand[1], pid=os.getpid()))
            say("outcome", **outcome(hand[0], "preempted"))
            time.sleep(1.0)
            say("outcome", **outcome(hand[1], "complete"))
        elif command["do"] == "attempt" and max(hand) != 1 and hand.keys() != {0}:
            for task in list(hand.values()):
                say("epoch", **epoch(task, pid=os.getpid()))
                say("outcome", **outcome(task, "complete"))
        elif command["do"] == "attempt" and command["task"]["attempt"] > 1:
            say("epoch", **epoch(command["task"], pid=os.getpid()))
            say("outcome", **outcome(command["task"], "complete"))

    book = Book(3)
    run(book, answer, ("7", "7"))
    assert sorted(book.kinds) == ["complete", "complete", "complete", "preempted"]
    assert [(end.number, end.kind) for end in book.ends[:2]] == [(0, "preempted"), (1, "complete")]
    first, *later = [told.metrics["pid"] for told in book.epochs]
    assert len(later) == 2
    assert first not in later


def test_a_task_that_waits_to_be_alone_is_handed_back_where_the_sweep_stops(run: Any) -> None:
    """Trial 0 ran out of memory; its second attempt waits for trial 2 to end, and nothing else is begun meanwhile."""

    def answer(command: dict[str, Any], hand: Hand, say: Any) -> None:
        if hand.keys() == {0, 1}:
            say("outcome", **outcome(hand[0], "memory"))
            signal.pause()
        if command["do"] == "attempt" and command["task"]["number"] > 1:
            say("epoch", **epoch(command["task"], company=company(hand)))
        elif command["do"] == "answer" and command["number"] == 3:
            say("outcome", **outcome(hand[3], "complete"))
            time.sleep(1.0)
            say("outcome", **outcome(hand[2], "complete"))

    def tick(executor: ProcessExecutor) -> None:
        (slot,) = executor.slots
        if slot.waiting is not None:
            waited.append((slot.waiting.number, list(slot.attempts), slot.room))
            book.stopping = True

    waited: list[Any] = []
    book = Book(4)
    run(book, answer, ("", ""), 2, tick)
    assert waited == [(0, [2], False)]
    kinds = [(end.number, end.kind) for end in book.ends]
    assert kinds == [(0, "memory"), (1, "lost"), (3, "complete"), (0, "stopped"), (2, "complete")]
