"""A student in MLflow's model registry: plain files, a version, an alias.

A version holds the files of ``icd export`` as they are; nothing is pickled. Where an ONNX program is among them, it is
a model of MLflow's own kind too, with its signature: ``mlflow.pyfunc.load_model("models:/NAME@best")`` runs it. The
version belongs to the trial's run; where that never reached this MLflow, to a run of its own.
"""

import hashlib
import importlib.util
import re
import tempfile
import time
import warnings
from dataclasses import dataclass
from importlib.metadata import version as installed
from pathlib import Path
from typing import TYPE_CHECKING

from icd.errors import SetupError, UsageError
from icd.search.study.ledger import Ledger
from icd.search.study.sweep_index import sweep_folder, tracking_uri
from icd.search.tracking.experiment import Experiment
from icd.search.tracking.mlflow_client import advice, check_server
from icd.search.tracking.mlflow_pages import without_password
from icd.search.tracking.run_view import RunView
from icd.search.tracking.sweep_views import STAGE_TAG

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from icd.results.exports.export import Exported

_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,127}")
_ALIAS = re.compile(r"(?!(latest|v[0-9]+)$)[A-Za-z0-9_-]{1,64}", re.IGNORECASE)  # MLflow keeps those two kinds
_TAG_LENGTH = 5000


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """A version in the registry.

    ``uri`` is what MLflow's tools take. ``loadable`` says whether ``mlflow.pyfunc.load_model`` can load it; else it is
    files to download.
    """

    uri: str
    version: int
    run_id: str
    loadable: bool


def check(root: Path, model: str, alias: str) -> None:
    """Look, before any work is done, whether a model can be registered.

    Raises:
        UsageError: If a name is not allowed.
        SetupError: If the server cannot be reached or refuses us.
    """
    if not _MODEL.fullmatch(model):
        raise UsageError(f"--register must be letters, digits, ' ', '.', '_' and '-', at most 128, but got {model!r}")
    if not _ALIAS.fullmatch(alias):
        raise UsageError(
            "--alias must be letters, digits, '_' and '-', at most 64, and neither 'latest' nor like 'v1', "
            f"but got {alias!r}"
        )
    if check_server(uri := tracking_uri(root)) is not None:
        raise SetupError(f"MLflow at {without_password(uri)} does not answer; start it, or leave --register out")


def register(root: Path, ledger: Ledger, made: "Exported", model: str, alias: str) -> Registered:
    """Register what was written as a version of a model, linked to the trial's run, and give it the alias.

    Where the same version is there already, it gets the alias alone.

    Raises:
        SetupError: If MLflow cannot be reached or refuses.
    """
    uri, uid = tracking_uri(root), str(ledger.attributes.get("uid", ""))
    store = Experiment(sweep_folder(root, ledger.name), uri, ledger.name, uid, _refuse)
    try:
        return _register(store, made, model, alias)
    except Exception as error:
        if not isinstance(error, OSError) and not getattr(error, "error_code", ""):
            raise
        raise SetupError(
            f"{made.files[0].parent} is written, but not registered at {without_password(uri)}: {advice(error)}; "
            "the same command with --force tries again"
        ) from error


def _refuse(key: str, what: str, reason: str) -> None:
    raise SetupError(f"MLflow refuses {what} of run {key}: {reason}")


def _register(store: Experiment, made: "Exported", model: str, alias: str) -> Registered:
    client, tags = store.client, made.provenance
    run_id = store.known_run(f"{made.trial:04d}") or _own_run(store, made.trial)
    if not client.search_registered_models(f"name = '{model}'"):
        client.create_registered_model(model)
    has_onnx = importlib.util.find_spec("onnx") is not None  # MLflow reads programs with it
    program = next((path for path in made.files if path.suffix == ".onnx" and has_onnx), None)
    # One name for one trial, status and set of files, whenever they are written.
    facts = sorted((name, value) for name, value in tags.items() if name != "created")
    identity = repr((facts, sorted(path.name for path in made.files)))
    place = f"export/{hashlib.sha256(identity.encode()).hexdigest()[:12]}"
    source = f"{client.get_run(run_id).info.artifact_uri}/{place}"
    there = client.search_model_versions(f"name = '{model}'")
    version = next((found for found in there if found.source == source), None)
    if version is None:
        for path in made.files:
            client.log_artifact(run_id, str(path), place)
        if program is not None:
            _log_model(client, run_id, program, place)
        cut = {name: value[:_TAG_LENGTH] for name, value in tags.items()}
        version = client.create_model_version(model, source, run_id=run_id, tags=cut, description=tags["status"])
    client.set_registered_model_alias(model, alias, str(version.version))
    uri, number = f"models:/{model}@{alias}", int(version.version)
    return Registered(uri=uri, version=number, run_id=run_id, loadable=program is not None)


def _log_model(client: "MlflowClient", run_id: str, program: Path, place: str) -> None:
    """Put an MLmodel with its signature beside the files, and the copy of the program that it names."""
    import numpy as np
    import onnx

    model = onnx.load(program)
    packages = [f"{name}=={installed(name)}" for name in ("onnx", "onnxruntime")]
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow warns of type hints of its own
        import mlflow.onnx
        from mlflow.models import infer_signature

        # Arrays for one image; MLflow leaves the first size open.
        inputs, outputs = (
            {value.name: np.zeros([size.dim_value or 1 for size in value.type.tensor_type.shape.dim], np.float32)}
            for (value,) in (model.graph.input, model.graph.output)
        )
        signature = infer_signature(inputs, outputs)
        mlflow.onnx.save_model(model, f"{folder}/model", signature=signature, pip_requirements=packages)
        client.log_artifacts(run_id, f"{folder}/model", place)


def _own_run(store: Experiment, trial: int) -> str:
    """Make a run that holds the files where MLflow never heard of the trial."""
    now = int(1000 * time.time())
    key, tags = f"export-{trial:04d}", {STAGE_TAG: "export"}
    store.reconcile(
        RunView(key=key, name=f"export of trial {trial}", start_ms=now, tags=tags, mark="export", end_ms=now)
    )
    return store.known_run(key) or ""
