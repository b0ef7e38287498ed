"""The policy that both executors follow: what to run next, what an epoch means, and what a fault leads to.

Every answer is a function of the ledger and the trial folders, so a driver that replaces a dead one goes on as that one
would have. The order of an epoch: checkpoint durable (worker), then ledger, then MLflow.

This file is longer than 300 lines because each decision reads what the others wrote: apart they would share it all.
"""

import math
from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

from icd.config.sweep import SweepConfig
from icd.config.trial import TrialConfig
from icd.errors import ConfigError, SetupError, StateError
from icd.search.controller.budget import BudgetTracker
from icd.search.controller.retry import NO_PROGRESS, QUARANTINED, RetryPolicy
from icd.search.controller.trial_recorder import TrialRecorder
from icd.search.core.attempts import Attempt, AttemptResult, EpochReport, Location, RunContext
from icd.search.core.device_usage import COST, mixed_cost, uses
from icd.search.core.pair_runs import key_of
from icd.search.core.preparation import PreflightResult
from icd.search.core.records import TrialRecord
from icd.search.core.trial_request import TrialRequest
from icd.search.study.ledger import Ledger
from icd.search.suggest.search_source import SearchSource
from icd.search.suggest.search_space import SearchSpace
from icd.search.suggest.trial_source import TrialSource
from icd.search.tracking.tracker import Tracker

_HOPELESS = 3  # first trials that all fail end the sweep
_TIMES = 50  # last epochs that say how long one takes


@dataclass(slots=True)
class RunningTrial:
    """A trial under way."""

    attempt: int  # the newest
    epochs: int  # of all its runs, which are counted on from run to run
    epoch: int = 0  # the last that was told
    value: float | None = None  # at that epoch


class SweepController:
    """Decides; implements ``Policy`` of ``core/attempts.py``. All calls come from one thread."""

    def __init__(
        self,
        sweep: SweepConfig,
        space: SearchSpace,
        ledger: Ledger,
        tracker: Tracker,
        prepared: PreflightResult,
        context: RunContext,
        announce: Callable[[str], None],
        source: TrialSource | None = None,
    ) -> None:
        self.sweep, self.ledger, self.tracker = sweep, ledger, tracker
        self.prepared, self.context, self.announce = prepared, context, announce
        self.source = source or SearchSource(sweep, space, ledger, prepared, self._refused)
        self.recorder = TrialRecorder(sweep, space, ledger, tracker, context, self.source)
        self.running: dict[int, RunningTrial] = {}
        self.drain = self.stop_now = False
        self.stopped_by = ""
        self.halted: SetupError | None = None
        self._waiting: list[int] = []  # begun before, or to be tried again
        self._alone: int | None = None  # the trial chosen last of those that wait, if nothing may run beside it
        self._hosts = set[str](ledger.attributes.get("hosts", ()))  # where epochs were finished
        self._warned = False
        self._retry = RetryPolicy(sweep.resources.retries, announce)
        self._epoch_times: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=_TIMES))  # by type of device
        seconds_before = float(ledger.attributes.get(self._noted("seconds"), 0.0))
        maximize = sweep.objectives[0].direction == "maximize"
        self._budget = BudgetTracker(sweep.budget, seconds_before, context.gpus_per_trial, maximize=maximize)
        self._ended: list[str] = []
        if ledger.attributes.get(QUARANTINED):
            ledger.note_study(**{QUARANTINED: []})  # what an earlier driver saw
        self._take_up()

    # What an executor asks

    @property
    def stopping(self) -> bool:
        return self.stop_now or self.halted is not None

    @property
    def done(self) -> bool:
        if self.running:
            return False
        more = self._waiting or self.source.enqueued_left() or self._room()
        return self.stopping or self.drain or not more

    @property
    def quarantined(self) -> Mapping[Location, str]:
        return self._retry.quarantined

    def next_attempt(self) -> Attempt | None:
        if self.stopping or self.drain or self._alone in self.running:
            return None
        if self._waiting:
            begun = min(self._waiting, key=self._runs_alone)  # the first that need not be alone, if there is one
            self._alone = begun if self._runs_alone(begun) else None
            if self._alone is not None and self.running:
                return None
            self._waiting.remove(begun)
            return self._issue(begun)
        number = next(self.source.new_trials(lambda: not self.drain and self._room()), None)
        return self._issue(number) if number is not None else None

    def take(self, request: TrialRequest) -> bool:
        """Make the trial that a request asks for; False where it has to wait for a search that has room."""
        if not isinstance(self.source, SearchSource) or self.stopping or self.drain:
            return False
        if self.source.has(request):
            return True  # an earlier driver was killed before it could forget the request
        if self._budget.over(self.source.promised):
            return False
        try:
            number = self.source.add_requested(request)
        except ConfigError as error:
            self.announce(f"{request.label!r} is no configuration of this sweep and is left out: {error}")
            return True
        if number is not None:
            self._waiting.append(number)
            self.announce(f"trial {number}: {request.label}")
        return True

    def on_epoch(self, epoch: EpochReport) -> bool:
        under_way = self.running.get(epoch.number)
        if under_way is None or under_way.attempt != epoch.attempt:
            return False  # an attempt that was given up
        value = epoch.metrics[self.recorder.curve_metric]
        self.recorder.commit(epoch.number, epoch.epoch, epoch.metrics, epoch.run)
        under_way.epoch, under_way.value = epoch.epoch, value
        if (seconds := epoch.metrics.get("seconds/epoch", 0.0)) > 0:
            self._epoch_times[epoch.device].append(seconds)
        if epoch.device:  # else it is only told again
            self._retry.on_epoch(epoch)
            if epoch.location is not None and epoch.location.host not in self._hosts:
                self._hosts.add(epoch.location.host)
                self.ledger.note_study(hosts=sorted(self._hosts))
        record = self.ledger.record(epoch.number)
        if record.state != "running":
            return False
        devices = record.attributes.get("devices", [])
        if epoch.device and epoch.device not in devices:  # the next attempt may come to another type
            self.ledger.note(epoch.number, devices=[*devices, epoch.device])
        is_pruned = self._judge(epoch.number, epoch.epoch, under_way.epochs)
        if is_pruned:
            self.recorder.fetch(epoch.number)
            self.ledger.tell(epoch.number, "pruned", **self.recorder.costs(epoch.number))
            self._close(epoch.number)
        return not is_pruned and not self.stopping

    def on_finished(self, result: AttemptResult) -> None:
        under_way = self.running.get(result.number)
        if under_way is None or under_way.attempt != result.attempt:
            return
        del self.running[result.number]
        before = len(self.quarantined)
        self._retry.on_finished(result)
        if len(self.quarantined) != before:
            self.ledger.note_study(**{QUARANTINED: list(self.quarantined.values())})
        self.recorder.fetch(result.number)
        self.recorder.catch_up(result.number)
        record = self.ledger.record(result.number)
        if record.state != "running":
            return
        if result.kind == "complete":
            self._complete(result)
        elif result.kind == "diverged":
            self._diverged(result)
        elif result.kind == "disk":
            self._waiting.insert(0, result.number)
            where = f"{result.location.machine}: " if result.location is not None else ""
            self.halted = SetupError(f"{where}{result.reason}; trials are paused: mend that, then 'icd resume'")
            self.stopped_by = "disk"
        elif result.kind in ("stopped", "preempted"):
            self._waiting.insert(0, result.number)
            self._preempted(result)
        else:
            self._fault(result)
        self.note_stage()

    def note_stage(self, **attributes: Any) -> None:
        """Set attributes of the study that are this stage's own, with how long it has run."""
        noted = {"seconds": self._budget.seconds, **attributes}
        self.ledger.note_study(**{self._noted(name): value for name, value in noted.items()})

    def _noted(self, name: str) -> str:
        return name if self.source.stage == "search" else f"{self.source.stage}/{name}"

    # Choosing

    def _take_up(self) -> None:
        """Read the ledger: what is known, what was under way, what a killed driver left half said."""
        ended = []
        for record in self.ledger.records(self.source.stage):
            if record.state == "running" and self._is_at_end(record):
                costs = {} if "seconds" in record.attributes else self.recorder.costs(record.number)
                self.ledger.tell(record.number, "pruned", **costs)  # by now the pruner may judge otherwise
                record = self.ledger.record(record.number)
            self._budget.spend(record)
            if not self.source.restore(record):
                continue
            self._retry.restore(record.number, record.attributes.get("faults", {}))
            if record.state == "running":
                self._waiting.append(record.number)
            elif record.state != "duplicate":
                self._budget.ended(record)
                self._ended.append(record.state)
                ended.append(record)
        self.recorder.drop_checkpoints(ended)

    def _is_at_end(self, record: TrialRecord) -> bool:
        """Whether a trial stops by a verdict that was noted, or after an epoch that was committed and not judged."""
        if "exit_reason" in record.attributes:
            return record.attributes["exit_reason"] in ("pruned", "diverged")
        pruner = self.sweep.pruner  # the median marks nothing: an epoch that was judged looks like one that was not
        if not record.curve or not pruner.prunes or pruner.name == "median":
            return False
        return self._judge(record.number, record.epochs, self.source.members(record)[-1].last)

    def _room(self) -> bool:
        """Whether the budget, the grid and the sampler allow another trial."""
        if self._budget.over(self.source.tried):
            self.stopped_by = "budget"
            return False
        if self.source.exhausted:
            self.stopped_by = "exhausted"
            return False
        if not self._budget.pays:
            self.stopped_by = "min_gain"
            return False
        return True

    def _refused(self, number: int, reason: str) -> None:
        self._ended.append("failed")
        self.announce(f"trial {number}: failed: {reason}")
        self._give_up_if_hopeless()

    def _runs_alone(self, number: int) -> bool:
        """Whether nothing may run beside a trial, since its memory did not suffice before.

        Over several machines Ray places it where there is room; holding them all for one trial costs more.
        """
        return "memory" in self._retry.counts(number) and len(self._hosts) <= 1

    def _issue(self, number: int) -> Attempt:
        record = self.ledger.record(number)
        members = self.source.members(record)
        if key_of(members) != record.key:
            raise StateError(
                f"trial {number} was committed with the key {record.key[:12]}, but its parameters now give "
                f"{key_of(members)[:12]}: this version of icd reads the sweep otherwise"
            )
        attempt = record.attempts + 1
        self.ledger.note(number, attempts=attempt)
        if (aside := self.recorder.files.issue(number, attempt)) is not None:
            self.announce(f"trial {number}: files that the study does not know were moved to {aside}")
        self.recorder.begin(number, members, record)
        self.running[number] = RunningTrial(attempt=attempt, epochs=members[-1].last)
        return Attempt(
            number=number,
            attempt=attempt,
            runs={member.name: member.config.to_data() for member in members},
            context=self.context,
            hang_seconds=max(self._hang_seconds(member.config) for member in members),
        )

    def _hang_seconds(self, config: TrialConfig) -> float:
        """Allow five epochs on the slowest type of device, since nobody knows where the attempt will run."""
        slowest = max(map(median, self._epoch_times.values()), default=0.0)
        return max(self.sweep.resources.hang_seconds, 5 * slowest * config.training.report_every)

    # Judging

    def _judge(self, number: int, epoch: int, epochs: int) -> bool:
        """Commit what is to be said of a trial after an epoch of so many; whether it stops."""
        reason = self._reason_to_prune(number, epoch) if epoch < epochs else ""
        if reason and self._notes_verdict(number, epoch, reason, epochs):
            return True
        self.ledger.judged(number)
        return False

    def _reason_to_prune(self, number: int, epoch: int) -> str:
        """Say why a trial should stop after an epoch, from what is committed; empty where it should not."""
        pruner = self.sweep.pruner
        if pruner.prunes and self.ledger.should_prune(number):
            return f"pruned at epoch {epoch}"
        if not pruner.dead_terms or epoch < pruner.min_epochs:
            return ""
        found = [term.brief for term in self.recorder.dead_and_searched(number, epoch)]
        return f"dead term: {'; '.join(found)}" if found else ""

    def _notes_verdict(self, number: int, epoch: int, reason: str, epochs: int) -> bool:
        """Note that a trial looks poor, and whether it stops: a control trial goes on, and the study keeps when."""
        record = self.ledger.record(number)
        if not record.control:
            self.ledger.note_verdict(number, reason=reason, exit_reason="pruned", planned_epochs=epochs)
        elif record.would_stop_at is None:
            self.ledger.note(number, would_stop_at=epoch)
        return not record.control

    def _complete(self, result: AttemptResult) -> None:
        number = result.number
        runs, notes = self.recorder.values(number, result.result)
        values = [sum(own) / len(own) for own in zip(*runs, strict=True)]
        if not all(math.isfinite(value) for value in values):
            self._diverged(result)
            return
        more = {"exit_reason": "complete", "device": result.device, **self.recorder.costs(number), **notes}
        self.ledger.tell(number, "complete", values, **more)
        self._warn_of_mixed_cost()
        self._close(number)

    def _warn_of_mixed_cost(self) -> None:
        metrics = [objective.metric for objective in self.sweep.objectives]
        if COST in metrics and not self._warned:
            warning = mixed_cost(metrics, uses(self.ledger.records(self.source.stage)))
            self._warned = bool(warning)
            if warning:
                self.announce(f"WARNING: {warning}")

    def _diverged(self, result: AttemptResult) -> None:
        """Told as pruned with its finite values, or chance level, so that the sampler learns to look elsewhere."""
        if not self.ledger.record(result.number).curve:
            classes, metric = self.prepared.num_classes, self.recorder.curve_metric.rpartition("/")[2]
            chance = {"top1": 100 / classes, "top5": min(100.0, 500 / classes), "ece": 100.0}
            self.ledger.add_epoch(result.number, 0, chance.get(metric, math.log(classes)))
        reason = result.reason or "a metric is not finite"
        own = self.recorder.costs(result.number)
        chance_level = 100 / self.prepared.num_classes
        notes: dict[str, Any] = {"exit_reason": "diverged", "device": result.device, "chance": chance_level, **own}
        self.ledger.tell(result.number, "pruned", reason=reason, **notes)
        self.announce(f"trial {result.number}: diverged: {reason}")
        self._close(result.number)

    def _preempted(self, result: AttemptResult) -> None:
        """Go on elsewhere; that costs no retry, but it must lead somewhere."""
        number = result.number
        if self.stopping or result.kind != "preempted":
            return
        self.announce(f"trial {number}: {result.reason}; goes on from epoch {self.recorder.stored_epoch(number)}")
        if self._retry.no_progress(number):
            self.stopped_by = "preemptions"
            self.halted = SetupError(
                f"trial {number} was preempted {NO_PROGRESS} times and got no epoch further: an epoch takes longer "
                "than its nodes stay; take other nodes, then 'icd resume'"
            )

    def _fault(self, result: AttemptResult) -> None:
        """Try again where that can help, or record the failure."""
        number, again = result.number, self._retry.again(result)
        self.ledger.note(number, faults=self._retry.counts(number))
        if again:
            last = self.recorder.stored_epoch(number)
            alone = " alone" if self._runs_alone(number) else ""
            self.announce(f"trial {number}: {result.reason}; {again}{alone} from epoch {last}")
            self._waiting.append(number)
            return
        self.announce(f"trial {number}: failed: {result.reason}")
        notes: dict[str, Any] = {"exit_reason": result.kind, "device": result.device, **self.recorder.costs(number)}
        self.ledger.tell(number, "failed", reason=result.reason, **notes)
        self._close(number)
        self._give_up_if_hopeless()

    def _give_up_if_hopeless(self) -> None:
        hopeless = len(self._ended) >= _HOPELESS and set(self._ended) == {"failed"}
        if hopeless and not self.drain:
            self.drain, self.stopped_by = True, "failures"
            self.announce(f"the first {len(self._ended)} trials all failed: starting no more")

    def _close(self, number: int) -> None:
        record = self.ledger.record(number)
        self._ended.append(record.state)
        self._budget.spend(record)
        self._budget.ended(record)
        self.recorder.settle(record)
