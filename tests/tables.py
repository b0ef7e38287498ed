"""Tables of methods built by hand: searches and confirmation runs are told, nothing is trained."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from icd.config.yaml import Document
from icd.results.benchmark import Entry, entries
from icd.results.outcome import FailedRuns, PlannedArm
from icd.results.plan import Plan, begin_plan
from icd.search.core.records import run_label
from tests.documents import document_of
from tests.driving import empty_database
from tests.studies import Study

TEMPERATURE = {"base_loss": {"kd": {"temperature": {"low": 1, "high": 8}}}}
DOCUMENT: dict[str, Any] = {
    "name": "my_table",
    "data": {"name": "digits100", "train_per_class": 2, "test_per_class": 1, "val_fraction": 0.5},
    "teacher": {"arch": "resnet8", "weights": "train", "training": {"epochs": 1, "batch_size": 50}},
    "student": "resnet8",
    "training": {"epochs": 1, "batch_size": 50},
    "ranges": {"method": {"KD": TEMPERATURE, "SD-KD": TEMPERATURE, "sp": {}}},
    "sampler": "random",
    "budget": {"trials": 2},
}


def document(**parts: Any) -> Document:
    """Give the file with other parts; None removes one."""
    return Document(document_of({**DOCUMENT, **parts}), "x.yaml")


def rows(methods: Any, **parts: Any) -> list[Entry]:
    """Give the entries of a file that names its methods so."""
    return entries(document(ranges={"method": methods}, **parts))


def searched(root: Path, entry: Entry, best: float | None = 50.0) -> Study:
    """Tell a finished search of one trial, which ran all epochs unless there is no value."""
    root.mkdir(parents=True, exist_ok=True)
    if not (root / "study.db").exists():
        (root / "study.db").write_bytes(empty_database())
    study = Study(root, entry.document.data)
    if best is None:
        study.trial("pruned", reason="diverged", exit_reason="diverged")
    else:
        study.trial("complete", [best], baseline=bool(entry.sweep.enqueue))
    study.ledger.note_study(uid=f"uid{entry.row}", stopped_by="budget", gpus_per_trial=0.0)
    return study


def confirmed(
    study: Study,
    values: Mapping[int, float | None],
    planned: int | None = None,
    failed_runs: FailedRuns = "left-out",
    failed: Collection[int] = (),
) -> None:
    """Tell confirmation runs by seed; None for one that diverged, and ``failed`` are seeds of runs that broke."""
    seeds = tuple(range(101, 101 + (planned or len(values))))
    arm = PlannedArm(label="trial 0", kind="finalist", trial=0, search_value=50.0, config={})
    plan = Plan(stage="confirm", arms=(arm,), seeds=seeds, first=len(seeds), adaptive=False, failed_runs=failed_runs)
    plan = begin_plan(study.ledger, plan, anew=True)
    for seed, value in values.items():
        known = {"stage": "confirm", "arm": arm.label, "seed": seed, "round": plan.round, "key": f"k{seed}"}
        number = study.ledger.add_baseline(run_label(plan.round, arm.label, seed), {}, {}, known)
        if seed in failed:
            study.ledger.tell(number, "failed", reason="OSError", exit_reason="crashed")
        elif value is None:
            study.ledger.tell(number, "pruned", reason="diverged", exit_reason="diverged", chance=1.0)
        else:
            study.ledger.add_epoch(number, 1, value)
            study.ledger.tell(number, "complete", [value], exit_reason="complete", seconds=36.0)
