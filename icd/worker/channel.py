"""How a worker hears from its driver and answers: the protocol, and the pipe of a process on the driver's machine."""

import os
import queue
import socket
import threading
from multiprocessing.connection import Connection
from typing import Protocol

from icd.search.core.location import Location
from icd.search.core.messages import Continue, Down, EpochDone, Preempt, Stop, Up
from icd.worker.gpus import VISIBLE
from icd.worker.preemption import heed


class Channel(Protocol):
    """A way to the driver and back.

    Attributes:
        location: Where this process is.
    """

    location: Location

    def receive(self) -> Down:
        """Wait for the next thing to do; ``Shutdown`` where nothing follows."""
        ...

    def send(self, message: Up) -> None:
        """Tell the driver; any thread may."""
        ...

    def report(self, epoch: EpochDone) -> bool:
        """Tell an epoch, and wait for whether to go on."""
        ...

    def stop_asked(self) -> bool:
        """Whether the driver said ``Stop``, without waiting."""
        ...


class PipeChannel:
    """A pipe to the driver, whose death closes it; the process ends at once then: nothing goes on unseen."""

    def __init__(self, connection: Connection) -> None:
        self.location = Location(host=socket.gethostname(), gpu=os.environ.get(VISIBLE, ""))
        self._connection, self._sending = connection, threading.Lock()
        self._inbox: queue.Queue[Down] = queue.Queue()
        self._stopping = False
        threading.Thread(target=self._listen, daemon=True).start()

    def receive(self) -> Down:
        """Wait for the next thing to do."""
        return self._inbox.get()

    def send(self, message: Up) -> None:
        """Tell the driver."""
        try:
            with self._sending:
                self._connection.send(message)
        except OSError:
            os._exit(0)

    def report(self, epoch: EpochDone) -> bool:
        """Tell an epoch, and wait for whether to go on."""
        self.send(epoch)
        return isinstance(self.receive(), Continue)

    def stop_asked(self) -> bool:
        """Whether the driver said ``Stop`` while nothing was asked of it."""
        while not self._inbox.empty():
            self._stopping |= isinstance(self._inbox.get(), Stop)
        return self._stopping

    def _listen(self) -> None:
        while True:
            try:
                message: Down = self._connection.recv()
            except (EOFError, OSError):
                os._exit(0)
            if isinstance(message, Preempt):
                heed(message)
            else:
                self._inbox.put(message)
