"""What a driver and its workers on Ray say to each other between epochs: files in the trial's folder, or objects.

That an attempt has to go, where it is in its epoch, and where one hung. A worker writes a file every second. Where the
root is a bucket its driver may not see that, so in an epoch that takes long the worker also writes an object now and
then, and the driver reads it where it has heard nothing else.
"""

import contextlib
import json
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from icd.errors import SetupError
from icd.search.core.attempts import Attempt, AttemptClaim, issued
from icd.storage.bucket import Bucket

AT_A_TIME = 4  # objects that a driver reads side by side
_EVERY_S = 10.0
_STACK_S = 5.0  # how long a bucket may be away before a stack is not published


def stack_path(task: Attempt) -> Path:
    """Where a worker that hangs writes its stack."""
    return task.folder / f"stack-{task.attempt}.txt"


def progress_path(task: Attempt) -> Path:
    """Where a worker says which step it is at."""
    return task.folder / "progress.json"


def forget_files(task: Attempt) -> None:
    """Remove what killed attempts left: where they were, and stacks that were never written."""
    for path in task.folder.glob("stack-*.txt"):
        with contextlib.suppress(OSError):
            if path.stat().st_size == 0:
                path.unlink()
    progress_path(task).unlink(missing_ok=True)


def give_notice(task: Attempt, notice: AttemptClaim) -> None:
    """Say that an attempt has to go, beside its number, where its worker looks anyway; not where another has the trial.

    Raises:
        SetupError: If the bucket is away.
        OSError: If the folder cannot be written.
    """
    bucket = Bucket(task.bucket, patience_s=0) if task.bucket else None
    if issued(task, bucket).attempt != task.attempt:
        return
    if bucket is None:
        from icd.training.checkpoints import write_durably  # workers that only look need no torch yet

        write_durably(task.folder / "attempt", notice.to_bytes())
    else:
        bucket.write(f"{task.prefix}/attempt", notice.to_bytes())


def every(task: Attempt) -> float:
    """Seconds of silence after which a worker says through the bucket where it is; well before it would seem stuck."""
    return min(_EVERY_S, 0.25 * task.hang_seconds)


def publish_progress(task: Attempt, where: Mapping[str, int]) -> None:
    """Say through the bucket where an attempt is; one that is away is told later."""
    with contextlib.suppress(SetupError):
        Bucket(task.bucket, patience_s=0).write(_progress_name(task), json.dumps(dict(where)).encode())


def publish_stack(task: Attempt) -> None:
    """Put an attempt's stack into the bucket, if that answers."""
    with contextlib.suppress(SetupError, OSError):
        Bucket(task.bucket, patience_s=_STACK_S).upload(_stack_name(task), stack_path(task))


def find_stack(task: Attempt) -> str:
    """Say where the stack of an attempt that hung is; empty where there is none."""
    with contextlib.suppress(SetupError):
        if task.bucket and Bucket(task.bucket, patience_s=0).read(_stack_name(task)):
            return f"{_stack_name(task)} of {task.bucket}"
    with contextlib.suppress(OSError):
        if stack_path(task).stat().st_size > 0:
            return str(stack_path(task))
    return ""


@dataclass(slots=True)
class Lookout:
    """Reads where one attempt is, without waiting for a bucket.

    Attributes:
        task: The attempt.
        pool: Whose threads read objects.
    """

    task: Attempt
    pool: ThreadPoolExecutor
    _answer: Future[bytes | None] | None = None
    _asked: float = float("-inf")

    def where(self, silent: float) -> Mapping[str, int]:
        """Give epoch, step and steps as they were last said; empty where nothing new is known.

        Args:
            silent: Seconds since anything was heard of the attempt.

        Raises:
            SetupError: If the bucket was asked and is away: the attempt may have said something.
        """
        with contextlib.suppress(OSError):
            return self._own(progress_path(self.task).read_bytes())
        if self._answer is not None and self._answer.done():
            answer, self._answer = self._answer, None
            return self._own(answer.result() or b"")
        pause = every(self.task)
        if self.task.bucket and self._answer is None and min(silent, time.monotonic() - self._asked) >= pause:
            self._asked = time.monotonic()
            self._answer = self.pool.submit(Bucket(self.task.bucket, patience_s=0).read, _progress_name(self.task))
        return {}

    def _own(self, content: bytes) -> Mapping[str, int]:
        """Read what this attempt said, and no other."""
        with contextlib.suppress(ValueError, KeyError):
            said = json.loads(content)
            if said.pop("attempt") == self.task.attempt:
                return dict(said)
        return {}


def _progress_name(task: Attempt) -> str:
    return f"{task.prefix}/progress.json"


def _stack_name(task: Attempt) -> str:
    return f"{task.prefix}/stack-{task.attempt}.txt"
