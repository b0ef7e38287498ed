"""What the reading verbs say of a sweep, from its study and its folder; drives nothing."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from icd.config.names import shown_params
from icd.config.sweep import Direction, RankName
from icd.errors import StateError
from icd.search.controller.retry import QUARANTINED
from icd.search.core.dead_terms import noted_terms
from icd.search.core.device_usage import DeviceUse, device_hours, mixed_cost, uses
from icd.search.core.expected_gain import ExpectedGain, expected_gain
from icd.search.core.records import Stage, State, TrialRecord, best, interrupted
from icd.search.core.trial_request import TrialRequest
from icd.search.study.database import is_shared, storage_url
from icd.search.study.ledger import Ledger
from icd.search.study.locks import PostgresLock, holder, is_driven, lock_folders
from icd.search.study.sweep_files import sweep_files_of
from icd.search.study.sweep_index import find, find_all, pasted, sweep_folder

# ``preparing``: its driver reads data or trains a teacher, and the study is not made yet. ``stopped``: nobody drives
# it and there is more to do. ``finished``: the budget is used, or the space has nothing new.
SweepState = Literal["preparing", "driven", "stopped", "finished"]
StopHow = Literal["drain", "now"]

STATES: tuple[State, ...] = get_args(State)
ENDED_BY_ITSELF = ("budget", "exhausted", "min_gain")


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepStatus:
    """How a sweep stands."""

    name: str
    state: SweepState
    driver: str | None  # who drives it
    counts: Mapping[str, int]  # trials by state
    folder: Path
    best: TrialRecord | None = None  # the best complete trial by the first objective
    metrics: Sequence[str] = ()  # metric of each objective
    # how trials are ranked over several pairs: ``mean`` or ``worst``; None where a trial has one run
    ranked: RankName | None = None
    directions: Sequence[Direction] = ()  # direction of each
    budget: Mapping[str, float | None] = field(default_factory=dict)  # its limits, as in the file
    # what is used of them: ``trials``, ``hours``, ``gpu_hours`` (None until a driver has known the GPUs)
    used: Mapping[str, float | None] = field(default_factory=dict)
    # why its last driver left, ``error`` after one that no rule foresees; empty where one drives it or was killed
    stopped_by: str = ""
    created: str = ""  # UTC time
    expected_gain: ExpectedGain | None = None  # what ten more trials are worth; None with several objectives, or early
    requests: int = 0  # how many trials that ``icd try`` asked for are not in the study yet
    quarantined: Sequence[str] = ()  # what is said of GPUs and nodes that get no more trials of this driver's run
    devices: Sequence[DeviceUse] = ()  # what complete trials took on each type of device
    warnings: Sequence[str] = ()  # what makes the numbers say less than they seem to

    def to_data(self) -> dict[str, Any]:
        """Write it for JSON; the best trial as in every other list."""
        return {**asdict(self), "best": self.best and trial_row(self.best, self.metrics), "folder": str(self.folder)}


def status_of(root: Path, name: str) -> SweepStatus:
    """Say how one sweep stands.

    Raises:
        StateError: If there is none of that name.
    """
    folder = sweep_folder(root, name)
    try:
        ledger = find(root, name)
    except StateError:
        if is_driven(folder):
            return _preparing(folder)
        raise
    return _status(root, ledger)


def all_statuses(root: Path) -> list[SweepStatus]:
    """Say how every sweep below a root stands, those that are being prepared last."""
    found = [_status(root, ledger) for ledger in find_all(root)]
    known = {status.name for status in found}
    folders = sorted(lock.parent for lock in sweep_folder(root, "").glob("*/driver.lock"))
    return found + [_preparing(folder) for folder in folders if folder.name not in known and is_driven(folder)]


def records_of(root: Path, ledger: Ledger, stage: Stage = "search") -> list[TrialRecord]:
    """Give every trial of a stage as it is to be shown: ``interrupted`` where the study has it under way in vain."""
    records = ledger.records(stage)
    unsure = any(record.unfinished for record in records)
    return interrupted(records) if unsure and driver_of(root, ledger.name) is None else records


def has_ended(ledger: Ledger, records: Sequence[TrialRecord], requests: Sequence[TrialRequest]) -> bool:
    """Whether the last driver had nothing left to do, and of the trials asked for since none has room."""
    used, most = used_budget(ledger, records), plain_sweep(ledger)["budget"]
    late = any((used[name] or 0.0) > (most[name] or math.inf) for name in ("hours", "gpu_hours"))
    room = not late and (used["trials"] or 0) < (most["trials"] or math.inf)
    more = any(record.unfinished for record in records) or (bool(requests) and room)
    return ledger.attributes.get("stopped_by", "") in ENDED_BY_ITSELF and not more


def used_budget(ledger: Ledger, records: Sequence[TrialRecord]) -> dict[str, float | None]:
    """Say what is used of a budget: ``trials``, ``hours``, ``gpu_hours``; None for GPUs that no driver has known."""
    attributes = ledger.attributes
    gpus = attributes.get("gpus_per_trial")
    return {
        "trials": sum(record.counts for record in records),
        "hours": float(attributes.get("seconds", 0.0)) / 3600,
        "gpu_hours": None if gpus is None else device_hours(records, "gpus", gpus),
    }


def plain_sweep(ledger: Ledger) -> dict[str, Any]:
    """Give a study's sweep as plain data, without reading it: enough to show it."""
    sweep: dict[str, Any] = json.loads(ledger.attributes["sweep"])
    search = sweep["search"]
    objectives = search["objective"] if isinstance(search["objective"], list) else [search["objective"]]
    return {**sweep, **search, "objectives": objectives}


def counts_of(records: Sequence[TrialRecord]) -> dict[str, int]:
    """Count trials by state."""
    return {state: sum(record.state == state for record in records) for state in STATES}


def driver_of(root: Path, name: str) -> str | None:
    """Say who drives a sweep now, on any machine; None for nobody."""
    url = storage_url(root)
    held = [holder(place) for place in lock_folders(sweep_folder(root, name), url) if is_driven(place)]
    return PostgresLock(url, name).holder() if is_shared(url) and not held else next(iter(held), None)


def trial_row(record: TrialRecord, metrics: Sequence[str]) -> dict[str, Any]:
    """Write a trial as a row for people and programs.

    ``values`` are the objectives of a complete trial; ``last`` is the first objective's metric after its last epoch.
    """
    return {
        "number": record.number,
        "state": record.state,
        "values": dict(zip(metrics, record.values, strict=False)),
        "last": record.last,
        "epochs": record.epochs,
        "baseline": record.baseline,
        "start": record.start,
        "control": record.control,
        "attempts": record.attempts,
        "seconds": record.attributes.get("seconds"),
        "reason": record.reason,
        "engine": record.attributes.get("engine"),
        "dead_terms": [term.to_data() for term in noted_terms(record)],
        "twin": record.twin,
        "started": record.started,
        "ended": record.ended,
        "key": record.key,
        "params": shown_params(record.params),
        **({"rank": record.rank, "members": dict(record.members)} if record.members else {}),
    }


def flat_rows(records: Sequence[TrialRecord], metrics: Sequence[str]) -> list[dict[str, Any]]:
    """Write trials as rows of plain values with equal keys, for CSV and ``pandas.DataFrame``.

    Parameters are ``params_NAME``, as in Optuna's data frames; those a trial was not asked are None. In a sweep over
    several pairs there are ``rank`` and a value for each pair, ``members_NAME``.
    """
    names = list(dict.fromkeys(name for record in records for name in record.params))
    pairs = pairs_of(records)
    rows = []
    for record in records:
        row = trial_row(record, metrics)
        params, values, members = row.pop("params"), row.pop("values"), row.pop("members", {})
        start = {"number": row.pop("number"), "state": row.pop("state")}
        row["dead_terms"] = "; ".join(term["sentence"] for term in row["dead_terms"])
        shown = {metric: values.get(metric) for metric in metrics}
        own = {f"members_{name}": members.get(name) for name in pairs}
        ranked = {"rank": row.pop("rank", None), **own} if pairs else {}
        rows.append({**start, **shown, **ranked, **row, **{f"params_{name}": params.get(name) for name in names}})
    return rows


def pairs_of(records: Sequence[TrialRecord]) -> list[str]:
    """Name the pairs that trials were trained on; none where each has one run."""
    return list(dict.fromkeys(name for record in records for name in record.members))


def found_line(root: Path, ledger: Ledger) -> str:
    """Say what a driver that goes on finds: ``found 10 done, 2 interrupted to continue, 0 lost``.

    A trial is lost if the study has epochs of it and its folder has no checkpoint, so that it begins again.
    """
    files, records = sweep_files_of(sweep_folder(root, ledger.name)), records_of(root, ledger)
    counts = counts_of(records)
    under_way = [record for record in records if record.unfinished]
    lost = [record for record in under_way if record.curve and not files.begun(record.number)]
    failed = f", {counts['failed']} failed (--retry-failed trains them again)" if counts["failed"] else ""
    done, going_on = counts["complete"] + counts["pruned"], len(under_way) - len(lost)
    state = "running" if counts["running"] else "interrupted"
    return f"found {done} done, {going_on} {state} to continue, {len(lost)} lost{failed}"


def request_stop(root: Path, name: str, how: StopHow) -> str:
    """Ask a sweep's driver to stop; returns who that is.

    Raises:
        StateError: If nobody drives it, or for another root, or there is no such sweep.
    """
    driver = driver_of(root, name)
    if driver is None:
        find(root, name)
        raise StateError(
            f"sweep {name!r} is driven by nobody, so there is nothing to stop; see '{pasted(root, 'status', name)}'"
        )
    refuse_another_root(root, name, driver)
    sweep_files_of(sweep_folder(root, name)).ask_to_stop(how)
    return driver


def refuse_another_root(root: Path, name: str, driver: str) -> None:
    """Refuse to ask a driver for something in a root where it does not look.

    Raises:
        StateError: If it drives the sweep for another root that has the same database.
    """
    folder = sweep_folder(root, name)
    here = (folder / "driver.lock").exists() if is_shared(storage_url(root)) else is_driven(folder)
    if not here and sweep_files_of(folder).bucket is None:
        raise StateError(f"sweep {name!r} is driven by {driver} with another root than {root}; ask for it there")


def _status(root: Path, ledger: Ledger) -> SweepStatus:
    attributes, sweep = ledger.attributes, plain_sweep(ledger)
    driver, folder = driver_of(root, ledger.name), sweep_folder(root, ledger.name)
    records = ledger.records() if driver else interrupted(ledger.records())
    requests = sweep_files_of(folder).requests()
    maximize = sweep["objectives"][0]["direction"] == "maximize"
    metrics, devices = [item["metric"] for item in sweep["objectives"]], uses(records)
    warning = mixed_cost(metrics, devices)
    return SweepStatus(
        name=ledger.name,
        state="driven" if driver else "finished" if has_ended(ledger, records, requests) else "stopped",
        driver=driver,
        counts=counts_of(records),
        best=best(records, maximize=maximize),
        metrics=metrics,
        ranked=ledger.ranked,
        directions=[item["direction"] for item in sweep["objectives"]],
        budget={name: sweep["budget"][name] for name in ("trials", "hours", "gpu_hours")},
        used=used_budget(ledger, records),
        stopped_by="" if driver else str(attributes.get("stopped_by", "")),
        created=str(attributes.get("created", "")),
        folder=folder,
        expected_gain=expected_gain(records, maximize=maximize) if len(metrics) == 1 else None,
        requests=len(requests),
        quarantined=list(attributes.get(QUARANTINED, ())),
        devices=devices,
        warnings=[warning] if warning else [],
    )


def _preparing(folder: Path) -> SweepStatus:
    return SweepStatus(name=folder.name, state="preparing", driver=holder(folder), counts=counts_of(()), folder=folder)
