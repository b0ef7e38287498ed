"""What runs inside Ray's workers where several trials share one: attempts that come and go while Tune sees one trial.

Up to the driver go Tune's results, each a list of what attempts said: ``epoch``, ``outcome`` and ``alive`` as in
``worker.py``, ``hang`` with a trial's number, ``leaving`` where the process has to go, ``over`` at its end and whether
it may be used again. Down come letters (``ray_mailbox.py``): ``attempt`` with a task, ``answer`` to a trial's epoch,
``notice`` that the node goes, and ``end``.
"""

import contextlib
import faulthandler
import logging
import os
import queue
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TextIO

from icd.errors import SetupError, StateError
from icd.search.company import UNCLEAN, ended
from icd.search.notice import NOTICE
from icd.search.ray_mailbox import Reader
from icd.search.ray_worker import FENCE_EVERY_S, KEPT, Attempt, begin, keep_log, tell
from icd.search.task import Epoch, Outcome, Task, issued

logger = logging.getLogger(__name__)

_TELL_EVERY_S = 1.0  # how often the driver is told which steps attempts are at
_LOOK_EVERY_S = 0.5
_LAST_WORDS_S = 10.0  # so long a process that hangs tries to say so
_STUCK_S = 10.0  # so long after an attempt should have been found to hang, nobody here can find it any more
_LOG_FORM = "%(asctime)s %(threadName)s: %(name)s: %(message)s"


def run_pack(mailbox: str, name: str, avoid: Sequence[Sequence[str]], attempt: Attempt | None) -> None:
    """Run attempts in a process of Tune's until the driver says that it gives no more.

    Args:
        mailbox: Where the driver's letters are.
        name: Of this reader there.
        avoid: Places that are quarantined, each a node and its GPUs.
        attempt: For tests, in place of ``icd.search.work.attempt``.
    """
    begin(avoid)
    if "members" not in KEPT:
        KEPT["members"] = Members(attempt)
    members: Members = KEPT["members"]
    reader, told = Reader(mailbox, name, members.obey), False
    try:
        while True:
            said = members.listen(_TELL_EVERY_S)
            if NOTICE.given and not told:
                said, told = [*said, {"said": "leaving"}], True
            if said:
                tell("pack", read=reader.read, messages=said)
            if any(map(_spoils, said)):
                os._exit(1)  # the others must not go on
            if any(message["said"] == "over" for message in said):
                raise RuntimeError(f"this process is not used again: {members.spent or NOTICE.reason}")
    finally:
        reader.closed = True


def _spoils(message: Mapping[str, Any]) -> bool:
    return message["said"] == "hang" or (message["said"] == "outcome" and message["outcome"]["kind"] in UNCLEAN)


@dataclass(slots=True)
class Pulse:
    """Whether an attempt gets on, and whether it is to."""

    task: Task
    beat: float = field(default_factory=time.monotonic)
    resting: bool = False  # it waits for the driver; steps alone do not end that, since training waits too
    given_up: bool = False  # a newer attempt has the trial

    def silent(self) -> float:
        return 0.0 if self.resting else time.monotonic() - self.beat

    def go_on(self) -> None:
        """Note a step.

        Raises:
            StateError: If the attempt was given up.
        """
        self.beat = time.monotonic()
        if self.given_up:
            raise StateError(f"attempt {self.task.attempt} was given up")


class Members:
    """The attempts of this process, and who watches over them."""

    def __init__(self, attempt: Attempt | None) -> None:
        from icd.search.pack import Pack

        if attempt is None:
            from icd.search import work

            attempt = work.attempt
        self._attempt: Attempt = attempt
        self._pack = Pack(self._watched, self._say)
        self._said: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._pulses: dict[int, Pulse] = {}
        self.spent = ""  # why this process is not used again, though its attempts were well
        self._stack: TextIO | None = None
        for watch in (self._watch_steps, self._watch_attempts):
            threading.Thread(target=watch, name=watch.__name__, daemon=True).start()

    def obey(self, command: Mapping[str, Any]) -> None:
        """Do what a letter of the driver says."""
        if command["do"] == "attempt":
            task = Task(**command["task"]).here()
            self._open_files(Path(task.sweep) / "logs")
            self._pulses[task.number] = Pulse(task)
            self._pack.begin(task)
        elif command["do"] == "answer":
            self._pack.answer(command["number"], command["go"])
        elif command["do"] == "notice":
            NOTICE.give(command["reason"], command["until"] - time.time() if command["until"] else float("inf"))
        elif command["do"] == "end":
            self._say("over", again=not (NOTICE.given or self.spent))

    def listen(self, seconds: float) -> list[dict[str, Any]]:
        """Wait for what attempts say: what needs an answer is given at once, the rest after so many seconds."""
        said: list[dict[str, Any]] = []
        deadline = time.monotonic() + seconds
        while True:
            try:
                said.append(self._said.get(timeout=max(0.0, deadline - time.monotonic())))
            except queue.Empty:
                return said
            if said[-1]["said"] != "alive":
                deadline = 0.0

    def _say(self, said: str, **more: Any) -> None:
        self._said.put({"said": said, **more})

    def _watched(
        self, task: Task, bench: Any, send: Callable[[Epoch], bool], *, progress: Callable[[int, int, int], None]
    ) -> Outcome:
        """Run an attempt, feeling its pulse."""
        pulse = self._pulses[task.number]

        def send_and_rest(epoch: Epoch) -> bool:
            pulse.resting = True
            go = send(epoch)
            pulse.go_on()
            pulse.resting = False
            return go

        def step(epoch: int, step: int, steps: int) -> None:
            pulse.go_on()
            progress(epoch, step, steps)

        outcome = ended(task, "lost", f"attempt {task.attempt} was given up")
        try:
            found = self._attempt(task, bench, send_and_rest, progress=step)
        except StateError:
            if not pulse.given_up:
                raise
        else:
            outcome = replace(outcome, device=found.device) if pulse.given_up else found
            self.spent = self.spent or found.spent
        del self._pulses[task.number]
        return outcome

    def _open_files(self, folder: Path) -> None:
        keep_log(folder, _LOG_FORM)
        path = stack_file(folder, socket.gethostname(), os.getpid())
        if self._stack is None or not path.exists():  # the driver removes empty ones
            self._stack = path.open("w")

    def _watch_steps(self) -> None:
        """End this process, after saying where every thread is, when an attempt made no step for too long."""
        while True:
            time.sleep(_LOOK_EVERY_S)
            pulses, stack = list(self._pulses.values()), self._stack
            if not pulses or stack is None:
                faulthandler.cancel_dump_traceback_later()
                continue
            # If no thread of Python gets on, this one neither.
            limit = min(pulse.task.hang_seconds for pulse in pulses) + _STUCK_S
            faulthandler.dump_traceback_later(limit, exit=True, file=stack)
            hung = [pulse.task for pulse in pulses if pulse.silent() > pulse.task.hang_seconds]
            if hung:
                faulthandler.dump_traceback(stack)
                reason = f"no progress for {hung[0].hang_seconds:.0f} s; stack in {stack.name}"
                self._say("hang", number=hung[0].number, reason=reason)
                time.sleep(_LAST_WORDS_S)
                os._exit(1)

    def _watch_attempts(self) -> None:
        """End attempts of trials that a newer attempt has, and with the last one this process.

        Ray soon kills the workers of a dead driver, but a node that was only cut off would train on.
        """
        while True:
            time.sleep(FENCE_EVERY_S)
            for pulse in list(self._pulses.values()):
                with contextlib.suppress(SetupError):  # a bucket that is away says nothing of newer attempts
                    pulse.given_up = issued(pulse.task).attempt != pulse.task.attempt
            pulses = list(self._pulses.values())
            if pulses and all(pulse.given_up for pulse in pulses):
                logger.warning("the attempts at trials %s were given up", [pulse.task.number for pulse in pulses])
                os._exit(1)


def stack_file(folder: Path, host: str, pid: int) -> Path:
    """Where a process that hangs writes its stacks."""
    return folder / f"stack-{host}-{pid}.txt"
