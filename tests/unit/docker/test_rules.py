"""Our own rules for docker/: nothing secret, nothing open, nothing unlimited, one set of versions."""

import re
import shlex
import subprocess
import tomllib
from typing import Any

import pytest

from tests.unit.docker.files import (
    COMPOSE,
    DOCKER,
    LAUNCHERS,
    PINS,
    ROOT,
    SBATCH,
    VERSION,
    all_pods,
    documents,
    interpolated,
    manifests,
    services,
)

SERVICES = services(COMPOSE[0])
OVERLAY = services(COMPOSE[1])
PODS = all_pods()
FILES = sorted(path for path in DOCKER.rglob("*") if path.is_file() and path.name != ".env")
SECRET = re.compile(r"PASSWORD|SECRET|TOKEN(?!_PATH)")
ONE_SHOT = {"storage-folder", "bucket", "ledger", "icd"}


def each(items: dict[str, Any]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(("name", "service"), items.items(), ids=items.keys())


each_pod = pytest.mark.parametrize(("name", "pod"), PODS, ids=[name for name, _ in PODS])


def all_images() -> list[tuple[str, str]]:
    found = [(name, interpolated(item["image"])) for name, item in [*SERVICES.items(), *OVERLAY.items()]]
    found += [(name, container["image"]) for name, pod in PODS for container in pod["containers"]]
    base = re.findall(r"^ARG PYTHON_IMAGE=(\S+)$", (DOCKER / "Dockerfile").read_text(), re.MULTILINE)
    return [*found, *(("Dockerfile", image) for image in base)]


def test_every_image_has_a_version() -> None:
    images = all_images()
    assert len(images) > 20
    for where, image in images:
        name, _, tag = image.partition(":")
        assert re.search(r"\d+\.\d+|\d{4}-\d\d-\d\d", tag), f"{where}: {image}"
        assert name != "icd" or tag in (f"{VERSION}-cpu", f"{VERSION}-cuda"), f"{where}: {image}"


def test_one_service_alone_builds_the_image() -> None:
    """Compose would build it once for each, with as many ids, and make the others' containers anew at the next call."""
    ours = {name for name, item in SERVICES.items() if item["image"].startswith("icd:")}
    assert len(ours) > 5
    assert [name for name, item in SERVICES.items() if "build" in item] == ["ray-head"]
    assert [name for name, item in OVERLAY.items() if "build" in item] == ["ray-head"]
    assert {SERVICES[name].get("pull_policy") for name in ours} == {"never"}


def test_every_stage_of_the_dockerfile_starts_from_the_pinned_image() -> None:
    text = (DOCKER / "Dockerfile").read_text()
    stages = re.findall(r"^FROM (\S+) AS (\S+)$", text, re.MULTILINE)
    assert len(stages) == len(re.findall(r"^FROM ", text, re.MULTILINE)) >= 2
    assert {image for image, _ in stages} - {name for _, name in stages} == {"${PYTHON_IMAGE}"}
    assert stages[-1][0] == "${PYTHON_IMAGE}"  # what runs has no compiler's or installer's leavings
    assert re.findall(r"^USER (\S+)$", text, re.MULTILINE)[:1] == ["10001:10001"]
    assert "--constraint constraints.txt" in text
    assert re.search(r"^HEALTHCHECK ", text, re.MULTILINE)
    assert not re.search(rf"^(ARG|ENV).*({SECRET.pattern})", text, re.MULTILINE)


def test_versions_agree_with_the_lock_file() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    wanted = set(re.findall(r"--extra (\w+)", (DOCKER / "Dockerfile").read_text()))
    assert {"cluster", "server", "postgres"} <= wanted <= set(extras)
    for extra in wanted:
        for line in extras[extra]:
            assert re.findall(r"^[\w-]+", line)[0] in PINS, f"{line} of extra {extra}"
    assert "uv" in PINS
    clusters = [item["spec"].get("rayClusterSpec", item["spec"]) for _, item in manifests() if "ray.io" in str(item)]
    versions = {spec["rayVersion"] for spec in clusters if "rayVersion" in spec}
    assert versions == {PINS["ray"]}


@each({name: item for name, item in SERVICES.items() if "ports" in item})
def test_published_ports_are_on_loopback(name: str, service: dict[str, Any]) -> None:
    for port in service["ports"]:
        assert interpolated(port).startswith("127.0.0.1:")
    if name == "optuna-dashboard":  # it knows no passwords
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])


def test_only_what_has_a_password_or_stays_on_this_host_is_published() -> None:
    assert {name for name, item in SERVICES.items() if "ports" in item} == {"mlflow", "ray-head", "optuna-dashboard"}
    assert not any("ports" in item for item in OVERLAY.values())
    kinds = [item["spec"] for _, item in manifests() if item["kind"] == "Service"]
    assert len(kinds) == 2
    assert all(spec.get("type", "ClusterIP") == "ClusterIP" for spec in kinds)


def test_secrets_of_compose_must_be_given() -> None:
    given = [(name, *pair) for name, item in SERVICES.items() for pair in item.get("environment", {}).items()]
    secret = [entry for entry in given if SECRET.search(entry[1]) and entry[2] != "token"]
    assert len(secret) > 5
    for entry in secret:
        assert re.fullmatch(r"\$\{\w+:\?run docker/make-secrets.sh first\}", entry[2]), entry


def test_secrets_of_pods_come_from_secrets() -> None:
    given = [entry for _, pod in PODS for container in pod["containers"] for entry in container.get("env", [])]
    secret = [entry for entry in given if SECRET.search(entry["name"])]
    assert len(secret) > 2
    for entry in secret:
        assert set(entry) == {"name", "valueFrom"}
        assert set(entry["valueFrom"]) == {"secretKeyRef"}


def test_no_file_holds_a_secret() -> None:
    assert len(FILES) > 10
    for path in FILES:
        text = path.read_text()
        assert not re.search(r"://[^/@\s{]*:[^/@\s]+@", text), f"{path}: a password in a URL"
        said = re.search(r"(?i)\b(password|passwd|token|secret\w*)\s*[:=]\s*[\"']?[A-Za-z0-9+/]{12,}", text)
        assert not said, path
        defaults = "".join(re.findall(rf"\$\{{\w*(?:{SECRET.pattern})\w*:-[^}}]*\}}", text))
        assert not re.search(r":-[^}]*\}", defaults), path


@each(SERVICES)
def test_services_are_confined(name: str, service: dict[str, Any]) -> None:
    user, _, group = service["user"].partition(":")
    assert int(user) > 0
    assert int(group) > 0
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["init"] is True
    limits = service["deploy"]["resources"]["limits"]
    assert {"cpus", "memory", "pids"} <= set(limits)
    assert "privileged" not in service
    assert service["restart"] in (("no", "on-failure:3") if name in ONE_SHOT else ("unless-stopped",))
    if name not in ONE_SHOT:
        assert service["healthcheck"]["test"][0] == "CMD"


@each_pod
def test_pods_are_confined(name: str, pod: dict[str, Any]) -> None:
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] > 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in pod["containers"]:
        rights = container["securityContext"]
        assert rights["allowPrivilegeEscalation"] is False
        assert rights["readOnlyRootFilesystem"] is True
        assert rights["capabilities"] == {"drop": ["ALL"]}
        assert {"cpu", "memory"} <= set(container["resources"]["limits"])
        assert "readinessProbe" in container
        assert "livenessProbe" in container


def test_every_ray_of_compose_wants_the_token() -> None:
    rays = [item for item in SERVICES.values() if "ray" in item.get("networks", [])]
    assert len(rays) == 3
    for service in rays:
        assert service["environment"]["RAY_AUTH_MODE"] == "token"
        assert service["environment"]["RAY_AUTH_TOKEN"].startswith("${RAY_AUTH_TOKEN:?")


def test_workers_have_no_passwords_and_no_way_to_the_databases() -> None:
    worker = SERVICES["ray-worker"]
    assert set(worker["environment"]) == {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN"}
    assert worker["networks"] == ["ray"]
    assert documents(COMPOSE[0])[0]["networks"]["back"] == {"internal": True}
    assert all(SERVICES[name]["networks"] == ["back"] for name in ("postgres", "minio"))
    workers = [pod for name, pod in PODS if ".workerGroupSpecs" in name]
    assert len(workers) == 4
    own = [container["env"] for pod in workers for container in pod["containers"]]
    assert own == [[{"name": "ICD_TEACHER_CACHE", "value": "/tmp/teacher_cache"}]] * 4


@pytest.mark.parametrize("kind", ["RayCluster", "RayJob"])
def test_every_ray_of_kubernetes_wants_the_token(kind: str) -> None:
    found = [item["spec"] for _, item in manifests() if item["kind"] == kind]
    assert [spec.get("rayClusterSpec", spec)["authOptions"]["mode"] for spec in found] == ["token"]


@pytest.mark.parametrize("path", LAUNCHERS, ids=lambda path: path.name)
@pytest.mark.parametrize("when", ["head", "worker"])
def test_every_launched_ray_wants_the_token(path: Any, when: str) -> None:
    line = documents(path)[0][f"{when}_start_ray_commands"][-1]
    words = shlex.split(line)
    before = words[: words.index("ray")]
    assert {"RAY_AUTH_MODE=token", "RAY_AUTH_TOKEN_PATH=~/.icd/ray.token"} <= set(before)
    assert ("--dashboard-host=127.0.0.1" in words) == (when == "head")


@pytest.mark.parametrize("path", LAUNCHERS, ids=lambda path: path.name)
def test_ray_is_found_in_a_login_shell_of_a_launched_node(path: Any, tmp_path: Any) -> None:
    command = next(words for words in documents(path)[0]["setup_commands"] if ".bashrc" in words)
    variables = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    for _ in range(2):  # 'ray up' may be said again
        subprocess.run(["bash", "-c", command], env=variables, check=True)
    assert len((tmp_path / ".bashrc").read_text().splitlines()) == 1
    asked = ["bash", "-c", "source ~/.bashrc; echo $PATH"]  # as the launcher's own commands begin
    said = subprocess.run(asked, env=variables, check=True, capture_output=True, text=True).stdout
    assert said.strip() == f"/usr/bin:/bin:{tmp_path}/icd-venv/bin"


def test_own_machines_have_the_autoscaler_that_starts_them_all() -> None:
    line = documents(DOCKER / "ray-cluster.yaml")[0]["head_start_ray_commands"][-1]
    assert "RAY_enable_autoscaler_v2=0" in shlex.split(line.partition("ray start")[0])


def test_slurm_wants_the_token_before_ray_starts() -> None:
    before = SBATCH.read_text().partition("ray symmetric-run")[0]
    assert "export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$token" in before
    assert "umask 077" in before


def test_the_two_ray_clusters_of_kubernetes_are_one() -> None:
    found = {item["kind"]: item["spec"] for _, item in manifests() if item["kind"].startswith("Ray")}
    assert found["RayCluster"] == found["RayJob"]["rayClusterSpec"]


def test_mlflow_wants_a_password_and_knows_its_names() -> None:
    pod = next(pod for name, pod in PODS if name.startswith("mlflow.yaml/"))
    for words in (SERVICES["mlflow"]["command"], pod["containers"][0]["args"]):
        hosts = next(interpolated(word) for word in words if word.startswith("--allowed-hosts="))
        assert "--app-name=basic-auth" in words
        assert {"mlflow:*", "localhost:*", "127.0.0.1:*"} <= set(hosts.partition("=")[2].split(","))
        assert "*" not in hosts.partition("=")[2].split(",")


def test_the_document_names_files_that_are_there_and_all_jobs() -> None:
    text = "\n".join(page.read_text() for page in sorted((ROOT / "docs" / "administration").glob("*.md")))
    named = set(re.findall(r"\b((?:docker|jobs|search_spaces)/[\w./-]*\w\.\w+)", text)) - {"docker/.env", "jobs/X.py"}
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []
    assert {f"jobs/{path.name}" for path in (ROOT / "jobs").glob("*.py")} <= named


@pytest.mark.parametrize("path", sorted((ROOT / "jobs").glob("*.py")), ids=lambda path: path.name)
def test_jobs_run_the_verb_of_their_name_and_say_how_to_submit_them(path: Any) -> None:
    text = path.read_text()
    assert f"python jobs/{path.name} " in text
    assert "--working-dir" not in text  # it would upload this folder, and every worker fetch it
    verb = re.search(r"main\(\[(.*?), \*sys\.argv\[1:\]\]\)", text)
    if path.name == "room.py":
        return
    assert verb is not None
    words = [word.strip(' "') for word in verb.group(1).split(",")]
    assert words[0] == path.stem.split("_")[0]
    joins = {"sweep", "resume", "confirm", "ablate", "benchmark"}
    assert (words[1:] == ["--address", "auto"]) == (path.stem in joins)


@pytest.mark.parametrize("path", LAUNCHERS, ids=lambda path: path.name)
def test_the_documented_command_fills_a_launcher_file_in(path: Any, tmp_path: Any) -> None:
    text = (ROOT / "docs" / "administration" / "launcher.md").read_text().replace("\\\n", " ")
    command = next(line for line in text.splitlines() if line.startswith("sed -i") and line.endswith(path.name))
    (tmp_path / "docker").mkdir()
    (tmp_path / "docker" / path.name).write_text(path.read_text())
    subprocess.run(shlex.split(command), cwd=tmp_path, check=True)
    filled = documents(tmp_path / "docker" / path.name)[0]
    assert (
        re.findall(r"\b[A-Z]+(?:_[A-Z0-9]+)+\b", str([filled["provider"], filled["auth"], filled["setup_commands"]]))
        == []
    )
    assert filled["worker_start_ray_commands"] == documents(path)[0]["worker_start_ray_commands"]
    assert filled["head_start_ray_commands"] == documents(path)[0]["head_start_ray_commands"]
