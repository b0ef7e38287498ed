"""Files for other programs are what those programs take: their schemas, their linters, their options."""

import itertools
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import ray
from check_jsonschema.builtin_schemas import get_builtin_schema
from ray.scripts.scripts import start as ray_start
from ray.scripts.symmetric_run import symmetric_run
from referencing import Registry, Resource

from tests.unit.docker.files import (
    COMPOSE,
    DOCKER,
    LAUNCHERS,
    MANIFESTS,
    ROOT,
    SBATCH,
    SCRIPTS,
    all_pods,
    documents,
    manifests,
    services,
)
from tests.unit.docker.kuberay import SCHEMAS

KUBERNETES = "1.37"
BIN = Path(sys.executable).parent
YAML = sorted(DOCKER.rglob("*.yaml"))


def definitions() -> Registry[Any]:
    folder = Path(kubernetes_validate.__file__).parent / "kubernetes-json-schema" / f"v{KUBERNETES}.0-local-strict"
    return Resource.from_contents(json.loads((folder / "_definitions.json").read_text())) @ Registry()


def lint(*words: str | Path) -> None:
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_yaml_file_is_checked_by_one_of_the_tests_below() -> None:
    assert set(YAML) == {*COMPOSE, *LAUNCHERS, *MANIFESTS}


@pytest.mark.parametrize("path", YAML, ids=lambda path: path.name)
def test_yaml_has_one_meaning(path: Path) -> None:
    assert all(isinstance(document, dict) for document in documents(path))


def test_a_key_that_is_there_twice_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "twice.yaml").write_text("a: 1\nb: {c: 1, c: 2}\n")
    with pytest.raises(Exception, match="twice"):
        documents(tmp_path / "twice.yaml")


@pytest.mark.parametrize("path", COMPOSE, ids=lambda path: path.name)
def test_compose_files_fit_the_compose_specification(path: Path) -> None:
    document = documents(path)[0]
    jsonschema.validate(document, get_builtin_schema("vendor.compose-spec"))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**document, "servces": {}}, get_builtin_schema("vendor.compose-spec"))


@pytest.mark.parametrize("path", LAUNCHERS, ids=lambda path: path.name)
def test_launcher_files_fit_rays_own_schema(path: Path) -> None:
    schema = json.loads((Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text())
    jsonschema.validate(documents(path)[0], schema)


@pytest.mark.parametrize(("name", "item"), manifests(), ids=lambda value: value if isinstance(value, str) else "")
def test_manifests_fit_their_kinds(name: str, item: dict[str, Any]) -> None:
    if item["kind"] in SCHEMAS:
        jsonschema.Draft202012Validator(SCHEMAS[item["kind"]], registry=definitions()).validate(item)
    else:
        kubernetes_validate.validate(item, KUBERNETES, strict=True)


def test_a_wrong_field_deep_in_a_ray_pod_is_noticed() -> None:
    item = next(item for _, item in manifests() if item["kind"] == "RayCluster")
    item["spec"]["workerGroupSpecs"][0]["template"]["spec"]["containers"][0]["imagee"] = "typo"
    with pytest.raises(jsonschema.ValidationError, match="imagee"):
        jsonschema.Draft202012Validator(SCHEMAS["RayCluster"], registry=definitions()).validate(item)


def test_dockerfile_passes_hadolint() -> None:
    lint(BIN / "hadolint", "--failure-threshold", "style", DOCKER / "Dockerfile")


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_scripts_pass_shellcheck(path: Path) -> None:
    lint(BIN / "shellcheck", "--shell", "bash", path)


def test_everything_the_dockerfile_copies_is_there_and_is_sent() -> None:
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", (DOCKER / "Dockerfile").read_text(), re.MULTILINE)
    names = {name for line in copied for name in line.split()}
    sent = {line[1:] for line in (DOCKER / "Dockerfile.dockerignore").read_text().splitlines() if line[:1] == "!"}
    assert names == sent
    assert all((ROOT / name).exists() for name in names)


def options(words: Iterable[str]) -> set[str]:
    """Find the options among a program's words, up to ``--``."""
    own = itertools.takewhile(lambda word: word != "--", words)
    return {word.partition("=")[0] for word in own if word.startswith("--")}


def starts() -> list[tuple[str, set[str]]]:
    """Find every way in which Ray is started, with its options."""
    found = [
        (f"{path.name}/{name}", service["command"])
        for path in COMPOSE
        for name, service in services(path).items()
        if service.get("command", [])[:2] == ["ray", "start"]
    ]
    for path in LAUNCHERS:
        for when in ("head", "worker"):
            line = documents(path)[0][f"{when}_start_ray_commands"][-1]
            found.append((f"{path.name}/{when}", shlex.split(line.partition("ray start")[2])))
    found.append(("drive.sh", (DOCKER / "drive.sh").read_text().partition("ray start")[2].partition(">")[0].split()))
    return [(where, options(words)) for where, words in found]


@pytest.mark.parametrize(("where", "given"), starts(), ids=lambda value: value if isinstance(value, str) else "")
def test_ray_knows_the_options_that_it_is_started_with(where: str, given: set[str]) -> None:
    known = {option for parameter in ray_start.params for option in parameter.opts}
    assert {"--head", "--address"} & given
    assert given <= known


def test_ray_knows_the_options_of_a_slurm_job() -> None:
    known = {option for command in (ray_start, symmetric_run) for item in command.params for option in item.opts}
    # The last one by 'ray start' on nodes that are not the head, where the same options go.
    refused = {"--head", "--port", "--node-ip-address", "--block", "--include-dashboard"}
    given = options(SBATCH.read_text().partition("ray symmetric-run")[2].split())
    assert {"--address", "--min-nodes"} <= given <= known - refused


def test_mlflow_knows_the_options_that_it_is_started_with() -> None:
    done = subprocess.run([BIN / "mlflow", "server", "--help"], capture_output=True, text=True, check=True)
    pod = next(pod for name, pod in all_pods() if name.startswith("mlflow.yaml/"))
    for words in (services(COMPOSE[0])["mlflow"]["command"], pod["containers"][0]["args"]):
        given = options(words)
        assert {"--app-name", "--serve-artifacts", "--allowed-hosts"} <= given
        assert given <= set(re.findall(r"--[\w-]+", done.stdout))
