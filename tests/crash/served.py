"""Real drivers for tests: forked by a harness process without threads, so that one starts in milliseconds.

Every process of tests has one such process for all of its tests: its imports and its template take ten seconds.
"""

import atexit
import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from icd.search.core.records import TrialRecord
from icd.search.study import sweep_index

HARNESS = Path(__file__).parent / "harness.py"
_ENVIRONMENT = dict(os.environ)  # as no test has changed it


class Server:
    """A harness process that takes requests, and a root with a trained teacher and empty databases."""

    def __init__(self, script: Path) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="icd-harness-")
        self.log = Path(self._folder.name) / "harness.log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, str(script), "serve"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**_ENVIRONMENT, "OMP_NUM_THREADS": "1"},
            )
        atexit.register(self.close)
        self.fresh = Path(self.ask(template=str(Path(self._folder.name) / "work")))

    def ask(self, **request: Any) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError(self.log.read_text()[-3000:])
        return json.loads(answer)

    def close(self) -> None:
        """End the process and remove its folder."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(30)
        self.process.stdout.close()
        self._folder.cleanup()


server = functools.cache(Server)


class Harness:
    """Starts drivers.

    Args:
        script: What forks them: ``harness.py``, or what goes beyond it.
        environment: Of the drivers; it may be changed between them.
    """

    def __init__(self, script: Path = HARNESS, **environment: str) -> None:
        self.server, self.environment = server(script), environment
        self._said_before = self.server.log.stat().st_size

    @property
    def fresh(self) -> Path:
        """A root with a trained teacher and empty databases; to be copied."""
        return self.server.fresh

    def root(self, path: Path) -> Path:
        """Make a root with a trained teacher and empty databases."""
        shutil.copytree(self.fresh, path, dirs_exist_ok=True)
        return path

    def drive(self, root: Path, **more: Any) -> "Drive":
        return Drive(self, root, self.server.ask(drive=str(root), environment=self.environment, **more))

    @property
    def errors(self) -> str:
        """What drivers wrote to stderr since this was made."""
        return self.server.log.read_bytes()[self._said_before :].decode(errors="replace")


class Drive:
    """A driver under way."""

    def __init__(self, harness: Harness, root: Path, pid: int) -> None:
        self.harness, self.root, self.pid = harness, root, pid
        self.folder = root / "sweeps" / "crash"

    def wait(self, seconds: float = 400.0) -> int:
        """Give the exit code."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            code = self.harness.server.ask(poll=self.pid)
            if code is not None:
                return int(code)
            time.sleep(0.02)
        raise TimeoutError(f"the driver does not end: {self.said}")

    def until(self, what: Callable[[], Any], seconds: float = 400.0) -> Any:
        """Wait for something that happens while it runs."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if found := what():
                return found
            time.sleep(0.005)
        raise TimeoutError(f"waited in vain: {self.said}")

    def until_epoch(self, number: int, epoch: int) -> None:
        path = self.folder / "trials" / f"{number:04d}" / "metrics.jsonl"
        self.until(lambda: path.exists() and path.read_bytes().count(b"\n") >= epoch)

    def interrupt(self, number: int = signal.SIGINT, sweep: str = "crash") -> None:
        """Tell it to stop, and wait until it has told its workers."""
        self.signal(number)
        self.until((self.root / "sweeps" / sweep / "stop").exists)

    def signal(self, number: int = signal.SIGKILL) -> None:
        os.kill(self.pid, number)

    @property
    def workers(self) -> list[int]:
        return [int(word) for word in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()]

    @property
    def said(self) -> str:
        path = self.root / "driver.log"
        return path.read_text() if path.exists() else ""

    @property
    def errors(self) -> str:
        return self.harness.errors


class Hold:
    """A place where a worker stands: an epoch that it does not tell, while those before are stored and answered.

    To be made before the driver, which must have forked its workers.
    """

    def __init__(self, root: Path, number: int, epoch: int, sweep: str = "crash") -> None:
        name = f"{sweep}-{number}-{epoch}"
        self._hold, self._reached = root / f"hold-{name}", root / f"reached-{name}"
        self._hold.touch()

    @contextmanager
    def reached(self, drive: Drive) -> Iterator[None]:
        """Wait until a worker stands there, and let it go on after the block."""
        try:
            drive.until(self._reached.exists)
            yield
        finally:
            self.release()

    def release(self) -> None:
        """Let workers go on that stand there or come there."""
        self._hold.unlink()


def records(root: Path) -> list[TrialRecord]:
    return sweep_index.find(root, "crash").records()


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
