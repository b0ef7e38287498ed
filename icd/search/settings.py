"""How and where a sweep runs, and what must be ready for it before a trial begins."""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from icd.config.sweep import Engine, SweepConfig, engine_asked
from icd.config.trial import TrialConfig
from icd.search.core.preparation import PreflightRequest
from icd.storage.bucket import url_of
from icd.teacher.cache_plan import BUDGET_GB, CacheMode

if TYPE_CHECKING:
    from icd.search.controller.controller import SweepController
    from icd.search.executors.executor import Executor
    from icd.search.executors.local.worker_process import Launch

logger = logging.getLogger(__name__)

ExecutorName = Literal["ray", "process"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How and where to run; ``teacher_cache`` and ``engine`` change the rounding, and single results by points."""

    root: Path  # folder of results
    data_root: Path | None = None  # folder of data sets
    download: bool = False  # whether data may be fetched
    executor: ExecutorName = "ray"  # ``ray`` or ``process``
    address: str = "local"  # Ray cluster to join; ``local`` starts one of our own
    extend: bool = False  # whether a larger budget than the study's may be used
    retry_failed: bool = False  # whether trials that failed are trained again
    teacher_cache: CacheMode = "auto"  # what is kept of teachers' answers: ``auto``, ``full``, ``stream`` or ``off``
    teacher_cache_gb: float = BUDGET_GB  # disk that a teacher cache may take
    engine: Engine | None = None  # of the steps; None takes ``ICD_ENGINE``, or what the sweep says
    announce: Callable[[str], None] = logger.info  # told what happens, in lines
    # called several times a second with the driver and the executor, for a live display
    watch: "Callable[[SweepController, Executor], None]" = lambda driver, executor: None
    stop: Callable[[], bool] = lambda: False  # whether a signal asked to stop after the current epoch
    # writes the report of a sweep (root, name, file) when its driver leaves; None for no report
    report: Callable[[Path, str, Path], None] | None = None
    launch: "Launch | None" = None  # how a worker process is started; None for a fresh interpreter


def preparation(
    configs: Iterable[TrialConfig], sweep: SweepConfig, settings: Settings, *, probe: bool, **chosen: Any
) -> PreflightRequest:
    """Say what must be ready.

    Args:
        configs: For a search every corner of its space and what is enqueued, for a list all that is on it.
        sweep: Its resources.
        settings: How and where.
        probe: Whether each configuration is tried.
        **chosen: What was chosen or found before: ``teacher_caches``, ``tuned``, ``data_digest``, ``test_digest``,
            ``teachers``. For a search also ``trials`` and ``ranges``.
    """
    return PreflightRequest(
        configs=[config.to_data() for config in configs],
        root=str(settings.root.absolute()),
        bucket=url_of(settings.root),
        data_root=str(settings.data_root.absolute()) if settings.data_root else None,
        download=settings.download,
        probe=probe,
        threads=threads_of(sweep),
        teacher_cache=settings.teacher_cache,
        teacher_cache_gb=settings.teacher_cache_gb,
        engine=engine_asked(settings.engine, sweep.resources.engine),
        sweep=sweep.name,
        **chosen,
    )


def threads_of(sweep: SweepConfig) -> int:
    """Threads of torch in each trial."""
    return max(1, int(sweep.resources.cpus_per_trial))
