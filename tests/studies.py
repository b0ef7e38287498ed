"""Studies built by hand: trials are told, nothing is trained."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from optuna.trial import BaseTrial

from icd.config.read_sweep import read_sweep
from icd.config.walk import summary
from icd.config.yaml import Document
from icd.models import build_model
from icd.search.core.attempts import trial_folder
from icd.search.core.records import State
from icd.search.study.database import open_storage, storage_url
from icd.search.study.ledger import Ledger
from icd.search.study.sweep_index import sweep_folder
from icd.search.suggest.samplers import drive
from icd.search.suggest.search_space import SearchSpace
from icd.training.student_file import write_student
from icd.worker.trial_folder import claim
from tests.documents import document_of

EPOCHS = 4
DOCUMENT: dict[str, Any] = {
    "name": "by-hand",
    "data": {"name": "digits100", "train_per_class": 2, "test_per_class": 1, "val_fraction": 0.5},
    "teacher": {"arch": "resnet8", "weights": "train", "training": {"epochs": 1, "batch_size": 50}},
    "student": "resnet8",
    "method": "iCD-KD",
    "training": {"epochs": EPOCHS, "batch_size": 50},
    "ranges": {"cluster_weight": {"low": 1, "high": 8}},
    "enqueue": ["KD"],
    "sampler": {"name": "random"},
    "pruner": {"name": "successive_halving", "min_epochs": 1, "reduction": 2},
    "budget": {"trials": 6},
}


def changed(**parts: Any) -> dict[str, Any]:
    """Give the document with other parts; None removes one."""
    return document_of({**DOCUMENT, **parts})


class Study:
    """A study below a root, and what a driver would have done to it."""

    def __init__(self, root: Path, document: Mapping[str, Any] = DOCUMENT) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self.root, self.document = root, document_of(document)
        self.sweep = read_sweep(Document(self.document, "test"))
        self.space = SearchSpace(self.sweep)
        attributes = {
            "uid": "f00d",
            "created": "2026-01-01T00:00:00Z",
            "document": json.dumps(self.document),
            "sweep": json.dumps(self.sweep.to_data()),
            "space": json.dumps(summary(self.sweep.template)),
            "versions": {"icd": "0.1.0", "torch": "2.14", "git": "abc"},
            "data_digest": "d",
            "teachers": {},
            "digest": self.sweep.digest(),
        }
        self.ledger = Ledger.create(open_storage(storage_url(root)), self.sweep, attributes)
        drive(self.ledger, self.sweep, self.space.untried(), EPOCHS)
        self.folder = sweep_folder(root, self.sweep.name)
        self.folder.mkdir(parents=True)

    def trial(
        self,
        state: State,
        curve: Sequence[float] = (),
        *,
        values: Sequence[float] | None = None,
        baseline: bool = False,
        control: bool = False,
        files: bool = False,
        **attributes: Any,
    ) -> int:
        """Add a trial with a value for each epoch; its number."""
        if baseline:
            document = self.space.baseline(self.sweep.enqueue[0])
            number = self.ledger.add_baseline(self.sweep.enqueue[0].label, {}, {}, {})
        else:
            asked: list[dict[str, Any]] = []

            def suggest(trial: BaseTrial) -> Mapping[str, Any]:
                asked.append(dict(self.space.suggest(trial)))
                return asked[-1]

            number = self.ledger.ask(suggest)
            document = asked[-1]
        config = self.space.read(document)
        self.ledger.note(number, control=control or baseline, key=config.key(), attempts=1)
        for epoch, value in enumerate(curve, 1):
            self.ledger.add_epoch(number, epoch, value)
        if state == "complete":
            told = list(values) if values is not None else [curve[-1]]
            self.ledger.tell(number, "complete", told, exit_reason="complete", seconds=3.0, **attributes)
        elif state != "running":
            self.ledger.tell(number, state, **attributes)
        if files:
            folder = trial_folder(self.folder, number)
            claim(folder, config, resume=False)
            weights = build_model("resnet8", num_classes=100, stem=config.student.stem, seed=0).state_dict()
            write_student(folder, weights, config.key())
        return number


def usual(root: Path) -> Study:
    """Give a study with one trial of each kind: 0 baseline, 1 best, 2 pruned, 3 failed, 4 duplicate, 5 running."""
    study = Study(root)
    study.trial("complete", [10, 20, 30, 40], baseline=True, files=True)
    study.trial("complete", [20, 30, 40, 50], files=True)
    study.trial("pruned", [5, 6], reason="pruned at epoch 2", exit_reason="pruned")
    study.trial("failed", reason="out of memory", exit_reason="memory")
    study.trial("duplicate", twin=1, reason="same configuration as trial 1")
    study.trial("running", [15])
    return study
