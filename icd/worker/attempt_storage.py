"""A worker's working copy of a trial, where the root is a bucket; with a folder as root there is nothing to do.

    sweeps/NAME/trials/NNNN/attempt    the newest attempt; the driver writes it
    sweeps/NAME/trials/NNNN/aK/...     what attempt K has published: the trial's files, those of a run below its name
    sweeps/NAME/trials/NNNN/aK/begun   written once it has published all that it took over

Every attempt works in a folder of its own and publishes below a name of its own, so whatever a worker that was cut off
still sends cannot replace, or be taken for, what a newer attempt has. An attempt begins by taking over what the newest
attempt before it had published, whole; from ``begun`` on nobody reads the older ones.
"""

import re
import shutil
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from icd.errors import CheckpointError
from icd.search.core.attempts import BEGUN, Attempt, newest_attempt, newest_begun
from icd.storage.bucket import Bucket, Stored
from icd.storage.durable import place
from icd.training import STUDENT

_SLOTS = 2  # checkpoints that are kept, each in its turn under one of as many names
_CHECKPOINT = re.compile(rb"epoch-\d{6}\.ckpt")
_NOT_SENT = (".", "attempt", "stack-")  # of this machine, and of the driver


@contextmanager
def working_copy(attempt: Attempt) -> Iterator[Callable[[], None]]:
    """Take over what earlier attempts published; gives a function that publishes what is new here.

    It first sees that no newer attempt has the trial, also where the root is a folder and nothing is to be published.

    Raises:
        SetupError: If the bucket stays away.
    """
    if not attempt.context.bucket:
        yield partial(check_newest, attempt)
        return
    copy = _Copy(attempt)
    try:
        copy.begin()
        yield copy.publish
    finally:
        shutil.rmtree(attempt.folder, ignore_errors=True)


class _Copy:
    """What one attempt has published so far."""

    def __init__(self, attempt: Attempt) -> None:
        self.attempt, self.bucket = attempt, Bucket(attempt.context.bucket)
        self._published: dict[str, tuple[int, int]] = {}
        self._slot = 0

    def begin(self) -> None:
        """Start from what the newest attempt before this one published."""
        attempt = self.attempt
        for path in attempt.folder.parent.glob("a*"):  # on this machine, of attempts that were given up
            if path.name[1:].isdecimal() and int(path.name[1:]) < attempt.attempt:
                shutil.rmtree(path, ignore_errors=True)
        before = 0
        if attempt.attempt > 1:
            names = self.bucket.list(attempt.prefix)
            before = newest_begun(names, attempt.prefix, attempt.attempt - 1)
            self._take(f"{attempt.prefix}/a{before}/", names)
        for run in attempt.runs:
            (attempt.folder / run / "checkpoints").mkdir(parents=True, exist_ok=True)
        self.publish()
        self.bucket.write(f"{self._own}/{BEGUN}", f"after a{before}, on {socket.gethostname()}\n".encode())

    def publish(self) -> None:
        """Send what is new or has changed: checkpoints, then what tells of them, and the result last.

        Raises:
            CheckpointError: If a newer attempt has the trial.
        """
        check_newest(self.attempt)
        found = sorted((path for path in self.attempt.folder.rglob("*") if path.is_file()), key=_rank)
        for path in (path for path in found if not path.name.startswith(_NOT_SENT)):
            name, stat = path.relative_to(self.attempt.folder).as_posix(), path.stat()
            if self._published.get(name) == (stat.st_size, stat.st_mtime_ns):
                continue
            if path.suffix == ".ckpt" and path.parent.name == "checkpoints":
                content = path.name.encode() + b"\n" + path.read_bytes()
                folder = Path(name).parent.as_posix()
                self.bucket.write(f"{self._own}/{folder}/{self._slot}", content)
                self._slot = (self._slot + 1) % _SLOTS
            else:
                self.bucket.upload(f"{self._own}/{name}", path)
            self._published[name] = (stat.st_size, stat.st_mtime_ns)

    def _take(self, folder: str, names: Mapping[str, Stored]) -> None:
        for name in names:
            own = name.removeprefix(folder)
            if own in (name, BEGUN):
                continue
            content = self.bucket.read(name) or b""
            parent = Path(own).parent
            if parent.name == "checkpoints":
                first, _, content = content.partition(b"\n")
                if not _CHECKPOINT.fullmatch(first):
                    continue
                own = (parent / first.decode()).as_posix()
            place(self.attempt.folder / own, content)

    @property
    def _own(self) -> str:
        return f"{self.attempt.prefix}/a{self.attempt.attempt}"


def check_newest(attempt: Attempt) -> None:
    """Refuse to go on where a newer attempt has the trial: this process was taken for dead.

    Raises:
        CheckpointError: If the folder, or the bucket, names another attempt.
    """
    newest = newest_attempt(attempt)
    if newest != attempt.attempt:
        raise CheckpointError(f"trial {attempt.number}: attempt {newest} has taken over from attempt {attempt.attempt}")


def _rank(path: Path) -> tuple[int, str]:
    heavy = path.suffix == ".ckpt" or path.name == STUDENT
    return (0 if heavy else 2 if path.name == "result.json" else 1), path.name
