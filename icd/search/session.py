"""One driver at work on a sweep: its lock, its executor and its tracker, the same for every stage of a study."""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from icd.config.sweep import SweepConfig, engine_asked
from icd.errors import SetupError
from icd.search.controller.controller import SweepController
from icd.search.core.attempts import Policy
from icd.search.core.device_usage import matches
from icd.search.core.machine import usable_cpus
from icd.search.core.messages import Heartbeat
from icd.search.core.preparation import PreflightRequest, PreflightResult
from icd.search.core.run_context import RunContext
from icd.search.executors.local.executor import LocalExecutor
from icd.search.executors.local.resources import partition_devices
from icd.search.settings import Settings, threads_of
from icd.search.study.database import PostgresLock, is_shared, open_storage, storage_url
from icd.search.study.ledger import Ledger
from icd.search.study.locks import DriverLock
from icd.search.study.sweep_files import SweepFiles, fetch_trials, sweep_files_of
from icd.search.study.sweep_index import (
    REPORT_NAME,
    pasted,
    refuse_earlier,
    refuse_one_database,
    sweep_folder,
    tracking_uri,
)
from icd.search.tracking.experiment import Experiment
from icd.search.tracking.mlflow_client import check_server, refuse_address
from icd.search.tracking.sweep_views import ask_for_summary, follow
from icd.search.tracking.tracker import Tracker
from icd.training.checkpoints import write_durably
from icd.worker.gpus import visible_gpus
from icd.worker.run_trial import stop_asked

logger = logging.getLogger(__name__)


_FLUSH_S = 30.0  # how long the end of a sweep waits for MLflow
_LEAVE_S = 2.0  # the same where it must go


class Executor(Protocol):
    """Where attempts run: plain processes or Ray Tune."""

    name: str

    def prepare(
        self, request: PreflightRequest, say: Callable[[str], None], stop: Callable[[], bool]
    ) -> PreflightResult: ...

    def run(self, policy: Policy, tick: Callable[[], None]) -> None: ...

    def progress(self) -> Mapping[int, Heartbeat]: ...

    def close(self) -> None: ...


@dataclass(slots=True)
class Session:
    """What a driver has while it holds its sweep.

    Attributes:
        name: Of the sweep.
        folder: Its folder.
        settings: How and where.
        storage: Where the study is.
        files: Where its files are.
        shared: The database's own lock, where several machines can reach it.
        warned: Whether it was said that MLflow cannot be reached.
    """

    name: str
    folder: Path
    settings: Settings
    storage: Any
    files: SweepFiles
    shared: PostgresLock | None
    warned: bool = False
    _executor: Executor | None = None
    _leaving: ExitStack = field(default_factory=ExitStack)

    @property
    def executor(self) -> Executor:
        """Where attempts run."""
        if self._executor is None:
            raise ValueError("the executor is there once something was prepared")
        return self._executor

    def prepare(self, sweep: SweepConfig, request: PreflightRequest) -> PreflightResult:
        """Start the executor, and let it make ready what trials need."""
        (self.folder / "stop").unlink(missing_ok=True)  # a stop that was asked of an earlier driver
        self._executor = _executor(sweep, self.folder, self.settings)
        self._leaving.callback(self._executor.close)
        asked = self.folder / "stop"
        prepared = self._executor.prepare(
            request, self.settings.announce, lambda: self.settings.stop() or bool(stop_asked(asked))
        )
        _check_device(sweep, prepared)
        _check_end(sweep, prepared)
        return prepared

    def context(self, sweep: SweepConfig, prepared: PreflightResult) -> RunContext:
        """Say where trials run."""
        data_root = self.settings.data_root
        return RunContext(
            folder=self.folder,
            root=self.settings.root.absolute(),
            data_root=data_root.absolute() if data_root else None,
            gpus_per_trial=sweep.resources.gpus_of_a_trial(bool(prepared.gpus)),
            threads=threads_of(sweep),
            engine=engine_asked(self.settings.engine, sweep.resources.engine),
        )

    def conduct(self, driver: SweepController, finish: Callable[[], None]) -> int:
        """Let the executor do what the driver decides, until nothing is left or something stops it.

        Args:
            driver: Decides.
            finish: Called at a clean end, while MLflow can still be told.

        Returns:
            Runs of which MLflow lacks something.
        """
        views, tracker = driver.recorder.views, driver.tracker
        follow(tracker, views, driver.ledger)
        ask_for_summary(tracker, views, driver.ledger, driven=True)
        tracker.start(self._experiment(driver.ledger, tracker))
        try:
            self.executor.run(driver, lambda: self._tick(driver))
            if driver.halted is not None:
                with suppress(SetupError):  # what halted it may be the same disk
                    driver.note_stage(stopped_by=driver.stopped_by)
                raise driver.halted
            driver.end_paused()
            driver.note_stage(stopped_by=driver.stopped_by)
            finish()
            self.files.publish()
            ask_for_summary(tracker, views, driver.ledger, driven=False)
        except BaseException:
            tracker.close(_LEAVE_S)
            raise
        return tracker.close(_LEAVE_S if driver.stop_now else _FLUSH_S)

    def tracker(self) -> Tracker:
        """Make what brings MLflow to the sweep; ``conduct`` starts it."""
        return Tracker(self.settings.announce, warned=self.warned)

    def _experiment(self, ledger: Ledger, tracker: Tracker) -> Experiment:
        uri, uid = tracking_uri(self.settings.root), ledger.attributes["uid"]
        return Experiment(self.folder, uri, self.name, uid, tracker.refuse)

    def _tick(self, driver: SweepController) -> None:
        asked = self.files.exchange() or stop_asked(self.folder / "stop")
        if self.settings.stop() and not driver.stop_now:
            driver.stop_now, driver.stopped_by = True, "signal"
            write_durably(self.folder / "stop", b"now")  # workers look here after every epoch
        elif asked == "now" and not driver.stop_now:
            driver.stop_now, driver.stopped_by = True, "stop"
        elif asked == "drain" and not driver.drain:
            driver.drain, driver.stopped_by = True, "stop"
        for request in self.files.requests():
            if driver.take(request):
                self.files.forget_request(request)
        if self.shared is not None:
            self.shared.check()
        self.settings.watch(driver, self.executor)


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
    refuse_earlier(settings.root)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SetupError(f"{folder} cannot be made: {error.strerror}; choose --root") from error
    with DriverLock(folder), ExitStack() as leaving:
        shared = PostgresLock(url, sweep.name, settings.announce) if is_shared(url) else None
        if shared is not None:
            shared.acquire()
            leaving.callback(shared.release)
        warning = check_server(tracking_uri(settings.root))
        if warning is not None:
            settings.announce(warning)
        storage = open_storage(url)
        if shared is not None:
            shared.guard(storage)
        files = _taken_over(folder, storage, sweep.name, settings)
        yield Session(sweep.name, folder, settings, storage, files, shared, warning is not None, _leaving=leaving)


def _taken_over(folder: Path, storage: Any, name: str, settings: Settings) -> SweepFiles:
    """Bring here what a driver on another machine left in the bucket, if the root is one."""
    files = sweep_files_of(folder)
    if files.bucket is not None:
        settings.announce(f"root {files.bucket.url}, with copies in {settings.root}")
        files.bucket.check()
        if name not in Ledger.names(storage):
            files.refuse_old_trials()
        files.take_over()
        if name in Ledger.names(storage):
            fetch_trials(settings.root, Ledger(storage, name))
    return files


def written_report(name: str, folder: Path, settings: Settings) -> list[str]:
    """Write the report and give its name; one that cannot be written is no reason to lose a sweep."""
    if settings.report is None:
        return []
    try:
        settings.report(settings.root, name, folder / REPORT_NAME)
    except Exception as error:
        again = pasted(settings.root, "report", name)
        settings.announce(f"no report was written ({type(error).__name__}: {error}); try '{again}'")
        return []
    return [REPORT_NAME]


def _check_device(sweep: SweepConfig, prepared: PreflightResult) -> None:
    wanted = sweep.resources.device
    if wanted is not None and not matches(wanted, prepared.device):
        raise SetupError(
            f"resources.device: must be part of the device's name, which is {prepared.device!r}, but got {wanted!r}"
        )


def _check_end(sweep: SweepConfig, prepared: PreflightResult) -> None:
    budget = sweep.budget
    endless = budget.trials is None and budget.hours is None and budget.gpu_hours is not None
    if endless and sweep.sampler.name != "grid" and not sweep.resources.gpus_of_a_trial(bool(prepared.gpus)):
        raise SetupError(
            f"budget.gpu_hours: must not be the only limit where trials take no GPU, since none is ever used, but got "
            f"{budget.gpu_hours:g}; give trials or hours"
        )


def _executor(sweep: SweepConfig, folder: Path, settings: Settings) -> Executor:
    if settings.executor == "ray":
        from icd.search.executors.ray.executor import RayExecutor

        return RayExecutor(sweep.resources, folder, address=settings.address, announce=settings.announce)
    places = partition_devices(sweep.resources, usable_cpus(), visible_gpus())
    more = {} if settings.launch is None else {"launch": settings.launch}
    return LocalExecutor(places, folder / "logs", threads=threads_of(sweep), **more)
