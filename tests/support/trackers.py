"""Trackers whose processes are killed: forked by a process that has imported MLflow, once, and has no threads.

python -m tests.support.trackers SWEEP DATABASE UID      (a number a line in; the process's number and its end out)
"""

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import mlflow.store.tracking.sqlalchemy_store
import mlflow.tracking  # noqa: F401
import sqlalchemy.orm

from icd.search.tracking.experiment import Experiment
from icd.search.tracking.tracker import Tracker
from tests.crash.forks import forked
from tests.tracking import ask, begun, ended, row

EPOCHS = 30


def kill_trackers(sweep: Path, database: Path, uid: str, kills: int) -> None:
    """Kill one tracker after another in the middle of what it sends; each has two more trials of ``EPOCHS`` epochs."""
    chance = random.Random(7)
    words = [sys.executable, "-m", "tests.support.trackers", str(sweep), f"sqlite:///{database}", uid]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as forker:
        assert forker.stdin is not None
        assert forker.stdout is not None
        for kill in range(kills):
            before = rows_in(database)
            forker.stdin.write(f"{kill}\n")
            forker.stdin.flush()
            pid, deadline = int(forker.stdout.readline()), time.monotonic() + 120
            while rows_in(database) == before:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            # It has sent its first rows. Kill it in the middle of the next ones.
            time.sleep(chance.random())
            os.kill(pid, signal.SIGKILL)
            assert forker.stdout.readline() == f"{-signal.SIGKILL}\n"


def rows_in(database: Path) -> int:
    with closing(sqlite3.connect(database, timeout=30)) as connection:
        return int(connection.execute("select count(*) from metrics").fetchone()[0])


def host(sweep: Path, uri: str, uid: str, kill: int) -> int:
    """Track: the trials of those before, and two more, which begin and end meanwhile; then wait for the kill."""
    tracker, mine = Tracker(lambda line: None), range(2 * kill, 2 * kill + 2)
    ask(tracker, [ended(number, EPOCHS) for number in range(2 * kill)])
    tracker.start(Experiment(sweep, uri, "sweep", uid, tracker.refuse))
    for number in mine:
        tracker.begin(begun(number))
    for epoch in range(1, EPOCHS + 1):
        for number in mine:
            tracker.epoch(f"{number:04d}", row(number, epoch))
        time.sleep(0.02)
    ask(tracker, [ended(number, EPOCHS) for number in mine])
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
