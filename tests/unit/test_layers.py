"""Which module may import which, and which calls the package must not make; names file and rule when broken."""

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
    "doctor": 7,
    "redact": 1,
    "text": 1,
    "cli": 8,
}
# Losses, models and data know nothing of each other, but for the name of a network's first convolution (a type).
SIDEWAYS = {("icd/data/dataset.py", "icd.models.output.Stem")}
MAY_IMPORT_SEARCH = {
    "ray": {
        "icd/cli/submit.py",
        "icd/search/ray_tune.py",
        "icd/search/ray_bridge.py",
        "icd/search/ray_cluster.py",
        "icd/search/ray_demand.py",
        "icd/search/ray_facts.py",
        "icd/search/ray_hooks.py",
        "icd/search/ray_mailbox.py",
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
FORBIDDEN_CALLS = {
    "print": "no print, use logging or the console of the command line",
    "eval": "no eval",
    "exec": "no exec",
    "pickle.load": "no pickle, it runs code",
    "pickle.loads": "no pickle, it runs code",
    "yaml.load": "no yaml.load, read with icd.config.yaml",
}


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


def call_problems(source: str, name: str) -> list[str]:
    """Say which forbidden calls a file makes, also under another name given by an import."""
    tree = ast.parse(source)
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {alias.asname: alias.name for alias in node.names if alias.asname}
    problems = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        first, dot, rest = ast.unparse(node.func).partition(".")
        called = names.get(first, first) + dot + rest
        called = called.removeprefix("builtins.")
        if called in FORBIDDEN_CALLS:
            problems.append(f"{name}:{node.lineno}: {called}(...); {FORBIDDEN_CALLS[called]}")
        safe = any(
            key.arg == "weights_only" and isinstance(key.value, ast.Constant) and key.value.value is True
            for key in node.keywords
        )
        if called == "torch.load" and not safe:
            problems.append(f"{name}:{node.lineno}: torch.load(...); weights_only=True must be written out")
    return problems


def name_of(file: Path) -> str:
    return file.relative_to(PACKAGE.parent).as_posix()


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_imports(file: Path) -> None:
    problems = import_problems(file.read_text(encoding="utf-8"), name_of(file))
    assert not problems, "\n" + "\n".join(problems)


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_calls(file: Path) -> None:
    problems = call_problems(file.read_text(encoding="utf-8"), name_of(file))
    assert not problems, "\n" + "\n".join(problems)


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


@pytest.mark.parametrize(
    "source",
    [
        "print(1)",
        "eval('1')",
        "exec('1')",
        "import pickle\npickle.load(f)",
        "from pickle import loads as read\nread(b)",
        "import yaml as y\ny.load(t)",
        "import torch\ntorch.load(f)",
        "import torch\ntorch.load(f, weights_only=False)",
        "from torch import load\nload(f, map_location='cpu')",
    ],
)
def test_a_forbidden_call_is_found(source: str) -> None:
    assert len(call_problems(source, "icd/x.py")) == 1


def test_allowed_calls_are_not() -> None:
    assert call_problems("net.eval()\ntorch.load(f, weights_only=True)\nyaml.safe_load(t)", "icd/x.py") == []


def test_importing_the_package_imports_no_framework() -> None:
    heavy = {"torch", "torchvision", "numpy", "pydantic", *MAY_IMPORT_SEARCH}
    code = f"import sys, icd; sys.exit(' '.join({heavy!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=PACKAGE.parent, capture_output=True, text=True, check=False)
    assert done.stderr == "\n"
