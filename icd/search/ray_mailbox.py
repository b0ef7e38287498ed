"""From the driver to a worker that is at work: Tune has no way for that, so letters lie in an actor until taken.

What a driver has to say is kept by the driver until the worker says that it has read it, and is put there again and
again until then. So nothing is lost where the actor is killed and started afresh, or an answer does not arrive, and
every letter has a number by which a worker knows what it has read.

The actor ends with its driver, and no worker goes on without it.
"""

import asyncio
import contextlib
import itertools
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import ray
from ray.exceptions import ActorDiedError, GetTimeoutError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from icd.errors import SetupError

logger = logging.getLogger(__name__)

_WAIT_S = 5.0  # how long a worker's question waits for a letter
_ANSWER_S = 15.0  # without an answer for so long it asks again
_AGAIN_S = 2.0  # how often unread letters are put there again
_GONE_S = 5.0  # how long the actor may seem to be gone for good
_READERS = 10_000

Letter = tuple[int, Mapping[str, Any]]


class Mailbox:
    """The actor."""

    def __init__(self) -> None:
        self._boxes: dict[str, list[Letter]] = {}
        self._news: dict[str, asyncio.Event] = {}

    async def put(self, reader: str, letters: list[Letter]) -> None:
        """Take all that a reader has not read yet."""
        self._boxes[reader] = letters
        self._event(reader).set()

    async def take(self, reader: str, read: int) -> list[Letter]:
        """Give the letters after the one with that number; waits a while for the first."""
        deadline = time.monotonic() + _WAIT_S
        while not (found := [letter for letter in self._boxes.get(reader, ()) if letter[0] > read]):
            event = self._event(reader)
            event.clear()
            try:
                await asyncio.wait_for(event.wait(), deadline - time.monotonic())
            except TimeoutError:
                return []
        return found

    async def forget(self, reader: str) -> None:
        """Take no more notice of a reader."""
        self._boxes.pop(reader, None)
        self._news.pop(reader, None)

    def _event(self, reader: str) -> asyncio.Event:
        return self._news.setdefault(reader, asyncio.Event())


@dataclass(slots=True)
class _Unread:
    letters: list[Letter] = field(default_factory=list)
    numbers: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))
    put: float = 0.0


class Post:
    """The driver's side: starts the actor on this node, and keeps what was not read yet."""

    def __init__(self) -> None:
        self.name = f"icd-{uuid4().hex}"
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        remote: Any = ray.remote(Mailbox)
        self._actor = remote.options(
            name=self.name, num_cpus=0, max_restarts=-1, max_concurrency=_READERS, scheduling_strategy=here
        ).remote()
        self._unread: dict[str, _Unread] = {}
        self._last: Any = None

    def send(self, reader: str, command: Mapping[str, Any]) -> None:
        """Send a command; it arrives once, after those before it."""
        unread = self._unread.setdefault(reader, _Unread())
        unread.letters.append((next(unread.numbers), command))
        self._put(reader, unread)

    def has_read(self, reader: str, number: int) -> None:
        """Take note of what a reader has read, up to that number."""
        unread = self._unread.get(reader)
        if unread is not None:
            unread.letters = [letter for letter in unread.letters if letter[0] > number]

    def forget(self, reader: str) -> None:
        """Take no more notice of a reader."""
        if self._unread.pop(reader, None) is not None:
            self._actor.forget.remote(reader)

    def repeat(self) -> None:
        """Put there again what has not been read for a while.

        Raises:
            SetupError: If somebody has ended the actor for good.
        """
        if self._last is not None and ray.wait([self._last], timeout=0)[0]:
            last, self._last = self._last, None
            try:
                ray.get(last)
            except ActorDiedError as error:
                raise SetupError(
                    "the sweep's mailbox on the Ray cluster was ended; 'icd resume' makes another"
                ) from error
            except RayError as error:  # it is being started again
                logger.warning("the mailbox of the sweep does not answer: %s", type(error).__name__)
        now = time.monotonic()
        for reader, unread in self._unread.items():
            if unread.letters and now - unread.put > _AGAIN_S:
                self._put(reader, unread)

    def _put(self, reader: str, unread: _Unread) -> None:
        unread.put = time.monotonic()
        self._last = self._actor.put.remote(reader, list(unread.letters))

    def close(self) -> None:
        """End the actor."""
        with contextlib.suppress(RayError):
            ray.kill(self._actor)


class Reader:
    """A worker's side: reads on a thread of its own; ends this process where there is no driver any more.

    Args:
        mailbox: Its name.
        name: Of this reader.
        obey: Called with every command, in their order.
    """

    def __init__(self, mailbox: str, name: str, obey: Callable[[Mapping[str, Any]], None]) -> None:
        self._mailbox, self._name, self._obey = ray.get_actor(mailbox), name, obey
        self.read, self.closed = 0, False
        threading.Thread(target=self._serve, name="reader", daemon=True).start()

    def _serve(self) -> None:
        letters: list[Letter]
        try:
            answered = time.monotonic()
            while not self.closed:
                try:
                    letters = ray.get(self._mailbox.take.remote(self._name, self.read), timeout=_ANSWER_S)
                except ActorDiedError:
                    if time.monotonic() - answered > _GONE_S:
                        logger.warning("the driver of this sweep is gone")
                        os._exit(1)
                    time.sleep(1.0)
                    continue
                except (GetTimeoutError, RayError):  # cut off, or it is being started again
                    time.sleep(1.0)
                    continue
                answered = time.monotonic()
                self._obey_new(letters)
        except BaseException:  # a bug; the driver must see it at once
            logger.exception("the reader of the driver's letters ended")
            os._exit(70)

    def _obey_new(self, letters: list[Letter]) -> None:
        for number, command in letters:
            if number > self.read and not self.closed:
                self._obey(command)
                self.read = number
