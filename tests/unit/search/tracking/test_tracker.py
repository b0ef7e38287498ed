"""What is asked of a tracker is sent once and in order, whatever a server does; nobody waits for it."""

import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from icd.errors import SetupError
from icd.search.tracking import tracker as module
from icd.search.tracking.experiment import Experiment
from icd.search.tracking.run_view import RunView
from icd.search.tracking.tracker import Tracker
from tests.tracking import ask, begun, ended, row


class Runs(Experiment):
    """Stands where MLflow is: keeps views, and raises what it is told to."""

    def __init__(self) -> None:
        self.uri = "http://me:secret@server"
        self.views: list[RunView] = []
        self.marks: dict[str, str] = {}
        self.errors: list[Exception] = []
        self.away: Exception | None = None
        self.here = threading.Event()

    def sent(self, key: str, mark: str) -> bool:
        return bool(mark) and self.marks.get(key) == mark

    def reconcile(self, view: RunView) -> None:
        self.here.set()
        error = self.errors.pop(0) if self.errors else self.away
        if error is not None:
            raise error
        self.views.append(view)
        if view.mark:
            self.marks[view.key] = view.mark

    def steps(self, key: str) -> list[list[int]]:
        return [[row.step for row in view.rows] for view in self.views if view.key == key]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_GATHER_S", 0.001)
    monkeypatch.setattr(module, "_FIRST_WAIT", 0.002)


@pytest.fixture
def runs() -> Runs:
    return Runs()


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def tracker(said: list[str]) -> Iterator[Tracker]:
    tracker = Tracker(said.append)
    yield tracker
    tracker.close(0.0)


def until(what: object) -> None:
    deadline = time.monotonic() + 30
    while not what():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_each_epoch_is_sent_with_those_before_it(tracker: Tracker, runs: Runs) -> None:
    tracker.begin(begun(0, epochs=2))
    tracker.start(runs)
    for epoch in (3, 4):
        tracker.epoch("0000", row(0, epoch))
        until(lambda: tracker.pending() == 0)
    assert runs.steps("0000")[-1] == [1, 2, 3, 4]


def test_an_epoch_that_was_told_is_not_told_otherwise(tracker: Tracker, runs: Runs) -> None:
    tracker.begin(begun(0))
    first = row(0, 1)
    tracker.epoch("0000", first)
    tracker.epoch("0000", replace(first, time_ms=0))
    tracker.start(runs)
    assert tracker.close(30) == 0
    assert runs.views[-1].rows == [first]


def test_an_epoch_of_a_trial_that_ended_or_was_never_begun_is_left_out(tracker: Tracker, runs: Runs) -> None:
    ask(tracker, [ended(0)])
    for key in ("0000", "0001"):
        tracker.epoch(key, row(0, 9))
    tracker.start(runs)
    assert tracker.close(30) == 0
    assert runs.steps("0000") == [[1, 2, 3]]


def test_a_run_with_its_mark_is_left_alone_unread(tracker: Tracker, runs: Runs) -> None:
    runs.marks["0000"] = "complete"
    tracker.want("0000", lambda: pytest.fail("its files are read"), "complete")
    ask(tracker, [ended(1)])
    tracker.start(runs)
    assert tracker.close(30) == 0
    assert [view.key for view in runs.views] == ["0001"]


def test_what_is_asked_for_while_it_is_sent_is_sent_next(tracker: Tracker, runs: Runs) -> None:
    def meanwhile() -> RunView:
        if not runs.views:
            ask(tracker, [ended(0)])
        return begun(0, 1)

    tracker.want("0000", meanwhile)
    tracker.start(runs)
    assert tracker.close(30) == 0
    assert [view.mark for view in runs.views] == ["", "complete"]


def test_an_outage_is_said_once_and_nothing_is_lost(tracker: Tracker, runs: Runs, said: list[str]) -> None:
    runs.away = OSError("connection refused")
    tracker.begin(begun(0))
    ask(tracker, [ended(1)])
    tracker.start(runs)
    until(lambda: said)
    tracker.epoch("0000", row(0, 1))
    assert tracker.pending() == 2
    runs.away = None
    until(lambda: tracker.pending() == 0)
    assert tracker.close(30) == 0
    assert said[0] == "tracking unreachable, 2 runs wait: http://server: connection refused"
    assert [line.partition(" (")[0] for line in said[1:]] == ["tracking flows again"]
    assert (runs.steps("0000")[-1], runs.steps("0001")) == ([1], [[1, 2, 3]])


def test_a_server_that_refuses_is_said_with_what_to_do(runs: Runs, said: list[str]) -> None:
    tracker = Tracker(said.append)
    runs.away = SetupError("experiment 'x' was deleted; restore it")
    ask(tracker, [ended(0)])
    tracker.start(runs)
    until(lambda: said)
    assert tracker.close(0.01) == 1
    assert said == ["tracking refused, 1 run waits: http://server: experiment 'x' was deleted; restore it"]


def test_what_was_said_before_the_sweep_is_not_said_again(runs: Runs, said: list[str]) -> None:
    tracker = Tracker(said.append, warned=True)
    runs.away = OSError("away")
    ask(tracker, [ended(0)])
    tracker.start(runs)
    assert runs.here.wait(30)
    assert tracker.close(0.01) == 1
    assert said == []


def test_a_run_that_can_never_be_sent_does_not_hold_up_the_others(
    tracker: Tracker, runs: Runs, said: list[str]
) -> None:
    runs.errors = [ValueError("no such thing")]
    ask(tracker, [ended(0), ended(1)])
    tracker.start(runs)
    assert tracker.close(30) == 1, "MLflow has not everything"
    assert [view.key for view in runs.views] == ["0001"]
    assert said == ["WARNING: MLflow refused data of run 0000, which is left out: the run: 'no such thing'"]


def test_a_console_that_is_gone_does_not_end_the_thread(runs: Runs) -> None:
    def gone(line: str) -> None:
        raise BrokenPipeError

    tracker = Tracker(gone)
    runs.errors = [OSError("away")]
    ask(tracker, [ended(0)])
    tracker.start(runs)
    assert tracker.close(30) == 0
    assert len(runs.views) == 1


def test_the_end_of_a_sweep_waits_no_longer_than_it_was_told(runs: Runs) -> None:
    tracker = Tracker(lambda line: None)
    runs.away = OSError("away")
    ask(tracker, [ended(0)])
    tracker.start(runs)
    assert runs.here.wait(30)
    assert tracker.close(0.02) == 1
