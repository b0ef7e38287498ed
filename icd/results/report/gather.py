"""What a report is made from: a study, and what the folders of its trials hold. Imports neither torch nor MLflow."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from icd.results.importance import Importance, importance_of
from icd.results.outcome import Outcome
from icd.results.pruning import PruningAudit, audit_sweep
from icd.results.read_outcome import outcome_of
from icd.search.core.attempts import trial_folder
from icd.search.core.records import TrialRecord, in_order
from icd.search.study.sweep_files import fetch_trials
from icd.search.study.sweep_index import find, pasted, sweep_folder, tracking_uri
from icd.search.sweep_status import driver_of, plain_sweep, records_of, used_budget
from icd.search.tracking.mlflow_pages import without_password
from icd.worker.gram_file import GRAMS_NAME, Grams, read_grams
from icd.worker.trial_metrics import stored_rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Everything a report says."""

    name: str
    sweep: Mapping[str, Any]  # its configuration as plain data
    attributes: Mapping[str, Any]  # the study's own: versions, digests, when it was created
    driver: str | None  # who drives it now
    records: Sequence[TrialRecord]
    used: Mapping[str, float | None]  # of its budget
    curves: Mapping[int, Sequence[Mapping[str, float]]]  # rows of metrics.jsonl of the best trial and best baseline
    grams: tuple[int, Grams] | None  # of the best trial that has them, with its number
    importance: Importance
    audit: PruningAudit | None
    confirmation: Outcome | None
    ablation: Outcome | None
    root_option: str  # ``--root ROOT`` with a space before it, where a command needs it
    leaderboard: str  # where MLflow shows the runs and compares them; a command where it is no server

    @property
    def val_images(self) -> int | None:
        """How many validation images there are; None where the study does not know."""
        found = re.search(r"([0-9]+) validation images", str(self.attributes.get("data", "")))
        return int(found[1]) if found else None

    @property
    def metrics(self) -> list[str]:
        """Metric of each objective."""
        return [item["metric"] for item in self.sweep["objectives"]]

    @property
    def maximize(self) -> bool:
        """Whether the first objective is to be large."""
        return bool(self.sweep["objectives"][0]["direction"] == "maximize")

    @property
    def curve_metric(self) -> str:
        """What a trial's curve shows: the first objective, or what stands for a cost."""
        if self.metrics[0].startswith("cost/"):
            return "val/top1" if self.maximize else "val/loss"
        return self.metrics[0]

    @property
    def complete(self) -> list[TrialRecord]:
        """Complete trials, best first by the first objective."""
        return in_order(self.records, maximize=self.maximize)

    @property
    def best(self) -> TrialRecord | None:
        """The best complete trial."""
        return next(iter(self.complete), None)


def gather(root: Path, name: str) -> Facts:
    """Read a sweep.

    Raises:
        StateError: If there is none of that name.
    """
    ledger, folder = find(root, name), sweep_folder(root, name)
    fetch_trials(root, ledger)
    sweep, attributes, records = plain_sweep(ledger), ledger.attributes, records_of(root, ledger)
    complete = in_order(records, maximize=sweep["objectives"][0]["direction"] == "maximize")
    shown = [*complete[:1], *[record for record in complete[1:] if record.baseline][:1]]
    found = ((record.number, read_grams(trial_folder(folder, record.number) / GRAMS_NAME)) for record in complete)
    return Facts(
        name=name,
        sweep=sweep,
        attributes=attributes,
        driver=driver_of(root, name),
        records=records,
        used=used_budget(ledger, records),
        curves={record.number: stored_rows(trial_folder(folder, record.number)) for record in shown},
        grams=next(((number, grams) for number, grams in found if grams is not None and grams.teacher), None),
        importance=importance_of(ledger, records),
        audit=audit_sweep(sweep, records),
        confirmation=outcome_of(ledger, "confirm"),
        ablation=outcome_of(ledger, "ablate"),
        root_option=pasted(root, "").removeprefix("icd "),
        leaderboard=_leaderboard(root, name),
    )


def _leaderboard(root: Path, name: str) -> str:
    uri = tracking_uri(root)
    if not uri.startswith(("http://", "https://")):
        return pasted(root, "ui", name)
    return f"{without_password(uri).rstrip('/')}/#/experiments?searchFilter={quote(name)}"
