"""What is shown while a sweep runs, with a driver that is only a value."""

import io
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console
from rich.live import Live

from icd.cli import progress as live
from icd.cli.progress import LiveDisplay, end_line
from icd.config.sweep import Objective
from icd.search.controller.controller import RunningTrial
from icd.search.core.messages import Heartbeat
from icd.search.core.records import TrialRecord
from icd.search.sweep_status import trial_row


class Sweep:
    """Stands for driver and executor."""

    def __init__(self, trials: int) -> None:
        self.records: list[TrialRecord] = []
        self.reads = 0
        self.running: dict[int, RunningTrial] = {}
        self.ledger = SimpleNamespace(records=self._read)
        self.source = SimpleNamespace(stage="confirm")
        self.sweep = SimpleNamespace(budget=SimpleNamespace(trials=trials), objectives=(Objective(),))

    def _read(self, stage: str) -> list[TrialRecord]:
        assert stage == "confirm", "what is driven is shown"
        self.reads += 1
        return list(self.records)

    def progress(self) -> dict[int, Heartbeat]:
        return {1: Heartbeat(3, 5, 10), 2: Heartbeat(4, 9, 10), 3: Heartbeat(8, 3, 10)}


def complete(number: int, value: float) -> TrialRecord:
    return TrialRecord(
        number=number, state="complete", values=(value,), curve={4: value}, params={"w": 0.123456}, key="k"
    )


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(live, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


def watched(display: LiveDisplay, sweep: Any) -> None:
    display.watch(sweep, sweep)


def test_a_line_for_every_end_once(clock: list[float]) -> None:
    stream, sweep = io.StringIO(), Sweep(5)
    sweep.records = [complete(0, 40.0)]  # ended before this driver came
    with LiveDisplay(stream) as display:
        watched(display, sweep)
        sweep.records += [complete(1, 50.0), TrialRecord(number=2, state="running", curve={1: 5.0})]
        watched(display, sweep)  # too soon to look again
        assert stream.getvalue() == ""
        clock[0] += 2
        watched(display, sweep)
        clock[0] += 2
        watched(display, sweep)
        sweep.records[2] = TrialRecord(number=2, state="pruned", curve={1: 5.0}, reason="pruned at epoch 1")
    assert stream.getvalue().splitlines() == [
        "trial   1  complete  epoch   4  val/top1 50  w=0.1235",
        "trial   2  pruned    epoch   1  val/top1 5  (pruned at epoch 1)",
    ]


def test_the_ledger_is_read_about_once_a_second(clock: list[float]) -> None:
    sweep = Sweep(5)
    with LiveDisplay(io.StringIO()) as display:
        for _ in range(50):
            watched(display, sweep)
            clock[0] += 0.2
    assert sweep.reads <= 13


def test_many_trials_give_summaries(clock: list[float]) -> None:
    stream, sweep = io.StringIO(), Sweep(1000)
    with LiveDisplay(stream) as display:
        for number in range(240):
            watched(display, sweep)
            sweep.records.append(complete(number, float(number)))
            clock[0] += 1
    lines = stream.getvalue().splitlines()
    assert 2 <= len(lines) <= 4
    assert lines[0] == "61 of 1000 trials: 61 complete; best val/top1 60 (trial 60)"


def test_announcements_are_not_markup() -> None:
    stream = io.StringIO()
    with LiveDisplay(stream) as display:
        display.announce("retry [1/3] of trial 4: losses.py:100: no such file")
    assert stream.getvalue() == "icd: retry [1/3] of trial 4: losses.py:100: no such file\n"


@pytest.mark.usefixtures("clock")
def test_table_on_a_terminal() -> None:
    stream, sweep = io.StringIO(), Sweep(5)
    display = LiveDisplay(stream)
    display.console = Console(file=stream, force_terminal=True, width=120, height=30, color_system=None)
    sweep.records = [complete(0, 40.0), TrialRecord(number=1, state="running", baseline="KD", key="k")]
    sweep.running = {
        1: RunningTrial(attempt=1, epochs=9, epoch=2, value=12.5),
        2: RunningTrial(attempt=1, epochs=8, epoch=4),  # what was heard of its steps is older than its epoch
        3: RunningTrial(attempt=2, epochs=12, epoch=7),
    }
    with display:
        assert isinstance(display.live, Live)
        watched(display, sweep)
    shown = stream.getvalue()
    assert "2 of 5 trials: 1 running, 1 complete; best val/top1 40 (trial 0)" in shown
    assert "2+50%/9" in shown
    assert " 4/8 " in shown
    assert "7+30%/12" in shown
    assert "12.5" in shown
    assert "KD" in shown


def test_end_of_a_duplicate() -> None:
    record = TrialRecord(number=7, state="duplicate", twin=2, reason="same configuration as trial 2")
    assert end_line(record, "val/top1") == "trial   7  duplicate  same configuration as trial 2"


def test_chance_level_is_not_shown_as_measured() -> None:
    record = TrialRecord(number=0, state="pruned", curve={0: 10.0}, baseline="KD", reason="nan at epoch 1")
    assert end_line(record, "val/top1") == "trial   0  pruned    epoch   0  KD  (nan at epoch 1)"
    row = trial_row(record, ["val/top1"])
    assert (row["last"], row["epochs"]) == (None, 0)
