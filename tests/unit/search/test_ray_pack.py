"""Processes of several attempts as Tune and the policy see them; the processes are played by the test."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from icd.errors import SetupError, StateError
from icd.search.company import Company
from icd.search.quarantine import Complaint, Place
from tests.workers import Book, epoch, outcome

pytest.importorskip("ray")
from icd.search import ray_pack, ray_process
from icd.search.ray_cluster import processes_for
from icd.search.ray_pack import PackBridge
from icd.search.ray_pack_worker import Pulse

DIED = "The actor died unexpectedly\nWorker exit detail: End of file. More"


class Cluster:
    """Has room for processes."""

    local = True

    def __init__(self, processes: int, pack: int) -> None:
        self.room, self.pack = processes, pack
        self.going: dict[str, float] = {}

    def processes(self, held: int) -> int:
        return max(0, self.room - held)

    def places(self, held: int) -> int:
        return self.processes(held) * self.pack

    def leaving(self) -> Mapping[str, float]:
        return self.going

    def alive(self, node: str) -> bool:
        return True


class Post:
    """Keeps what was sent."""

    name = "mailbox"

    def __init__(self) -> None:
        self.sent: dict[str, list[dict[str, Any]]] = {}
        self.readers: list[str] = []

    def send(self, reader: str, command: dict[str, Any]) -> None:
        self.sent.setdefault(reader, []).append(command)

    def has_read(self, reader: str, number: int) -> None:
        self.readers.append(f"{reader} {number}")

    def forget(self, reader: str) -> None:
        self.readers.append(f"{reader} forgotten")

    def repeat(self) -> None:
        """All is read."""


class Demand:
    def __init__(self) -> None:
        self.asked: list[int] = []

    def ask(self, processes: int) -> None:
        self.asked.append(processes)


class Play:
    """A bridge, with everything around it."""

    def __init__(self, book: Book, processes: int = 1, pack: int = 3) -> None:
        self.book, self.cluster, self.post, self.demand = book, Cluster(processes, pack), Post(), Demand()
        self.stopped: list[str] = []
        around: Any = (self.cluster, self.demand, Company(), self.post)
        self.bridge = PackBridge(book, lambda: None, *around)

    def step(self) -> None:
        self.bridge.step(self.stopped.append)

    def look(self) -> None:
        """Take a step in which it is time to look around."""
        self.bridge._looked -= 2.0
        self.step()

    def start(self, name: str, said: str = "began", gpu: str = "7") -> bool:
        """Start a process as Tune does."""
        given = self.bridge.next(name)
        assert given is not None
        assert (given["mailbox"], given["reader"]) == ("mailbox", name)
        return self.bridge.hear(name, {"said": said, "node": "n1", "host": "h", "pid": 1, "gpu": gpu})

    def full(self, name: str) -> None:
        """Start a process and fill it."""
        assert self.start(name)
        self.step()

    def say(self, name: str, *messages: dict[str, Any]) -> bool:
        return self.bridge.hear(name, {"said": "pack", "read": 1, "messages": list(messages)})

    def given(self, name: str) -> list[Any]:
        """What a process was sent: trials, and other commands by their names."""
        return [
            command["task"]["number"] if command["do"] == "attempt" else command["do"]
            for command in self.post.sent.get(name, [])
        ]

    def ends(self, name: str, number: int, kind: str) -> dict[str, Any]:
        return {"said": "outcome", **outcome(self.bridge.processes[name].attempts[number].task.to_json(), kind)}


def test_a_process_begins_with_one_attempt_and_is_filled_when_it_is_there() -> None:
    play = Play(Book(5))
    assert play.bridge.next("p") is not None
    play.step()
    assert play.given("p") == []
    assert play.bridge.next("q") is None, "one process fits"
    play.bridge.hear("p", {"said": "began", "node": "n1", "host": "h", "pid": 1, "gpu": ""})
    assert play.given("p") == [0]
    play.step()
    assert play.given("p") == [0, 1, 2]
    first = play.bridge.processes["p"].attempts[1].task.to_json()
    assert play.say(
        "p", {"said": "epoch", **epoch(first)}, {"said": "alive", "number": 2, "epoch": 1, "step": 3, "steps": 9}
    )
    assert play.post.sent["p"][-1] == {"do": "answer", "number": 1, "go": True}
    assert play.bridge.progress() == {0: {}, 1: {}, 2: {"epoch": 1, "step": 3, "steps": 9}}
    assert [told.place for told in play.book.epochs] == [Place(host="h", gpu="", node="n1")]
    play.say("p", play.ends("p", 1, "complete"))
    play.step()
    assert play.given("p") == [0, 1, 2, "answer", 3]
    assert play.post.readers == ["p 1", "p 1"]


def test_trials_spread_over_processes_before_they_share_one() -> None:
    play = Play(Book(5), processes=2)
    play.full("p")
    assert play.given("p") == [0], "another process fits"
    play.full("q")
    assert (play.given("p"), play.given("q")) == ([0, 2, 4], [1, 3])


@pytest.mark.parametrize(("kind", "what"), [("gpu", "had an error of CUDA"), ("memory", "ran out of memory")])
def test_a_spoilt_process_is_told_of_when_it_is_gone(kind: str, what: str) -> None:
    play = Play(Book(3))
    play.full("p")
    play.say("p", play.ends("p", 2, kind), play.ends("p", 0, "gpu"), play.ends("p", 1, "complete"))
    play.step()
    assert play.book.ends == []
    play.bridge.fault("p", DIED)
    play.bridge.fault("p", DIED)
    assert [(end.number, end.kind) for end in play.book.ends] == [(2, kind), (0, "lost"), (1, "lost")]
    assert play.book.ends[1].reason == f"its neighbour, trial 2, {what}"
    assert [end.place and end.place.gpu for end in play.book.ends] == ["7", None, None]


def test_who_fell_twice_in_company_waits_until_it_is_alone() -> None:
    play = Play(Book(3))
    for name in ("p", "q"):
        play.full(name)
        play.bridge.fault(name, DIED)
    assert play.book.kinds == ["killed"] * 6
    assert play.book.ends[0].reason == "process killed (Worker exit detail: End of file)"
    play.full("r")
    assert play.given("r") == [0], "it has the process to itself"
    play.say("r", play.ends("r", 0, "complete"))
    play.step()
    assert play.given("r") == [0, 1]
    play.book.stopping = True
    play.step()
    assert [(end.number, end.kind) for end in play.book.ends[6:]] == [(0, "complete")]


def test_a_task_that_waits_to_be_alone_is_handed_back() -> None:
    play = Play(Book(4), pack=3)
    play.full("p")
    play.say("p", play.ends("p", 0, "memory"))
    play.bridge.fault("p", DIED)  # its second attempt is the last in the queue
    play.full("q")
    assert play.given("q") == [3], "nothing else is begun meanwhile"
    waiting = play.bridge.processes["q"].waiting
    assert waiting is not None
    assert waiting.number == 0
    play.book.stopping = True
    play.step()
    assert [(end.number, end.kind, end.reason) for end in play.book.ends[3:]] == [(0, "stopped", "not begun")]


def test_a_process_that_has_to_go_gets_nothing_new_and_raises_in_the_end() -> None:
    play = Play(Book(3), pack=2)
    play.full("p")
    play.say("p", {"said": "leaving"}, play.ends("p", 1, "preempted"))
    play.step()
    assert play.given("p") == [0, 1]
    play.say("p", play.ends("p", 0, "complete"))
    play.step()
    assert play.given("p") == [0, 1, "end"]
    assert play.say("p", {"said": "over", "again": False}), "it may raise"
    play.bridge.fault("p", "RuntimeError: this process is not used again: SIGTERM")
    assert play.book.kinds == ["preempted", "complete"]
    assert play.bridge.next("q") is not None


def test_a_process_that_is_spent_ends_with_the_trials_that_it_has() -> None:
    play = Play(Book(3), pack=2)
    play.full("p")
    said = play.ends("p", 1, "complete")
    said["outcome"]["spent"] = "a CUDA graph could not be recorded"
    play.say("p", said)
    play.step()
    assert play.given("p") == [0, 1]
    play.say("p", play.ends("p", 0, "complete"))
    play.step()
    assert play.given("p") == [0, 1, "end"]


def test_a_notice_goes_to_every_process_of_a_node() -> None:
    play = Play(Book(3), pack=2)
    play.full("p")
    play.cluster.going["n1"] = 1003.0
    play.look()
    play.look()
    assert play.post.sent["p"][2:] == [{"do": "notice", "reason": "node h (n1) is taken back", "until": 1000.0}]
    play.bridge.fault("p", "The actor died because its node was preempted")
    assert play.book.kinds == ["preempted", "preempted"]


def test_an_idle_process_gives_its_place_back(monkeypatch: pytest.MonkeyPatch) -> None:
    play = Play(Book(2), processes=2)
    play.full("p")
    play.full("q")
    play.say("p", play.ends("p", 0, "complete"))
    play.step()
    assert play.given("p") == [0], "there may be more for it in a moment"
    assert play.bridge.next("r") is None
    monkeypatch.setattr(ray_pack, "_IDLE_S", -1.0)
    play.step()
    assert play.given("p") == [0, "end"]
    assert not play.say("p", {"said": "over", "again": True}), "Tune may use the process again"
    assert set(play.bridge.processes) == {"q"}
    assert play.book.kinds == ["complete"]


def test_a_quarantined_place_gets_nothing_and_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    book = Book(4)
    play = Play(book, processes=2)
    sick = Place(host="h", gpu="7", node="n1")
    play.full("p")
    complaint = {sick: Complaint(words="2 errors of CUDA", ends=())}
    monkeypatch.setattr(Book, "quarantined", property(lambda book: complaint))
    assert play.start("q", "refused"), "it goes on holding its place"
    assert [(end.number, end.kind) for end in book.ends] == [(1, "stopped")]
    assert play.bridge.hear("q", {"said": "holding"})
    play.step()
    assert play.given("p") == [0], "its trials go on, but it gets no more"
    play.say("p", play.ends("p", 0, "complete"))
    play.step()
    assert play.given("p") == [0, "end"]
    play.say("p", {"said": "over", "again": True})
    assert not play.start("r"), "one that knew nothing of it is stopped"
    play.cluster.room = 1
    with pytest.raises(SetupError, match="no place is left for a trial: GPU 7 of host h"):
        play.look()
    complaint.clear()
    assert not play.bridge.hear("q", {"said": "holding"}), "the place is used again"


def test_what_is_late_is_refused() -> None:
    play = Play(Book(2))
    play.full("p")
    old = {**play.bridge.processes["p"].attempts[1].task.to_json(), "attempt": 0}
    play.say("p", {"said": "outcome", **outcome(old, "complete")}, {"said": "epoch", **epoch(old)})
    assert (play.book.ends, play.book.epochs) == ([], [])
    messages = [play.ends("p", 1, "complete")]
    play.bridge.fault("p", DIED)
    assert not play.say("p", *messages), "a process that was given up"
    assert play.book.kinds == ["killed", "killed"]


def test_one_that_does_not_answer_hangs_and_one_that_was_not_asked_does_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(ray_process, "_LATE_S", 1.0)
    play = Play(Book(2, hang_seconds=5.0))
    play.full("p")
    process = play.bridge.processes["p"]
    process.heard -= 100.0
    play.bridge._looked -= 100.0  # the driver itself did nothing for so long
    play.step()
    assert not process.killed_for
    process.heard -= 7.0
    process.attempts[1].heard -= 7.0
    play.look()
    assert process.killed_for == "no progress for 7 s, its process does not answer"
    process.logs = tmp_path
    process.stack.write_text("File x.py")
    play.bridge.fault("p", DIED)
    assert [(end.number, end.kind) for end in play.book.ends] == [(1, "hang"), (0, "lost")]
    assert play.book.ends[0].reason == f"{process.killed_for}; stack in {process.stack}"


def test_room_is_asked_for_processes() -> None:
    play = Play(Book(9), processes=2)
    play.full("p")
    play.book.left = 6
    play.look()
    assert play.demand.asked[-1] == 3, "one under way, and six more"
    play.book.stopping = True
    play.look()
    assert play.demand.asked[-1] == 0


def test_stopping_ends_what_waits_for_a_place() -> None:
    play = Play(Book(2), processes=2)
    play.full("p")
    assert play.bridge.next("q") is not None
    play.book.stopping = True
    play.step()
    assert play.stopped == ["q"]
    assert not play.bridge.hear("q", {"said": "began", "node": "n1", "host": "h", "pid": 1, "gpu": ""})
    assert [(end.number, end.kind, end.reason) for end in play.book.ends] == [(1, "stopped", "not begun")]
    play.say("p", play.ends("p", 0, "stopped"))
    play.step()
    assert play.given("p") == [0, "end"]


@pytest.mark.parametrize(("trials", "pack", "processes"), [(0, 3, 0), (1, 3, 1), (3, 3, 1), (4, 3, 2), (7, 1, 7)])
def test_how_many_processes_trials_need(trials: int, pack: int, processes: int) -> None:
    assert processes_for(trials, pack) == processes


def test_an_attempt_that_waits_for_the_driver_does_not_hang() -> None:
    """Training goes on a little while an epoch is told, and then waits as well."""
    (task,) = Book(1).waiting
    pulse = Pulse(task, resting=True)
    pulse.go_on()
    pulse.beat -= 100.0
    assert pulse.silent() == 0
    pulse.resting = False
    assert pulse.silent() >= 100
    pulse.given_up = True
    with pytest.raises(StateError, match="attempt 1 was given up"):
        pulse.go_on()
