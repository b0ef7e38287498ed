"""Which module may import which; names file and rule when broken.

Layers of the package are the contract in pyproject.toml, which import-linter holds. Calls that the package must not
make (print, exec, eval, pickle, yaml.load) are ruff's rules there.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "icd"
FILES = sorted(PACKAGE.rglob("*.py"))

MAY_IMPORT_SEARCH = {
    "ray": {
        "icd/cli/submit.py",
        "icd/search/executors/ray/executor.py",
        "icd/search/executors/ray/control.py",
        "icd/search/executors/ray/cluster.py",
        "icd/search/executors/ray/connection.py",
        "icd/doctor/cluster.py",
        "icd/search/executors/ray/tune_adapter.py",
        "icd/search/executors/ray/internals.py",
        "icd/search/executors/ray/nodes.py",
        "icd/search/executors/ray/security.py",
        "icd/search/executors/ray/worker.py",
    },
    "pyarrow": {"icd/storage/bucket.py"},
    # The registry for types only, the file for its tables.
    "mlflow": {
        "icd/search/tracking/experiment.py",
        "icd/search/tracking/mlflow_client.py",
        "icd/search/tracking/mlflow_file.py",
        "icd/results/exports/registry.py",
    },
    "optuna": {
        "icd/search/suggest/search_space.py",
        "icd/search/study/ledger.py",
        "icd/search/study/write_through.py",
        "icd/search/study/optuna_internals.py",
        "icd/search/study/sweep_index.py",  # for types only
        "icd/search/study/sweep_study.py",
        "icd/search/suggest/samplers.py",
        "icd/search/suggest/gp_sampler.py",
        "icd/doctor/services.py",
        "icd/search/study/database.py",
        "icd/search/study/locks.py",
        "icd/results/importance.py",
    },
}
INTERFACE_LIBRARIES = {"pydantic", "click", "rich", "yaml"}


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
    for line, imported in imports(ast.parse(source), ".".join(parts[:-1])):
        top = imported.partition(".")[0]
        where = f"{name}:{line}: imports {imported}"
        if name not in MAY_IMPORT_SEARCH.get(top, {name}):
            problems.append(f"{where}; {top} belongs in {', '.join(sorted(MAY_IMPORT_SEARCH[top]))}")
        inner_layer = parts[1] in {"teacher", "training", "methods", "losses"}
        if inner_layer and top in INTERFACE_LIBRARIES:
            problems.append(f"{where}; training, methods and losses know nothing of {top}")
    return problems


def name_of(file: Path) -> str:
    return file.relative_to(PACKAGE.parent).as_posix()


def test_layers() -> None:
    """In a process of its own, since import-linter switches off the loggers of the one that it runs in."""
    code = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    done = subprocess.run([sys.executable, "-c", code], cwd=PACKAGE.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


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


def test_a_long_file_of_the_search_says_why_it_is_one() -> None:
    long = [file for file in FILES if len(file.read_text().splitlines()) > 300]
    search = [file for file in long if name_of(file).split("/")[1] in ("search", "worker", "doctor")]
    reasons = {name_of(file): ast.get_docstring(ast.parse(file.read_text())) or "" for file in search}
    assert not [name for name, said in reasons.items() if "longer than 300 lines because" not in said]


@pytest.mark.parametrize(
    ("name", "source", "rule"),
    [
        ("icd/training/loop.py", "from ray import tune", "ray belongs in"),
        ("icd/search/study/ledger.py", "import mlflow", "mlflow belongs in"),
        ("icd/training/loop.py", "import yaml", "know nothing of yaml"),
        ("icd/methods/cell_distillation.py", "from pydantic import BaseModel", "know nothing of pydantic"),
    ],
)
def test_a_forbidden_import_is_found(name: str, source: str, rule: str) -> None:
    (problem,) = import_problems(source, name)
    assert problem.startswith(f"{name}:")
    assert rule in problem


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("icd/search/executors/ray/executor.py", "from ray import tune\nfrom icd.training.loop import x"),
        ("icd/search/suggest/samplers.py", "import optuna"),
        ("icd/worker/trial_folder.py", "import yaml\nfrom icd import __version__"),
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


@pytest.mark.parametrize(
    "module", ["icd.config.sweep", "icd.search.sweep_status", "icd.search.study.ledger", "icd.results.report"]
)
def test_reading_a_sweep_imports_no_torch(module: str) -> None:
    """``icd status`` and its like answer at once and in little memory."""
    code = f"import sys, {module}; sys.exit('torch' if 'torch' in sys.modules else 0)"
    done = subprocess.run([sys.executable, "-c", code], cwd=PACKAGE.parent, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
