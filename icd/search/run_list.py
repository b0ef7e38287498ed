"""Runs a list of trials beside a sweep that was searched: in its study, its folder and its MLflow experiment."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from icd.config.sweep import SweepConfig
from icd.search.controller.controller import SweepController
from icd.search.session import Session, session, stored_sweep
from icd.search.settings import Settings, preparation
from icd.search.study.ledger import Ledger
from icd.search.study.sweep_index import find
from icd.search.suggest.list_source import Listed, ListSource, measured
from icd.search.suggest.search_space import SearchSpace
from icd.search.suggest.warm_start import stored_starts


class StageResult(NamedTuple):
    """How a stage stands when its driver leaves."""

    stopped_by: str  # ``exhausted`` once the list is done; ``stop`` or ``failures`` else
    pending: int  # runs of which MLflow lacks something


def run_stage(
    name: str,
    listed_of: Callable[[Ledger, SweepConfig], Listed],
    settings: Settings,
    overrides: Sequence[str] = (),
    finish: Callable[[Ledger, Path], None] = lambda ledger, folder: None,
) -> StageResult:
    """Train what is on a list beside a sweep, or what is left of it.

    ``listed_of`` makes the list, or reads it back, while the sweep is held. ``overrides`` change the sweep's resources.
    ``finish`` is called at a clean end, while MLflow can still be told.

    Raises:
        StateError: If there is no such sweep, or another driver has it.
        Interrupted: If a signal stopped it; the same call goes on.
    """
    sweep = stored_sweep(find(settings.root, name), tuple(overrides))
    with session(sweep, settings) as held:
        ledger = Ledger(held.storage, name, settings.announce)
        listed = listed_of(ledger, sweep)
        records = ledger.records(listed.stage)
        if listed.finished(records) and not any(record.unfinished for record in records):
            return StageResult("exhausted", held.conclude(sweep, ledger, lambda: finish(ledger, held.folder)))
        driver = _driver(sweep, ledger, listed, held)
        pending = held.conduct(driver, lambda: finish(ledger, held.folder))
        return StageResult(driver.stopped_by, pending)


def _driver(sweep: SweepConfig, ledger: Ledger, listed: Listed, held: Session) -> SweepController:
    settings, attributes, configs = held.settings, ledger.attributes, listed.configs
    records = ledger.records(listed.stage)
    chosen = {
        # Of this list alone: another one may have more seeds or views, and has to be asked for room.
        "teacher_caches": attributes.get(f"{listed.stage}/teacher_caches", {}) if listed.records(records) else {},
        "tuned": attributes.get("tuned", {}),
        **{name: attributes[name] for name in ("data_digest", "teachers")},
        # Only of runs that are there already: what was never measured may still be put right.
        "test_digest": attributes.get("test_digest", "") if any(run.curve for run in listed.records(records)) else "",
    }
    request = preparation(configs, sweep, settings, probe=not records, **chosen)
    prepared = held.prepare(sweep, request)
    ledger.drive()
    ledger.note_study(**{f"{listed.stage}/teacher_caches": dict(prepared.teacher_caches)})
    if prepared.test_digest:
        ledger.note_study(test_digest=prepared.test_digest, test_images=prepared.test_images)
    driver = SweepController(
        measured(sweep, listed.objective),
        SearchSpace(sweep, stored_starts(ledger)),
        ledger,
        held.tracker,
        prepared,
        held.context(sweep, prepared, listed.stage),
        settings.announce,
        ListSource(listed, ledger, prepared),
    )
    driver.note_stage(stopped_by="")
    return driver
