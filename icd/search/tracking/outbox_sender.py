"""Carries a sweep's outbox to MLflow from a thread.

The thread applies the events in order and may be killed at any moment. The server may be away for hours; nobody waits
for it.
"""

import json
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from itertools import groupby
from pathlib import Path
from typing import Any

from icd.errors import shorten
from icd.search.tracking.mlflow_client import Event, MlflowStore, advice, run_name
from icd.search.tracking.mlflow_pages import leaderboard_url, without_password
from icd.search.tracking.outbox_cursor import REFUSED_NAME, OutboxCursor

logger = logging.getLogger(__name__)

_LOOK_SECONDS, _FIRST_WAIT, _LONGEST_WAIT = 0.25, 1.0, 30.0

Announce = Callable[[str], None]


class OutboxSender:
    """Sends the outbox of a sweep's folder to MLflow from a thread of its own; never raises into the caller.

    Args:
        folder: Of the sweep.
        uri: Of the tracking server or database.
        experiment: Name of the sweep's experiment.
        uid: Random id of the sweep; part of every run's tag.
        announce: Takes one line for people; called from the thread.
        limit: Bytes of the outbox that may be sent; the rest could still be lost.
    """

    def __init__(
        self,
        folder: Path,
        uri: str,
        experiment: str,
        uid: str,
        announce: Announce,
        limit: Callable[[], float] = lambda: float("inf"),
    ) -> None:
        self._announce = announce
        self._reader = OutboxCursor(folder, json.dumps([uri, experiment, uid]), limit)
        self._store = MlflowStore(folder, uri, experiment, uid, self._refuse)
        self._closing = threading.Event()
        self._deadline = float("inf")
        self._complained = False
        self._refused_runs: set[str] = set()
        self._thread = threading.Thread(target=self._work, name="icd-tracker", daemon=True)

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def pending(self) -> int:
        """Count the events that MLflow has not taken yet."""
        with suppress(OSError):
            return self._reader.pending()
        return 0

    def url(self) -> str | None:
        """Give the address of the leaderboard; None until the experiment is known."""
        return leaderboard_url(self._store.uri, self._store.experiment_id) if self._store.experiment_id else None

    def close(self, deadline_s: float) -> int:
        """Send what is left until the deadline; returns how many events are still pending."""
        self._deadline = time.monotonic() + deadline_s
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join(deadline_s)
        return self.pending()

    def _work(self) -> None:
        wait, work = _FIRST_WAIT / 2, deque[tuple[str, list[Event]]]()
        while time.monotonic() < self._deadline:
            try:
                if not work:
                    self._reader.commit()
                    work = _by_run(self._reader.read())
                begun = bool(work)
                while work:  # what was applied is not tried again: with many failures nothing else would end
                    self._store.apply(*work[0])
                    work.popleft()
                    wait = _FIRST_WAIT / 2
                self._reader.commit()
            except Exception as error:  # whatever mlflow raises, the sweep goes on
                logger.debug("tracking", exc_info=True)
                self._complain(error)
                # On the way out there is no time for long waits.
                wait = min(2 * wait, _FIRST_WAIT if self._closing.is_set() else _LONGEST_WAIT)
                self._pause(wait)
                continue
            if begun and self._complained:
                self._complained = False
                self._say(f"tracking flows again ({self.pending()} events left)")
            elif not begun:
                if self._closing.is_set():
                    return
                self._closing.wait(_LOOK_SECONDS)

    def _pause(self, seconds: float) -> None:
        if self._closing.is_set():
            time.sleep(max(0.0, min(seconds, self._deadline - time.monotonic())))
        else:
            self._closing.wait(seconds)

    def _complain(self, error: Exception) -> None:
        if not self._complained:
            self._complained = True
            where = without_password(self._store.uri)
            self._say(f"tracking unreachable, buffering ({self.pending()} events): {where}: {advice(error)}")

    def _say(self, line: str) -> None:
        with suppress(Exception):  # a console that went away must not end the thread
            self._announce(line)

    def _refuse(self, run: str, what: Mapping[str, Any], reason: str) -> None:
        self._reader.refuse({"run": run, **what}, reason)
        if run not in self._refused_runs:
            self._refused_runs.add(run)
            self._say(f"WARNING: MLflow refused data of run {run}; kept in {REFUSED_NAME}: {shorten(reason, 300)}")


def flush(
    folder: Path, uri: str, experiment: str, uid: str, deadline_s: float, announce: Announce = logger.info
) -> int:
    """Send what is left of an outbox; returns how many events are pending at the deadline."""
    tracker = OutboxSender(folder, uri, experiment, uid, announce)
    tracker.start()
    return tracker.close(deadline_s)


def _by_run(events: Sequence[Event]) -> deque[tuple[str, list[Event]]]:
    """Sort events by run, each run's in order, its neighbouring epochs together."""
    by_run: dict[str, list[Event]] = {}
    for event in events:
        by_run.setdefault(run_name(event), []).append(event)
    work: deque[tuple[str, list[Event]]] = deque()
    for run, its_events in by_run.items():
        for is_epoch, group in groupby(its_events, key=lambda event: event["kind"] == "epoch"):
            members = list(group)
            work.extend([(run, members)] if is_epoch else [(run, [event]) for event in members])
    return work
