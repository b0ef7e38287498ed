"""Keeps epochs off the training thread: a checkpoint is written, and told of, while the next epoch is under way."""

import threading
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor


class BackgroundWriter:
    """Does one piece of work at a time on a thread of its own, in the order given.

    What a piece raises (a full disk, or a caller that wants no more epochs) comes out of the next call here, and before
    any error of the training itself: an epoch that was handed over is told, whatever happened after it.
    """

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def __enter__(self) -> "BackgroundWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self.join()

    def submit(self, work: Callable[[], None]) -> None:
        """Begin a piece of work, once the one before is done."""
        self.join()
        name = f"{threading.current_thread().name} writer"
        # A daemon: a process that has to go does not wait for a driver's answer.
        self._thread = threading.Thread(target=self._do, args=(work,), name=name, daemon=True)
        self._thread.start()

    @property
    def busy(self) -> bool:
        """Whether the work goes on; where it has ended, ``join`` costs nothing."""
        return self._thread is not None and self._thread.is_alive()

    def join(self) -> None:
        """Wait for the end of the work, and raise what went wrong."""
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join()
        error, self._error = self._error, None
        try:
            if error is not None:
                raise error
        finally:
            del error  # its traceback holds this frame: each would keep the other, and the training's tensors with it

    def _do(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:  # SystemExit too: that is how Ray Tune ends a trial
            self._error = error


def snapshot(state: Any) -> Any:
    """Copy every tensor of nested mappings and sequences to memory of its own, on the CPU."""
    if isinstance(state, Tensor):
        return state.detach().to("cpu", copy=True, memory_format=torch.preserve_format)
    if isinstance(state, Mapping):
        return {name: snapshot(value) for name, value in state.items()}
    if isinstance(state, list | tuple):
        return type(state)(snapshot(value) for value in state)
    return state
