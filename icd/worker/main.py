"""A worker: does what its driver says over a channel, one thing after another (``search/core/messages.py``)."""

import logging
import os
import queue
import signal
import socket
import sys
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Protocol

from icd.errors import ConfigError, IcdError, SetupError
from icd.plugins import fault
from icd.search.core import messages
from icd.search.core.attempts import DISK, Attempt, AttemptResult, EpochReport, Location, ended
from icd.worker.gpus import VISIBLE
from icd.worker.preemption import heed, heed_sigterm
from icd.worker.watchdog import Watchdog

# As ``icd.worker.run_trial.train_attempt``.
AttemptFunction = Callable[..., AttemptResult]

logger = logging.getLogger(__name__)

_SHARED: list[object] = []  # what this process keeps for its attempts: ``SharedInputs``, once it has trained


class Channel(Protocol):
    """A way to the driver and back."""

    location: Location  # where this process is

    def send(self, message: messages.Up) -> None:
        """Tell the driver; any thread may."""
        ...

    def report(self, epoch: messages.EpochDone) -> bool:
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
        self._inbox: queue.Queue[messages.Down] = queue.Queue()
        self._stopping = False
        threading.Thread(target=self._listen, daemon=True).start()

    def receive(self) -> messages.Down:
        """Wait for the next thing to do."""
        return self._inbox.get()

    def send(self, message: messages.Up) -> None:
        try:
            with self._sending:
                self._connection.send(message)
        except OSError:
            os._exit(0)

    def report(self, epoch: messages.EpochDone) -> bool:
        self.send(epoch)
        return self.receive() is messages.Order.CONTINUE

    def stop_asked(self) -> bool:
        while not self._inbox.empty():
            self._stopping |= self._inbox.get() is messages.Order.STOP
        return self._stopping

    def _listen(self) -> None:
        while True:
            try:
                message: messages.Down = self._connection.recv()
            except (EOFError, OSError):
                os._exit(0)
            if isinstance(message, messages.Preempt):
                heed(message)
            else:
                self._inbox.put(message)


def run_attempt(attempt: Attempt, channel: Channel, run: AttemptFunction | None = None) -> None:
    """Run an attempt with this machine's folders, and tell how it goes and ends."""
    channel.send(messages.Started(channel.location, os.getpid()))
    try:
        attempt = attempt.here()
        with Watchdog(attempt, channel.send) as watchdog:

            def send(report: EpochReport) -> bool:
                with watchdog.paused():
                    return channel.report(messages.EpochDone(report, last=report.epoch == attempt.epochs))

            result = (run or _training())(attempt, _inputs(run), send, progress=watchdog.step)
    except (OSError, SetupError) as error:  # its folder, or the watchdog's file in it, cannot be made
        if isinstance(error, OSError) and error.errno not in DISK:
            raise
        result = ended(attempt, "disk", " ".join(str(error).split()))
    if result.unclean:
        _SHARED.clear()
    channel.send(messages.Finished(result))


def _training() -> AttemptFunction:
    """Give what trains, which takes seconds to import."""
    from icd.worker import run_trial

    return run_trial.train_attempt


def _inputs(run: AttemptFunction | None) -> object:
    """Give what this process keeps for its trials; stand-ins for training need nothing of it."""
    if run is None and not _SHARED:
        from icd.worker.shared_inputs import SharedInputs

        _SHARED.append(SharedInputs())
    return _SHARED[0] if _SHARED else None


def prepare(message: messages.Prepare, channel: Channel) -> messages.Prepared | messages.Refused:
    """Make ready, and give what came of it."""
    from icd.worker.preflight import run_preflight

    try:
        return messages.Prepared(
            run_preflight(message.request, lambda text: channel.send(messages.Line(text)), channel.stop_asked)
        )
    except IcdError as error:
        return messages.Refused(error)
    except Exception as error:
        from icd.worker.run_trial import machine_fault

        logger.exception("prepare")
        if lacking := machine_fault(error, message.request.root):
            return messages.Refused(SetupError(f"while preparing: {lacking[1]}"))
        told = fault(error)
        return messages.Refused(ConfigError(told) if told else IcdError(f"{type(error).__name__}: {error}"))


def main() -> None:
    """Entry of ``python -m icd.worker.main FD``: the worker's end of a pipe."""
    form = "%(asctime)s %(threadName)s: %(name)s: %(message)s"
    logging.basicConfig(level=logging.INFO, format=form, stream=sys.stderr)
    serve_pipe(Connection(int(sys.argv[1])))


def serve_pipe(connection: Connection, run: AttemptFunction | None = None) -> None:
    """Do what a driver on this machine says until it is gone; a Ctrl-C, which reaches the whole terminal, is its own.

    ``run`` stands for tests in place of ``icd.worker.run_trial.train_attempt``.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    heed_sigterm()
    channel = PipeChannel(connection)
    if run is None:
        _training()  # only now that the channel listens: a driver that dies meanwhile leaves nothing behind
    while True:
        message = channel.receive()
        if isinstance(message, messages.Prepare):
            channel.send(prepare(message, channel))
        elif isinstance(message, messages.Run):
            run_attempt(message.attempt, channel, run)


if __name__ == "__main__":
    main()
