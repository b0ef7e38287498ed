"""The process executor with real processes that do as they are told."""

import contextlib
import os
import re
import signal
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from icd import machine
from icd.config.sweep import Resources
from icd.errors import SetupError
from icd.search.core.attempts import Attempt, AttemptResult, ended
from icd.search.core.messages import Line, Prepare, Prepared
from icd.search.core.preparation import PreflightRequest, PreflightResult
from icd.search.executors.local.executor import LocalExecutor, partition_devices
from tests.crash.forks import Fork, close_all_but, forked
from tests.workers import Act, Book, Progress, Send, Start, epoch_of, launch


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[..., LocalExecutor]]:
    made: list[LocalExecutor] = []

    def go(book: Book, act: Act, places: tuple[str, ...] = ("",), tick: Callable[[], None] = lambda: None) -> Any:
        executor = LocalExecutor(places, tmp_path / "logs", launch=launch(act))
        made.append(executor)
        executor.run(book, tick)
        return executor

    yield go
    for executor in made:
        executor.close()


@pytest.mark.parametrize(
    ("resources", "cpus", "gpus", "expected"),
    [
        ({}, 4, [], ["", "", "", ""]),
        ({"max_concurrent": 3}, 4, [], ["", "", ""]),
        ({"cpus_per_trial": 2}, 5, [], ["", ""]),
        ({"cpus_per_trial": 1.1}, 33, [], [""] * 30),
        ({}, 8, ["0", "1"], ["0", "1"]),
        ({"gpus_per_trial": 0.5}, 8, ["0", "1"], ["0", "1", "0", "1"]),
        ({"gpus_per_trial": 0.25}, 3, ["0", "1"], ["0", "1", "0"]),
        ({"gpus_per_trial": 0.1}, 99, ["0"], ["0"] * 10),
        ({"gpus_per_trial": 0}, 2, ["0"], ["", ""]),
    ],
)
def test_places(resources: dict[str, Any], cpus: int, gpus: list[str], expected: list[str]) -> None:
    assert partition_devices(Resources(**resources), cpus, gpus) == expected


@pytest.mark.parametrize(("resources", "cpus"), [({"gpus_per_trial": 1}, 4), ({"cpus_per_trial": 8}, 4)])
def test_no_place(resources: dict[str, Any], cpus: int) -> None:
    with pytest.raises(SetupError, match=f"no trial fits: it needs .* but this machine has {cpus} and 0"):
        partition_devices(Resources(**resources), cpus, [])


def test_trials_go_through_all_slots(run: Any, tmp_path: Path) -> None:
    def act(attempt: Attempt, send: Send, progress: Progress, gpu: str) -> AttemptResult:
        assert send(epoch_of(attempt, pid=os.getpid()))
        time.sleep(0.05)
        return ended(attempt, "complete")

    book = Book(tmp_path, 6)
    run(book, act, ("", ""))
    assert sorted(epoch.number for epoch in book.epochs) == list(range(6))
    assert book.kinds == ["complete"] * 6
    assert len({epoch.metrics["pid"] for epoch in book.epochs}) == 2, "workers are kept from trial to trial"


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        (lambda: os.kill(os.getpid(), signal.SIGKILL), "process killed (signal 9)"),
        (lambda: os.kill(os.getpid(), signal.SIGSEGV), "process killed (signal 11)"),
        (lambda: os._exit(3), "process exited with code 3"),
    ],
)
def test_a_worker_that_dies(run: Any, tmp_path: Path, how: Callable[[], None], reason: str) -> None:
    def act(attempt: Attempt, send: Send, progress: Progress, gpu: str) -> AttemptResult:
        if attempt.attempt == 1:
            how()
        return ended(attempt, "complete")

    book = Book(tmp_path, 2)
    run(book, act)
    assert book.kinds == ["killed", "killed", "complete", "complete"]
    assert book.ends[0].reason.startswith(f"{reason}; see ")
    assert book.ends[0].reason.endswith("worker-0.log")


def test_a_worker_that_dies_of_a_sigterm_was_preempted(run: Any, tmp_path: Path) -> None:
    def act(attempt: Attempt, send: Send, progress: Progress, gpu: str) -> AttemptResult:
        if attempt.attempt == 1:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)  # as before it can heed the signal
            os.kill(os.getpid(), signal.SIGTERM)
        return ended(attempt, "complete")

    book = Book(tmp_path, 1)
    run(book, act)
    assert book.kinds == ["preempted", "complete"]
    assert book.faults.counts(0) == {}


@pytest.mark.parametrize("why", ["preempted", "spent"])
def test_a_worker_that_has_to_go_is_replaced(run: Any, tmp_path: Path, why: str) -> None:
    def act(attempt: Attempt, send: Send, progress: Progress, gpu: str) -> AttemptResult:
        send(epoch_of(attempt, pid=os.getpid()))
        last = (attempt.number, attempt.attempt) == (1, 1)
        result = ended(attempt, "preempted" if last and why == "preempted" else "complete")
        return replace(result, spent="a CUDA graph could not be recorded") if last and why == "spent" else result

    book = Book(tmp_path, 3 if why == "preempted" else 4)
    run(book, act)
    assert book.kinds == ["complete", "preempted" if why == "preempted" else "complete", "complete", "complete"]
    pids = [epoch.metrics["pid"] for epoch in book.epochs]
    assert pids[0] == pids[1] != pids[2] == pids[3]
    assert not Path(f"/proc/{int(pids[0])}").exists()


def test_a_trial_that_fell_is_tried_elsewhere_if_there_is_a_choice(run: Any, tmp_path: Path) -> None:
    def act(attempt: Attempt, send: Send, progress: Progress, gpu: str) -> AttemptResult:
        return ended(attempt, "gpu" if attempt.attempt == 1 else "complete", gpu)

    book = Book(tmp_path, 1)
    run(book, act, ("7", "1"))
    assert [(end.kind, end.location and end.location.gpu) for end in book.ends] == [("gpu", "7"), ("complete", "1")]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give a process less time to end by itself."""
    monkeypatch.setattr("icd.search.executors.local.worker_process.GRACE_S", 0.5)


def shut_all_sockets() -> None:
    """End every connection of this process; a thread that reads one keeps it open when it is only closed."""
    for file in list(Path("/proc/self/fd").iterdir()):
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(int(file.name))) as connection:
            connection.shutdown(socket.SHUT_RDWR)


def test_a_worker_that_closes_its_pipe_is_ended(run: Any, tmp_path: Path, impatient: None) -> None:
    def act(attempt: Attempt, send: Send, progress: Progress, gpu: str) -> AttemptResult:
        if attempt.attempt == 1:
            shut_all_sockets()
            signal.pause()
        return ended(attempt, "complete")

    book = Book(tmp_path, 1)
    executor = run(book, act)
    assert book.kinds == ["killed", "complete"]
    assert executor.workers[0].child is not None


def test_a_hanging_worker_leaves_its_stack(run: Any, tmp_path: Path) -> None:
    def act(attempt: Attempt, send: Send, progress: Progress, gpu: str) -> AttemptResult:
        if attempt.attempt == 1:
            time.sleep(1000)
        return ended(attempt, "complete")

    book = Book(tmp_path, 1, hang_seconds=0.5)
    run(book, act)
    assert book.kinds == ["hang", "complete"]
    stack = tmp_path / "trials" / "0000" / "stack-1.txt"
    assert book.ends[0].reason == f"no progress for 0 s; stack in {stack}"
    assert "test_local.py" in stack.read_text()


def test_a_frozen_worker_is_killed_and_its_trial_goes_on_elsewhere(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def tick() -> None:
        if book.epochs:  # it has begun
            monkeypatch.setattr("icd.search.executors.attempt_tracker.LATE_S", 0.2)

    def act(attempt: Attempt, send: Send, progress: Progress, gpu: str) -> AttemptResult:
        send(epoch_of(attempt, pid=os.getpid()))
        if attempt.attempt == 1:
            os.kill(os.getpid(), signal.SIGSTOP)
        return ended(attempt, "complete")

    book = Book(tmp_path, 1, hang_seconds=1.0)
    run(book, act, tick=tick)
    assert book.kinds == ["hang", "complete"]
    assert book.ends[0].reason.endswith("its process does not answer")
    pids = [int(epoch.metrics["pid"]) for epoch in book.epochs]
    assert not Path(f"/proc/{pids[0]}").exists()


def test_steps_keep_a_slow_trial_from_hanging(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HEARTBEAT_S", "_LOOK_S"):
        monkeypatch.setattr(f"icd.worker.watchdog.{name}", 0.1)

    def act(attempt: Attempt, send: Send, progress: Progress, gpu: str) -> AttemptResult:
        for step in range(20):
            progress(1, step, 20)
            time.sleep(0.1)
        return ended(attempt, "complete")

    book = Book(tmp_path, 1, hang_seconds=1.5)
    run(book, act)
    assert book.kinds == ["complete"]


def test_a_sick_gpu_is_left_alone(run: Any, tmp_path: Path) -> None:
    def act(attempt: Attempt, send: Send, progress: Progress, gpu: str) -> AttemptResult:
        if gpu == "7":
            (tmp_path / f"sick-{os.getpid()}").touch()
            return ended(attempt, "gpu", f"CUDA error {os.getpid()}")
        while len(list(tmp_path.glob("sick-*"))) < 3:
            time.sleep(0.01)
        return ended(attempt, "complete")

    book = Book(tmp_path, 8)
    run(book, act, ("7", "1"))
    assert book.kinds.count("gpu") == 3, "it takes three trials at most"
    assert book.kinds.count("complete") == 8
    assert len({end.reason for end in book.ends if end.kind == "gpu"}) == 3, "a fresh process after each"
    assert [place.gpu for place in book.quarantined] == ["7"]
    assert len(book.said) == 1
    assert book.said[0].startswith(
        f"GPU 7 of host {socket.gethostname()}: 3 trials failed there (gpu) and none has finished"
    )


def test_nothing_but_sick_gpus_ends_the_sweep(run: Any, tmp_path: Path) -> None:
    def act(attempt: Attempt, send: Send, progress: Progress, gpu: str) -> AttemptResult:
        return ended(attempt, "gpu", "CUDA error")

    with pytest.raises(SetupError, match=r"no location is left for a trial: GPU 0 of .*GPU 1 of .*icd resume"):
        run(Book(tmp_path, 8), act, ("0", "1"))


def test_errors_of_cuda_are_no_reason_to_leave_a_cpu(run: Any, tmp_path: Path) -> None:
    def act(attempt: Attempt, send: Send, progress: Progress, gpu: str) -> AttemptResult:
        return ended(attempt, "gpu" if attempt.attempt < 3 else "complete", "CUDA error")

    book = Book(tmp_path, 2)
    run(book, act)
    assert book.kinds.count("complete") == 2


def test_a_kill_for_memory_is_told_from_another(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events = tmp_path / "memory.events"
    events.write_text("low 0\noom 0\noom_kill 4\n")
    monkeypatch.setattr(machine, "_CGROUPS", tmp_path)  # the kernel's counter, which not every test may raise

    def act(attempt: Attempt, send: Send, progress: Progress, gpu: str) -> AttemptResult:
        if attempt.attempt == 1:
            events.write_text("low 0\noom 1\noom_kill 5\n")
        if attempt.attempt < 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return ended(attempt, "complete")

    book = Book(tmp_path, 1)
    run(book, act)
    assert book.kinds == ["memory", "killed", "complete"]
    said = re.match(r"killed for memory \(signal 9\); the largest worker has had (\d+\.\d\d) GB", book.ends[0].reason)
    assert said is not None
    assert float(said[1]) > 0.01, "a process with Python in it"


def test_closing_leaves_no_process(tmp_path: Path, impatient: None) -> None:
    def act(attempt: Attempt, send: Send, progress: Progress, gpu: str) -> AttemptResult:
        raise AssertionError("nothing was asked")

    executor = LocalExecutor(["", ""], tmp_path / "logs", launch=launch(act))
    executor.start()
    pids = [worker.child.pid for worker in executor.workers if worker.child]
    os.kill(pids[1], signal.SIGSTOP)
    executor.close()
    deadline = time.monotonic() + 60
    while any(worker.running for worker in executor.workers) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]


PREPARED = PreflightResult(data_digest="d", data="digits", num_classes=10, teachers={}, device="cpu")


def dying_preparers(book: Path, deaths: int) -> Start:
    """Start workers that die while they prepare, the first so many times."""

    def start(pipe: int, environment: Mapping[str, str], log: Path) -> Fork:
        def work() -> int:
            close_all_but({0, 1, 2, pipe})
            connection = Connection(pipe)
            assert isinstance(connection.recv(), Prepare)
            with book.open("a") as file:
                file.write("begun\n")
            if len(book.read_text().splitlines()) <= deaths:
                os.kill(os.getpid(), signal.SIGKILL)
            connection.send(Prepared(PREPARED))
            return 0

        return Fork(forked(work))

    return start


@pytest.mark.parametrize(("deaths", "ready"), [(0, True), (2, True), (3, False)])
def test_preparing_begins_again_where_its_worker_dies(tmp_path: Path, deaths: int, ready: bool) -> None:
    said: list[str] = []
    executor = LocalExecutor([""], tmp_path / "logs", launch=dying_preparers(tmp_path / "book", deaths))
    request = PreflightRequest(configs=[], root=str(tmp_path))
    try:
        if ready:
            assert executor.prepare(request, said.append, lambda: False).data == "digits"
        else:
            with pytest.raises(SetupError, match=r"died while preparing \(process killed \(signal 9\)\)"):
                executor.prepare(request, said.append, lambda: False)
    finally:
        executor.close()
    again = [line for line in said if "; retry " in line]
    assert len(again) == min(deaths, 2)
    assert all("the worker died while preparing (process killed (signal 9)); see " in line for line in again)
    assert len((tmp_path / "book").read_text().splitlines()) == min(deaths, 2) + 1


def test_an_idle_worker_that_dies_while_another_prepares_is_let_go(tmp_path: Path) -> None:
    noticed = tmp_path / "noticed"

    def start(pipe: int, environment: Mapping[str, str], log: Path) -> Fork:
        def work() -> int:
            close_all_but({0, 1, 2, pipe})
            connection = Connection(pipe)
            while log.name == "worker-0.log" and not noticed.exists():
                connection.send(Line("x"))
                time.sleep(0.02)
            if log.name == "worker-0.log":
                connection.send(Prepared(PREPARED))
            return 0

        return Fork(forked(work))

    def say(line: str) -> None:
        if executor.workers[1].pipe is None:
            noticed.touch()

    executor = LocalExecutor(["", ""], tmp_path / "logs", launch=start)
    try:
        assert executor.prepare(PreflightRequest(configs=[], root=str(tmp_path)), say, lambda: False) == PREPARED
    finally:
        executor.close()
