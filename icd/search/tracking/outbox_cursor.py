"""Reads an outbox from where the last reader left off, also while it is being written."""

import hashlib
import json
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from icd.search.tracking.outbox import OUTBOX_NAME, read_event
from icd.training.checkpoints import write_durably

OFFSET_NAME = "outbox.offset"
REFUSED_NAME = "outbox-refused.jsonl"


class OutboxCursor:
    """Whole lines of ``outbox.jsonl`` after a durable offset; the offset belongs to one target.

    Applying an event twice must be harmless: the offset is stored after a batch was applied, and it starts at 0
    again for another target, or where it does not lie behind a newline of the file.
    """

    def __init__(self, folder: Path, target: str, limit: Callable[[], float] = lambda: math.inf) -> None:
        self.folder = folder
        self.path = folder / OUTBOX_NAME
        self._limit = limit
        self._target = hashlib.sha256(target.encode()).hexdigest()
        self._offset = self._stored_offset()
        self._next = self._offset

    def read(self, most_bytes: int = 1 << 18) -> list[dict[str, Any]]:
        """Give some of the next events, none beyond ``limit`` bytes; ``commit`` makes the step past them durable."""
        limit = self._limit()
        with self._open() as file:
            while True:
                file.seek(self._offset)
                part = file.read(int(min(most_bytes, max(0, limit - self._offset))))
                whole = part[: part.rfind(b"\n") + 1]
                if whole or len(part) < most_bytes:  # the end of the file, or the limit, which is an end of a line
                    break
                most_bytes *= 2  # one line is longer than the part
        self._next = self._offset + len(whole)
        found = []
        for line in whole.splitlines(keepends=True):
            event = read_event(line)
            if event is None:
                self.refuse({"line": line.decode(errors="replace")}, "the line is damaged")
            else:
                found.append(event)
        return found

    def commit(self) -> None:
        """Store that everything read so far was applied."""
        if self._next != self._offset:
            text = json.dumps({"target": self._target, "offset": self._next})
            write_durably(self.folder / OFFSET_NAME, text.encode())
            self._offset = self._next

    def pending(self) -> int:
        """Count the events that were not committed yet."""
        with self._open() as file:
            file.seek(self._offset)
            return sum(part.count(b"\n") for part in iter(lambda: file.read(1 << 20), b""))

    def refuse(self, what: Mapping[str, Any], reason: str) -> None:
        """Keep what could not be applied, with the reason, in a file of its own."""
        line = json.dumps({**what, "reason": reason}, ensure_ascii=False) + "\n"
        with (self.folder / REFUSED_NAME).open("a", encoding="utf-8") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())

    def _open(self) -> BinaryIO:
        try:
            return self.path.open("rb")
        except FileNotFoundError:
            return Path(os.devnull).open("rb")

    def _stored_offset(self) -> int:
        try:
            stored = json.loads((self.folder / OFFSET_NAME).read_bytes())
            offset = int(stored["offset"]) if stored["target"] == self._target else 0
        except (OSError, ValueError, KeyError, TypeError):
            return 0
        if offset <= 0:
            return 0
        with self._open() as file:
            file.seek(offset - 1)
            return offset if file.read(1) == b"\n" else 0
