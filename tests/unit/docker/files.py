"""What docker/ holds, read strictly: YAML with one meaning, each service and pod with where it stands."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[3]
DOCKER = ROOT / "docker"
COMPOSE = [DOCKER / "compose.yaml", DOCKER / "compose.gpu.yaml"]
LAUNCHERS = [DOCKER / "ray-cluster.yaml", DOCKER / "ray-cluster-aws.yaml"]
MANIFESTS = sorted((DOCKER / "kuberay").glob("*.yaml"))
SBATCH = DOCKER / "slurm" / "sweep.sbatch"
SCRIPTS = [*sorted(DOCKER.rglob("*.sh")), SBATCH, ROOT / ".ci" / "run"]

VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
PINS = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)


class StrictLoader(yaml.SafeLoader):
    """Refuses a key that is there twice; plain YAML keeps the last one silently."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        twice = {key for key in keys if keys.count(key) > 1}
        if twice:
            raise yaml.constructor.ConstructorError(None, None, f"keys that are there twice: {twice}", node.start_mark)
        return super().construct_mapping(node, deep)


def documents(path: Path) -> list[Any]:
    """Read every document of a file."""
    return list(yaml.load_all(path.read_text(), StrictLoader))


def services(path: Path) -> dict[str, Any]:
    """Read the services of a compose file."""
    found: dict[str, Any] = documents(path)[0]["services"]
    return found


def manifests() -> list[tuple[str, dict[str, Any]]]:
    """Read every object for Kubernetes, with its name."""
    return [(f"{path.name}/{item['metadata']['name']}", item) for path in MANIFESTS for item in documents(path)]


def pods(item: Any, where: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Find the pod specifications within an object, wherever they are."""
    if isinstance(item, dict):
        if "containers" in item:
            yield where, item
        for key, value in item.items():
            yield from pods(value, f"{where}.{key}")
    elif isinstance(item, list):
        for number, value in enumerate(item):
            yield from pods(value, f"{where}.{number}")


def all_pods() -> list[tuple[str, dict[str, Any]]]:
    """Find the pod specifications of all manifests."""
    return [found for name, item in manifests() for found in pods(item, name)]


def interpolated(text: str) -> str:
    """Fill in compose's variables as where none is set but the secrets."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", re.sub(r"\$\{\w+:\?[^}]*\}", "given", text))
