"""What MLflow is to be told, kept in a durable file first, so that no trial ever waits for a tracking server.

``outbox.jsonl`` in the sweep's folder holds one event per line, in order, each synced to the disk before the call
returns and stamped with the caller's time. An event that is in the file is never written again, so a trial that is
resumed may simply say everything once more. ``icd.search.tracking.outbox_sender`` carries the file to MLflow.
"""

import contextlib
import json
import logging
import math
import os
import posixpath
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from icd.errors import SetupError, shorten

logger = logging.getLogger(__name__)

OUTBOX_NAME = "outbox.jsonl"
EndState = Literal["complete", "pruned", "failed"]

_NAME = re.compile(r"[\w\-. :/]{1,250}")
_MOST_EPOCHS = 1_000_000


@dataclass(slots=True)
class _Told:
    """Keys of the events in the file; a trial's epochs are the bits of one integer."""

    trials: set[int] = field(default_factory=set)
    ends: set[int] = field(default_factory=set)
    epochs: dict[int, int] = field(default_factory=dict)
    sweep: bool = False
    revisions: set[int] = field(default_factory=set)

    def add(self, event: Mapping[str, Any]) -> bool:
        """Take an event in; False where it is there already."""
        kind = event["kind"]
        if kind == "epoch":
            bits, bit = self.epochs.get(event["trial"], 0), 1 << event["epoch"]
            self.epochs[event["trial"]] = bits | bit
            return not bits & bit
        if kind == "sweep":
            known, self.sweep = self.sweep, True
            return not known
        numbers, number = {
            "trial": (self.trials, event.get("trial")),
            "end": (self.ends, event.get("trial")),
            "summary": (self.revisions, event.get("revision")),
        }[kind]
        known = number in numbers
        numbers.add(int(number))  # type: ignore[arg-type]  # a missing one raises, as it should
        return not known

    def drop(self, event: Mapping[str, Any]) -> None:
        """Forget an event that did not reach the disk."""
        kind = event["kind"]
        if kind == "epoch":
            self.epochs[event["trial"]] &= ~(1 << event["epoch"])
        elif kind == "sweep":
            self.sweep = False
        elif kind == "summary":
            self.revisions.discard(event["revision"])
        else:
            (self.trials if kind == "trial" else self.ends).discard(event["trial"])


class Outbox:
    """The one writer of a sweep's outbox.

    Every method returns after the event is on the disk, or at once where the file holds it already. Times are
    milliseconds since 1970. All raise ``SetupError`` if the disk is full, and ``ValueError`` for metrics that are not
    finite and for names that MLflow would refuse.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / OUTBOX_NAME
        self._lock = threading.Lock()
        self._told = _Told()
        try:
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
            self._size = _cut_torn_line(self._file, self.path)
            for event in events(self.path):
                self._told.add(event)
        except OSError as error:
            raise SetupError(f"{self.path} cannot be opened: {error.strerror}") from error

    def close(self) -> None:
        """Close the file, once; the outbox takes nothing afterwards."""
        file, self._file = self._file, -1  # by then its number may be another file's
        if file >= 0:
            os.close(file)

    def sweep(
        self,
        *,
        time_ms: int,
        name: str,
        params: Mapping[str, str],
        tags: Mapping[str, str],
        note: str,
        artifacts: Sequence[str] = (),
    ) -> None:
        """Begin the sweep's summary run; ``note`` (Markdown) heads the experiment's page."""
        self._put("sweep", time_ms, name=name, params=params, tags=tags, note=note, artifacts=artifacts)

    def trial(
        self, number: int, *, time_ms: int, name: str, params: Mapping[str, str], tags: Mapping[str, str]
    ) -> None:
        """Begin a trial's run."""
        self._put("trial", time_ms, trial=number, name=name, params=params, tags=tags)

    def epoch(self, number: int, epoch: int, *, time_ms: int, metrics: Mapping[str, float]) -> None:
        """Say the metrics of one epoch."""
        self._put("epoch", time_ms, trial=number, epoch=epoch, metrics=metrics)

    def end(
        self,
        number: int,
        *,
        time_ms: int,
        state: EndState,
        metrics: Mapping[str, float],
        tags: Mapping[str, str],
        artifacts: Sequence[str] = (),
    ) -> None:
        """End a trial's run, once and for all.

        Args:
            number: Of the trial.
            time_ms: When it ended.
            state: Shown as the tag ``state``.
            metrics: Values of the whole trial; names that epochs do not use.
            tags: More to know about the run.
            artifacts: Files to upload, relative to the sweep's folder.
        """
        self._put("end", time_ms, trial=number, state=state, metrics=metrics, tags=tags, artifacts=artifacts)

    def summary(
        self,
        revision: int,
        *,
        time_ms: int,
        metrics: Mapping[str, float],
        tags: Mapping[str, str],
        artifacts: Sequence[str] = (),
        finished: bool = False,
    ) -> None:
        """Bring the summary run up to date; a higher ``revision`` replaces the files of a lower one."""
        told = {"metrics": metrics, "tags": tags, "artifacts": artifacts, "finished": finished}
        self._put("summary", time_ms, revision=revision, **told)

    def has_trial(self, number: int) -> bool:
        """Whether the trial's run was begun."""
        return number in self._told.trials

    def has_epoch(self, number: int, epoch: int) -> bool:
        """Whether an epoch of the trial was told."""
        return bool(self._told.epochs.get(number, 0) >> epoch & 1)

    def has_end(self, number: int) -> bool:
        """Whether the trial's end was told."""
        return number in self._told.ends

    def _put(self, kind: str, time_ms: int, **content: Any) -> None:
        event = {"kind": kind, "ms": int(time_ms), **{name: _plain(value) for name, value in content.items()}}
        check_event(event)
        line = json.dumps(event, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode() + b"\n"
        with self._lock:
            if not self._told.add(event):
                return
            try:
                self._append(line)
            except OSError as error:
                self._told.drop(event)
                raise SetupError(
                    f"{self.path} cannot be written: {error.strerror} ({len(line)} bytes needed); "
                    "free some space and resume"
                ) from error

    def _append(self, line: bytes) -> None:
        try:
            written = 0
            while written < len(line):  # a disk that fills up takes a part first
                written += os.write(self._file, line[written:])
            os.fsync(self._file)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, self._size)
            raise
        self._size += len(line)


def events(path: Path) -> Iterator[dict[str, Any]]:
    """Give the whole events of an outbox in order; damaged lines are left out with a warning."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            event = read_event(line)
            if event is not None:
                yield event
            elif line.endswith(b"\n"):
                logger.warning("%s:%d is damaged and left out", path, number)


def read_event(line: bytes) -> dict[str, Any] | None:
    """Read one line; None where it is cut short, damaged or breaks a rule."""
    try:
        event = json.loads(line) if line.endswith(b"\n") else None
        if isinstance(event, dict):
            check_event(event)
            _Told().add(event)
            return event
    except (ValueError, TypeError, KeyError, AttributeError):
        pass
    return None


def check_event(event: Mapping[str, Any]) -> None:
    """Refuse what MLflow refuses or would alter.

    Raises:
        ValueError: With the rule and the value that breaks it.
    """
    if not 0 <= event.get("epoch", 0) < _MOST_EPOCHS:
        raise ValueError(f"epoch must be between 0 and {_MOST_EPOCHS - 1}, but got {event['epoch']!r}")
    for group in ("params", "tags", "metrics"):
        for name in event.get(group, {}):
            normal = posixpath.normpath(name) == name and not name.startswith(("..", "/")) and name != "."
            if not (normal and _NAME.fullmatch(name)):
                raise ValueError(
                    f"names of {group} must have letters, digits and -_. :/ only, at most 250, and be no path that "
                    f"climbs or repeats a slash, but got {shorten(name)}"
                )
    for name, value in event.get("metrics", {}).items():
        if not math.isfinite(value):
            raise ValueError(f"metrics must be finite, but got {value!r} for {name!r}")
    for path in event.get("artifacts", ()):
        if path.startswith("/") or ".." in path.split("/"):
            raise ValueError(f"artifacts must lie below the sweep's folder, but got {path!r}")


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    return list(value) if isinstance(value, tuple) else value


def _cut_torn_line(file: int, path: Path) -> int:
    """Drop what a kill in the middle of a write left behind the last newline; returns the size."""
    size = os.fstat(file).st_size
    end = size
    while end:
        start = max(0, end - 65536)
        newline = os.pread(file, end - start, start).rfind(b"\n")
        if newline >= 0:
            end = start + newline + 1
            break
        end = start
    if end < size:
        logger.warning("%s: the last line was cut short by a kill and is dropped (%d bytes)", path, size - end)
        os.ftruncate(file, end)
        os.fsync(file)
    return end
