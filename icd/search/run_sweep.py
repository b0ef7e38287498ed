"""A sweep from its file to its end: what ``icd sweep``, ``icd resume``, ``jobs/`` and notebooks all call."""

import json
import secrets
import subprocess
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from icd.config.sweep import SweepConfig
from icd.config.trial import differences
from icd.config.walk import summary
from icd.config.yaml import Document
from icd.errors import StateError
from icd.plugins import changed_files
from icd.search.controller.controller import SweepController
from icd.search.core.preparation import PreflightResult
from icd.search.core.records import TrialRecord, best, failed_too_often, interrupted
from icd.search.foresight import foresight
from icd.search.session import Session, session
from icd.search.settings import Settings, preparation
from icd.search.study.database import redacted
from icd.search.study.ledger import Ledger
from icd.search.study.sweep_index import pasted, tracking_uri
from icd.search.suggest.samplers import drive, refuse_pickles
from icd.search.suggest.search_source import retry_failed
from icd.search.suggest.search_space import SearchSpace
from icd.search.suggest.warm_start import find_starts, stored_starts
from icd.search.sweep_status import has_ended
from icd.training.hardware import versions

__all__ = ["SweepResult", "run"]

_LIBRARIES = ("ray", "optuna", "mlflow")  # that search


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepResult:
    """How a sweep stands when its driver leaves."""

    name: str
    folder: Path
    records: tuple[TrialRecord, ...]  # every trial
    best: TrialRecord | None  # the best complete trial by the first objective
    stopped_by: str  # ``budget``, ``min_gain``, ``exhausted``, ``stop`` or ``failures``
    failed_too_often: bool  # whether more trials failed than ``budget.max_failed_fraction`` allows
    pending: int  # runs of which MLflow lacks something
    tracking: str  # where MLflow is


def refuse_changed_plugins(name: str, document: Document) -> None:
    """Refuse to go on silently with the kept text of a plugin whose file says something else by now.

    Raises:
        StateError: With what changed.
    """
    if changed := changed_files(document.data.get("plugins")):
        raise StateError(
            f"sweep {name!r} cannot go on, since its trials would not be comparable: {'; '.join(changed)}; put back "
            f"what it was begun with, or begin another sweep: icd sweep FILE --name {name}-2"
        )


def run(sweep: SweepConfig, document: Mapping[str, Any], settings: Settings) -> SweepResult:
    """Drive a sweep, new or begun, until its budget is used or something stops it.

    Raises:
        StateError: If another driver has it, or the study was made with another configuration.
        ConfigError: If its sampler cannot be used on the database.
        SetupError: If the machine lacks something.
        Interrupted: If a signal stopped it; it can be resumed.
    """
    refuse_pickles(sweep, settings.root)
    with session(sweep, settings) as held:
        kept = {"document": json.dumps(document), "sweep": json.dumps(sweep.to_data())}  # 'icd resume' goes on with it
        begun = _begun(held.storage, sweep, kept, settings)
        if begun is not None and not settings.retry_failed and has_ended(begun, begun.records(), held.files.requests()):
            return _told_again(sweep, begun, held)
        starts = stored_starts(begun) if begun else find_starts(sweep, settings.root, settings.announce)
        space = SearchSpace(sweep, starts)
        known = begun.attributes if begun else {}
        # A cache's rounding is not a live teacher's: what was begun goes on the same way.
        chosen = {name: known[name] for name in ("teacher_caches", "tuned", "data_digest", "teachers") if name in known}
        request = preparation(space.extremes(), sweep, settings, probe=begun is None, **space.extent(), **chosen)
        prepared = held.prepare(sweep, request)
        ledger = begun or _create(held.storage, space, kept, prepared, settings)
        ledger.note_study(**kept)  # not before: other resources may not fit
        return _drive(sweep, space, ledger, prepared, held)


def _begun(storage: Any, sweep: SweepConfig, kept: Mapping[str, str], settings: Settings) -> Ledger | None:
    """Give the study if there is one, after comparing configurations."""
    if sweep.name not in Ledger.names(storage):
        return None
    ledger = Ledger(storage, sweep.name, settings.announce)
    attributes = ledger.attributes
    if "digest" not in attributes:
        Ledger.refuse_foreign(storage, sweep.name)
        return None  # a driver was killed while it made the study; ``_create`` completes it
    lines = differences(json.loads(attributes["sweep"]), sweep.to_data())
    changed = [line for line in lines if not line.startswith("resources.")]
    only_budget = all(line.startswith("search.budget.") for line in changed)
    if changed and not (only_budget and settings.extend):
        rule = "was begun with another configuration; undo, or choose another name"
        if only_budget:
            again = pasted(settings.root, "resume", sweep.name)
            rule = f"has another budget; '{again}' keeps it, --extend takes the one that is asked for"
        raise StateError(f"sweep {sweep.name!r} {rule}: {'; '.join(changed)}")
    if changed:
        ledger.note_study(stopped_by="")  # first, since a sweep that ended goes on by the budget that is noted next
        ledger.note_study(**kept)
    return ledger


def _create(
    storage: Any, space: SearchSpace, kept: Mapping[str, str], prepared: PreflightResult, settings: Settings
) -> Ledger:
    sweep = space.sweep
    attributes: dict[str, Any] = {
        "uid": secrets.token_hex(8),
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        **kept,
        "space": json.dumps(summary(sweep.template)),
        "starts": [asdict(start) for start in space.starts],
        "versions": {**versions(), **{name: version(name) for name in _LIBRARIES}, "git": _git_commit()},
        "data": prepared.data,
        "data_digest": prepared.data_digest,
        "teacher_lines": list(prepared.teacher_lines),
        "teachers": dict(prepared.teachers),
        "teacher_caches": dict(prepared.teacher_caches),
        "tuned": dict(prepared.tuned),
        "digest": sweep.digest(),  # last: a study with its digest is whole
    }
    return Ledger.create(storage, sweep, attributes, settings.announce)


def _drive(
    sweep: SweepConfig, space: SearchSpace, ledger: Ledger, prepared: PreflightResult, held: Session
) -> SweepResult:
    settings = held.settings
    epochs = max(space.members(space.document(corner))[-1].last for corner in space.corners())
    drive(ledger, sweep, space.untried(), epochs)
    if sweep.pruner.compares and (warning := foresight(sweep, settings.root, epochs).warning(sweep)):
        settings.announce(f"WARNING: {warning}")
    if settings.retry_failed:
        again = ", ".join(map(str, retry_failed(ledger)))
        settings.announce(f"failed trials are trained again as {again}" if again else "no failed trial to train again")
    context = held.context(sweep, prepared, "search")
    driver = SweepController(sweep, space, ledger, held.tracker, prepared, context, settings.announce)
    ledger.note_study(
        stopped_by="",
        gpus_per_trial=context.gpus_per_trial,
        teacher_caches=dict(prepared.teacher_caches),
        tuned=dict(prepared.tuned),
    )
    pending = held.conduct(driver)
    return _result(sweep, ledger, held, driver.stopped_by, pending)


def _told_again(sweep: SweepConfig, ledger: Ledger, held: Session) -> SweepResult:
    """Say that a sweep is finished; its report is written again, and MLflow is sent what it lacks."""
    why = ledger.attributes["stopped_by"]
    held.settings.announce(f"sweep {sweep.name!r} is finished (stopped_by: {why}): there is nothing to train")
    return _result(sweep, ledger, held, why, held.conclude(sweep, ledger))


def _result(sweep: SweepConfig, ledger: Ledger, held: Session, stopped_by: str, pending: int) -> SweepResult:
    records = tuple(interrupted(ledger.records()))
    return SweepResult(
        name=sweep.name,
        folder=held.folder,
        records=records,
        best=best(records, maximize=sweep.objectives[0].direction == "maximize"),
        stopped_by=stopped_by,
        failed_too_often=failed_too_often(records, sweep.budget.max_failed_fraction),
        pending=pending,
        tracking=redacted(tracking_uri(held.settings.root)),
    )


def _git_commit() -> str:
    """Give the commit of our own repository; nothing where the package merely lies in another one."""
    words = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--show-prefix", "HEAD"]
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=5)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    prefix, _, commit = done.stdout.partition("\n")
    return commit[:12] if prefix == "icd/search/" else ""
