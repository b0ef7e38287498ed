"""What a report is made from: a study, and what the folders of its trials hold. Imports neither torch nor MLflow."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from icd.config.sweep import Direction
from icd.results.importance import Importance, importance_of
from icd.results.outcome import Outcome
from icd.results.pruning import PruningAudit, audit_sweep
from icd.results.read_outcome import outcome_of
from icd.results.sentences import luck
from icd.search.core.attempts import trial_folder
from icd.search.core.dead_terms import DeadKind, dead_kinds
from icd.search.core.records import TrialRecord, best, in_order
from icd.search.study.sweep_files import fetch_trials
from icd.search.study.sweep_index import find, pasted, sweep_folder, tracking_uri
from icd.search.sweep_status import ENDED_BY_ITSELF, counts_of, driver_of, plain_sweep
from icd.search.tracking.mlflow_pages import without_password
from icd.worker.gram_file import GRAMS_NAME, Grams, read_grams
from icd.worker.trial_metrics import stored_rows

_VAL_IMAGES = re.compile(r"([0-9]+) validation images")


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Everything a report says.

    Attributes:
        sweep: Its configuration as plain data; ``document`` is what its file said.
        attributes: The study's own: versions, digests, when it was created.
        curves: Rows of metrics.jsonl of the best trial and of the best baseline.
        grams: Of the best trial that has them, with its number.
        luck: By how much the best trial's score is too high, in words; empty where no spread over seeds was measured.
        root_option: ``--root ROOT`` with a space before it, where a command needs it.
        leaderboard: Where MLflow shows the runs and compares them; a command where it is no server.
    """

    name: str
    sweep: Mapping[str, Any]
    document: Mapping[str, Any]
    attributes: Mapping[str, Any]
    state: str
    records: Sequence[TrialRecord]
    best: TrialRecord | None
    curves: Mapping[int, Sequence[Mapping[str, float]]]
    grams: tuple[int, Grams] | None
    importance: Importance
    audit: PruningAudit | None
    confirmation: Outcome | None
    ablation: Outcome | None
    luck: str
    root_option: str
    leaderboard: str

    @property
    def val_images(self) -> int | None:
        """How many validation images there are; None where the study does not know."""
        found = _VAL_IMAGES.search(str(self.attributes.get("data", "")))
        return int(found[1]) if found else None

    @property
    def binomial_error(self) -> float | None:
        """Standard error of the best trial's top-1 from the choice of validation images, in points."""
        best, count = self.best, self.val_images
        if not count or best is None or self.metrics[0] != "val/top1" or best.rank is not None:
            return None
        share = best.values[0] / 100
        return 100 * math.sqrt(max(share * (1 - share), 0.0) / count)

    @property
    def metrics(self) -> list[str]:
        """Metric of each objective."""
        return [item["metric"] for item in self.sweep["objectives"]]

    @property
    def directions(self) -> list[Direction]:
        """Direction of each objective."""
        return [item["direction"] for item in self.sweep["objectives"]]

    @property
    def maximize(self) -> bool:
        """Whether the first objective is to be large."""
        return self.directions[0] == "maximize"

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
    def dead(self) -> list[DeadKind]:
        """Terms of the loss that do nothing."""
        return dead_kinds(self.records)

    @property
    def counts(self) -> dict[str, int]:
        """Trials by state."""
        return counts_of(self.records)


def gather(root: Path, name: str) -> Facts:
    """Read a sweep.

    Raises:
        StateError: If there is none of that name.
    """
    ledger, folder = find(root, name), sweep_folder(root, name)
    fetch_trials(root, ledger)
    sweep, attributes, records = plain_sweep(ledger), ledger.attributes, ledger.records()
    maximize = sweep["objectives"][0]["direction"] == "maximize"
    complete = in_order(records, maximize=maximize)
    confirmation, ablation = outcome_of(ledger, "confirm"), outcome_of(ledger, "ablate")
    # Over several pairs the best is the first by rank, which need not have the highest mean.
    highest = sweep["objectives"][0]["metric"] == "val/top1" and not ledger.ranked
    shown = [*complete[:1], *[record for record in complete[1:] if record.baseline][:1]]
    return Facts(
        name=name,
        sweep=sweep,
        document=json.loads(attributes["document"]),
        attributes=attributes,
        state=_state(root, name, attributes, records),
        records=records,
        best=best(records, maximize=maximize),
        curves={record.number: stored_rows(trial_folder(folder, record.number)) for record in shown},
        grams=_grams(folder, complete),
        importance=importance_of(ledger, records),
        audit=audit_sweep(sweep, records),
        confirmation=confirmation,
        ablation=ablation,
        luck=luck(len(complete), confirmation, ablation) if highest else "",
        root_option=pasted(root, "").removeprefix("icd "),
        leaderboard=_leaderboard(root, name),
    )


def _leaderboard(root: Path, name: str) -> str:
    uri = tracking_uri(root)
    if not uri.startswith(("http://", "https://")):
        return pasted(root, "ui", name)
    return f"{without_password(uri).rstrip('/')}/#/experiments?searchFilter={quote(name)}"


def label_of(record: TrialRecord) -> str:
    """Name a trial in a few words: its number, and its baseline or its choices."""
    choices = [value for value in record.params.values() if isinstance(value, str)]
    words = record.baseline or " ".join(choices[:3])
    return f"trial {record.number} {words}".strip()


def _state(root: Path, name: str, attributes: Mapping[str, Any], records: Sequence[TrialRecord]) -> str:
    """Say how a sweep stands; a driver that is about to leave has noted why already."""
    why = str(attributes.get("stopped_by", ""))
    if why in ENDED_BY_ITSELF and not any(record.state == "running" for record in records):
        ends = {"budget": "its budget is used", "exhausted": "the space has nothing new"}
        return f"finished: {ends.get(why, 'more trials are expected to gain less than budget.min_gain')}"
    if why:
        return f"stopped ({why}); it can be resumed"
    return "running" if driver_of(root, name) else "its driver was killed; it can be resumed"


def _grams(folder: Path, complete: Sequence[TrialRecord]) -> tuple[int, Grams] | None:
    for record in complete:
        grams = read_grams(trial_folder(folder, record.number) / GRAMS_NAME)
        if grams is not None and grams.teacher:
            return record.number, grams
    return None
