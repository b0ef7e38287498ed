"""Ablations built by hand: runs of arms are told, nothing is trained."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from icd.config.trial import TrialConfig
from icd.models import build_model
from icd.results.ablate import make_plan
from icd.results.outcome import Outcome
from icd.results.plan import Plan, begin_plan
from icd.results.read_outcome import outcome_of
from icd.search.core.attempts import trial_folder
from icd.search.core.records import run_label
from icd.search.study.ledger import Ledger
from icd.training import student_file
from icd.worker.trial_folder import claim
from tests.driving import empty_database
from tests.studies import Study, usual

SEEDS = (101, 102, 103)


def study_at(root: Path) -> Study:
    """Give the usual study; its trial 1, iCD-KD with a sampled cluster weight, is the best."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "study.db").write_bytes(empty_database())
    return usual(root)


def planned(study: Study, *, trial: int | None = None, seeds: int = 3, anew: bool = False) -> Plan:
    """Begin an ablation."""
    return begin_plan(study.ledger, make_plan(study.ledger, study.sweep, trial=trial, seeds=seeds), anew=anew)


def told(ledger: Ledger, plan: Plan, values: Mapping[str, Sequence[float | None]]) -> dict[tuple[str, int], int]:
    """Tell the runs of arms in the order of the seeds, None for one that diverged; their numbers."""
    numbers = {}
    runs = [(arm.label, seed) for seed in plan.seeds for arm in plan.arms]
    keys = {run: config.key() for run, config in zip(runs, plan.configs, strict=True)}
    for label, own in values.items():
        for seed, value in zip(plan.seeds, own, strict=False):
            known: dict[str, Any] = {"stage": plan.stage, "arm": label, "seed": seed, "round": plan.round}
            known["key"] = keys[label, seed]
            number = ledger.add_baseline(run_label(plan.round, label, seed), {}, {}, known)
            numbers[label, seed] = number
            if value is None:
                ledger.tell(number, "pruned", reason="diverged", exit_reason="diverged")
                continue
            ledger.add_epoch(number, 1, value)
            ledger.tell(number, "complete", [value], exit_reason="complete", seconds=3.0)
    return numbers


def ablated(study: Study, values: Mapping[str, Sequence[float | None]] | None = None) -> Outcome:
    """Tell a whole ablation: arms that are not named reach 40 %, far below the whole configuration."""
    plan = planned(study)
    usual_values = {arm.label: (40.0, 40.5, 41.0) for arm in plan.arms}
    told(study.ledger, plan, {**usual_values, "whole": (60.0, 61.0, 62.0), **(values or {})})
    found = outcome_of(study.ledger, "ablate")
    assert found is not None
    return found


def write_student(study: Study, number: int, config: TrialConfig) -> None:
    """Write what a worker leaves of a run that is exported."""
    folder = trial_folder(study.folder, number)
    claim(folder, config, resume=False)
    weights = build_model("resnet8", num_classes=100, stem=config.student.stem, seed=0).state_dict()
    student_file.write_student(folder, weights, config.key())
