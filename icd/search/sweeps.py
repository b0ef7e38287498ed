"""A sweep from its file to its end: what ``icd sweep``, ``icd resume``, ``jobs/`` and notebooks all call."""

import json
import logging
import os
import secrets
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol

from icd import __version__
from icd.config.read_sweep import read_sweep
from icd.config.sweep import SweepConfig
from icd.config.trial import differences
from icd.config.yaml import Document, apply_overrides
from icd.errors import Interrupted, SetupError, StateError
from icd.search.driver import Driver, Site
from icd.search.lease import Lease
from icd.search.mlflow_store import check_server
from icd.search.outbox import Outbox
from icd.search.places import places_for, visible_gpus
from icd.search.prepare import Preparation, Prepared
from icd.search.processes import ProcessExecutor
from icd.search.record import TrialRecord, best
from icd.search.space import SearchSpace
from icd.search.storage import DatabaseLease, is_shared, open_storage, redacted, storage_url
from icd.search.studies import REPORT_NAME, sweep_folder, tracking_uri
from icd.search.study import Ledger
from icd.search.task import Policy
from icd.search.track import Tracker
from icd.search.work import stop_asked
from icd.trial.checkpoint import write_durably
from icd.trial.runs import versions
from icd.trial.teacher_table import BUDGET_GB, TableMode

logger = logging.getLogger(__name__)

ExecutorName = Literal["ray", "process"]

_FLUSH_S = 30.0  # how long the end of a sweep waits for MLflow
_LEAVE_S = 2.0  # the same where it must go


class Executor(Protocol):
    """Where attempts run: plain processes or Ray Tune."""

    name: str

    def prepare(self, request: Preparation, say: Callable[[str], None], stop: Callable[[], bool]) -> Prepared: ...

    def run(self, policy: Policy, tick: Callable[[], None]) -> None: ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How and where to run; nothing here changes a result.

    Attributes:
        root: Folder of results.
        data_root: Folder of data sets.
        download: Whether data may be fetched.
        executor: ``ray`` or ``process``.
        address: Ray cluster to join; ``local`` starts one of our own.
        extend: Whether a larger budget than the study's may be used.
        table: How teachers are answered for: ``auto``, ``table``, ``stream`` or ``live``.
        table_gb: Disk that a teacher table may take.
        announce: Told what happens, in lines.
        watch: Called several times a second with the driver and the executor, for a live display.
        stop: Whether a signal asked to stop after the current epoch.
        report: Writes the report of a sweep (root, name, file) when its driver leaves; None for no report.
    """

    root: Path
    data_root: Path | None = None
    download: bool = False
    executor: ExecutorName = "ray"
    address: str = "local"
    extend: bool = False
    table: TableMode = "auto"
    table_gb: float = BUDGET_GB
    announce: Callable[[str], None] = logger.info
    watch: Callable[[Driver, Executor], None] = lambda driver, executor: None
    stop: Callable[[], bool] = lambda: False
    report: Callable[[Path, str, Path], None] | None = None
    launch: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepResult:
    """How a sweep stands when its driver leaves.

    Attributes:
        name: Of the sweep.
        folder: Its folder.
        records: Every trial.
        best: The best complete trial by the first objective.
        stopped_by: ``budget``, ``exhausted``, ``stop``, ``signal``, ``failures``.
        failed_too_often: Whether more trials failed than ``budget.failed_share`` allows.
        pending: Events that MLflow has not been told yet.
        tracking: Where MLflow is.
    """

    name: str
    folder: Path
    records: tuple[TrialRecord, ...]
    best: TrialRecord | None
    stopped_by: str
    failed_too_often: bool
    pending: int
    tracking: str


def stored_sweep(ledger: Ledger, overrides: tuple[str, ...] = ()) -> SweepConfig:
    """Read the configuration a study was made with."""
    return read_sweep(stored_document(ledger, overrides))


def stored_document(ledger: Ledger, overrides: tuple[str, ...] = ()) -> Document:
    """Give the document a study was made with, changed by ``--set`` overrides."""
    document = Document(json.loads(ledger.attributes["document"]), f"study {ledger.name}")
    return apply_overrides(document, overrides) if overrides else document


def run(sweep: SweepConfig, document: Mapping[str, Any], settings: Settings) -> SweepResult:
    """Drive a sweep, new or begun, until its budget is used or something stops it.

    Args:
        sweep: What to search.
        document: The file it was read from, as plain data; kept in the study for ``icd resume``.
        settings: How and where.

    Raises:
        StateError: If another driver has it, or the study was made with another configuration.
        SetupError: If the machine lacks something.
        Interrupted: If a signal stopped it; it can be resumed.
    """
    _check_executor(sweep, settings)
    folder = sweep_folder(settings.root, sweep.name)
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise SetupError(f"{folder} cannot be made: {error.strerror}; choose --root") from error
    url = storage_url(settings.root)
    with Lease(folder):
        shared = DatabaseLease(url, sweep.name, settings.announce) if is_shared(url) else None
        if shared is not None:
            shared.acquire()
        executor: Executor | None = None
        try:
            warning = check_server(tracking_uri(settings.root))
            if warning is not None:
                settings.announce(warning)
            storage = open_storage(url)
            begun = _begun(storage, sweep, document, settings)
            (folder / "stop").unlink(missing_ok=True)  # a stop that was asked of an earlier driver
            space = SearchSpace(sweep)
            executor = _executor(sweep, folder, settings)
            request = preparation(space, sweep, settings, probe=begun is None)
            if begun is not None:  # a table's rounding is not a live teacher's: what was begun goes on the same way
                kept = {name: begun.attributes.get(name, {}) for name in ("tables", "tuned")}
                request = replace(request, **kept)
            prepared = executor.prepare(
                request, settings.announce, lambda: settings.stop() or bool(stop_asked(folder / "stop"))
            )
            ledger = begun or _create(storage, sweep, document, prepared, settings)
            _check_digests(ledger, prepared)
            return _drive(sweep, space, ledger, prepared, executor, folder, settings, shared)
        finally:
            if executor is not None:
                executor.close()
            if shared is not None:
                shared.release()


def _begun(storage: Any, sweep: SweepConfig, document: Mapping[str, Any], settings: Settings) -> Ledger | None:
    """Give the study if there is one, after comparing configurations."""
    if sweep.name not in Ledger.names(storage):
        return None
    ledger = Ledger(storage, sweep.name, settings.announce)
    attributes = ledger.attributes
    if "digest" not in attributes:
        return None  # a driver was killed while it made the study; ``_create`` completes it
    before, now = json.loads(attributes["sweep"]), sweep.to_data()
    for part in ("resources", *(("budget",) if settings.extend else ())):
        before.pop(part), now.pop(part)
    changed = differences(before, now)
    if changed:
        only_budget = all(line.startswith("budget.") for line in changed)
        advice = "add --extend to use the new budget" if only_budget else "undo, or choose another name"
        raise StateError(f"sweep {sweep.name!r} was begun with another configuration; {advice}: " + "; ".join(changed))
    if settings.extend:
        ledger.note_study(document=json.dumps(document), sweep=json.dumps(sweep.to_data()))
    return ledger


def _create(
    storage: Any, sweep: SweepConfig, document: Mapping[str, Any], prepared: Prepared, settings: Settings
) -> Ledger:
    attributes = {
        "uid": secrets.token_hex(8),
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "document": json.dumps(document),
        "sweep": json.dumps(sweep.to_data()),
        "versions": {**versions(), **library_versions(), "git": _git_commit()},
        "data_digest": prepared.data_digest,
        "teachers": dict(prepared.teachers),
        "tables": dict(prepared.tables),
        "tuned": dict(prepared.tuned),
        "digest": sweep.digest(),  # last: a study with its digest is whole
    }
    return Ledger.create(storage, sweep, attributes, settings.announce)


def _check_digests(ledger: Ledger, prepared: Prepared) -> None:
    attributes = ledger.attributes
    changed = [] if attributes["data_digest"] == prepared.data_digest else ["the images or their split"]
    changed += [
        name for name, digest in prepared.teachers.items() if attributes["teachers"].get(name, digest) != digest
    ]
    if changed:
        raise StateError(f"sweep {ledger.name!r} cannot go on, since its start changed: " + "; ".join(changed))


def preparation(space: SearchSpace, sweep: SweepConfig, settings: Settings, *, probe: bool) -> Preparation:
    """Say what must be ready: every corner of the space, and the baselines."""
    return Preparation(
        configs=[config.to_data() for config in space.extremes()],
        root=str(settings.root.absolute()),
        data_root=str(settings.data_root.absolute()) if settings.data_root else None,
        download=settings.download,
        probe=probe,
        threads=_threads(sweep),
        table=settings.table,
        table_gb=settings.table_gb,
    )


def _threads(sweep: SweepConfig) -> int:
    return max(1, int(sweep.resources.cpus_per_trial))


def _check_executor(sweep: SweepConfig, settings: Settings) -> None:
    trials = sweep.resources.trials_per_process
    if trials > 1 and settings.executor == "ray":
        raise SetupError(
            "resources.trials_per_process: must be 1 with the executor ray, which has a process for each trial, "
            f"but got {trials}; take --executor process, or --set resources.trials_per_process=1"
        )


def _executor(sweep: SweepConfig, folder: Path, settings: Settings) -> Executor:
    if settings.executor == "ray":
        from icd.search.ray_tune import RayExecutor

        return RayExecutor(sweep.resources, folder, address=settings.address, announce=settings.announce)
    places = places_for(sweep.resources, len(os.sched_getaffinity(0)), visible_gpus())
    more = {} if settings.launch is None else {"launch": settings.launch}
    return ProcessExecutor(places, folder / "logs", threads=_threads(sweep), pack=sweep.resources.pack, **more)


def _drive(
    sweep: SweepConfig,
    space: SearchSpace,
    ledger: Ledger,
    prepared: Prepared,
    executor: Executor,
    folder: Path,
    settings: Settings,
    shared: DatabaseLease | None,
) -> SweepResult:
    attributes = ledger.attributes
    points = list(space.points()) if sweep.sampler.name == "grid" else []
    epochs = max(space.read(space.document(corner)).protocol.epochs for corner in space.corners())
    ledger.drive(sweep, points, epochs, shared=is_shared(storage_url(settings.root)))
    outbox = Outbox(folder)
    site = Site(
        folder=folder,
        root=settings.root.absolute(),
        data_root=settings.data_root.absolute() if settings.data_root else None,
        gpus_per_trial=sweep.resources.gpus_of_a_trial(bool(prepared.gpus)),
        threads=_threads(sweep),
    )
    uri = tracking_uri(settings.root)
    _begin_outbox(outbox, sweep, attributes, prepared)
    driver = Driver(sweep, space, ledger, outbox, prepared, site, settings.announce)
    ledger.note_study(
        stopped_by="", gpus_per_trial=site.gpus_per_trial, tables=dict(prepared.tables), tuned=dict(prepared.tuned)
    )
    tracker = Tracker(folder, uri, sweep.name, attributes["uid"], settings.announce)
    tracker.start()

    def tick() -> None:
        asked = stop_asked(folder / "stop")
        if settings.stop() and not driver.stop_now:
            driver.stop_now, driver.stopped_by = True, "signal"
            write_durably(folder / "stop", b"now")  # workers look here after every epoch
        elif asked == "now" and not driver.stop_now:
            driver.stop_now, driver.stopped_by = True, "stop"
        elif asked == "drain" and not driver.drain:
            driver.drain, driver.stopped_by = True, "stop"
        if shared is not None:
            shared.check()
        settings.watch(driver, executor)

    try:
        executor.run(driver, tick)
        if driver.halted is not None:
            with suppress(SetupError):  # what halted it may be the same disk
                ledger.note_study(stopped_by=driver.stopped_by)
            raise driver.halted
        ledger.note_study(stopped_by=driver.stopped_by)
        result = _result(sweep, ledger, driver, folder, uri)
        # Who is told to leave at once does so; the report can be had from 'icd report'.
        _summarise(outbox, result, [] if driver.stop_now else _report(sweep.name, folder, settings))
    except BaseException:
        tracker.close(_LEAVE_S)
        raise
    finally:
        outbox.close()
    pending = tracker.close(_LEAVE_S if driver.stop_now else _FLUSH_S)
    if driver.stopped_by == "signal":
        raise Interrupted(f"sweep {sweep.name!r} stopped; continue with 'icd resume {sweep.name}'")
    return replace(result, pending=pending)


def _begin_outbox(outbox: Outbox, sweep: SweepConfig, attributes: Mapping[str, Any], prepared: Prepared) -> None:
    tags = {"data": prepared.data, "teachers": "; ".join(prepared.teacher_lines), "digest": attributes["digest"][:16]}
    params = {"sampler": sweep.sampler.name, "pruner": sweep.pruner.name, "seed": f"seed{sweep.seed}"}
    created = int(1000 * time.time())
    note = f"Sweep {sweep.name}: {prepared.data}. Made by icd {__version__}."
    outbox.sweep(time_ms=created, name=f"sweep {sweep.name}", params=params, tags=tags, note=note, artifacts=[])


def _result(sweep: SweepConfig, ledger: Ledger, driver: Driver, folder: Path, uri: str) -> SweepResult:
    records = tuple(ledger.records())
    return SweepResult(
        name=sweep.name,
        folder=folder,
        records=records,
        best=best(records, maximize=sweep.objectives[0].direction == "maximize"),
        stopped_by=driver.stopped_by,
        failed_too_often=driver.failed_too_often,
        pending=0,
        tracking=redacted(uri),
    )


def _report(name: str, folder: Path, settings: Settings) -> list[str]:
    """Write the report and give its name; one that cannot be written is no reason to lose a sweep."""
    if settings.report is None:
        return []
    try:
        settings.report(settings.root, name, folder / REPORT_NAME)
    except Exception as error:
        settings.announce(f"no report was written ({type(error).__name__}: {error}); try 'icd report {name}'")
        return []
    return [REPORT_NAME]


def _summarise(outbox: Outbox, result: SweepResult, artifacts: Sequence[str]) -> None:
    counts = {state: sum(r.state == state for r in result.records) for state in ("complete", "pruned", "failed")}
    metrics = {f"trials/{state}": float(count) for state, count in counts.items()}
    tags = {"stopped_by": result.stopped_by}
    if result.best is not None:
        metrics["best/value"] = result.best.values[0]
        tags["best"] = f"{result.best.number:04d}"
    revision = int(time.time())
    outbox.summary(revision, time_ms=1000 * revision, metrics=metrics, tags=tags, artifacts=artifacts, finished=True)


def library_versions() -> dict[str, str]:
    """Versions of the libraries that search."""
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in ("ray", "optuna", "mlflow"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "none"
    return found


def _git_commit() -> str:
    try:
        words = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=5)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()[:12] if done.returncode == 0 else ""
