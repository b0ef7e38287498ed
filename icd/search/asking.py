"""``icd try``: asks a sweep for one more trial. It only writes a request; the sweep's driver makes the trial."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from icd.config.document import Document
from icd.config.overrides import apply_overrides
from icd.config.sweep import SweepConfig
from icd.errors import ConfigError, StateError, UsageError
from icd.search.core.pair_runs import PairRun, key_of
from icd.search.core.preparation import PreflightResult
from icd.search.core.records import TrialRecord, best, interrupted
from icd.search.core.trial_request import TrialRequest, new_name
from icd.search.run_sweep import refuse_changed_plugins
from icd.search.session import stored_document, stored_sweep
from icd.search.study.ledger import Ledger
from icd.search.study.sweep_files import sweep_files_of
from icd.search.study.sweep_index import find, pasted, refuse_elsewhere, sweep_folder
from icd.search.suggest.search_space import SearchSpace
from icd.search.suggest.warm_start import stored_starts
from icd.search.sweep_status import driver_of, refuse_another_root, used_budget

_LOOK_EVERY_S = 0.3
_LONGEST_LABEL = 80
_FORGOTTEN = ("failed", "retried", "duplicate")  # such a trial does not stand for its configuration
_FIXED = ("data", "teacher", "student", "seed")  # of a configuration


@dataclass(frozen=True, slots=True, kw_only=True)
class TryResult:
    """What came of asking for a trial.

    Attributes:
        sweep: Its name.
        key: Of the configuration.
        trial: Number of the trial; None while the request waits.
        state: Of the trial, or ``queued`` while the request waits for a driver.
        values: Of the objectives, by metric, where the trial is complete.
        request: Name of the request; None where a trial had the configuration before.
        label: What tables call the trial.
        base: The trial whose values stand where nothing was set.
        searched: Whether the sampler learns from it: it lies in the ranges, and the sampler is not ``cmaes`` or
            ``nsga2``, which learn from their own draws alone.
        driver: Who drives the sweep; None for nobody.
    """

    sweep: str
    key: str
    trial: int | None
    state: str
    values: Mapping[str, float]
    request: str | None
    label: str
    base: int
    searched: bool
    driver: str | None


@dataclass(frozen=True, slots=True)
class _Asked:
    """A sweep that is asked for a trial."""

    root: Path
    ledger: Ledger
    sweep: SweepConfig
    space: SearchSpace
    records: Sequence[TrialRecord]

    def base(self, number: int | None) -> TrialRecord:
        """Give the trial whose values stand where nothing is set."""
        name = self.ledger.name
        if number is None:
            found = best(self.records, maximize=self.sweep.objectives[0].direction == "maximize")
            if found is None:
                raise StateError(
                    f"no trial of sweep {name!r} is complete, so none stands for what is not set; name one with --from"
                )
            return found
        if not 0 <= number < len(self.records):
            again = pasted(self.root, "trials", name)
            raise StateError(f"sweep {name!r} has no trial {number} of its search; see '{again}'")
        return self.records[number]

    def key(self, members: Sequence[PairRun]) -> str:
        """Give the key that the trial will have."""
        known = self.ledger.attributes
        prepared = PreflightResult(
            data_digest=known["data_digest"], teachers=known["teachers"], tuned=known.get("tuned", {})
        )
        return key_of(prepared.pinned(members))

    def refuse_without_room(self, waiting: int) -> None:
        """Refuse where the budget is spent, or promised to what is enqueued and to requests that wait.

        Raises:
            StateError: With what to do.
        """
        name, budget = self.ledger.name, self.sweep.budget
        labels = {record.baseline or record.start for record in self.records}
        waiting += sum(item.label not in labels for item in self.space.enqueued)
        tried = sum(record.counts for record in self.records)
        spent = used_budget(self.ledger, self.records)
        limits = {"hours": budget.hours, "gpu_hours": budget.gpu_hours}
        late = [name for name, most in limits.items() if most is not None and (spent[name] or 0.0) > most]
        if budget.trials is not None and tried + waiting >= budget.trials:
            used = f"{tried} of {budget.trials} trials{f', and {waiting} wait' if waiting else ''}"
            again = ("--extend", "--set", f"search.budget.trials={tried + waiting + 1}")
        elif late:
            used = f"{spent[late[0]]:.2f} of {limits[late[0]]:g} {late[0].replace('gpu_', 'GPU ')}"
            again = ("--extend", "--set", f"search.budget.{late[0]}=...")
        else:
            return
        raise StateError(
            f"the budget of sweep {name!r} is used ({used}); give it more, and ask again once it runs: "
            f"'{pasted(self.root, 'resume', name, *again)}'"
        )


def try_trial(
    root: Path,
    name: str,
    overrides: Sequence[str],
    *,
    base: int | None = None,
    label: str = "",
    wait_s: float = 10.0,
) -> TryResult:
    """Ask a sweep for one more trial, unless one of its trials has the configuration.

    Args:
        root: Of results.
        name: Of the sweep.
        overrides: What is set, as ``--set`` has it.
        base: The trial whose values stand for the rest; None for the best.
        label: What tables shall call it, after ``try``; empty for what is set.
        wait_s: How long to wait for a driver to take it.

    Raises:
        ConfigError: With every problem of what is set.
        StateError: If there is no such sweep or trial, its budget is used, or its driver has another root.
    """
    asked = _asked(root, name)
    record = asked.base(base)
    members, document = _configured(asked, record, overrides)
    params = asked.space.params(members[0].config, record.params)
    label = f"try {label or ', '.join(overrides)}"[:_LONGEST_LABEL]
    request = TrialRequest(name=new_name(), label=label, document=document, key=asked.key(members), params=params or {})
    driver, learnt = driver_of(root, name), params is not None and asked.sweep.sampler.name not in ("cmaes", "nsga2")
    told: dict[str, Any] = {"base": record.number, "searched": learnt, "driver": driver}
    twins = [other for other in asked.records if other.key == request.key and other.state not in _FORGOTTEN]
    if twins:
        return _result(asked, request, twins[0], new=False, **told)
    files = sweep_files_of(sweep_folder(root, name))
    waiting = files.requests()
    for other in waiting:
        if other.key == request.key:
            return _result(asked, other, None, **told)
    asked.refuse_without_room(len(waiting))
    if driver is not None:
        refuse_another_root(root, name, driver)
    files.ask_to_try(request)
    taken = _taken(asked.ledger, request, wait_s if driver else 0.0)
    told["driver"] = driver_of(root, name)  # it may have left meanwhile
    return _result(asked, request, taken, **told)


def _asked(root: Path, name: str) -> _Asked:
    if "/" in name:
        rule = "the runs of 'icd confirm' and 'icd ablate' are chosen before they begin, so none is added to them"
        raise UsageError(f"{rule}; name the sweep itself: {name.partition('/')[0]}")
    ledger = find(root, name)
    refuse_elsewhere(root, name)
    refuse_changed_plugins(name, stored_document(ledger))
    sweep = stored_sweep(ledger)
    return _Asked(root, ledger, sweep, SearchSpace(sweep, stored_starts(ledger)), ledger.records())


def _configured(
    asked: _Asked, record: TrialRecord, overrides: Sequence[str]
) -> tuple[Sequence[PairRun], dict[str, Any]]:
    """Lay what is set over a trial; its runs and its document.

    Raises:
        ConfigError: With every problem, also of what cannot be compared with the sweep's other trials.
    """
    source = f"trial {record.number} of sweep {asked.ledger.name}"
    before = Document(asked.space.tried(record), source)
    document = apply_overrides(before, overrides)
    members = asked.space.members(document)
    now, old = members[0].config, asked.space.members(before)[0].config
    if asked.space.params(now, record.params) is None:
        changed = {part: getattr(now, part) != getattr(old, part) for part in _FIXED}
        changed["training.epochs"] = now.training.epochs != old.training.epochs
        rule = "must stay as the sweep has it, or as its ranges allow, so that its trials can be compared"
        if wrong := [part for part, is_changed in changed.items() if is_changed]:
            raise ConfigError([document.problem(tuple(part.split(".")), rule) for part in wrong])
    if asked.space.requested(document.data) != {**document.data}:
        raise ConfigError(document.problem((), "images, plugins and pairs are those of the sweep and cannot be set"))
    return members, document.data


def _taken(ledger: Ledger, request: TrialRequest, wait_s: float) -> TrialRecord | None:
    """Wait until the driver has made the trial; None where that takes longer."""
    until = time.monotonic() + wait_s
    while time.monotonic() < until:
        for record in reversed(ledger.records()):
            if record.attributes.get("request") == request.name:
                return record
        time.sleep(_LOOK_EVERY_S)
    return None


def _result(
    asked: _Asked, request: TrialRequest, record: TrialRecord | None, *, new: bool = True, **told: Any
) -> TryResult:
    metrics = [objective.metric for objective in asked.sweep.objectives]
    if record is not None and record.twin is not None:  # the driver found it while the request was on its way
        record, new = asked.ledger.record(record.twin), False
    if record is not None and told["driver"] is None:
        (record,) = interrupted([record])
    return TryResult(
        sweep=asked.ledger.name,
        key=request.key,
        trial=record.number if record else None,
        state=record.state if record else "queued",
        values=dict(zip(metrics, record.values, strict=False)) if record else {},
        request=request.name if new else None,
        label=request.label,
        **told,
    )
