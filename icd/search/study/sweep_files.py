"""A sweep's files as its driver and the reading verbs see them: in the root's folder, or copied from a bucket.

Names in the bucket are those below the root; ``copies`` says how trials lie there. Beside the trials there are

    sweeps/NAME/stop                 what ``icd stop`` asks of the driver
    sweeps/NAME/try/REQUEST.json     a trial that ``icd try`` asks for, until the study has it
    sweeps/NAME/report.html, sweeps/NAME/confirmation.json
"""

import json
import re
import time
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from icd.errors import SetupError, StateError
from icd.search.core.attempts import BEGUN, STOP, checkpoints_below, newest_begun, stop_asked, trial_folder
from icd.search.core.records import Stage
from icd.search.core.trial_request import TrialRequest, read_request
from icd.search.study.ledger import Ledger
from icd.search.study.sweep_index import REPORT_NAME, sweep_folder
from icd.storage.bucket import Bucket, Stored, bucket_of
from icd.storage.durable import place, write_durably
from icd.training import STUDENT

_INDEX_NAME = ".copied.json"  # in a trial's folder: whose files they are, and how they were listed
_AT_A_TIME = 16  # objects that are read side by side
_LOOK_EVERY_S = 5.0  # at what is asked in a bucket
_TRY = "try"
MADE = (REPORT_NAME, "confirmation.json")  # files of the whole sweep


@dataclass(slots=True)
class SweepFiles:
    """Where a sweep's trials are kept."""

    folder: Path  # the sweep's; with a bucket it holds copies, of everything but checkpoints and weights
    bucket: Bucket | None  # where they come from; None where the folder is the thing itself
    # What was asked in a bucket when it was looked at last.
    _looked: float = float("-inf")
    _asked: str = ""
    _requests: list[TrialRequest] = field(default_factory=list)

    @property
    def prefix(self) -> str:
        """What the names of the sweep's objects begin with."""
        return f"sweeps/{self.folder.name}"

    # Trials

    def issue(self, number: int, attempt: int) -> Path | None:
        """Say which attempt has a trial; older ones may publish nothing from now on.

        Before the first one nothing can be there, unless a study was put back from a copy that is older than the files.
        They are moved aside, to the folder that is given; in a bucket they are removed.
        """
        content, folder, aside = str(attempt).encode(), trial_folder(self.folder, number), None
        if attempt == 1 and self.bucket is not None:
            for name in self.bucket.list(self._trial(number)):
                self.bucket.forget(name)
        if attempt == 1 and any(folder.glob("*")):
            aside = self.folder / "unknown" / f"{folder.name}-{time.time_ns()}"
            aside.parent.mkdir(exist_ok=True)
            folder.rename(aside)
        write_durably(trial_folder(self.folder, number) / "attempt", content, parents=True)
        if self.bucket is not None:
            self.bucket.write(f"{self._trial(number)}/attempt", content)
        return aside

    def fetch(self, attempts: Mapping[int, int], *, weights: bool = False) -> None:
        """Bring the files of trials here, as the newest attempt that the ledger knows has published them.

        Args:
            attempts: How many attempts the ledger counts, by trial.
            weights: Whether trained students come too.
        """
        if self.bucket is None or not attempts:
            return
        names = self.bucket.list(self._below(attempts))
        own_name = re.compile(rf"{re.escape(self.prefix)}/trials/(\d+)/a\d+/begun")
        begun = {int(match[1]) for match in map(own_name.fullmatch, names) if match}
        with ThreadPoolExecutor(_AT_A_TIME) as pool:
            chosen = [number for number in attempts if number in begun]
            for done in [pool.submit(self._fetch_trial, number, names, attempts[number], weights) for number in chosen]:
                done.result()

    def newest_epoch(self, number: int, run: str) -> int:
        """Give the last epoch that a run can continue from; ``fetch`` comes first."""
        from icd.training.checkpoints import newest_epoch
        from icd.worker.trial_metrics import stored_rows

        folder = trial_folder(self.folder, number, run)
        if self.bucket is None:
            return newest_epoch(folder / "checkpoints")
        return max((int(row["epoch"]) for row in stored_rows(folder)), default=0)

    def begun(self, number: int) -> bool:
        """Whether a trial that goes on need not begin again; with a bucket ``fetch`` comes first."""
        folder = trial_folder(self.folder, number)
        if self.bucket is None:
            return any(checkpoints_below(folder))
        return any(path.stat().st_size for pattern in ("", "*/") for path in folder.glob(f"{pattern}metrics.jsonl"))

    def drop_checkpoints(self, numbers: Collection[int]) -> None:
        """Remove the checkpoints of trials that nothing continues."""
        for number in numbers:
            for path in checkpoints_below(trial_folder(self.folder, number)):
                path.unlink(missing_ok=True)
        if self.bucket is not None and numbers:
            for name in self.bucket.list(self._below(numbers)):
                match = re.fullmatch(rf"{re.escape(self.prefix)}/trials/(\d+)/.*checkpoints/[^/]+", name)
                if match and int(match[1]) in numbers:
                    self.bucket.forget(name)

    def _below(self, numbers: Collection[int]) -> str:
        """Give what the names of these trials' objects begin with, so that one listing has them all."""
        return self._trial(next(iter(numbers))) if len(numbers) == 1 else f"{self.prefix}/trials"

    def _fetch_trial(self, number: int, names: Mapping[str, Stored], attempts: int, weights: bool) -> None:
        """Bring the files of one trial, and drop those that its newest attempt does not have."""
        if self.bucket is None:
            return
        prefix, folder = self._trial(number), trial_folder(self.folder, number)
        attempt, index = newest_begun(names, prefix, attempts), _read_index(folder)
        theirs = f"{prefix}/a{attempt}/"
        files = {name.removeprefix(theirs): list(names[name]) for name in names if name.startswith(theirs)}
        wanted = {name for name in files if _is_copied(name, weights)}
        here = index["files"] if index["attempt"] == attempt else {}
        here = {name: seen for name, seen in here.items() if files.get(name) == seen == _listed(folder / name, seen)}
        for name in index["files"].keys() - here.keys() - wanted:  # of an older attempt, or out of date
            (folder / name).unlink(missing_ok=True)
        for name in sorted(wanted - here.keys(), key=lambda name: name.endswith("result.json")):
            self.bucket.download(theirs + name, folder / name)
            here[name] = files[name]
        if index != {"attempt": attempt, "files": here}:
            place(folder / _INDEX_NAME, json.dumps({"attempt": attempt, "files": here}).encode())

    def _trial(self, number: int) -> str:
        return trial_folder(Path(self.prefix), number).as_posix()

    # The driver's own files

    def refuse_old_trials(self) -> None:
        """Refuse a sweep without a study where there are trials of its name, which belong to a study elsewhere.

        Raises:
            StateError: If there are any.
        """
        name, bucket = f"{self.prefix}/trials", self.bucket
        if bucket.list(name) if bucket is not None else any((self.folder / "trials").glob("*")):
            where = self.folder / "trials" if bucket is None else f"{bucket.url}/{name}"
            raise StateError(
                f"{where} holds trials of a sweep {self.folder.name!r} that the study database does not know: set "
                "ICD_STORAGE_URL to the one it was begun with, choose another --name or --root, or remove them by hand"
            )

    def fetch_made(self, uid: str) -> None:
        """Bring what the last driver of a study made, in place of what an earlier one has left on this machine.

        What names the study's ``uid`` and is not in the bucket could not be published and stays; anything else is of a
        sweep of this name that was removed.
        """
        for name, path in ((name, self.folder / name) for name in MADE):
            if self.bucket is None or self.bucket.download(f"{self.prefix}/{name}", path) or not path.exists():
                continue
            if not uid or uid.encode() not in path.read_bytes():
                path.unlink()

    def publish(self, made: Collection[str] = MADE) -> None:
        """Send what was made of the sweep: a driver's report and what it confirmed, or what is named."""
        if self.bucket is not None:
            for name in filter(lambda name: (self.folder / name).exists(), made):
                self.bucket.upload(f"{self.prefix}/{name}", self.folder / name)

    def ask_to_stop(self, how: str) -> None:
        """Ask the sweep's driver, on whatever machine, to stop."""
        write_durably(self.folder / STOP, how.encode(), parents=True)
        if self.bucket is not None:
            self.bucket.write(f"{self.prefix}/{STOP}", how.encode())

    def forget_stop(self) -> None:
        """Forget what was asked of an earlier driver."""
        self._asked = ""
        (self.folder / STOP).unlink(missing_ok=True)
        if self.bucket is not None:
            self.bucket.forget(f"{self.prefix}/{STOP}")

    def stop_asked(self) -> str:
        """Read what was asked of the driver."""
        self._look()
        return self._asked or stop_asked(self.folder)

    def _look(self) -> None:
        """Read what is asked in a bucket, now and then; one that is away asks nothing new."""
        if self.bucket is None or time.monotonic() - self._looked <= _LOOK_EVERY_S:
            return
        self._looked, here = time.monotonic(), Bucket(self.bucket.url, patience_s=0)
        with suppress(SetupError):
            self._asked = (here.read(f"{self.prefix}/{STOP}") or b"").decode().strip()
            contents = [here.read(name) or b"" for name in sorted(here.list(f"{self.prefix}/{_TRY}"))]
            self._requests = list(filter(None, map(read_request, contents)))

    # Trials that somebody asks for

    def ask_to_try(self, request: TrialRequest) -> None:
        """Keep a request until the driver has it in the study.

        Raises:
            SetupError: If it cannot be written.
        """
        content, name = request.to_bytes(), f"{request.name}.json"
        if self.bucket is not None:
            self.bucket.write(f"{self.prefix}/{_TRY}/{name}", content)
        else:
            write_durably(self.folder / _TRY / name, content, parents=True)

    def requests(self) -> list[TrialRequest]:
        """Give the requests that wait, the oldest first; files that are no requests are left alone."""
        if self.bucket is None:
            with suppress(OSError):
                contents = [path.read_bytes() for path in sorted((self.folder / _TRY).glob("[!.]*.json"))]
                return list(filter(None, map(read_request, contents)))
            return []  # one was taken meanwhile; the others are told the next time
        self._look()
        return self._requests

    def forget_request(self, request: TrialRequest) -> None:
        """Remove a request that the study has, or that can never be one of its trials; somebody else's file may stay.

        It is recognised then, since its trial has its name.
        """
        if self.bucket is None:
            with suppress(OSError):
                (self.folder / _TRY / f"{request.name}.json").unlink(missing_ok=True)
            return
        self._requests = [other for other in self._requests if other.name != request.name]
        self.bucket.forget(f"{self.prefix}/{_TRY}/{request.name}.json")


def sweep_files_of(folder: Path) -> SweepFiles:
    """Give the files of a sweep by its folder."""
    return SweepFiles(folder, bucket_of(folder.parent.parent))


def fetch_trials(root: Path, ledger: Ledger, *, weights: int | None = None) -> None:
    """Bring the files of a study's trials here, where the root is a bucket.

    Args:
        root: Of results.
        ledger: The study.
        weights: Only of this trial, with its trained student.
    """
    files = sweep_files_of(sweep_folder(root, ledger.name))
    if files.bucket is None:
        return
    records = [record for stage in get_args(Stage) for record in ledger.records(stage)]
    attempts = {record.number: record.attempts for record in records if weights in (None, record.number)}
    files.fetch(attempts, weights=weights is not None)


def _is_copied(name: str, weights: bool) -> bool:
    """Whether a file of a trial comes here: no checkpoint, and a trained student only where it is asked for."""
    *folders, own = name.split("/")
    return "checkpoints" not in folders and name != BEGUN and (weights or own != STUDENT)


def _listed(path: Path, seen: list[int]) -> list[int] | None:
    """Give back what a listing said of a file, if the copy here is as long."""
    return seen if path.exists() and path.stat().st_size == seen[0] else None


def _read_index(folder: Path) -> dict[str, Any]:
    try:
        index = json.loads((folder / _INDEX_NAME).read_text())
        return {"attempt": int(index["attempt"]), "files": dict(index["files"])}
    except (OSError, ValueError, KeyError, TypeError):
        return {"attempt": 0, "files": {}}
