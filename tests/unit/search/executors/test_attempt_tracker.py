"""What both executors do with what workers say: every attempt ends once, and a hang says where."""

from pathlib import Path

import pytest

from icd.search.core.attempts import Attempt, Location, ended
from icd.search.core.messages import EpochDone, Finished, Heartbeat, Hung, Order, Preempt, Started
from icd.search.executors.attempt_tracker import LATE_S, AttemptTracker
from icd.search.executors.ray.control import Control
from tests.workers import Book, epoch_of

HERE = Location(host="h", gpu="0", node="n")


@pytest.fixture
def book(tmp_path: Path) -> Book:
    return Book(tmp_path, 2)


@pytest.fixture
def tracker(book: Book) -> AttemptTracker:
    return AttemptTracker(book)


def begun(tracker: AttemptTracker) -> Attempt:
    attempt = tracker.policy.next_attempt()
    assert attempt is not None
    tracker.begin(attempt)
    assert tracker.hear(attempt.name, Started(HERE, 12))
    return attempt


def test_what_is_told_says_where_it_was(tracker: AttemptTracker, book: Book) -> None:
    attempt = begun(tracker)
    assert tracker.hear(attempt.name, Heartbeat(1, 2, 3))
    assert tracker.progress() == {0: Heartbeat(1, 2, 3)}
    assert tracker.hear(attempt.name, EpochDone(epoch_of(attempt), last=False))
    assert tracker.hear(attempt.name, Finished(ended(attempt, "complete")))
    assert [told.location for told in book.epochs] + [told.location for told in book.ends] == [HERE, HERE]
    assert tracker.progress() == {}


def test_an_attempt_ends_once(tracker: AttemptTracker, book: Book) -> None:
    attempt = begun(tracker)
    tracker.end(attempt.name, ended(attempt, "lost"))
    assert not tracker.hear(attempt.name, EpochDone(epoch_of(attempt), last=False)), "it was given up"
    assert not tracker.hear(attempt.name, Finished(ended(attempt, "complete")))
    assert tracker.died(attempt.name, lambda running: ("killed", "gone")) is None
    assert book.kinds == ["lost"]
    assert book.epochs == []


def test_nothing_is_left_to_stop_after_the_last_epoch(
    tracker: AttemptTracker, book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(book, "on_epoch", lambda epoch: False)
    attempt = begun(tracker)
    assert not tracker.hear(attempt.name, EpochDone(epoch_of(attempt), last=False))
    assert tracker.hear(attempt.name, EpochDone(epoch_of(attempt), last=True))


def test_a_hang_shows_its_stack_also_where_the_worker_has_other_files(tracker: AttemptTracker, book: Book) -> None:
    attempt = begun(tracker)
    tracker.hear(attempt.name, Hung("Thread 0x1"))
    tracker.died(attempt.name, lambda running: ("killed", "gone"))
    assert book.kinds == ["hang"]
    assert book.ends[0].reason == f"no progress for 60 s; stack in {attempt.stack}"
    assert attempt.stack.read_text() == "Thread 0x1"


def test_a_stack_alone_says_that_it_hung_and_an_empty_one_nothing(tracker: AttemptTracker, book: Book) -> None:
    for content in ("Thread 0x1", ""):
        attempt = begun(tracker)
        attempt.stack.parent.mkdir(parents=True)
        attempt.stack.write_text(content)
        tracker.died(attempt.name, lambda running: ("killed", "gone"))
        assert attempt.stack.exists() == bool(content)
    assert book.kinds == ["hang", "killed"]


def test_a_worker_that_is_silent_beyond_its_own_watchdog_is_frozen(tracker: AttemptTracker, book: Book) -> None:
    running = tracker.running[begun(tracker).name]
    running.heard -= 60 + LATE_S - 5
    assert list(tracker.frozen()) == []
    running.heard -= 10
    assert list(tracker.frozen()) == [running]
    assert list(tracker.frozen()) == [], "once"
    assert "does not answer" in running.hung


def test_a_worker_on_ray_learns_that_its_attempt_was_given_up() -> None:
    control, notice = Control(), Preempt("node h (n) is taken back")
    assert control.order("0000-1") is None, "a control that was started again knows nothing yet"
    control.put({"0000-1": None, "0001-1": notice, "0002-1": Order.HOLD})
    assert [control.order(f"000{number}-1") for number in range(4)] == [None, notice, Order.HOLD, Order.SHUTDOWN]
    control.say("0000-1", Heartbeat(1, 2, 3))
    assert control.take() == [("0000-1", Heartbeat(1, 2, 3))]
    assert control.take() == []
