"""Trackers whose processes are killed: forked by a process that has imported MLflow, once, and has no threads.

python -m tests.support.trackers SWEEP DATABASE UID      (a number a line in; the process's number and its end out)
"""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import mlflow.store.tracking.sqlalchemy_store
import mlflow.tracking  # noqa: F401
import sqlalchemy.orm

from icd.search.tracking.outbox import Outbox
from icd.search.tracking.outbox_cursor import OFFSET_NAME
from icd.search.tracking.outbox_sender import OutboxSender
from tests.crash.forks import forked
from tests.tracking import begin_trial, end_trial, say_epoch

EPOCHS = 30


def kill_trackers(sweep: Path, uri: str, uid: str, kills: int) -> None:
    """Kill one tracker after another in the middle of what it sends; each says two trials of ``EPOCHS`` epochs."""
    chance, offset = random.Random(7), sweep / OFFSET_NAME
    words = [sys.executable, "-m", "tests.support.trackers", str(sweep), uri, uid]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as forker:
        assert forker.stdin is not None
        assert forker.stdout is not None
        for kill in range(kills):
            before = offset.read_text() if offset.exists() else ""
            forker.stdin.write(f"{kill}\n")
            forker.stdin.flush()
            pid, deadline = int(forker.stdout.readline()), time.monotonic() + 120
            while not offset.exists() or offset.read_text() == before:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            # It has sent its first batch. Kill it in the middle of the next ones; every third time the offset is lost.
            time.sleep(chance.random())
            os.kill(pid, signal.SIGKILL)
            assert forker.stdout.readline() == f"{-signal.SIGKILL}\n"
            if kill % 3 == 0:
                offset.unlink(missing_ok=True)


def host(sweep: Path, uri: str, uid: str, kill: int) -> int:
    """Track, and say two trials meanwhile; then wait for the kill."""
    OutboxSender(sweep, uri, "sweep", uid, lambda line: None).start()
    outbox, mine = Outbox(sweep), range(2 * kill, 2 * kill + 2)
    for number in mine:
        begin_trial(outbox, number)
    for epoch in range(1, EPOCHS + 1):
        for number in mine:
            say_epoch(outbox, number, epoch)
        time.sleep(0.02)
    for number in mine:
        end_trial(outbox, number)
    time.sleep(300)
    return 0


def main() -> None:
    """Fork a host for each line, and say how it ended."""
    sqlalchemy.orm.configure_mappers()
    sweep, uri, uid = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    for line in sys.stdin:
        pid = forked(lambda kill=int(line): host(sweep, uri, uid, kill))  # type: ignore[misc]
        print(pid, flush=True)  # noqa: T201
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
