"""A worker process: reads commands from one pipe, writes what happens to another, one JSON object a line.

The driver says ``prepare``, ``stop``, ``attempt`` (with a task) and ``answer`` (to its epoch). The
worker says ``ready``; of a preparation ``line``, ``prepared`` or ``refused``; of each attempt ``alive``, ``epoch`` and
``outcome``.

Its driver's death closes the command pipe, and the process ends at once: nothing goes on unseen.
"""

import faulthandler
import json
import logging
import os
import queue
import signal
import sys
import threading
import time
from dataclasses import asdict, replace
from typing import Any, BinaryIO, Protocol

from icd.errors import ConfigError, IcdError
from icd.worker.preemption import heed_sigterm

_ALIVE_EVERY_S = 1.0


class Line:
    """Both pipes to the driver."""

    def __init__(self, commands: BinaryIO, events: BinaryIO) -> None:
        self._commands, self._events = commands, events
        self._inbox: queue.Queue[dict[str, Any]] = queue.Queue()
        self._writing = threading.Lock()
        self._said = 0.0
        self.stop = False
        threading.Thread(target=self._listen, daemon=True).start()

    def say(self, said: str, **more: Any) -> None:
        """Tell the driver; any thread may."""
        line = json.dumps({"said": said, **more}).encode() + b"\n"
        try:
            with self._writing:
                self._events.write(line)
                self._events.flush()
        except OSError:
            os._exit(0)  # the driver is gone
        self._said = time.monotonic()

    def next(self) -> dict[str, Any]:
        """Wait for the driver's next command or answer."""
        return self._inbox.get()

    def alive(self, epoch: int, step: int, steps: int) -> None:
        """Tell the driver now and then that steps are being made."""
        if time.monotonic() - self._said > _ALIVE_EVERY_S:
            self.say("alive", epoch=epoch, step=step, steps=steps)

    def _listen(self) -> None:
        for line in self._commands:
            command = json.loads(line)
            if command["do"] == "stop":
                self.stop = True
            else:
                self._inbox.put(command)
        os._exit(0)


def serve(commands: BinaryIO, events: BinaryIO) -> None:
    """Do what the driver says until it closes the pipe."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver decides; a Ctrl-C reaches the whole terminal
    heed_sigterm()
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    line = Line(commands, events)
    # Imported here so that the listener already runs: a driver that dies meanwhile leaves nothing behind.
    import torch

    from icd.search.core.attempts import Attempt, EpochReport
    from icd.worker.run_trial import attempt
    from icd.worker.shared_inputs import SharedInputs

    inputs = SharedInputs()

    def send(epoch: EpochReport) -> bool:
        line.say("epoch", epoch=asdict(epoch))
        return bool(line.next()["go"])

    line.say("ready", pid=os.getpid())
    while True:
        command = line.next()
        if command["do"] == "prepare":
            serve_preparation(command["request"], line)
            torch.cuda.empty_cache()
        elif command["do"] == "attempt":
            outcome = attempt(Attempt(**command["task"]).here(), inputs, send, progress=line.alive)
            line.say("outcome", outcome=asdict(outcome))


class Teller(Protocol):
    """Carries what happens to the driver; ``stop`` is what the driver asks."""

    stop: bool

    def say(self, said: str, **more: Any) -> None: ...

    def alive(self, epoch: int, step: int, steps: int) -> None: ...


def serve_preparation(request: dict[str, Any], line: Teller) -> None:
    """Make ready and tell what came of it."""
    from icd.plugins import fault
    from icd.search.core.preparation import PreflightRequest
    from icd.worker.preflight import run_preflight

    def say(text: str) -> None:
        line.say("line", text=text)

    try:
        ready = run_preflight(PreflightRequest(**request), say, stop=lambda: line.stop, alive=line.alive)
        line.say("prepared", prepared=asdict(ready))
    except IcdError as error:
        paths, problems = [""], [str(error)]
        if isinstance(error, ConfigError):  # one with a path and no place gets its line from whoever read the file
            paths = ["" if problem.source else problem.path for problem in error.problems]
            found = zip(error.problems, paths, strict=True)
            problems = [str(replace(problem, path="") if path else problem) for problem, path in found]
        line.say("refused", code=error.code, exit_code=error.exit_code, problems=problems, paths=paths)
    except Exception as error:
        logging.getLogger(__name__).exception("prepare")
        told, code = fault(error), ("CONFIG", 2) if fault(error) else ("BUG", 70)
        problems = [told or f"{type(error).__name__}: {error}"]
        line.say("refused", code=code[0], exit_code=code[1], problems=problems, paths=[""])


def main() -> None:
    """Entry of ``python -m icd.worker.main READ_FD WRITE_FD``."""
    commands, events = (int(word) for word in sys.argv[1:3])
    form = "%(asctime)s %(threadName)s: %(name)s: %(message)s"
    logging.basicConfig(level=logging.INFO, format=form, stream=sys.stderr)
    serve(os.fdopen(commands, "rb"), os.fdopen(events, "wb"))


if __name__ == "__main__":
    main()
