"""Many trials, one ledger.

The functions here are the verbs of the command for Python and notebooks; importing them imports no framework::

    from icd import search
    result = search.sweep("search_spaces/quickstart.yaml", ["search.budget.trials=6"], executor="process")
    pandas.DataFrame(search.trial_rows("quickstart"))
"""

import copy
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict, Unpack

from icd.search.core.roots import root_of

if TYPE_CHECKING:
    from icd.config.yaml import Document
    from icd.search.asking import TryResult
    from icd.search.controller.controller import SweepController
    from icd.search.core.records import TrialRecord
    from icd.search.executors.executor import Executor
    from icd.search.planning import Plan
    from icd.search.run_sweep import SweepResult
    from icd.search.settings import Settings
    from icd.search.sweep_status import SweepStatus

__all__ = [
    "all_status",
    "plan",
    "remove",
    "resume",
    "root_of",
    "status",
    "stop",
    "sweep",
    "sync",
    "trial_rows",
    "trials",
    "try_trial",
]

Source = str | Path | Mapping[str, Any]


class Options(TypedDict, total=False):
    """How and where to run; ``teacher_cache`` and ``engine`` change the rounding, and single results by points."""

    root: Path | str | None
    data_root: Path | str | None
    download: bool
    executor: Literal["ray", "process"]
    address: str
    extend: bool
    retry_failed: bool
    teacher_cache: Literal["auto", "full", "stream", "off"]
    teacher_cache_gb: float
    engine: Literal["auto", "eager", "graph"] | None
    announce: Callable[[str], None]
    watch: "Callable[[SweepController, Executor], None]"
    stop: Callable[[], bool]
    report: Callable[[Path, str, Path], None]


def sweep(
    source: Source, overrides: Sequence[str] = (), *, name: str | None = None, **options: Unpack[Options]
) -> "SweepResult":
    """Run a sweep from its file, or go on with it, until its budget is used or something stops it.

    Args:
        source: The file, or what it would hold.
        overrides: Changes, as ``--set`` takes them: ``search.budget.trials=6``.
        name: Another name for the sweep.
        **options: How and where.

    Raises:
        ConfigError: With every problem of the file.
        StateError: If another driver has it, or it was begun with another configuration.
    """
    from icd.config.read_sweep import read_sweep
    from icd.search.run_sweep import run

    document = _document(source, overrides, name)
    with document.located():
        return run(read_sweep(document), document.data, settings_of(options))


def resume(name: str, overrides: Sequence[str] = (), **options: Unpack[Options]) -> "SweepResult":
    """Go on with a sweep as its study remembers it; with ``extend=True`` the budget may be changed.

    With ``retry_failed=True`` trials that failed are trained again, each as a new trial with the same configuration and
    label. The failed one counts no longer against ``search.budget.trials``; the time that it took is spent.

    Raises:
        StateError: If there is none of that name, another driver has it, or more than the budget is changed.
    """
    from icd.config.read_sweep import read_sweep
    from icd.search.run_sweep import refuse_changed_plugins, run
    from icd.search.session import stored_document
    from icd.search.study.sweep_files import fetch_trials
    from icd.search.study.sweep_index import find
    from icd.search.sweep_status import found_line

    settings = settings_of(options)
    ledger = find(settings.root, name)
    fetch_trials(settings.root, ledger)
    settings.announce(found_line(settings.root, ledger))
    document = stored_document(ledger, tuple(overrides))
    refuse_changed_plugins(name, document)
    return run(read_sweep(document), document.data, settings)


def plan(
    source: Source,
    overrides: Sequence[str] = (),
    *,
    name: str | None = None,
    measure: bool = False,
    curves: Path | None = None,
    **options: Unpack[Options],
) -> "Plan":
    """Say what a sweep would try and cost; ``measure`` times it here, and trains its teacher if that is missing.

    What its rungs foretell is judged by ``curves``, a recorded table, or else by trials of sweeps that are there.
    """
    from icd.config.read_sweep import read_sweep
    from icd.search.planning import make_plan

    document = _document(source, overrides, name)
    with document.located():
        return make_plan(read_sweep(document), settings_of(options), measure=measure, curves=curves)


def status(name: str, *, root: Path | str | None = None) -> "SweepStatus":
    """Say how a sweep stands."""
    from icd.search.sweep_status import status_of

    return status_of(root_of(root), name)


def all_status(*, root: Path | str | None = None) -> "list[SweepStatus]":
    """Say how every sweep stands."""
    from icd.search.sweep_status import all_statuses

    return all_statuses(root_of(root))


def trials(name: str, *, root: Path | str | None = None) -> "list[TrialRecord]":
    """Give every trial of a sweep."""
    from icd.search.study.sweep_index import find
    from icd.search.sweep_status import records_of

    where = root_of(root)
    return records_of(where, find(where, name))


def trial_rows(name: str, *, root: Path | str | None = None) -> list[dict[str, Any]]:
    """Give every trial of a sweep as a flat row, good for ``pandas.DataFrame``."""
    from icd.search.study.sweep_index import find
    from icd.search.sweep_status import flat_rows, plain_sweep, records_of

    where = root_of(root)
    ledger = find(where, name)
    return flat_rows(records_of(where, ledger), [item["metric"] for item in plain_sweep(ledger)["objectives"]])


def try_trial(
    name: str,
    overrides: Sequence[str],
    *,
    base: int | None = None,
    label: str = "",
    wait_s: float = 10.0,
    root: Path | str | None = None,
) -> "TryResult":
    """Ask a sweep for one more trial: what a trial has, the best one or ``base``, with other values set.

    A driver at work takes it within seconds, and for so long this waits; without one it is queued for the next
    ``resume``. A configuration that a trial has already is not asked for again: then this tells of that trial.

    Raises:
        ConfigError: With every problem of what is set.
        StateError: If there is no such sweep or trial, or its budget is used.
    """
    from icd.search.asking import try_trial as ask

    return ask(root_of(root), name, overrides, base=base, label=label, wait_s=wait_s)


def stop(name: str, *, now: bool = False, root: Path | str | None = None) -> str:
    """Ask a sweep's driver to finish what runs and leave, or to leave after the current epoch; returns who it is.

    Raises:
        StateError: If nobody drives it.
    """
    from icd.search.sweep_status import request_stop

    return request_stop(root_of(root), name, "now" if now else "drain")


def remove(name: str, *, mlflow: bool = False, root: Path | str | None = None) -> None:
    """Remove a sweep: its study, its folder, and with ``mlflow`` its experiment; teachers and their caches stay.

    Raises:
        StateError: If somebody drives it, or there is none of that name.
    """
    from icd.search.removal import remove as take_away

    take_away(root_of(root), name, mlflow=mlflow)


def sync(
    name: str,
    *,
    root: Path | str | None = None,
    deadline_s: float = 60.0,
    announce: Callable[[str], None] = lambda text: None,
) -> int:
    """Send MLflow what it lacks of a sweep; returns how many runs still wait.

    Raises:
        StateError: If a driver runs, which sends by itself, or there is no such sweep.
    """
    from icd.search.session import send_missing

    return send_missing(root_of(root), name, deadline_s, announce)


def _document(source: Source, overrides: Sequence[str], name: str | None) -> "Document":
    from icd.config.plugins import with_ambient, with_sources
    from icd.config.yaml import Document, apply_overrides, read_yaml

    if isinstance(source, Mapping):
        document = with_ambient(with_sources(Document(copy.deepcopy(dict(source)), "sweep"), Path.cwd()))
    else:
        document = read_yaml(Path(source))
    words = [*overrides, *([] if name is None else [f"name={json.dumps(name)}"])]
    return apply_overrides(document, words) if words else document


def settings_of(options: Options) -> "Settings":
    """Read how and where to run; ``ICD_ROOT`` and ``ICD_DATA`` stand for what is left out."""
    from icd.search.settings import Settings

    data_root = options.get("data_root") or os.environ.get("ICD_DATA")
    chosen = {key: value for key, value in options.items() if key not in ("root", "data_root")}
    return Settings(
        root=root_of(options.get("root")),
        data_root=Path(data_root) if data_root else None,
        **chosen,  # type: ignore[arg-type]
    )
