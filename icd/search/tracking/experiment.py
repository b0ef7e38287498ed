"""One experiment of MLflow, brought to what the views of a sweep's runs say; whoever asks twice changes nothing.

A run is found by our tag ``icd.trial`` before it is made, and only what lies beyond the last step that it has is sent.
So a kill between a request and its answer makes no second run and no second row.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from posixpath import dirname
from typing import TYPE_CHECKING, Any

from icd.errors import SetupError
from icd.search.study.database_file import sqlite_file
from icd.search.tracking.mlflow_client import (
    ALL,
    GONE,
    TRIAL_TAG,
    connect,
    is_poison,
    make_experiment,
    own_experiment,
)
from icd.search.tracking.mlflow_file import ARTIFACTS
from icd.search.tracking.mlflow_pages import NOTE_TAG, VIEW_TAG, note_text, view_value
from icd.search.tracking.run_view import SUMMARY, Row, RunView

if TYPE_CHECKING:
    from mlflow import MlflowClient

SENT_TAG = "icd.sent"  # the mark of the view that the run was brought to; set last
_MOST_METRICS, _MOST_PARAMS, _MOST_RUNS = 1000, 100, 1000  # of one request
_TAG_LENGTH = 8000
_DATABASES = ("postgresql", "mysql", "mssql")

Refuse = Callable[[str, str, str], None]


@dataclass(slots=True)
class _Run:
    """What MLflow has of a run: its last step, and the names that it has or has refused."""

    id: str
    active: bool
    last: int
    params: set[str]
    tags: dict[str, str]
    refused: set[str]


class Experiment:
    """The runs of a sweep, whose random id is part of every run's tag.

    ``refuse`` is told the key of a run, a value that MLflow refuses for good, and why.
    """

    def __init__(self, folder: Path, uri: str, name: str, uid: str, refuse: Refuse) -> None:
        self.folder, self.uri, self.name, self.uid, self.refuse = folder, uri, name, uid, refuse
        self.id = ""
        self._tags: dict[str, str] = {}
        self._runs: dict[str, _Run] = {}
        self._marks: dict[str, str] = {}

    @cached_property
    def client(self) -> "MlflowClient":
        """MLflow's own client."""
        return connect(self.uri)

    def sent(self, key: str, mark: str) -> bool:
        """Whether a run has this mark; asks once for the marks of all runs."""
        self._open()
        return bool(mark) and self._marks.get(key) == mark

    def reconcile(self, view: RunView) -> None:
        """Bring a run to a view. Raises whatever calls for another try later, which may begin anew."""
        try:
            self._open()
            if view.mark:
                self._runs.pop(view.key, None)  # a request of a killed process may have made a second run since
            run = self._run(view)
            if not run.active:  # one that was deleted alone stays deleted
                _refuse_deleted(self.client.get_experiment(self.id))
            elif not (view.mark and run.tags.get(SENT_TAG) == view.mark):
                self._bring(view, run)
        except Exception as error:
            self._runs.pop(view.key, None)  # what arrived of it is not known
            if getattr(error, "error_code", "") == GONE:  # deleted for good, or the database is another
                self.id = ""
            raise
        if view.mark:
            self._marks[view.key] = view.mark
            self._runs.pop(view.key, None)

    def known_run(self, key: str) -> str | None:
        """Give the id of a run that is there; None where this MLflow never heard of it, or it was deleted."""
        self._open()
        found = self._find(key)
        return found.id if found is not None and found.active else None

    def _bring(self, view: RunView, run: _Run) -> None:
        self._send_params(view, run)
        self._send_tags(view.key, run, view.tags)
        self._send_rows(view.key, run, [row for row in view.rows if row.step > run.last])
        if view.totals is not None:
            self._send_rows(view.key, run, [view.totals])
        self._describe(view)
        self._upload(view, run)
        if view.mark:
            state = "FAILED" if view.failed else "FINISHED"
            self._try(view.key, state, lambda: self.client.set_terminated(run.id, state, view.end_ms))
            self._send_tags(view.key, run, {SENT_TAG: view.mark})

    # The experiment

    def _open(self) -> None:
        """Find the experiment, or make it, and ask which of its runs need nothing more."""
        if self.id:
            return
        found = own_experiment(self.client, self.uid)
        if found is None:
            place = _artifact_location(self.uri, self.uid, self.folder)
            found = make_experiment(self.client, self.name, self.uid, place)
        _refuse_deleted(found)
        self.id, self._tags = found.experiment_id, dict(found.tags)
        self._runs.clear()
        self._marks = self._stored_marks()

    def _stored_marks(self) -> dict[str, str]:
        seen: dict[str, list[str]] = {}
        for run in self._search(f"tags.`{TRIAL_TAG}` LIKE '{self.uid}/%'"):
            if run.info.lifecycle_stage == "active":
                key = run.data.tags[TRIAL_TAG].removeprefix(f"{self.uid}/")
                seen.setdefault(key, []).append(run.data.tags.get(SENT_TAG, ""))
        return {key: marks[0] for key, marks in seen.items() if len(marks) == 1}  # of two runs one has to go

    def _describe(self, view: RunView) -> None:
        """Head the experiment's page, and save the view of it that shows the parameters; each once."""
        told = {}
        if view.note:
            told[NOTE_TAG] = note_text(view.note, self.uri, self.id)
        if view.sorted_by and view.params and VIEW_TAG not in self._tags:
            told[VIEW_TAG] = view_value(list(view.params), view.sorted_by, view.start_ms, ascending=view.ascending)
        for name, value in told.items():
            if self._tags.get(name) != value:
                self._try(view.key, name, partial(self.client.set_experiment_tag, self.id, name, value))
                self._tags[name] = value

    # Runs

    def _run(self, view: RunView) -> _Run:
        """Find a run by its tag, or make it."""
        if view.key not in self._runs:
            found = self._find(view.key)
            if found is None:
                _refuse_deleted(self.client.get_experiment(self.id))
                tags = {TRIAL_TAG: f"{self.uid}/{view.key}"}  # alone: what may be refused comes later
                create = partial(self.client.create_run, self.id, view.start_ms, tags, view.name)
                if not self._try(view.key, "the run", create):
                    raise ValueError("MLflow makes no run")
                found = self._find(view.key)
            if found is None:
                raise OSError(f"MLflow does not show run {view.key} yet, which it has just made")
            self._runs[view.key] = found
        return self._runs[view.key]

    def _find(self, key: str) -> _Run | None:
        """Find the run with our tag, the fullest where a lost answer made two; a deleted one only where no other is."""
        found = list(self._search(f"tags.`{TRIAL_TAG}` = '{self.uid}/{key}'"))
        active = [run for run in found if run.info.lifecycle_stage == "active"]
        active.sort(key=lambda run: (-len(run.data.metrics) - len(run.data.params), run.info.run_id))
        first, *doubles = active or found[:1] or [None]
        for double in doubles:
            self.client.delete_run(double.info.run_id)
        if first is None:
            return None
        steps = [metric.step for metric in first.data.to_proto().metrics]  # the last of each metric
        return _Run(
            first.info.run_id, bool(active), max(steps, default=0), set(first.data.params), first.data.tags, set()
        )

    def _search(self, query: str) -> Iterator[Any]:
        token = None
        while True:
            page = self.client.search_runs(
                [self.id], query, run_view_type=ALL, max_results=_MOST_RUNS, page_token=token
            )
            yield from page
            token = page.token
            if not token:
                return

    # What a run holds

    def _send_rows(self, key: str, run: _Run, rows: Sequence[Row]) -> None:
        """Send whole steps together, so that the last step that MLflow has is whole."""
        from mlflow.entities import Metric

        batch: list[Metric] = []
        for row in rows:
            new = [Metric(name, value, row.time_ms, row.step) for name, value in row.metrics.items()]
            if batch and len(batch) + len(new) > _MOST_METRICS:
                self._log(key, run, "metrics", batch)
                batch = []
            batch += new
        self._log(key, run, "metrics", batch)
        run.last = max([run.last, *(row.step for row in rows)])

    def _send_params(self, view: RunView, run: _Run) -> None:
        from mlflow.entities import Param

        new = [Param(name, value) for name, value in view.params.items() if name not in run.params]
        self._log(view.key, run, "params", new)
        run.params.update(view.params)

    def _send_tags(self, key: str, run: _Run, tags: Mapping[str, str]) -> None:
        from mlflow.entities import RunTag

        short = {name: str(value)[:_TAG_LENGTH] for name, value in tags.items()}
        new = {name: value for name, value in short.items() if run.tags.get(name) != value}
        self._log(key, run, "tags", [RunTag(*tag) for tag in new.items()])
        run.tags.update(new)

    def _log(self, key: str, run: _Run, kind: str, entities: Sequence[Any]) -> None:
        """Send values of one kind together; by halves where MLflow refuses some, so that only those are left out."""
        entities = [entity for entity in entities if entity.key not in run.refused]
        most = _MOST_METRICS if kind == "metrics" else _MOST_PARAMS
        what = f"{entities[0].key}={entities[0].value}" if len(entities) == 1 else ""
        send = partial(self.client.log_batch, run.id, **{kind: entities}, synchronous=True)
        if not entities or (len(entities) <= most and self._try(key, what, send)):
            return
        if what:
            run.refused.add(entities[0].key)
            return
        half = len(entities) // 2
        for part in (entities[:half], entities[half:]):
            self._log(key, run, kind, part)

    def _try(self, key: str, what: str, call: Callable[[], object]) -> bool:
        """Ask MLflow for something; False where that is refused for good, which is told with what it was."""
        try:
            call()
        except Exception as error:
            if not is_poison(error, reached=True):
                raise
            _refuse_deleted(self.client.get_experiment(self.id))  # it is reached, and was not deleted meanwhile
            if what:
                self.refuse(key, what, str(error))
            return False
        return True

    def _upload(self, view: RunView, run: _Run) -> None:
        """Upload the files that MLflow has not; those of the summary change, and are sent again."""
        listed: dict[str, set[str]] = {}
        for name in view.artifacts:
            inside = name.removeprefix(f"trials/{view.key}/")
            above = dirname(inside)
            if above not in listed:
                listed[above] = {item.path for item in self.client.list_artifacts(run.id, above or None)}
            if inside not in listed[above] or view.key == SUMMARY:
                send = partial(self.client.log_artifact, run.id, str(self.folder / name), above or None)
                self._try(view.key, name, send)


def _refuse_deleted(experiment: Any) -> None:
    if experiment.lifecycle_stage != "active":
        raise SetupError(
            f"experiment {experiment.name!r} was deleted; restore it (mlflow experiments restore "
            f"-x {experiment.experiment_id}) or delete it for good (mlflow gc)"
        )


def _artifact_location(uri: str, uid: str, folder: Path) -> str | None:
    """Files lie beside a local database, below the root of a sweep (ROOT/sweeps/NAME) with any other database.

    A server knows its own place. Without one of ours MLflow would write to ``mlruns`` in the current folder.
    """
    database = sqlite_file(uri)
    if database is None and not uri.startswith(_DATABASES):
        return None
    root = folder.absolute().parents[1] if database is None else database.parent
    return (root / ARTIFACTS / uid).as_uri()
