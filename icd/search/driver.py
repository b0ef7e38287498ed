"""The policy that both executors follow: what to run next, what an epoch means, and what a fault leads to.

Every answer is a function of the ledger and the trial folders, so a driver that replaces a dead one goes on as that one
would have. The order of an epoch: checkpoint durable (worker), then ledger, then outbox.
"""

import logging
import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from icd.config.sweep import Baseline, SweepConfig
from icd.config.trial import TrialConfig
from icd.errors import ConfigError, SetupError, StateError
from icd.search.outbox import Outbox
from icd.search.prepare import Prepared
from icd.search.record import TrialRecord
from icd.search.samplers import draw_seed
from icd.search.space import SearchSpace
from icd.search.study import Ledger
from icd.search.task import RETRIES, Epoch, Outcome, Task, trial_folder
from icd.trial.checkpoint import write_durably
from icd.trial.runs import stored_rows, training_seconds

logger = logging.getLogger(__name__)

_DUPLICATES_IN_ROW = 100  # after so many the sampler has nothing new to say
_HOPELESS = 3  # first trials that all fail end the sweep


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Where a sweep runs.

    Attributes:
        folder: The sweep's folder.
        root: Folder of results.
        data_root: Folder of data sets.
        gpus_per_trial: GPUs a trial holds, for the budget.
        threads: Of torch in each trial.
    """

    folder: Path
    root: Path
    data_root: Path | None = None
    gpus_per_trial: float = 0.0
    threads: int = 1


@dataclass(slots=True)
class Running:
    """A trial under way."""

    attempt: int
    epochs: int
    epoch: int = 0
    value: float | None = None


class Driver:
    """Decides; implements ``task.Policy``. All calls come from one thread."""

    def __init__(
        self,
        sweep: SweepConfig,
        space: SearchSpace,
        ledger: Ledger,
        outbox: Outbox,
        prepared: Prepared,
        site: Site,
        announce: Callable[[str], None],
    ) -> None:
        self.sweep, self.space, self.ledger, self.outbox = sweep, space, ledger, outbox
        self.prepared, self.site, self.announce = prepared, site, announce
        self.running: dict[int, Running] = {}
        self.drain = self.stop_now = False
        self.stopped_by = ""
        self.halted: SetupError | None = None
        self._waiting: list[int] = []  # begun before, or to be tried again
        self._known: set[int] = set()  # numbers whose configuration is committed
        self._keys: dict[str, int] = {}  # configurations that are trained, or were
        self._faults: dict[int, dict[str, int]] = {}
        self._epoch_seconds: list[float] = []
        self._gpu_seconds = 0.0
        self._duplicates = 0  # in a row
        self._half_asked = False  # a killed driver's last question
        self._tried = self._sampled = 0  # trials that are no duplicates; trials that the sampler chose
        self._baselines_done: set[str] = set()
        self._size = space.size()
        self._started = time.monotonic()
        self._seconds_before = float(ledger.attributes.get("seconds", 0.0))
        self._ended: list[str] = []
        self._take_up()

    # What an executor asks

    @property
    def stopping(self) -> bool:
        """Whether trials should stop after their current epoch."""
        return self.stop_now or self.halted is not None

    @property
    def finished(self) -> bool:
        """Whether nothing runs and nothing will."""
        if self.running:
            return False
        return self.stopping or self.drain or not (self._waiting or self._has_more())

    def next(self) -> Task | None:
        """Give the next attempt; None where there is none now."""
        if self.stopping or self.drain:
            return None
        if self._waiting:
            return self._issue(self._waiting.pop(0))
        for number in self._new_trials():
            return self._issue(number)
        return None

    def epoch(self, epoch: Epoch) -> bool:
        """Commit an epoch; False stops the trial."""
        under_way = self.running.get(epoch.number)
        if under_way is None or under_way.attempt != epoch.attempt:
            return False  # an attempt that was given up
        value = epoch.metrics[self._curve_metric]
        self._commit_epoch(epoch.number, epoch.epoch, epoch.metrics)
        under_way.epoch, under_way.value = epoch.epoch, value
        self._epoch_seconds.append(epoch.metrics.get("seconds/epoch", 0.0))
        if self.ledger.finished(epoch.number):
            return False
        if self._prunes and epoch.epoch < under_way.epochs and self.ledger.should_prune(epoch.number):
            return self._pruned(epoch.number, epoch.epoch)
        return not self.stopping

    def end(self, outcome: Outcome) -> None:
        """Commit the end of an attempt, and decide what follows from a fault."""
        under_way = self.running.get(outcome.number)
        if under_way is None or under_way.attempt != outcome.attempt:
            return
        del self.running[outcome.number]
        self._catch_up(outcome.number)
        if self.ledger.finished(outcome.number):
            return
        if outcome.kind == "complete":
            self._complete(outcome)
        elif outcome.kind == "diverged":
            self._diverged(outcome)
        elif outcome.kind == "disk":
            self._waiting.insert(0, outcome.number)
            self.halted = SetupError(f"{outcome.reason}; trials are paused: mend that, then 'icd resume'")
            self.stopped_by = "disk"
        elif outcome.kind == "stopped":
            self._waiting.insert(0, outcome.number)
        else:
            self._fault(outcome)
        self.ledger.note_study(seconds=self._seconds)

    def record_trial(self, number: int, config: TrialConfig, record: TrialRecord) -> None:
        """Put a trial's beginning into the outbox, once."""
        if self.outbox.has_trial(number):
            return
        dense = self.space.dense(config)
        tags = {
            "stage": "search",
            "state": "running",
            "baseline": record.baseline or "",
            "data_digest": self.prepared.data_digest[:16],
            "teacher_digest": (config.teacher.digest or "")[:16] if config.teacher else "",
            "key": record.key[:16],
            **{name: dense[name] for name in ("teacher", "student", "method", "seed") if name in dense},
            **self.ledger.attributes.get("versions", {}),
        }
        label = record.baseline or " ".join(dense[name] for name in ("scales", "base_loss") if name in dense)
        name = f"{number:04d} {label}".strip()
        self.outbox.trial(number, time_ms=_now_ms(), name=name, params=dense, tags=tags)

    # Choosing

    def _take_up(self) -> None:
        """Read the ledger: what is known, what was under way, what a killed driver left half said."""
        for record in self.ledger.records():
            if not record.key:
                self._half_asked = True  # the next ask fills it, whatever the budget says: nothing is left running
                continue
            self._known.add(record.number)
            if record.baseline is not None:
                self._baselines_done.add(record.baseline)
            else:
                self._sampled += 1
            if record.state == "running" and self._keys.get(record.key, record.number) != record.number:
                self._tell_duplicate(record.number, self._keys[record.key])
                continue
            self._duplicates = self._duplicates + 1 if record.state == "duplicate" else 0
            self._tried += record.state != "duplicate"
            if record.state not in ("failed", "duplicate"):
                self._keys.setdefault(record.key, record.number)
            self._faults[record.number] = dict(record.attributes.get("faults", {}))
            self._gpu_seconds += float(record.attributes.get("seconds", 0.0)) * self.site.gpus_per_trial
            if record.state == "running":
                self._waiting.append(record.number)
            else:
                self._ended.append(record.state)
                self._settle(record)

    def _has_more(self) -> bool:
        return self._next_baseline() is not None or self._room()

    def _new_trials(self) -> Iterator[int]:
        """Make trials until one has a configuration that nobody has trained."""
        while (baseline := self._next_baseline()) is not None:
            number = self._add_baseline(baseline)
            if number is not None:
                yield number
        while not self.drain and self._room():
            number = self._ask()
            if number is not None:
                yield number

    def _room(self) -> bool:
        """Whether the budget, the grid and the sampler allow another trial."""
        budget = self.sweep.budget
        if self._half_asked:
            return True
        if budget.hours is not None and self._seconds > 3600 * budget.hours:
            self.stopped_by = "budget"
            return False
        if budget.gpu_hours is not None and self._gpu_seconds > 3600 * budget.gpu_hours:
            self.stopped_by = "budget"
            return False
        if budget.trials is not None and self._tried >= budget.trials:
            self.stopped_by = "budget"
            return False
        if self.sweep.sampler.name == "grid" and self._size is not None:
            more = self._sampled < self._size
        else:
            more = self._duplicates < _DUPLICATES_IN_ROW
        if not more:
            self.stopped_by = "exhausted"
        return more

    def _next_baseline(self) -> Baseline | None:
        return next((baseline for baseline in self.sweep.enqueue if baseline.label not in self._baselines_done), None)

    def _add_baseline(self, baseline: Baseline) -> int | None:
        config = self.prepared.pin(self.space.read(self.space.baseline(baseline)))
        twin = self._keys.get(config.key())
        attributes = {"key": config.key(), "control": True}  # a comparison needs its whole curve
        number = self.ledger.add_baseline(baseline.label, {}, {}, attributes)
        self._baselines_done.add(baseline.label)
        return self._new(number, config.key(), twin)

    def _ask(self) -> int | None:
        number, document = self.ledger.ask(self.space.suggest, self._known)
        self._half_asked = False
        try:
            config = self.prepared.pin(self.space.read(document))
        except ConfigError as error:  # a combination that no corner of the space showed
            self._refuse(number, error)
            return None
        share = draw_seed(self.sweep.seed, number, "control") / 2**32
        control = self._prunes and share < self.sweep.pruner.control_share
        twin = self._keys.get(config.key())
        if control:
            self.ledger.note(number, control=True)
        self.ledger.note(number, key=config.key())  # last: with its key a trial is whole
        self._sampled += 1
        return self._new(number, config.key(), twin)

    def _refuse(self, number: int, error: ConfigError) -> None:
        reason = "; ".join(str(problem) for problem in error.problems)
        self._known.add(number)
        self._sampled += 1
        self._tried += 1
        self._duplicates = 0
        self._ended.append("failed")
        self.ledger.note(number, key=f"refused-{number}")
        self.ledger.tell(number, "failed", reason=reason, exit_reason="setup")
        self.announce(f"trial {number}: failed: {reason}")
        self._give_up_if_hopeless()

    def _new(self, number: int, key: str, twin: int | None) -> int | None:
        self._known.add(number)
        if twin is not None and twin != number:
            self._tell_duplicate(number, twin)
            return None
        self._tried += 1
        self._keys[key] = number
        self._duplicates = 0
        return number

    def _tell_duplicate(self, number: int, twin: int) -> None:
        self._duplicates += 1
        self.ledger.tell(number, "duplicate", twin=twin, reason=f"same configuration as trial {twin}")

    def _issue(self, number: int) -> Task:
        record = self.ledger.record(number)
        config = self._config(record)
        if config.key() != record.key:
            raise StateError(
                f"trial {number} was committed with the key {record.key[:12]}, but its parameters now give "
                f"{config.key()[:12]}: this version of icd reads the sweep otherwise"
            )
        attempt = record.attempts + 1
        self.ledger.note(number, attempts=attempt)
        folder = trial_folder(self.site.folder, number)
        folder.mkdir(parents=True, exist_ok=True)
        write_durably(folder / "attempt", str(attempt).encode())
        self.record_trial(number, config, record)
        self.running[number] = Running(attempt=attempt, epochs=config.protocol.epochs)
        return Task(
            number=number,
            attempt=attempt,
            config=config.to_data(),
            sweep=str(self.site.folder),
            root=str(self.site.root),
            data_root=str(self.site.data_root) if self.site.data_root else None,
            hang_seconds=self._hang_seconds(config),
            threads=self.site.threads,
        )

    def _config(self, record: TrialRecord) -> TrialConfig:
        if record.baseline is not None:
            baseline = next((item for item in self.sweep.enqueue if item.label == record.baseline), None)
            if baseline is None:
                raise StateError(f"baseline {record.baseline!r} of trial {record.number} is no longer in the sweep")
            return self.prepared.pin(self.space.read(self.space.baseline(baseline)))
        return self.prepared.pin(self.space.read(self.space.document(record.params)))

    def _hang_seconds(self, config: TrialConfig) -> float:
        median = statistics.median(self._epoch_seconds[-50:]) if self._epoch_seconds else 0.0
        return max(self.sweep.resources.hang_seconds, 5 * median * config.protocol.report_every)

    # Judging

    @property
    def _prunes(self) -> bool:
        return self.sweep.pruner.name != "none"

    @property
    def _curve_metric(self) -> str:
        # A curve must be better in the direction of its objective: costs are minimised, so val/loss stands for them.
        first = self.sweep.objectives[0]
        if first.metric.startswith("cost/"):
            return "val/loss" if first.direction == "minimize" else "val/top1"
        return first.metric

    def _pruned(self, number: int, epoch: int) -> bool:
        """Stop a trial that looks poor; a control trial goes on and remembers it."""
        record = self.ledger.record(number)
        if record.control:
            if record.would_stop_at is None:
                self.ledger.note(number, would_stop_at=epoch)
            return True
        seconds = self._seconds_of(number)
        self.ledger.tell(number, "pruned", reason=f"pruned at epoch {epoch}", exit_reason="pruned", seconds=seconds)
        self._close(number)
        return False

    def _complete(self, outcome: Outcome) -> None:
        result = outcome.result
        rows = stored_rows(trial_folder(self.site.folder, outcome.number))
        measured = {**rows[-1], "cost/seconds": 60 * result["minutes"], "cost/parameters": result["parameters"]}
        values = [float(measured[objective.metric]) for objective in self.sweep.objectives]
        if not all(math.isfinite(value) for value in values):
            self._diverged(outcome)
            return
        notes = {
            "seconds": self._seconds_of(outcome.number),
            "student_sha256": result["student_sha256"],
            "device": outcome.device,
            "epochs": result["epochs"],
            "parameters": result["parameters"],
        }
        self.ledger.tell(outcome.number, "complete", values, exit_reason="complete", **notes)
        self._close(outcome.number)

    def _diverged(self, outcome: Outcome) -> None:
        """Told as pruned with its finite values, or chance level, so that the sampler learns to look elsewhere."""
        if not self.ledger.record(outcome.number).curve:
            chance = {"val/top1": 100 / self.prepared.num_classes, "val/top5": 500 / self.prepared.num_classes}
            worst = {"val/ece": 100.0}.get(self._curve_metric, math.log(self.prepared.num_classes))
            self.ledger.add_epoch(outcome.number, 0, chance.get(self._curve_metric, worst))
        reason = outcome.reason or "a metric is not finite"
        seconds = self._seconds_of(outcome.number)
        notes: dict[str, Any] = {"exit_reason": "diverged", "device": outcome.device, "seconds": seconds}
        self.ledger.tell(outcome.number, "pruned", reason=reason, **notes)
        self.announce(f"trial {outcome.number}: diverged: {reason}")
        self._close(outcome.number)

    def _fault(self, outcome: Outcome) -> None:
        """Try again where that can help, or record the failure."""
        number, kind = outcome.number, outcome.kind
        faults = self._faults.setdefault(number, {})
        faults[kind] = faults.get(kind, 0) + 1
        allowed = RETRIES[kind]
        allowed = self.sweep.resources.retries if allowed is None else allowed
        self.ledger.note(number, faults=dict(faults))
        last = max(self.ledger.record(number).curve, default=0)
        if faults[kind] <= allowed:
            self.announce(f"trial {number}: {outcome.reason}; retry {faults[kind]}/{allowed} from epoch {last}")
            self._waiting.append(number)
            return
        self.announce(f"trial {number}: failed: {outcome.reason}")
        notes: dict[str, Any] = {"exit_reason": kind, "device": outcome.device, "seconds": self._seconds_of(number)}
        self.ledger.tell(number, "failed", reason=outcome.reason, **notes)
        self._keys = {key: holder for key, holder in self._keys.items() if holder != number}
        self._close(number)
        self._give_up_if_hopeless()

    def _give_up_if_hopeless(self) -> None:
        if not self.drain and len(self._ended) >= _HOPELESS and set(self._ended) == {"failed"}:
            self.drain, self.stopped_by = True, "failures"
            self.announce(f"the first {len(self._ended)} trials all failed: starting no more")

    def _catch_up(self, number: int) -> None:
        """Commit epochs that the trial's folder has and the ledger has not."""
        for row in stored_rows(trial_folder(self.site.folder, number)):
            metrics = {name: value for name, value in row.items() if name != "epoch"}
            self._commit_epoch(number, row["epoch"], metrics)

    def _seconds_of(self, number: int) -> float:
        """What the epochs of a trial took; counts them against the budget."""
        seconds = training_seconds(stored_rows(trial_folder(self.site.folder, number)))
        self._gpu_seconds += seconds * self.site.gpus_per_trial
        return seconds

    def _commit_epoch(self, number: int, epoch: int, metrics: Mapping[str, float]) -> None:
        """Tell ledger, then outbox; neither takes what is not finite (a share of gradients that overflowed)."""
        value = metrics[self._curve_metric]
        if math.isfinite(value):
            self.ledger.add_epoch(number, epoch, value)
        if not self.outbox.has_epoch(number, epoch):
            shown = {name: value for name, value in metrics.items() if name != "time" and math.isfinite(value)}
            self.outbox.epoch(number, epoch, time_ms=int(1000 * metrics["time"]), metrics=shown)

    def _close(self, number: int) -> None:
        record = self.ledger.record(number)
        self._ended.append(record.state)
        self._settle(record)

    def _settle(self, record: TrialRecord) -> None:
        """Put a trial's end into the outbox, once."""
        if record.state == "duplicate" or record.key.startswith("refused-") or self.outbox.has_end(record.number):
            return
        if not self.outbox.has_trial(record.number):
            self.record_trial(record.number, self._config(record), record)
        self._catch_up(record.number)
        folder = trial_folder(self.site.folder, record.number)
        if record.state != "failed":  # nothing continues it; a failed one may still tell why
            for path in (folder / "checkpoints").glob("epoch-*.ckpt"):
                path.unlink(missing_ok=True)
        names = ("config.yaml", "metrics.jsonl", "result.json", "curves.png", "grams.png")
        paths = [folder / name for name in names]
        metrics = {
            f"final/{item.metric}": value for item, value in zip(self.sweep.objectives, record.values, strict=False)
        }
        self.outbox.end(
            record.number,
            time_ms=_now_ms(),
            state="complete" if record.state == "complete" else "pruned" if record.state == "pruned" else "failed",
            metrics=metrics,
            tags={"exit_reason": str(record.attributes.get("exit_reason", record.state)), "reason": record.reason},
            artifacts=[str(path.relative_to(self.site.folder)) for path in paths if path.exists()],
        )

    @property
    def _seconds(self) -> float:
        return self._seconds_before + time.monotonic() - self._started

    @property
    def failed_too_often(self) -> bool:
        """Whether more trials failed than the sweep allows."""
        failed = self._ended.count("failed")
        return failed > self.sweep.budget.failed_share * max(1, len(self._ended))


def _now_ms() -> int:
    return int(1000 * time.time())
