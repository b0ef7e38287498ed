"""The way to an MLflow server or database: its client, what its errors mean, and questions about runs."""

import json
import os
import re
from typing import TYPE_CHECKING, Any

from icd.errors import SetupError, shorten
from icd.search.study.database_file import sqlite_file
from icd.search.tracking.mlflow_file import ready
from icd.search.tracking.mlflow_pages import without_password

if TYPE_CHECKING:
    from mlflow import MlflowClient

TRIAL_TAG = "icd.trial"  # SWEEP_UID/KEY: which run it is
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


def is_poison(error: Exception) -> bool:
    """Whether trying again is useless: the server understood and refused, or mlflow broke on our data."""
    if isinstance(error, OSError | json.JSONDecodeError):  # requests' errors are OSErrors
        status = getattr(getattr(error, "response", None), "status_code", 0)
        return 400 <= status < 500 and status not in (401, 403, 404, 408, 429)
    code = getattr(error, "error_code", None)
    return code in _POISON if code else isinstance(error, TypeError | ValueError | KeyError | AttributeError)


def fullest_first(run: Any) -> tuple[int, str]:
    """Order runs with the same tag: of two that a lost answer made, the one with more in it is kept."""
    return -len(run.data.metrics) - len(run.data.params), run.info.run_id
