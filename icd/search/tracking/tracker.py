"""Brings MLflow to what a sweep's ledger and trial folders say, from a thread; nobody waits for it.

What MLflow should hold of a run is asked for by its key and may be asked for again: the thread sends what MLflow lacks.
So live tracking, catching up after an outage and ``icd sync`` are the same. It keeps nothing of its own on the disk: a
driver that was killed is followed by one that asks for everything again, and MLflow's own tags say what is there.
"""

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace

from icd.errors import shorten
from icd.search.tracking.experiment import Experiment
from icd.search.tracking.mlflow_client import advice, is_poison, refuses
from icd.search.tracking.mlflow_pages import without_password
from icd.search.tracking.run_view import Row, RunView
from icd.text import runs_wait

logger = logging.getLogger(__name__)

_GATHER_S, _FIRST_WAIT, _LONGEST_WAIT = 0.25, 1.0, 30.0

Announce = Callable[[str], None]


@dataclass(slots=True)
class _Wanted:
    """What MLflow should hold of a run; ``rows`` are those of a trial under way, which its folder may lack."""

    make: Callable[[], RunView]
    mark: str = ""
    rows: dict[int, Row] = field(default_factory=dict)


class Tracker:
    """Sends from a thread of its own and never raises into the caller."""

    def __init__(self, announce: Announce, *, warned: bool = False) -> None:
        self._announce = announce
        self._lock = threading.Lock()
        self._wanted: dict[str, _Wanted] = {}
        self._dirty: dict[str, None] = {}  # a set that keeps its order
        self._dropped = set[str]()  # refused whole
        self._wake, self._closing = threading.Event(), threading.Event()
        self._deadline = float("inf")
        self._complained, self._warned = warned, set[str]()
        self._thread: threading.Thread | None = None

    # What is asked for

    def want(self, key: str, make: Callable[[], RunView], mark: str = "") -> None:
        """Ask for a run.

        Args:
            key: Of the run.
            make: Gives what it should hold; called from the thread, perhaps more than once.
            mark: Of that view, where it is known: a run that has it is left alone unread.
        """
        with self._lock:
            self._wanted[key] = _Wanted(make, mark)
            self._dirty[key] = None
        self._wake.set()

    def begin(self, view: RunView) -> None:
        """Ask for the run of a trial that begins or goes on, with the epochs that it has."""
        with self._lock:
            rows = {row.step: row for row in view.rows}
            self._wanted[view.key] = _Wanted(lambda: view, rows=rows)
            self._dirty[view.key] = None
        self._wake.set()

    def epoch(self, key: str, row: Row) -> None:
        """Tell an epoch of a trial under way; one that was told is not told otherwise."""
        with self._lock:
            wanted = self._wanted.get(key)
            if wanted is None or wanted.mark or row.step in wanted.rows:
                return
            wanted.rows[row.step] = row
            self._dirty[key] = None
        self._wake.set()

    # The thread

    def start(self, runs: Experiment) -> None:
        """Begin to send."""
        self._thread = threading.Thread(target=self._work, args=(runs,), name="icd-tracker", daemon=True)
        self._thread.start()

    def pending(self) -> int:
        """Count the runs of which MLflow lacks something, or may lack it."""
        with self._lock:
            return len(self._dirty.keys() | self._dropped)

    def close(self, deadline_s: float) -> int:
        """Send what is left until the deadline; returns how many runs still wait."""
        self._deadline = time.monotonic() + deadline_s
        self._closing.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(deadline_s)
        return self.pending()

    def refuse(self, key: str, what: str, reason: str) -> None:
        """Say, once for each run, that MLflow refused a value of it for good."""
        logger.debug("MLflow refused %s of run %s: %s", what, key, reason)
        if key not in self._warned:
            self._warned.add(key)
            self._say(f"WARNING: MLflow refused data of run {key}, which is left out: {what}: {shorten(reason, 300)}")

    def _work(self, runs: Experiment) -> None:
        wait = _FIRST_WAIT / 2
        while time.monotonic() < self._deadline:
            with self._lock:
                key = next(iter(self._dirty), None)
            if key is None:
                if self._closing.is_set():
                    return
                self._wake.wait()
                self._wake.clear()
                self._closing.wait(_GATHER_S)  # epochs that end together are sent together
                continue
            try:
                self._send(runs, key)
                wait = _FIRST_WAIT / 2
            except Exception as error:  # whatever mlflow raises, the sweep goes on
                logger.debug("tracking", exc_info=True)
                if is_poison(error):  # the same again would be refused again
                    self.refuse(key, "the run", str(error))
                    with self._lock:
                        self._dirty.pop(key, None)
                        self._wanted.pop(key, None)
                        self._dropped.add(key)
                    continue
                self._complain(runs.uri, error)
                # On the way out there is no time for long waits.
                wait = min(2 * wait, _FIRST_WAIT if self._closing.is_set() else _LONGEST_WAIT)
                self._pause(wait)
                continue
            if self._complained:
                self._complained = False
                self._say(f"tracking flows again ({self.pending()} runs left)")

    def _send(self, runs: Experiment, key: str) -> None:
        """Send a run; what is asked for meanwhile is sent next, and what failed is tried again after the others."""
        with self._lock:
            wanted = self._wanted[key]
            rows = [wanted.rows[step] for step in sorted(wanted.rows)]
            self._dirty[key] = self._dirty.pop(key)
        if not runs.sent(key, wanted.mark):
            view = wanted.make()
            runs.reconcile(replace(view, rows=rows) if rows else view)
        with self._lock:
            self._dropped.discard(key)
            if self._wanted[key] is wanted and len(wanted.rows) == len(rows):
                del self._dirty[key]
                if wanted.mark:
                    del self._wanted[key]

    def _pause(self, seconds: float) -> None:
        if self._closing.is_set():
            time.sleep(max(0.0, min(seconds, self._deadline - time.monotonic())))
        else:
            self._closing.wait(seconds)

    def _complain(self, uri: str, error: Exception) -> None:
        if not self._complained:
            self._complained = True
            how = "refused" if refuses(error) else "unreachable"
            self._say(f"tracking {how}, {runs_wait(self.pending())}: {without_password(uri)}: {advice(error)}")

    def _say(self, line: str) -> None:
        with suppress(Exception):  # a console that went away must not end the thread
            self._announce(line)
