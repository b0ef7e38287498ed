"""What runs inside Ray's workers: the channel of one attempt, or of making ready, and the process around it."""

import logging
import os
import socket
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import ray
from ray import tune

from icd.errors import SetupError
from icd.search.core import messages
from icd.search.core.attempts import Attempt, Location
from icd.search.executors.ray.control import ControlLink
from icd.worker.gpus import VISIBLE
from icd.worker.main import AttemptFunction, prepare, run_attempt
from icd.worker.preemption import heed, heed_sigterm

logger = logging.getLogger(__name__)

FENCE_EVERY_S = 2.0  # how often a worker asks for orders, among them that its attempt was given up
PREPARE = "prepare"  # the name under which a worker that makes ready asks


class HeedsSigterm:
    """A part of Tune's trainable: Ray's own handler would end the process at once."""

    def setup(self, config: Mapping[str, object]) -> None:
        """Called by the main thread, which alone may set handlers."""
        heed_sigterm()
        super().setup(config)  # type: ignore[misc]


class RayChannel:
    """The channel of one attempt: Tune carries beginning, epochs and end, and everything else goes by the control.

    Where the driver stops a trial of Tune's, what was told to Tune does not return.
    """

    def __init__(self, control: str, name: str) -> None:
        self.location = Location(
            host=socket.gethostname(), gpu=see_given_gpus(), node=ray.get_runtime_context().get_node_id()
        )
        self._control = ControlLink(control, name)
        self._over, self._heeding, self._stopping = threading.Event(), True, False
        threading.Thread(target=self._heed, daemon=True).start()

    def __enter__(self) -> "RayChannel":
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()

    def send(self, message: messages.Up) -> None:
        """Tell the driver.

        Raises:
            RuntimeError: If the process is not used again, so that Tune ends it.
        """
        if isinstance(message, messages.Started):
            self._tell(message)
            while self._control.order() is messages.Order.HOLD:
                time.sleep(FENCE_EVERY_S)
                self._tell(message)
        elif isinstance(message, messages.Finished):
            self._tell(message)
            raise RuntimeError(f"this process is not used again: {message.result.spent or message.result.reason}")
        else:
            self._control.say(message, wait=not isinstance(message, messages.Heartbeat))

    def report(self, epoch: messages.EpochDone) -> bool:
        self._tell(epoch)
        return True

    def tell_control(self, message: messages.Up) -> None:
        """Tell the driver without Tune, and wait until it can be heard."""
        self._control.say(message, wait=True)

    def stop_asked(self) -> bool:
        return self._stopping

    def _tell(self, message: messages.Up) -> None:
        self._heeding = False  # from now on the driver may have no order for this attempt, for it has ended
        tune.report({"message": message})
        self._heeding = True

    def _heed(self) -> None:
        while not self._over.wait(FENCE_EVERY_S):
            order = self._control.order()
            if isinstance(order, messages.Preempt):
                heed(order)
            elif order is messages.Order.STOP:
                self._stopping = True
            elif order is messages.Order.SHUTDOWN and self._heeding and not self._over.is_set():
                logger.warning("this attempt was given up")
                os._exit(1)


def run_in_tune(control: str, attempt: Attempt, run: AttemptFunction | None) -> None:
    """Run an attempt in a process of Tune's."""
    with suppress(OSError, SetupError):  # a disk that is full is found again, where that has an answer
        keep_log(attempt.here().context.folder / "logs")
    with RayChannel(control, attempt.name) as channel:
        run_attempt(attempt, channel, run)


class Preparer:
    """An actor that makes ready."""

    def prepare(self, control: str, message: messages.Prepare) -> messages.Prepared | messages.Refused:
        with RayChannel(control, PREPARE) as channel:
            channel.tell_control(messages.Started(channel.location, os.getpid()))
            return prepare(message, channel)


def see_given_gpus() -> str:
    """Let this process see the GPUs that Ray gave it, and no others where that is none; gives their names.

    Ray leaves ``CUDA_VISIBLE_DEVICES`` alone where it gives none, and torch would take a GPU that others have.
    """
    gpu = ",".join(str(index) for index in ray.get_gpu_ids())
    if not gpu:
        os.environ[VISIBLE] = ""
    return gpu


def keep_log(folder: Path) -> None:
    """Send warnings to a file of the sweep: Ray's own logs go with its session."""
    logs, path = logging.getLogger("icd"), folder / f"ray-{socket.gethostname()}-{os.getpid()}.log"
    if any(isinstance(handler, logging.FileHandler) for handler in logs.handlers):
        return
    folder.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(path, delay=True)
    handler.setLevel(logging.WARNING)
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s: %(message)s"))
    logs.addHandler(handler)
