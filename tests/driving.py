"""What the tests of the driver share: a tiny sweep, a real ledger, and a hand that plays the workers."""

import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from icd.config.read_sweep import read_sweep
from icd.config.sweep import SweepConfig
from icd.config.walk import summary
from icd.config.yaml import Document
from icd.search.controller.controller import SweepController
from icd.search.core.attempts import Attempt, AttemptResult, EpochReport, RunContext
from icd.search.core.preparation import PreflightResult, teacher_name
from icd.search.study.database import open_storage
from icd.search.study.ledger import Ledger
from icd.search.study.sweep_files import sweep_files_of
from icd.search.suggest.list_source import ListSource
from icd.search.suggest.samplers import drive
from icd.search.suggest.search_space import SearchSpace
from icd.search.suggest.warm_start import find_starts, stored_starts
from icd.search.tracking.run_view import Row, RunView
from icd.search.tracking.tracker import Tracker
from tests.documents import document_of

EPOCHS = 4
DOCUMENT: dict[str, Any] = {
    "name": "tiny",
    "data": {"name": "digits100"},
    "teacher": {"arch": "resnet20", "weights": "train"},
    "student": {"arch": "resnet8"},
    "training": {"preset": "digits100", "epochs": EPOCHS},
    "ranges": {"cluster_weight": {"low": 0.5, "high": 64, "log": True}, "scales": [1, 2], "base_loss": "kd"},
    "sampler": {"name": "random"},
    "budget": {"trials": 4},
}
POINTS = {"scales": [1, 2], "base_loss": "kd", "cluster_weight": {"choices": [1, 2, 4]}}
REPEATS = {"name": "random", "seed": 1}  # draws a point of POINTS twice before it has drawn all three
RESULT = {"minutes": 1.0, "parameters": 100, "student_sha256": "f" * 64, "epochs": EPOCHS}
Value = Callable[[int, int], float]  # of a trial's number and its epoch, which is counted on from pair to pair


def run_at(attempt: Attempt, epoch: int) -> tuple[str, int]:
    """Give the name of the run that an epoch belongs to, and how many epochs are before it."""
    before = (epoch - 1) // EPOCHS * EPOCHS
    return list(attempt.runs)[before // EPOCHS], before


def sweep_of(**changes: Any) -> tuple[SweepConfig, dict[str, Any]]:
    document = document_of({**DOCUMENT, **changes})
    return read_sweep(Document(document, "tiny.yaml")), document


@cache
def empty_database() -> bytes:
    """A study database without studies; making one takes a second."""
    with tempfile.TemporaryDirectory() as folder:
        open_storage(f"sqlite:///{folder}/study.db").get_all_studies()
        return (Path(folder) / "study.db").read_bytes()


class Asked(Tracker):
    """Keeps what is asked for, and sends nothing."""

    def __init__(self) -> None:
        super().__init__(lambda line: None)
        self.begun: list[RunView] = []
        self.epochs: list[tuple[str, Row]] = []
        self.ends: dict[str, Callable[[], RunView]] = {}

    def begin(self, view: RunView) -> None:
        super().begin(view)
        self.begun.append(view)

    def epoch(self, key: str, row: Row) -> None:
        before = len(self._wanted[key].rows) if key in self._wanted else 0
        super().epoch(key, row)
        if key in self._wanted and len(self._wanted[key].rows) > before:
            self.epochs.append((key, row))

    def want(self, key: str, make: Callable[[], RunView], mark: str = "") -> None:
        super().want(key, make, mark)
        self.ends[key] = make


class Hand:
    """A driver, driven by hand: gives out attempts, says epochs and ends as workers would."""

    part = "val"  # which images trials are measured on

    def __init__(self, root: Path, *, gpus: float = 0.0, url: str | None = None, **changes: Any) -> None:
        self.root, self.gpus, self.said, self.changes = root, gpus, list[str](), changes
        self.sweep, document = sweep_of(**changes)
        if not (root / "study.db").exists():
            (root / "study.db").write_bytes(empty_database())
        self.storage = open_storage(url or f"sqlite:///{root / 'study.db'}")
        begun = self.sweep.name in Ledger.names(self.storage)
        if begun:
            self.ledger = Ledger(self.storage, self.sweep.name, self.said.append)
        starts = stored_starts(self.ledger) if begun else find_starts(self.sweep, root, self.said.append)
        self.space = SearchSpace(self.sweep, starts)
        self.folder = root / "sweeps" / self.sweep.name
        self.folder.mkdir(parents=True, exist_ok=True)
        self.prepared = PreflightResult(
            data_digest="d" * 64,
            data="digits",
            num_classes=10,
            teachers={teacher_name(config): "e" * 64 for config in self.space.extremes()},
            teacher_lines=(),
            gpus=0,
            device="cpu",
        )
        if not begun:
            attributes = {
                "uid": "f00d",
                "versions": {},
                "document": json.dumps(document),
                "sweep": json.dumps(self.sweep.to_data()),
                "space": json.dumps(summary(self.sweep.template)),
                "starts": [asdict(start) for start in starts],
                "data_digest": self.prepared.data_digest,
                "teachers": dict(self.prepared.teachers),
                "digest": self.sweep.digest(),
            }
            self.ledger = Ledger.create(self.storage, self.sweep, attributes)
        self.tracker = Asked()
        self.driver = self.drive()

    def drive(self) -> SweepController:
        """Make the driver: here that of the search."""
        drive(self.ledger, self.sweep, self.space.untried(), EPOCHS)
        return self.driver_of(self.sweep)

    def driver_of(self, sweep: SweepConfig, source: ListSource | None = None) -> SweepController:
        """Make a driver on what is open."""
        context = RunContext(
            folder=self.folder,
            root=self.root,
            stage=source.stage if source is not None else "search",
            gpus_per_trial=self.gpus,
        )
        said = self.said
        return SweepController(
            sweep, self.space, self.ledger, self.tracker, self.prepared, context, said.append, source
        )

    def again(self, **changes: Any) -> "Hand":
        """Another driver on the same ledger, as after a kill."""
        self.close()
        return Hand(self.root, gpus=self.gpus, **changes)

    def take(self) -> None:
        """Take what 'icd try' asks for, as a driver does several times a second."""
        files = sweep_files_of(self.folder)
        for request in files.requests():
            if self.driver.take(request):
                files.forget_request(request)

    def close(self) -> None:
        """Leave as a killed driver does."""
        self.storage.remove_session()

    def epoch(self, attempt: Attempt, epoch: int, top1: float = 50.0, seconds: float = 10.0, **more: float) -> bool:
        metrics = {f"{self.part}/top1": top1, f"{self.part}/loss": 1.0, f"{self.part}/ece": 5.0}
        metrics |= {"train/loss": 1.0, "seconds/epoch": seconds, "time": time.time(), **more}
        run, before = run_at(attempt, epoch)
        folder = attempt.folder / run
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "metrics.jsonl").open("a") as file:
            file.write(json.dumps({"epoch": epoch - before, **metrics}) + "\n")
        if epoch - before == EPOCHS and epoch < attempt.epochs:  # the next run is due
            (folder / "result.json").write_text(json.dumps(RESULT))
        return self.driver.on_epoch(
            EpochReport(number=attempt.number, attempt=attempt.attempt, epoch=epoch, metrics=metrics, run=run)
        )

    def end(self, attempt: Attempt, kind: Any = "complete", reason: str = "", **result: Any) -> None:
        result = {**RESULT, **result}
        outcome = AttemptResult(
            number=attempt.number,
            attempt=attempt.attempt,
            kind=kind,
            reason=reason,
            device="cpu",
            result=result if kind == "complete" else {},
        )
        self.driver.on_finished(outcome)

    def train(
        self,
        attempt: Attempt,
        value: Value = lambda number, epoch: 50.0 + number + epoch,
        *,
        seconds: float = 10.0,
        **result: Any,
    ) -> bool:
        """Train a trial to its end; whether it got there."""
        for epoch in range(1, attempt.epochs + 1):
            go = self.epoch(attempt, epoch, value(attempt.number, epoch), seconds)
            if not go and epoch < attempt.epochs:
                self.end(attempt, "stopped")
                return False
        self.end(attempt, "complete", **result)
        return True

    def finish(self, value: Value = lambda number, epoch: 50.0 + number + epoch) -> list[int]:
        """Train all that is left; the numbers in the order in which they were given."""
        numbers = []
        while not self.driver.done:
            if (attempt := self.driver.next_attempt()) is not None:
                numbers.append(attempt.number)
                self.train(attempt, value)
        assert self.driver.next_attempt() is None
        return numbers

    @property
    def states(self) -> list[str]:
        return [record.state for record in self.ledger.records()]

    @property
    def ends(self) -> list[RunView]:
        """What MLflow is asked to show of trials that ended."""
        return [make() for make in self.tracker.ends.values()]

    def stored(self) -> list[Any]:
        """What a fresh reader of the database finds."""
        return Ledger(open_storage(f"sqlite:///{self.root / 'study.db'}"), self.sweep.name).records()
