"""Work off the training thread: in order, one at a time, and nothing that goes wrong is lost."""

import gc
import threading
import time
import weakref
from collections.abc import Callable

import pytest
import torch

from icd.training.background_writer import BackgroundWriter, snapshot


def test_work_goes_on_beside_the_caller_in_order() -> None:
    gate, done = threading.Event(), list[int]()

    def wait_then_note() -> None:
        gate.wait(60)
        done.append(1)

    with BackgroundWriter() as writer:
        writer.submit(wait_then_note)
        assert writer.busy
        assert done == []
        gate.set()
        writer.submit(lambda: done.append(2))
        assert done[0] == 1
    assert done == [1, 2]


@pytest.mark.parametrize("error", [OSError("disk full"), SystemExit(0)])
@pytest.mark.parametrize("call", ["join", "submit"])
def test_an_error_comes_out_at_the_next_call(error: BaseException, call: str) -> None:
    writer = BackgroundWriter()
    calls: dict[str, Callable[[], object]] = {
        "join": writer.join,
        "submit": lambda: writer.submit(lambda: None),
    }
    writer.submit(lambda: raising(error))
    until_done(writer)
    with pytest.raises(type(error)):
        calls[call]()
    writer.join()  # said once


class Held:
    """Stands for what a training holds: its student, its optimizer, a recorded graph."""


def test_a_training_that_ends_with_the_work_s_error_is_freed_at_once() -> None:
    """Not only when the garbage collector comes by: memory of a GPU cannot wait for that."""
    kept: list[weakref.ref[Held]] = []

    def stop() -> None:
        raise RuntimeError("the driver says stop")

    def training() -> None:
        student = Held()
        kept.append(weakref.ref(student))
        with BackgroundWriter() as writer:
            writer.submit(stop)
            writer.join()

    gc.collect()
    gc.disable()
    try:
        for _ in range(3):
            with pytest.raises(RuntimeError, match="stop") as caught:
                training()
            del caught
        assert [ref() for ref in kept] == [None] * 3
    finally:
        gc.enable()


def test_what_was_handed_over_is_told_before_the_training_s_own_error() -> None:
    def stop() -> None:
        time.sleep(0.05)
        raise SystemExit(0)

    with pytest.raises(SystemExit):
        train(stop)


def test_the_training_s_error_stays_where_the_work_was_well() -> None:
    done: list[int] = []
    with pytest.raises(ValueError, match="of the next epoch"):
        train(lambda: done.append(1))
    assert done == [1]


def train(work: Callable[[], None]) -> None:
    with BackgroundWriter() as writer:
        writer.submit(work)
        raise ValueError("of the next epoch")


def raising(error: BaseException) -> None:
    raise error


def until_done(writer: BackgroundWriter) -> None:
    deadline = time.monotonic() + 60
    while writer.busy and time.monotonic() < deadline:
        time.sleep(0.001)


def test_a_snapshot_does_not_change_with_the_original() -> None:
    weight = torch.ones(2, 3, 4, 4).to(memory_format=torch.channels_last).requires_grad_()
    state = {"a": weight, "nested": {"list": [weight, 3], "tuple": (None, weight)}}
    taken = snapshot(state)
    with torch.no_grad():
        weight.add_(1)
    for copy in (taken["a"], taken["nested"]["list"][0], taken["nested"]["tuple"][1]):
        assert torch.equal(copy, torch.ones(2, 3, 4, 4))
        assert copy.is_contiguous(memory_format=torch.channels_last)
        assert not copy.requires_grad
    assert taken["nested"]["list"][1] == 3
    assert taken["nested"]["tuple"][0] is None
