"""One driver at work on a sweep: its lock, its executor and its tracker, the same for every stage of a study."""

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from icd.config.read_sweep import read_sweep
from icd.config.read_trial import read_trial
from icd.config.sweep import SweepConfig, engine_asked
from icd.config.yaml import Document, apply_overrides
from icd.errors import Interrupted, SetupError, StateError
from icd.machine import usable_cpus
from icd.search.controller.controller import SweepController
from icd.search.core.attempts import STOP, RunContext
from icd.search.core.device_usage import matches
from icd.search.core.preparation import PreflightRequest, PreflightResult
from icd.search.core.records import Stage
from icd.search.executors.executor import Executor
from icd.search.executors.local.executor import LocalExecutor, partition_devices
from icd.search.executors.local.worker_process import launch_python
from icd.search.settings import Settings, threads_of
from icd.search.study.database import StudyAwayError, open_storage, storage_url
from icd.search.study.ledger import Ledger
from icd.search.study.locks import PostgresLock, sweep_lock
from icd.search.study.sweep_files import fetch_trials, sweep_files_of
from icd.search.study.sweep_index import (
    REPORT_NAME,
    find,
    opened,
    pasted,
    refuse_elsewhere,
    refuse_one_database,
    sweep_folder,
    tracking_uri,
)
from icd.search.suggest.search_space import SearchSpace
from icd.search.suggest.warm_start import stored_starts
from icd.search.sweep_status import driver_of
from icd.search.tracking.experiment import Experiment
from icd.search.tracking.mlflow_client import check_server, refuse_address
from icd.search.tracking.sweep_views import SweepViews, ask_for_summary, follow
from icd.search.tracking.tracker import Tracker
from icd.storage.bucket import url_of
from icd.storage.durable import write_durably
from icd.worker.gpus import visible_gpus
from icd.worker.trial_inputs import TrialFolders, look_for_data

_FLUSH_S = 30.0  # how long the end of a sweep waits for MLflow
_LEAVE_S = 2.0  # the same where it must go
_NOTE_EVERY_S = 60.0  # how much of a sweep's time a kill may leave uncounted


class Session:
    """What a driver has while it holds its sweep.

    Attributes:
        folder: The sweep's.
        settings: How and where.
        storage: Where the study is.
        tracker: Brings MLflow to the sweep; ``conduct`` starts it.
    """

    def __init__(self, name: str, settings: Settings, shared: PostgresLock | None, leaving: ExitStack) -> None:
        self.name, self.settings, self._shared, self._leaving = name, settings, shared, leaving
        self.folder = sweep_folder(settings.root, name)
        self.files = sweep_files_of(self.folder)
        self.files.forget_stop()  # first: what is asked from now on is asked of this driver
        warning = check_server(tracking_uri(settings.root))
        if warning is not None:
            settings.announce(warning)
        self.tracker = Tracker(settings.announce, warned=warning is not None)
        self.storage = open_storage(storage_url(settings.root))
        if shared is not None:
            shared.guard(self.storage)
        self._take_over()
        self._noted = time.monotonic()

    def _take_over(self) -> None:
        """Refuse files of another study, and bring here what a driver on another machine left in the bucket."""
        if self.files.bucket is not None:
            self.settings.announce(f"root {self.files.bucket.url}, with copies in {self.settings.root}")
            self.files.bucket.check()
        begun = self.name in Ledger.names(self.storage)
        if not begun:
            self.files.refuse_old_trials()
        ledger = Ledger(self.storage, self.name) if begun else None
        self.files.fetch_made(str(ledger.attributes.get("uid", "")) if ledger else "")
        if ledger:
            fetch_trials(self.settings.root, ledger)

    def prepare(self, sweep: SweepConfig, request: PreflightRequest) -> PreflightResult:
        """Start the executor, and let it make ready what trials need."""
        if _runs_here(self.settings):  # on other machines there may be what is not here
            first = read_trial(Document(dict(request.configs[0]), f"sweep {self.name}"))
            look_for_data(first, TrialFolders.of(request))
        self._executor = _executor(sweep, self.folder, self.settings)
        self._leaving.callback(self._executor.close)
        stop, files = self.settings.stop, self.files
        prepared = self._executor.prepare(request, self.settings.announce, lambda: stop() or bool(files.stop_asked()))
        _check_fit(sweep, prepared)
        return prepared

    def context(self, sweep: SweepConfig, prepared: PreflightResult, stage: Stage) -> RunContext:
        """Say where and how the trials of a stage run."""
        data_root = self.settings.data_root
        return RunContext(
            folder=self.folder,
            root=self.settings.root.absolute(),
            data_root=data_root.absolute() if data_root else None,
            bucket=url_of(self.settings.root),
            stage=stage,
            gpus_per_trial=sweep.resources.gpus_of_a_trial(bool(prepared.gpus)),
            threads=threads_of(sweep),
            engine=engine_asked(self.settings.engine, sweep.resources.engine),
            grace_seconds=sweep.resources.grace_seconds,
            teacher_caches=dict(prepared.teacher_caches),
        )

    def conduct(self, driver: SweepController, finish: Callable[[], None] = lambda: None) -> int:
        """Let the executor do what the driver decides, until nothing is left or something stops it.

        ``finish`` is called, and the report written, at a clean end, while MLflow can still be told; who has to leave
        at once leaves both out.

        Returns:
            Runs of which MLflow lacks something.

        Raises:
            Interrupted: If a signal stopped it; the same call goes on.
        """
        with self._tracked(driver.recorder.views, driver.ledger):
            try:
                self._tick(driver)  # where nothing is left, something may be asked for
                self._executor.run(driver, lambda: self._tick(driver))
                if driver.halted is not None:
                    raise driver.halted
            except StudyAwayError:
                raise
            except Exception:
                with suppress(Exception):  # the study may be full, or another driver's by now
                    driver.note_stage(stopped_by=driver.stopped_by if driver.halted else "error")
                raise
            driver.note_stage(stopped_by=driver.stopped_by)
            if not driver.stop_now:
                finish()
                self._leave_report()
        pending = self.tracker.close(_LEAVE_S if driver.stop_now else _FLUSH_S)
        if driver.stopped_by == "signal":
            stage = driver.source.stage
            again = pasted(self.settings.root, "resume" if stage == "search" else stage, self.name)
            raise Interrupted(f"{stage} of sweep {self.name!r} stopped; continue with '{again}'")
        return pending

    def conclude(self, sweep: SweepConfig, ledger: Ledger, finish: Callable[[], None] = lambda: None) -> int:
        """Do what a driver does before it leaves, where nothing is left to train; an earlier one may have been killed.

        Returns:
            Runs of which MLflow lacks something.
        """
        with self._tracked(_views(sweep, ledger, self.folder), ledger):
            finish()
            self._leave_report()
        return self.tracker.close(_FLUSH_S)

    @contextmanager
    def _tracked(self, views: SweepViews, ledger: Ledger) -> Iterator[None]:
        """Bring MLflow to the study within the block, and to the whole sweep's summary at its end."""
        _begin(self.tracker, views, ledger, self.settings.root, driven=True)
        try:
            yield
            self.files.publish()
            ask_for_summary(self.tracker, views, ledger, driven=False)
        except BaseException:
            self.tracker.close(_LEAVE_S)
            raise

    def _leave_report(self) -> None:
        """Write the report, where one is wanted; one that cannot be written is no reason to lose a sweep."""
        if self.settings.report is None:
            return
        try:
            self.settings.report(self.settings.root, self.name, self.folder / REPORT_NAME)
        except Exception as error:
            again = pasted(self.settings.root, "report", self.name)
            self.settings.announce(f"no report was written ({type(error).__name__}: {error}); try '{again}'")

    def _tick(self, driver: SweepController) -> None:
        asked = self.files.stop_asked()
        if self.settings.stop() and not driver.stop_now:
            driver.stop_now, driver.stopped_by = True, "signal"
            write_durably(self.folder / STOP, b"now")  # workers look here after every epoch
        elif asked == "now" and not driver.stop_now:
            driver.stop_now, driver.stopped_by = True, "stop"
        elif asked == "drain" and not driver.drain:
            driver.drain, driver.stopped_by = True, "stop"
        for request in self.files.requests():
            if driver.take(request):
                self.files.forget_request(request)
        if self._shared is not None:
            self._shared.check()
        if time.monotonic() - self._noted > _NOTE_EVERY_S:
            self._noted = time.monotonic()
            driver.note_stage()
        self.settings.watch(driver, self._executor)


@contextmanager
def session(sweep: SweepConfig, settings: Settings) -> Iterator[Session]:
    """Hold a sweep: no other driver has it meanwhile.

    Raises:
        StateError: If another driver has it.
        SetupError: If the machine lacks something.
    """
    folder = sweep_folder(settings.root, sweep.name)
    url = storage_url(settings.root)
    refuse_one_database(settings.root)
    refuse_address(tracking_uri(settings.root))
    opened(settings.root)  # or refuse it
    refuse_elsewhere(settings.root, sweep.name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SetupError(f"{folder} cannot be made: {error.strerror}; choose --root") from error
    with sweep_lock(folder, url, settings.announce) as shared, ExitStack() as leaving:
        yield Session(sweep.name, settings, shared, leaving)


def send_missing(root: Path, name: str, deadline_s: float, announce: Callable[[str], None]) -> int:
    """Send MLflow what it lacks of a sweep; returns how many runs still wait at the deadline.

    Raises:
        StateError: If a driver runs, which sends by itself, or there is no such sweep.
    """
    ledger, folder = find(root, name), sweep_folder(root, name)
    refuse_address(tracking_uri(root))
    if (driver := driver_of(root, name)) is not None:
        raise StateError(f"sweep {name!r} is driven by {driver}, which sends what is pending by itself")
    fetch_trials(root, ledger)
    sweep_files_of(folder).fetch_made(ledger.attributes["uid"])
    tracker = Tracker(announce)
    _begin(tracker, _views(stored_sweep(ledger), ledger, folder), ledger, root, driven=False)
    return tracker.close(deadline_s)


def _views(sweep: SweepConfig, ledger: Ledger, folder: Path) -> SweepViews:
    return SweepViews(SearchSpace(sweep, stored_starts(ledger)), ledger.attributes, folder)


def _begin(tracker: Tracker, views: SweepViews, ledger: Ledger, root: Path, *, driven: bool) -> None:
    """Begin to bring MLflow to everything that the study has."""
    follow(tracker, views, ledger, driven=driven)
    tracker.start(Experiment(views.folder, tracking_uri(root), ledger.name, ledger.attributes["uid"], tracker.refuse))


def stored_sweep(ledger: Ledger, overrides: tuple[str, ...] = ()) -> SweepConfig:
    """Read the configuration a study was made with."""
    return read_sweep(stored_document(ledger, overrides))


def stored_document(ledger: Ledger, overrides: tuple[str, ...] = ()) -> Document:
    """Give the document a study was made with, changed by ``--set`` overrides."""
    document = Document(json.loads(ledger.attributes["document"]), f"study {ledger.name}")
    return apply_overrides(document, overrides) if overrides else document


def _check_fit(sweep: SweepConfig, prepared: PreflightResult) -> None:
    """Refuse a device of another type, and a budget that no trial uses up."""
    wanted, budget = sweep.resources.device, sweep.budget
    if wanted is not None and not matches(wanted, prepared.device):
        raise SetupError(
            f"resources.device: must be part of the device's name, which is {prepared.device!r}, but got {wanted!r}"
        )
    endless = budget.trials is None and budget.hours is None and budget.gpu_hours is not None
    if endless and sweep.sampler.name != "grid" and not sweep.resources.gpus_of_a_trial(bool(prepared.gpus)):
        raise SetupError(
            f"budget.gpu_hours: must not be the only limit where trials take no GPU, since none is ever used, but got "
            f"{budget.gpu_hours:g}; give trials or hours"
        )


def _runs_here(settings: Settings) -> bool:
    """Whether all workers will be on this machine; a Ray that this process has joined before may have others."""
    ray = sys.modules.get("ray")
    joined = ray is not None and ray.is_initialized()
    return settings.executor == "process" or (settings.address == "local" and not joined)


def _executor(sweep: SweepConfig, folder: Path, settings: Settings) -> Executor:
    if settings.executor == "ray":
        from icd.search.executors.ray.executor import RayExecutor

        return RayExecutor(sweep.resources, folder, address=settings.address, announce=settings.announce)
    devices = partition_devices(sweep.resources, usable_cpus(), visible_gpus())
    launch = settings.launch or launch_python
    return LocalExecutor(devices, folder / "logs", threads=threads_of(sweep), launch=launch)
