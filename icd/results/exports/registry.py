"""A student in MLflow's model registry: plain files, a version, an alias.

A version holds the files of ``icd export`` as they are; nothing is pickled. Where an ONNX program is among them, it is
a model of MLflow's own kind too, with its signature: ``mlflow.pyfunc.load_model("models:/NAME@best")`` runs it. The
version belongs to the trial's run; where that never reached this MLflow, to a run of its own. Everything here may be
done twice.
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
    from mlflow.types import Schema

DIGEST_TAG = "icd.digest"
_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,127}")
_ALIAS = re.compile(r"(?!(latest|v[0-9]+)$)[A-Za-z0-9_-]{1,64}", re.IGNORECASE)  # MLflow keeps those two kinds
_TAG_LENGTH = 5000


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """What is registered: files under a name and an alias, ``models:/MODEL@ALIAS``.

    ``contents`` are digests of what the files hold, weights and configuration; ``tags`` and ``description`` are for
    people.
    """

    model: str
    alias: str
    files: Sequence[Path]
    contents: Sequence[str]
    tags: Mapping[str, str]
    description: str

    @property
    def program(self) -> Path | None:
        """The student as ONNX, where it is among the files and the package is there that MLflow reads it with."""
        found = next((path for path in self.files if path.suffix == ".onnx"), None)
        return found if importlib.util.find_spec("onnx") is not None else None

    @property
    def identity(self) -> str:
        """SHA-256 over the contents' digests and the files' names: two versions with one identity are one."""
        names = sorted([*(path.name for path in self.files), *(["MLmodel"] if self.program else [])])
        return hashlib.sha256("\n".join([*self.contents, *names]).encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """A version in the registry; ``new`` is off where it was there already.

    ``loadable`` says whether ``mlflow.pyfunc.load_model`` can load it; else it is files to download.
    """

    model: str
    version: int
    alias: str
    run_id: str
    new: bool
    loadable: bool

    @property
    def uri(self) -> str:
        """What MLflow's tools take."""
        return f"models:/{self.model}@{self.alias}"


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
    """Register a version and give it its alias; the same weights and files again make no new version.

    Args:
        uri: Of MLflow.
        folder: Of the sweep.
        experiment: Name of the sweep's experiment.
        uid: Of the study.
        trial: Whose run it is.
        version: What to register.

    Raises:
        SetupError: If MLflow cannot be reached or refuses.
    """
    # No run is brought to a view here, so nothing is refused.
    store = Experiment(folder, uri, experiment, uid, lambda run, what, why: None)
    try:
        return _register(store, trial, version)
    except Exception as error:
        if not isinstance(error, OSError) and not getattr(error, "error_code", ""):
            raise
        raise SetupError(
            f"{version.files[0].parent} is written, but not registered at {without_password(uri)}: {advice(error)}; "
            "the same command with --force tries again"
        ) from error


def _register(store: Experiment, trial: int, version: Version) -> Registered:
    client = store.client
    tags = {name: value[:_TAG_LENGTH] for name, value in version.tags.items()}
    try:
        client.get_registered_model(version.model)
    except Exception as error:
        if getattr(error, "error_code", "") != GONE:
            raise
        client.create_registered_model(version.model)
    same = f"name = '{version.model}' and tags.`{DIGEST_TAG}` = '{version.identity}'"
    found = next(iter(client.search_model_versions(same)), None)
    new = found is None
    if found is None:
        run_id = store.known_run(f"{trial:04d}") or _own_run(store, trial)
        place = f"export/{version.identity[:12]}"
        for path in version.files:
            client.log_artifact(run_id, str(path), place)
        if version.program is not None:
            _log_model(client, run_id, version.program, place)
        source = f"{client.get_run(run_id).info.artifact_uri}/{place}"
        found = client.create_model_version(
            version.model,
            source,
            run_id=run_id,
            tags={**tags, DIGEST_TAG: version.identity},
            description=version.description,
        )
    else:  # what is said of it may have changed
        client.update_model_version(version.model, found.version, version.description)
        for name, value in tags.items():
            client.set_model_version_tag(version.model, found.version, name, value)
    client.set_registered_model_alias(version.model, version.alias, str(found.version))
    return Registered(
        model=version.model,
        version=int(found.version),
        alias=version.alias,
        run_id=str(found.run_id),
        new=new,
        loadable=version.program is not None,
    )


def _log_model(client: "MlflowClient", run_id: str, program: Path, place: str) -> None:
    """Put an MLmodel with its signature beside the files, and the copy of the program that it names."""
    import onnx

    model = onnx.load(program)
    packages = [f"{name}=={installed(name)}" for name in ("onnx", "onnxruntime")]
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow warns of type hints of its own
        import mlflow.onnx
        from mlflow.models import ModelSignature

        signature = ModelSignature(_schema(model.graph.input), _schema(model.graph.output))
        mlflow.onnx.save_model(model, f"{folder}/model", signature=signature, pip_requirements=packages)
        client.log_artifacts(run_id, f"{folder}/model", place)


def _schema(values: "Iterable[Any]") -> "Schema":
    """Describe a program's inputs or outputs: float32, any number of images."""
    import numpy as np
    from mlflow.types import Schema, TensorSpec

    sizes = {value.name: [size.dim_value or -1 for size in value.type.tensor_type.shape.dim] for value in values}
    return Schema([TensorSpec(np.dtype("float32"), tuple(shape), name) for name, shape in sizes.items()])


def _own_run(store: Experiment, trial: int) -> str:
    """Make a run that holds the files where MLflow never heard of the trial."""
    now = int(1000 * time.time())
    view = RunView(key=f"export-{trial:04d}", name=f"export of trial {trial}", start_ms=now, tags={STAGE_TAG: "export"})
    run_id = store.run_id(view)
    store.client.set_terminated(run_id, "FINISHED", now)
    return run_id
