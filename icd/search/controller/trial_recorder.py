"""Keeps ledger and MLflow in step with what trials' files say; whoever asks twice changes nothing."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from icd.config.sweep import SweepConfig
from icd.search.core.attempts import RunContext, trial_folder
from icd.search.core.dead_terms import DeadTerm, dead_terms
from icd.search.core.pair_runs import PairRun, epochs_before
from icd.search.core.records import TrialRecord
from icd.search.study.ledger import Ledger
from icd.search.study.sweep_files import sweep_files_of
from icd.search.suggest.search_space import SearchSpace
from icd.search.suggest.trial_source import TrialSource
from icd.search.tracking.run_view import trial_key
from icd.search.tracking.sweep_views import SweepViews, ask_for_trial, epoch_row
from icd.search.tracking.tracker import Tracker
from icd.worker.trial_metrics import stored_rows, training_seconds


class TrialRecorder:
    """What a driver writes down of its trials, and reads from their files."""

    def __init__(
        self,
        sweep: SweepConfig,
        space: SearchSpace,
        ledger: Ledger,
        tracker: Tracker,
        context: RunContext,
        source: TrialSource,
    ) -> None:
        self.sweep, self.ledger, self.context, self.source = sweep, ledger, context, source
        self.files = sweep_files_of(context.folder)
        self._weights = [row.name for row in space.dimensions() if row.name.endswith("_weight")]
        self.tracker, self.views = tracker, SweepViews(space, ledger.attributes, context.folder)

    @property
    def curve_metric(self) -> str:
        """What the ledger has of every epoch."""
        # A curve must be better in the direction of its objective: costs are minimised, so val/loss stands for them.
        first = self.sweep.objectives[0]
        if first.metric.startswith("cost/"):
            return "val/loss" if first.direction == "minimize" else "val/top1"
        return first.metric

    # Epochs

    def begin(self, number: int, members: Sequence[PairRun], record: TrialRecord) -> None:
        """Let MLflow hear that a trial begins, or goes on."""
        self.tracker.begin(self.views.begun(record, [member.config for member in members]))

    def commit(self, number: int, epoch: int, metrics: Mapping[str, float], member: str) -> None:
        """Tell ledger, then MLflow; neither takes what is not finite (a share of gradients that overflowed)."""
        value = metrics[self.curve_metric]
        if math.isfinite(value):
            self.ledger.add_epoch(number, epoch, value)
        self.tracker.epoch(trial_key(number), epoch_row(epoch, metrics, member))

    def catch_up(self, number: int) -> None:
        """Commit epochs that the trial's folder has and the ledger has not."""
        for run, before in self._runs(number):
            for row in stored_rows(trial_folder(self.context.folder, number, run)):
                metrics = {name: value for name, value in row.items() if name != "epoch"}
                self.commit(number, before + row["epoch"], metrics, run)

    def fetch(self, number: int) -> None:
        """Bring here what a trial's workers have published, where the root is a bucket."""
        if self.files.bucket is not None:
            self.files.fetch({number: self.ledger.record(number).attempts})

    def stored_epoch(self, number: int) -> int:
        """Where a trial goes on: a checkpoint is written before its epoch is told, so its folder may be ahead."""
        runs = self._runs(number)
        folders = {run: trial_folder(self.context.folder, number, run) for run, _ in runs}
        run, before = next((run for run in runs if not (folders[run[0]] / "result.json").exists()), runs[-1])
        return before + self.files.newest_epoch(number, run)

    # Ends

    def values(self, number: int, result: Mapping[str, Any]) -> tuple[list[list[float]], dict[str, Any]]:
        """Give the objectives of every run of a trial, whose last one gave ``result``, and what is noted with them."""
        members = self.members(number)
        results = [member.result(self.context.folder, number) for member in members[:-1]] + [dict(result)]
        runs = [self._measured(number, *run) for run in zip(members, results, strict=True)]
        notes = {
            "student_sha256": "+".join(own["student_sha256"] for own in results),
            "epochs": sum(own["epochs"] for own in results),
            "parameters": sum(own["parameters"] for own in results),
            # Of a trial that was finished by an earlier version it is not known.
            "engine": " + ".join(dict.fromkeys(own.get("engine", "unknown") for own in results)),
        }
        if len(members) > 1:  # what the trials are ranked by; the value that is told is their mean
            notes["members"] = {member.name: run[0] for member, run in zip(members, runs, strict=True)}
        return runs, notes

    def costs(self, number: int) -> dict[str, Any]:
        """What the epochs of a trial took, in seconds, what it held meanwhile, and which terms did nothing, if any."""
        rows = [stored_rows(trial_folder(self.context.folder, number, run)) for run, _ in self._runs(number)]
        dead = [term.to_data() for term in self._dead_terms(number, rows[0])] if len(rows) == 1 else []
        held = {"cpus": self.sweep.resources.cpus_per_trial, "gpus": self.context.gpus_per_trial}
        return {"seconds": sum(map(training_seconds, rows)), **held, **({"dead_terms": dead} if dead else {})}

    def dead_and_searched(self, number: int, epoch: int) -> list[DeadTerm]:
        """Find terms that did nothing up to an epoch, of those that the search can take away."""
        self.fetch(number)
        rows = stored_rows(trial_folder(self.context.folder, number))
        dead = self._dead_terms(number, [row for row in rows if row["epoch"] <= epoch])
        return [term for term in dead if term.searched]

    def settle(self, record: TrialRecord) -> None:
        """Let MLflow hear of a trial's end, and remove what only a continuation would need."""
        ask_for_trial(self.tracker, self.views, record)
        self.drop_checkpoints([record])

    def drop_checkpoints(self, records: Sequence[TrialRecord]) -> None:
        """Remove the checkpoints of trials that ended; nothing continues one, but a failed one may still tell why."""
        self.files.drop_checkpoints([record.number for record in records if record.state != "failed"])

    # Runs

    def members(self, number: int) -> tuple[PairRun, ...]:
        """Give the runs of a trial, with their configurations."""
        return self.source.members(self.ledger.record(number))

    def _runs(self, number: int) -> list[tuple[str, int]]:
        """Give the name of each run of a trial, and how many epochs are before it."""
        pairs = [pair.name for pair in self.sweep.pairs] or [""]
        return epochs_before(self.context.folder, number, pairs)

    def _measured(self, number: int, member: PairRun, result: Mapping[str, Any]) -> list[float]:
        """Give the objectives of a run."""
        last = stored_rows(member.folder(self.context.folder, number))[-1]
        measured = {**last, "cost/seconds": 60 * result["minutes"], "cost/parameters": result["parameters"]}
        return [float(measured[objective.metric]) for objective in self.sweep.objectives]

    def _dead_terms(self, number: int, rows: Sequence[Mapping[str, Any]]) -> list[DeadTerm]:
        (member,) = self.members(number)
        # What this trial was asked, not the whole space: with two scales of which one counts no weights are sampled. A
        # baseline was asked nothing; the weights of terms are what the search could take away from it.
        return dead_terms(rows, member.config, searched=self.ledger.record(number).params or self._weights)
