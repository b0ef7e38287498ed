"""One experiment of an MLflow server or database; only this module and ``mlflow_file`` import mlflow.

Every event can be applied twice without a trace, because runs are found by our tag before they are made and metrics
carry the time of their event.
"""

import json
import os
import posixpath
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from icd.errors import SetupError, shorten
from icd.search.study.database_file import sqlite_file
from icd.search.tracking.mlflow_file import ARTIFACTS, ready
from icd.search.tracking.mlflow_pages import NOTE_TAG, VIEW_TAG, note_text, view_value, without_password

if TYPE_CHECKING:
    from mlflow import MlflowClient

TRIAL_TAG = "icd.trial"
STAGE_TAG = "icd.stage"
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",  # we try again ourselves, after a look at what arrived
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_LOGGING_LEVEL": "CRITICAL",  # what goes wrong is said here, once
}
_MOST_METRICS, _MOST_PARAMS = 1000, 100  # of one request
_PARAM_LENGTH, _TAG_LENGTH = 6000, 8000
_POISON = {"INVALID_PARAMETER_VALUE", "BAD_REQUEST", "MALFORMED_REQUEST", "RESOURCE_ALREADY_EXISTS", "INVALID_STATE"}
_SHUT = {"PERMISSION_DENIED", "UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED"}
_GONE = "RESOURCE_DOES_NOT_EXIST"
_DATABASES = ("postgresql", "mysql", "mssql")
_ALL_RUNS = 3  # mlflow.entities.ViewType.ALL; written out because mlflow is imported late

Event = Mapping[str, Any]


class MlflowStore:
    """One experiment of MLflow. ``apply`` may be called again with the same events after any failure."""

    def __init__(
        self, folder: Path, uri: str, experiment: str, uid: str, refuse: Callable[[str, Mapping[str, Any], str], None]
    ) -> None:
        self.folder, self.uri, self.experiment, self.uid, self.refuse = folder, uri, experiment, uid, refuse
        self.experiment_id = ""
        self._client: MlflowClient | None = None
        self._runs: dict[str, str] = {}
        self._columns: dict[str, None] = {}  # a set that keeps its order

    @property
    def client(self) -> "MlflowClient":
        if self._client is None:
            self._client = connect(self.uri)
        return self._client

    def apply(self, run: str, events: Sequence[Event]) -> None:
        """Bring one event, or some epochs, of a run to MLflow; raises whatever calls for another try later."""
        try:
            self._find_experiment()
            if events[0]["kind"] == "epoch":
                self._log(run, metrics=[row for event in events for row in _rows(event, event["epoch"])])
            else:
                self._apply_one(run, events[0])
        except Exception as error:
            if getattr(error, "error_code", "") == _GONE:  # someone deleted it for good, or the database is another
                self._runs.clear()
                self.experiment_id = ""
            raise

    def known_run(self, run: str) -> str | None:
        """Give the id of a run that is there; None where this MLflow never heard of it, or it was deleted."""
        self._find_experiment()
        for found in self._same_runs(run):
            if self.client.get_run(found).info.lifecycle_stage == "active":
                return found
        return None

    def run(self, run: str, event: Event) -> str:
        """Give the id of a run, which is made where there is none."""
        self._find_experiment()
        return self._run_id(run, event)

    def _apply_one(self, run: str, event: Event) -> None:
        kind = event["kind"]
        if kind == "end":
            self._runs.pop(run, None)  # one more look: a request of a killed process may have made a second run since
        run_id = self._run_id(run, event)
        self._log(run, params=list(event.get("params", {}).items()))
        self._log(run, tags=list(_tags(event).items()))
        self._log(run, metrics=list(_rows(event, event.get("revision", 0))))
        if kind == "sweep":
            self._attempt(run, {"note": event["note"]}, lambda: self._set_tag(NOTE_TAG, self._note(event)))
        if kind == "trial" and set(event["params"]) - set(self._columns):
            self._columns.update(dict.fromkeys(event["params"]))
            view = view_value(list(self._columns), "val/top1", event["ms"])
            self._attempt(run, {"view": view}, lambda: self._set_tag(VIEW_TAG, view))
        if kind == "end" or event.get("finished"):
            status = "FAILED" if event.get("state") == "failed" else "FINISHED"
            end = {"status": status, "end_time": event["ms"]}
            self._attempt(run, end, lambda: self.client.set_terminated(run_id, **end))
        self._upload(run, run_id, event)

    def _note(self, event: Event) -> str:
        return note_text(event["note"], self.uri, self.experiment_id)

    def _set_tag(self, name: str, value: str) -> None:
        self.client.set_experiment_tag(self.experiment_id, name, value)

    def _find_experiment(self) -> None:
        if self.experiment_id:
            return
        found = self.client.get_experiment_by_name(self.experiment)
        if found is None:
            place = _artifact_place(self.uri, self.uid, self.folder)
            self.experiment_id = self.client.create_experiment(self.experiment, artifact_location=place)
        elif found.lifecycle_stage != "active":
            raise SetupError(
                f"experiment {self.experiment!r} was deleted; restore it (mlflow experiments restore "
                f"-x {found.experiment_id}) or delete it for good (mlflow gc)"
            )
        else:
            self.experiment_id = found.experiment_id

    def _run_id(self, run: str, event: Event | None = None) -> str:
        """Find the run by its tag, or make it; only one is left where a lost answer made two."""
        if run in self._runs:
            return self._runs[run]
        found = self._same_runs(run)
        if not found:
            tags = {TRIAL_TAG: f"{self.uid}/{run}", **_tags(event or {})}
            began = event["ms"] if event else None
            name = event.get("name", run) if event else run
            self.client.create_run(self.experiment_id, start_time=began, tags=tags, run_name=name)
            found = self._same_runs(run)
        for double in found[1:]:
            self.client.delete_run(double)
        self._runs[run] = found[0]
        return found[0]

    def _same_runs(self, run: str) -> list[str]:
        """Give the ids of the runs with our tag, the fullest first; a deleted one only where no other is left."""
        query = f"tags.`{TRIAL_TAG}` = '{self.uid}/{run}'"
        found = list(self.client.search_runs([self.experiment_id], query, run_view_type=_ALL_RUNS))
        active = [item for item in found if item.info.lifecycle_stage == "active"]
        return [item.info.run_id for item in sorted(active or found[:1], key=_fullest_first)]

    def _log(
        self,
        run: str,
        *,
        metrics: Sequence[tuple[str, float, int, int]] = (),
        params: Sequence[tuple[str, str]] = (),
        tags: Sequence[tuple[str, str]] = (),
    ) -> None:
        """Send rows of one kind; what MLflow refuses is narrowed down by halves and set aside."""
        from mlflow.entities import Metric, Param, RunTag

        rows: Sequence[Any] = metrics or params or tags
        if not rows:
            return
        name = "metrics" if metrics else "params" if params else "tags"
        most = _MOST_METRICS if metrics else _MOST_PARAMS
        half = most if len(rows) > most else len(rows) // 2
        if len(rows) <= most:
            entity: Any = {"metrics": Metric, "params": Param, "tags": RunTag}[name]
            entities = {name: [entity(*row) for row in rows]}
            run_id = self._run_id(run)
            try:
                self.client.log_batch(run_id, **entities, synchronous=True)
                return
            except Exception as error:
                if not _is_poison(error):
                    raise
                if len(rows) == 1:
                    self.refuse(run, {name: rows[0]}, str(error))
                    return
        kinds: Any = {name: rows[:half]}, {name: rows[half:]}
        for kind in kinds:
            self._log(run, **kind)

    def _attempt(self, run: str, what: Mapping[str, Any], call: Callable[[], None]) -> None:
        try:
            call()
        except Exception as error:
            if not _is_poison(error):
                raise
            self.refuse(run, what, str(error))

    def _upload(self, run: str, run_id: str, event: Event) -> None:
        listed: dict[str, set[str]] = {}
        for name in event.get("artifacts", ()):
            local = self.folder / name
            inside = name.removeprefix(f"trials/{run}/")
            above = posixpath.dirname(inside)
            if above not in listed:
                listed[above] = {item.path for item in self.client.list_artifacts(run_id, above or None)}
            if not local.is_file():
                self.refuse(run, {"artifact": name}, f"{local} is not there")
            elif inside not in listed[above] or event["kind"] == "summary":
                send = partial(self.client.log_artifact, run_id, str(local), above or None)
                self._attempt(run, {"artifact": name}, send)


def check_server(uri: str) -> str | None:
    """Look at the tracking server before a sweep begins.

    Returns:
        A warning where it cannot be reached: the sweep may begin all the same. None where all is well.

    Raises:
        SetupError: If it answers and refuses us, or the address can never work.
    """
    refuse_address(uri)
    database = sqlite_file(uri)
    if database is not None:
        if not os.access(database.parent, os.W_OK):
            raise SetupError(f"{database.parent} must be a folder that can be written, for {uri}")
        return None
    try:
        connect(uri).search_experiments(max_results=1)
    except Exception as error:
        told = f"{without_password(uri)}: {advice(error)}"
        if type(error).__name__.startswith("Unsupported"):  # MLflow has nothing for such an address
            raise SetupError(f"MLFLOW_TRACKING_URI cannot be used: {told}") from error
        if getattr(error, "error_code", "") in _SHUT:
            raise SetupError(f"tracking server refuses us: {told}") from error
        return f"tracking unreachable, its data will wait in the outbox: {told}"
    return None


def refuse_address(uri: str) -> None:
    """Refuse an address that can never work.

    Raises:
        SetupError: With the form that would be right.
    """
    scheme, apart, _ = uri.partition("://")
    if apart and scheme and scheme != "file" and (not scheme.startswith("sqlite") or sqlite_file(uri) is not None):
        return
    is_host = re.fullmatch(r"[\w.-]+:\d+(/.*)?|localhost(/.*)?", uri) and not uri.startswith("file:")
    form = f"http://{uri}" if is_host else "sqlite:////FOLDER/mlflow.db"
    shown = without_password(uri)
    raise SetupError(f"MLFLOW_TRACKING_URI must be http(s)://HOST:PORT or a database, but got {shown!r}; try {form}")


def run_ids(uri: str, uids: Mapping[str, str], stage: str, *, wait_s: float) -> tuple[dict[str, str], str]:
    """Ask for the ids of the runs of one stage of several sweeps; changes nothing and raises nothing.

    Args:
        uri: Of the tracking server or database.
        uids: Random id of each sweep, by name.
        stage: Such as ``confirm``.
        wait_s: How long to wait for all answers together.

    Returns:
        Id by tag ``icd.trial``, and why some may be missing; empty where all sweeps were asked for.
    """
    found: dict[str, str] = {}
    database = sqlite_file(uri)
    if database is not None and not database.exists():
        return found, f"there is no {database}"
    why = [f"{without_password(uri)} did not answer within {wait_s:g} s"]

    def ask() -> None:
        try:
            for name, uid in uids.items():
                found.update(_stage_runs(connect(uri), name, uid, stage))
            why.clear()
        except Exception as error:
            why[:] = [f"{without_password(uri)}: {advice(error)}"]

    thread = threading.Thread(target=ask, name="icd-run-ids", daemon=True)
    thread.start()
    thread.join(wait_s)
    return dict(found), "".join(why)


def _stage_runs(client: "MlflowClient", name: str, uid: str, stage: str) -> dict[str, str]:
    experiment, token = client.get_experiment_by_name(name), None
    runs: list[Any] = []
    query = f"tags.`{TRIAL_TAG}` LIKE '{uid}/%' and tags.stage = '{stage}'"
    while experiment is not None:
        page = client.search_runs([experiment.experiment_id], query, page_token=token)
        runs += page
        token = page.token
        if not token:
            break
    fullest = sorted(runs, key=_fullest_first, reverse=True)  # of two with one tag the last one stays
    return {run.data.tags[TRIAL_TAG]: run.info.run_id for run in fullest}


def connect(uri: str) -> "MlflowClient":
    """Give MLflow's client, which says nothing on its own and does not try again."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] = "false"
    from mlflow import MlflowClient

    ready(uri)
    return MlflowClient(tracking_uri=uri)


def advice(error: Exception) -> str:
    """Say in one line what went wrong and, where that is known, what to do."""
    text = shorten(without_password(str(error)), 200).strip("'\"")
    code = getattr(error, "error_code", "")
    if "Invalid Host" in str(error):
        return "403 Invalid Host header; start the server with --allowed-hosts and this host's name and port"
    if code in ("UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED"):
        return "401; set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
    if code == "PERMISSION_DENIED":
        return f"403; this user may not do that: {text}"
    return text


def _is_poison(error: Exception) -> bool:
    """Whether trying again is useless: the server understood and refused, or mlflow broke on our data."""
    if isinstance(error, OSError | json.JSONDecodeError):  # requests' errors are OSErrors
        status = getattr(getattr(error, "response", None), "status_code", 0)
        return 400 <= status < 500 and status not in (401, 403, 404, 408, 429)
    code = getattr(error, "error_code", None)
    return code in _POISON if code else isinstance(error, TypeError | ValueError | KeyError | AttributeError)


def run_name(event: Event) -> str:
    """Name the run that an event belongs to; it is unique in its sweep."""
    return f"{event['trial']:04d}" if "trial" in event else "summary"


def _tags(event: Event) -> dict[str, str]:
    own = {
        "trial": {STAGE_TAG: "trial", "state": "running"},
        "sweep": {STAGE_TAG: "sweep", "state": "sweep"},
        "end": {"state": event.get("state", "")},
    }.get(event.get("kind", ""), {})
    return {name: str(value)[:_TAG_LENGTH] for name, value in {**own, **event.get("tags", {})}.items()}


def _rows(event: Event, step: int) -> Iterator[tuple[str, float, int, int]]:
    for name, value in event.get("metrics", {}).items():
        yield name, float(value), event["ms"], step


def _fullest_first(run: Any) -> tuple[int, str]:
    return -len(run.data.metrics) - len(run.data.params), run.info.run_id


def _artifact_place(uri: str, uid: str, folder: Path) -> str | None:
    """Files lie beside a local database, below the root of a sweep (ROOT/sweeps/NAME) with any other database.

    A server knows its own place. Without one of ours MLflow would write to ``mlruns`` in the current folder.
    """
    database = sqlite_file(uri)
    if database is not None:
        root = database.parent
    elif uri.startswith(_DATABASES):
        root = folder.absolute().parents[1]
    else:
        return None
    return (root / ARTIFACTS / uid).as_uri()
