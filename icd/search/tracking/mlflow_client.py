"""The way to an MLflow server or database: its client, what its errors mean, and whose its runs and experiments are."""

import json
import logging
import os
import re
from typing import TYPE_CHECKING, Any

from icd.errors import SetupError, shorten
from icd.search.study.database_file import sqlite_file
from icd.search.tracking.mlflow_file import ready
from icd.search.tracking.mlflow_pages import without_password

if TYPE_CHECKING:
    from mlflow import MlflowClient

logger = logging.getLogger(__name__)

TRIAL_TAG = "icd.trial"  # SWEEP_UID/KEY: which run it is
UID_TAG = "icd.uid"  # of an experiment: which sweep's it is
ALL = 3  # mlflow.entities.ViewType.ALL, deleted ones too; written out because mlflow is imported late
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",  # we try again ourselves, after a look at what arrived
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_LOGGING_LEVEL": "CRITICAL",  # what goes wrong is said here, once
}
_POISON = {"INVALID_PARAMETER_VALUE", "BAD_REQUEST", "MALFORMED_REQUEST", "RESOURCE_ALREADY_EXISTS", "INVALID_STATE"}
_SHUT = {"PERMISSION_DENIED", "UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED"}
GONE = "RESOURCE_DOES_NOT_EXIST"
# MLflow's words where a status comes without its JSON: a proxy's, or another program's
_FOREIGN = re.compile(r"failed with error code (\d+) .*Response body: ")
_SCHEMA = "database schema"  # MLflow's words: Detected out-of-date database schema (found version ...)


def check_server(uri: str) -> str | None:
    """Look at the tracking server before a sweep begins.

    Returns:
        A warning where it cannot be reached or refuses us: the sweep may begin all the same. None where all is well.

    Raises:
        SetupError: If the address can never work.
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
        return f"tracking {'refused' if refuses(error) else 'unreachable'}, training goes on without it: {told}"
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


def connect(uri: str) -> "MlflowClient":
    """Give MLflow's client, which says nothing on its own and does not try again."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] = "false"
    from mlflow import MlflowClient

    ready(uri)
    return MlflowClient(tracking_uri=uri)


def uid_filter(uid: str) -> str:
    """Write the question for a sweep's experiment, which may have another name than the sweep."""
    return f"tags.`{UID_TAG}` = '{uid}'"


def own_experiment(client: "MlflowClient", uid: str) -> Any:
    """Give a sweep's experiment, a deleted one only where no other is; None where it has none."""
    found = client.search_experiments(view_type=ALL, filter_string=uid_filter(uid))
    return min(found, key=lambda item: item.lifecycle_stage != "active", default=None)


def make_experiment(client: "MlflowClient", name: str, uid: str, place: str | None) -> Any:
    """Make a sweep's experiment; where another one has the name, the uid is part of its own.

    Files of its runs lie at ``place``; None leaves that to the server.
    """
    own = name
    if client.get_experiment_by_name(name) is not None:
        own = f"{name} ({uid[:6]})"
        logger.warning("experiment %r of MLflow is not this sweep's, whose runs go to %r", name, own)
    return client.get_experiment(client.create_experiment(own, place, tags={UID_TAG: uid}))


def refuses(error: Exception) -> bool:
    """Whether the server answers, and a user has to do something before it takes anything."""
    return isinstance(error, SetupError) or getattr(error, "error_code", "") in _SHUT or _SCHEMA in str(error)


def advice(error: Exception) -> str:
    """Say in one line what went wrong and, where that is known, what to do."""
    text = shorten(without_password(str(error)), 200).strip("'\"")
    code = getattr(error, "error_code", "")
    if "Invalid Host" in str(error):
        return "403 Invalid Host header; start the server with --allowed-hosts and this host's name and port"
    if code in ("UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED"):
        return "401; set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
    if _SCHEMA in str(error):
        return (
            "another version of MLflow made this database; back it up, then 'mlflow db upgrade URI', or install the "
            f"version that made it ({text})"
        )
    if code == "PERMISSION_DENIED":
        return f"403; this user may not do that: {text}"
    return text


def is_poison(error: Exception, *, reached: bool = False) -> bool:
    """Whether trying again is useless: the server understood and refused, or mlflow broke on our data.

    What comes without MLflow's JSON is a proxy's word, which counts only where MLflow is ``reached`` else.
    """
    if isinstance(error, OSError | json.JSONDecodeError):  # requests' errors are OSErrors
        return _is_final(getattr(getattr(error, "response", None), "status_code", 0))
    if foreign := _FOREIGN.search(str(error)):
        return reached and _is_final(int(foreign[1]))
    if code := getattr(error, "error_code", None):
        return code in _POISON
    return isinstance(error, TypeError | ValueError | KeyError | AttributeError)


def _is_final(status: int) -> bool:
    return 400 <= status < 500 and status not in (401, 403, 404, 408, 429)
