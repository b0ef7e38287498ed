"""Which module may import which; names file and rule when broken.

Calls that the package must not make (print, exec, eval, pickle, yaml.load) are ruff's rules in pyproject.toml.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "icd"
FILES = sorted(PACKAGE.rglob("*.py"))

# A module imports modules of its own package and of lower rank only.
RANKS = {
    "errors": 0,
    "fields": 1,
    "kept": 1,
    "losses": 2,
    "models": 2,
    "data": 2,
    "methods": 3,
    "config": 4,
    "trial": 5,
    "search": 6,
    "results": 7,
    "cli": 8,
}
# Losses, models and data know nothing of each other, but for the name of a network's first convolution (a type).
SIDEWAYS = {("icd/data/dataset.py", "icd.models.output.Stem")}
MAY_IMPORT_SEARCH = {
    "ray": {
        "icd/search/ray_tune.py",
        "icd/search/ray_bridge.py",
        "icd/search/ray_cluster.py",
        "icd/search/ray_demand.py",
        "icd/search/ray_facts.py",
        "icd/search/ray_hooks.py",
        "icd/search/ray_jobs.py",
        "icd/search/ray_mailbox.py",
        "icd/search/ray_private.py",
        "icd/search/ray_probe.py",
        "icd/search/ray_security.py",
        "icd/search/ray_worker.py",
    },
    "pyarrow": {"icd/trial/bucket.py"},
    "mlflow": {"icd/search/mlflow_store.py", "icd/search/model_registry.py"},  # the second one for types only
    "optuna": {
        "icd/search/space.py",
        "icd/search/study.py",
        "icd/search/mirror.py",
        "icd/search/samplers.py",
        "icd/search/portfolio.py",
        "icd/search/telling.py",
        "icd/search/service_facts.py",
        "icd/search/storage.py",
        "icd/results/densities.py",
        "icd/results/importance.py",
    },
}
INTERFACE_LIBRARIES = {"pydantic", "click", "rich", "yaml"}
MAY_IMPORT_INTERFACE = {("icd/trial/runs.py", "yaml")}


def imports(tree: ast.AST, package: str) -> Iterator[tuple[int, str]]:
    """Line and absolute dotted name of every import, those inside functions included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*parents, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)


def import_problems(source: str, name: str) -> list[str]:
    """Say what is wrong with the imports of ``name``, a path such as ``icd/losses/base.py``."""
    problems = []
    parts = name.removesuffix(".py").split("/")
    own = parts[1]
    for line, imported in imports(ast.parse(source), ".".join(parts[:-1])):
        top, *inner = imported.split(".")
        where = f"{name}:{line}: imports {imported}"
        if top == "icd" and inner and inner[0] != own and inner[0] in RANKS:
            if own not in RANKS:
                problems.append(f"{where}; icd/{own} has no place among the layers, see RANKS")
            elif RANKS[inner[0]] >= RANKS[own] and (name, imported) not in SIDEWAYS:
                problems.append(f"{where}; {own} may import lower layers only: {' < '.join(RANKS)}")
        if name not in MAY_IMPORT_SEARCH.get(top, {name}):
            problems.append(f"{where}; {top} belongs in {', '.join(sorted(MAY_IMPORT_SEARCH[top]))}")
        inner_layer = own in {"trial", "methods", "losses"} and (name, top) not in MAY_IMPORT_INTERFACE
        if inner_layer and top in INTERFACE_LIBRARIES:
            problems.append(f"{where}; trial, methods and losses know nothing of {top}")
    return problems


def name_of(file: Path) -> str:
    return file.relative_to(PACKAGE.parent).as_posix()


def test_imports() -> None:
    assert len(FILES) > 100
    problems = [
        problem for file in FILES for problem in import_problems(file.read_text(encoding="utf-8"), name_of(file))
    ]
    assert not problems, "\n" + "\n".join(problems)


def unsafe_loads(source: str) -> list[int]:
    """Lines that call ``torch.load`` without ``weights_only=True``."""
    lines = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or ast.unparse(node.func) != "torch.load":
            continue
        if not any(key.arg == "weights_only" and ast.unparse(key.value) == "True" for key in node.keywords):
            lines.append(node.lineno)
    return lines


def test_torch_loads_weights_only() -> None:
    """Ruff has a rule for it only as a preview."""
    calls = {name_of(file): unsafe_loads(file.read_text(encoding="utf-8")) for file in FILES}
    assert not {name: lines for name, lines in calls.items() if lines}
    assert not [name for name in calls if "from torch import load" in (PACKAGE.parent / name).read_text()]
    assert unsafe_loads("torch.load(f)\ntorch.load(f, weights_only=False)\ntorch.load(f, weights_only=True)") == [1, 2]


def test_every_part_of_the_package_has_its_place() -> None:
    parts = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert parts - {"__init__"} <= set(RANKS)


@pytest.mark.parametrize(
    ("name", "source", "rule"),
    [
        ("icd/losses/base.py", "from icd.models import MODELS", "lower layers only"),
        ("icd/losses/base.py", "from ..methods import METHODS", "lower layers only"),
        ("icd/models/vgg.py", "from .. import trial", "lower layers only"),
        ("icd/errors.py", "def f():\n    import icd.fields", "lower layers only"),
        ("icd/data/npz.py", "from icd import cli", "lower layers only"),
        ("icd/other/x.py", "import icd.cli", "no place among the layers"),
        ("icd/trial/train.py", "from ray import tune", "ray belongs in"),
        ("icd/search/study.py", "import mlflow", "mlflow belongs in"),
        ("icd/trial/train.py", "import yaml", "know nothing of yaml"),
        ("icd/methods/cells.py", "from pydantic import BaseModel", "know nothing of pydantic"),
    ],
)
def test_a_forbidden_import_is_found(name: str, source: str, rule: str) -> None:
    (problem,) = import_problems(source, name)
    assert problem.startswith(f"{name}:")
    assert rule in problem


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("icd/search/ray_tune.py", "from ray import tune\nfrom icd.trial.train import x"),
        ("icd/search/samplers.py", "import optuna"),
        ("icd/trial/runs.py", "import yaml\nfrom icd import __version__"),
        ("icd/losses/base.py", "from . import cells\nfrom icd.fields import Range\nfrom icd.errors import IcdError"),
    ],
)
def test_an_allowed_import_is_not(name: str, source: str) -> None:
    assert import_problems(source, name) == []


def test_importing_the_package_imports_no_framework() -> None:
    heavy = {"torch", "torchvision", "numpy", "pydantic", *MAY_IMPORT_SEARCH}
    code = f"import sys, icd; sys.exit(' '.join({heavy!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=PACKAGE.parent, capture_output=True, text=True, check=False)
    assert done.stderr == "\n"
