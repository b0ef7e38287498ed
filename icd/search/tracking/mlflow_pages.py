"""The page that a sweep opens with in MLflow: a saved view of its runs, and the text above them."""

import base64
import json
import re
import zlib
from collections.abc import Sequence

VIEW_KEY = "icd-leaderboard"
VIEW_TAG = f"mlflow.sharedViewState.{VIEW_KEY}"
NOTE_TAG = "mlflow.note.content"
_MOST_COLUMNS = 14


def experiment_url(uri: str, experiment_id: str) -> str:
    """Give the page of an experiment's runs; a path without host where ``uri`` is no server."""
    # Without workflowType MLflow 3 shows the menu for chat models; it counts only behind the #.
    base = without_password(uri).rstrip("/") if uri.startswith(("http://", "https://")) else ""
    return f"{base}/#/experiments/{experiment_id}/runs?workflowType=machine_learning"


def leaderboard_url(uri: str, experiment_id: str) -> str:
    """Give the saved view: complete trials of the search, best first."""
    return f"{experiment_url(uri, experiment_id)}&viewStateShareKey={VIEW_KEY}"


def view_value(params: Sequence[str], metric: str, time_ms: int, *, ascending: bool) -> str:
    """Write the saved view as MLflow 3.17 stores it in an experiment's tag.

    The format is MLflow's own and undocumented: a later version may ignore it, which costs the columns, no data.
    """
    columns = [f"metrics.`{metric}`", *(f"params.`{name}`" for name in params[:_MOST_COLUMNS])]
    state = {
        "searchFilter": "tags.state = 'complete' and tags.stage = 'search'",
        "orderByKey": f"metrics.`{metric}`",
        "orderByAsc": ascending,
        "selectedColumns": [*columns, "attributes.`Duration`"],
        "lifecycleFilter": "Active",
        "startTime": "ALL",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "runsExpanded": {},
        "runsHidden": [],
        "runsPinned": [],
        "groupBy": None,
        "viewMaximized": True,
        "useGroupedValuesInCharts": True,
    }
    packed = base64.b64encode(zlib.compress(json.dumps(state).encode(), 9)).decode()
    view = {"name": "Leaderboard", "createdAt": time_ms, "updatedAt": time_ms, "state": f"deflate;{packed}"}
    return json.dumps(view)


def note_text(note: str, uri: str, experiment_id: str) -> str:
    """Write the text that heads the experiment: the sweep's question and the links that work."""
    links = (
        f"[Leaderboard]({leaderboard_url(uri, experiment_id)}) (complete trials, best first) · "
        f"[all runs]({experiment_url(uri, experiment_id)}). "
        f"To compare: tick runs of the leaderboard and press Compare."
    )
    return f"{note.strip()}\n\n{links}"


def without_password(uri: str) -> str:
    """Give a URI that may be shown: user and password are left out."""
    return re.sub(r"(?<=://)[^/\s]*@", "", uri)
