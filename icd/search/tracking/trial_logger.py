"""What MLflow will hear of a trial: its beginning, its epochs and its end, each put into the outbox once."""

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from icd.config.sweep import SweepConfig
from icd.search.core.attempts import trial_folder
from icd.search.core.dead_terms import noted_terms
from icd.search.core.pair_runs import PairRun
from icd.search.core.records import TrialRecord
from icd.search.study.ledger import Ledger
from icd.search.suggest.search_space import SearchSpace
from icd.search.tracking.outbox import Outbox

_FILES = ("config.yaml", "metrics.jsonl", "result.json", "curves.png", "grams.png", "grams.npz")


class TrialLogger:
    """Turns what the ledger holds into the outbox's lines; whoever calls twice changes nothing."""

    def __init__(
        self, sweep: SweepConfig, space: SearchSpace, ledger: Ledger, outbox: Outbox, folder: Path, data_digest: str
    ) -> None:
        self.sweep, self.space, self.ledger, self.outbox = sweep, space, ledger, outbox
        self.folder, self.data_digest = folder, data_digest

    def begun(self, number: int) -> bool:
        """Whether the trial's beginning is told."""
        return self.outbox.has_trial(number)

    def ended(self, number: int) -> bool:
        """Whether the trial's end is told."""
        return self.outbox.has_end(number)

    def begin(self, number: int, members: Sequence[PairRun], record: TrialRecord) -> None:
        """Tell a trial's name, parameters and tags."""
        if self.begun(number):
            return
        row = self.space.row(*(member.config for member in members))
        teachers = [member.config.teacher for member in members]
        tags = {
            "stage": record.stage,
            "state": "running",
            "baseline": record.baseline or "",
            "start": record.start or "",
            "data_digest": self.data_digest[:16],
            "teacher_digest": "+".join((teacher.digest or "")[:16] if teacher else "" for teacher in teachers),
            "key": record.key[:16],
            **{name: row[name] for name in ("teacher", "student", "method", "seed") if name in row},
            **self.ledger.attributes.get("versions", {}),
        }
        described = " ".join(row[f"method.{name}"] for name in ("scales", "base_loss"))
        stage = "" if record.stage == "search" else f"{record.stage} "
        name = f"{number:04d} {stage}{record.baseline or record.start or described}".strip()
        self.outbox.trial(number, time_ms=_now_ms(), name=name, params=row, tags=tags)

    def epoch(self, number: int, epoch: int, metrics: Mapping[str, float], member: str = "") -> None:
        """Tell an epoch's finite metrics, at the time at which it ended; those of one of several runs by its name."""
        if self.outbox.has_epoch(number, epoch):
            return
        finite = {name: value for name, value in metrics.items() if name != "time" and math.isfinite(value)}
        shown = {_of(member, name): value for name, value in finite.items()}
        self.outbox.epoch(number, epoch, time_ms=int(1000 * metrics["time"]), metrics=shown)

    def end(self, record: TrialRecord) -> None:
        """Tell how a trial ended, its values and its files."""
        if self.ended(record.number):
            return
        folder = trial_folder(self.folder, record.number)
        runs = [folder / member for member in record.members] or [folder]
        paths = [run / name for run in runs for name in _FILES]
        metric = self.sweep.objectives[0].metric
        members = {f"final/{_of(member, metric)}": value for member, value in record.members.items()}
        if members:  # the leaderboard shows what a trial of one run has from its epochs
            members[metric] = record.values[0]
        values = zip(self.sweep.objectives, record.values, strict=False)  # a trial without a value has none
        tags = {"engine": str(record.attributes["engine"])} if "engine" in record.attributes else {}
        tags |= {"exit_reason": str(record.attributes.get("exit_reason", record.state)), "reason": record.reason}
        dead = noted_terms(record)
        if dead:
            tags["dead_terms"] = "; ".join(term.sentence for term in dead)
        self.outbox.end(
            record.number,
            time_ms=_now_ms(),
            state=record.state if record.state in ("complete", "pruned") else "failed",
            metrics={**{f"final/{item.metric}": value for item, value in values}, **members},
            tags=tags,
            artifacts=[str(path.relative_to(self.folder)) for path in paths if path.exists()],
        )


def _of(member: str, metric: str) -> str:
    return f"{member}/{metric}" if member else metric


def _now_ms() -> int:
    return int(1000 * time.time())
