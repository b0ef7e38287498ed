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
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version as installed
from pathlib import Path
from typing import TYPE_CHECKING, Any

from icd.errors import SetupError, UsageError
from icd.search.tracking.experiment import Experiment
from icd.search.tracking.mlflow_client import GONE, advice, check_server
from icd.search.tracking.mlflow_pages import without_password
from icd.search.tracking.run_view import RunView
from icd.search.tracking.sweep_views import STAGE_TAG

if TYPE_CHECKING:
    from mlflow import MlflowClient

_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,127}")
_ALIAS = re.compile(r"(?!(latest|v[0-9]+)$)[A-Za-z0-9_-]{1,64}", re.IGNORECASE)  # MLflow keeps those two kinds
_TAG_LENGTH = 5000


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """What is registered, ``models:/MODEL@ALIAS``; ``tags`` and ``description`` are for people."""

    model: str
    alias: str
    files: Sequence[Path]
    tags: Mapping[str, str]
    description: str

    @property
    def place(self) -> str:
        """Folder of the run's artifacts: one name for one trial, status and set of files, whenever written."""
        facts = sorted((name, value) for name, value in self.tags.items() if name != "created")
        names = sorted(path.name for path in self.files)
        return f"export/{hashlib.sha256(repr((facts, names)).encode()).hexdigest()[:12]}"

    @property
    def program(self) -> Path | None:
        """The student as ONNX, where it is among the files and the package is there that MLflow reads it with."""
        found = next((path for path in self.files if path.suffix == ".onnx"), None)
        return found if importlib.util.find_spec("onnx") is not None else None


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


def check(uri: str, model: str, alias: str) -> None:
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
    if check_server(uri) is not None:
        raise SetupError(f"MLflow at {without_password(uri)} does not answer; start it, or leave --register out")


def register(uri: str, folder: Path, experiment: str, uid: str, trial: int, version: Version) -> Registered:
    """Register a version and give it its alias; where it is there already, the alias alone is given.

    It belongs to the run of a trial, which is in the experiment of a sweep; ``folder`` is that sweep's, ``uid`` its
    study's.

    Raises:
        SetupError: If MLflow cannot be reached or refuses.
    """
    store = Experiment(folder, uri, experiment, uid, _refuse)
    try:
        return _register(store, trial, version)
    except Exception as error:
        if not isinstance(error, OSError) and not getattr(error, "error_code", ""):
            raise
        raise SetupError(
            f"{version.files[0].parent} is written, but not registered at {without_password(uri)}: {advice(error)}; "
            "the same command with --force tries again"
        ) from error


def _refuse(key: str, what: str, reason: str) -> None:
    raise SetupError(f"MLflow refuses {what} of run {key}: {reason}")


def _register(store: Experiment, trial: int, version: Version) -> Registered:
    client = store.client
    run_id = store.known_run(f"{trial:04d}") or _own_run(store, trial)
    try:
        client.get_registered_model(version.model)
    except Exception as error:
        if getattr(error, "error_code", "") != GONE:
            raise
        client.create_registered_model(version.model)
    source = f"{client.get_run(run_id).info.artifact_uri}/{version.place}"
    there = client.search_model_versions(f"name = '{version.model}'")
    made = next((found for found in there if found.source == source), None)
    if made is None:
        for path in version.files:
            client.log_artifact(run_id, str(path), version.place)
        if version.program is not None:
            _log_model(client, run_id, version.program, version.place)
        tags, about = {name: value[:_TAG_LENGTH] for name, value in version.tags.items()}, version.description
        made = client.create_model_version(version.model, source, run_id=run_id, tags=tags, description=about)
    client.set_registered_model_alias(version.model, version.alias, str(made.version))
    uri, is_loadable = f"models:/{version.model}@{version.alias}", version.program is not None
    return Registered(uri=uri, version=int(made.version), run_id=run_id, loadable=is_loadable)


def _log_model(client: "MlflowClient", run_id: str, program: Path, place: str) -> None:
    """Put an MLmodel with its signature beside the files, and the copy of the program that it names."""
    import onnx

    model = onnx.load(program)
    packages = [f"{name}=={installed(name)}" for name in ("onnx", "onnxruntime")]
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow warns of type hints of its own
        import mlflow.onnx
        from mlflow.models import infer_signature

        signature = infer_signature(_example(model.graph.input), _example(model.graph.output))
        mlflow.onnx.save_model(model, f"{folder}/model", signature=signature, pip_requirements=packages)
        client.log_artifacts(run_id, f"{folder}/model", place)


def _example(values: Iterable[Any]) -> dict[str, Any]:
    """Give arrays as a program takes or gives them, for one image; MLflow leaves the first size open."""
    import numpy as np

    sizes = {value.name: [size.dim_value or 1 for size in value.type.tensor_type.shape.dim] for value in values}
    return {name: np.zeros(shape, np.float32) for name, shape in sizes.items()}


def _own_run(store: Experiment, trial: int) -> str:
    """Make a run that holds the files where MLflow never heard of the trial."""
    now = int(1000 * time.time())
    key, tags = f"export-{trial:04d}", {STAGE_TAG: "export"}
    store.reconcile(
        RunView(key=key, name=f"export of trial {trial}", start_ms=now, tags=tags, mark="export", end_ms=now)
    )
    return store.known_run(key) or ""
