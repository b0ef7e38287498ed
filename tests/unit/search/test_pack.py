"""Attempts side by side in one worker process, with attempts that do as they are told."""

import os
import queue
import threading
from collections.abc import Callable
from typing import Any

from icd.search.bench import Bench
from icd.search.pack import Pack
from icd.search.task import Epoch, Outcome, Task
from tests.crash.forks import forked


def task(number: int) -> Task:
    return Task(number=number, attempt=1, config={}, sweep="/none", root="/none")


def obedient(threads: dict[int, int], benches: set[int]) -> Callable[..., Outcome]:
    """An attempt of one epoch, which completes if it may go on."""

    def attempt(task: Task, bench: Bench, send: Callable[[Epoch], bool], *, progress: Any) -> Outcome:
        threads[task.number] = threading.get_ident()
        benches.add(id(bench))
        progress(1, 1, 2)
        progress(1, 2, 2)  # told at most once a second
        go = send(Epoch(number=task.number, attempt=1, epoch=1, metrics={}))
        return Outcome(number=task.number, attempt=1, kind="complete" if go else "stopped")

    return attempt


def test_answers_threads_and_the_bench() -> None:
    said: queue.Queue[dict[str, Any]] = queue.Queue()
    threads: dict[int, int] = {}
    benches: set[int] = set()
    pack = Pack(obedient(threads, benches), lambda what, **more: said.put({"said": what, **more}))

    def hear(what: str, count: int) -> list[dict[str, Any]]:
        heard: list[dict[str, Any]] = []
        while sum(message["said"] == what for message in heard) < count:
            heard.append(said.get(timeout=30))
        return heard

    for number in (0, 1, 2):
        pack.begin(task(number))
    heard = hear("epoch", 3)
    steps = [message for message in heard if message["said"] == "alive"]
    assert sorted(message["number"] for message in steps) == [0, 1, 2], "each tells its own steps, and not all of them"
    pack.answer(1, False)
    (ended,) = hear("outcome", 1)
    assert (ended["outcome"]["number"], ended["outcome"]["kind"]) == (1, "stopped")
    pack.begin(task(3))
    hear("epoch", 1)
    for number in (3, 0, 2):
        pack.answer(number, True)
        (ended,) = hear("outcome", 1)
        assert (ended["outcome"]["number"], ended["outcome"]["kind"]) == (number, "complete")
    assert len(set(threads.values())) == 3, "a seat that is free is taken again"
    assert threads[3] == threads[1]
    assert len(benches) == 1


def test_a_thread_that_breaks_takes_its_process_with_it() -> None:
    def broken(*arguments: Any, **keywords: Any) -> Outcome:
        raise SystemExit

    def work() -> int:
        Pack(broken, lambda what, **more: None).begin(task(0))
        threading.Event().wait(30)
        return 0

    assert os.waitstatus_to_exitcode(os.waitpid(forked(work), 0)[1]) == 70
