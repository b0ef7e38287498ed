"""Mutants are of this tree: a rule that a page states, a line that is there once, tests that exist."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def mutants() -> ModuleType:
    """The program, which is no part of the package."""
    spec = importlib.util.spec_from_file_location("mutants", ROOT / "bench" / "mutants.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_mutant_is_one_of_this_tree(mutants: ModuleType) -> None:
    known = mutants.mutants()
    assert len(known) >= 40
    assert len({(mutant.file, mutant.old, mutant.new) for mutant in known}) == len(known)
    assert [f"{number}: {why}" for number, mutant in enumerate(known, 1) if (why := mutants.problem(mutant))] == []


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("rule", ("README.md", "no such words"), "README.md does not say"),
        ("old", "no such line", "has 'no such line' 0 times"),
        ("new", "(", "is no Python"),
        ("tests", ("tests/unit/test_errors.py::test_none",), "there is no test"),
        ("tests", ("tests/unit/test_none.py",), "there is no test"),
    ],
)
def test_what_is_stale_is_said(mutants: ModuleType, field: str, value: object, said: str) -> None:
    assert said in mutants.problem(mutants.mutants()[0]._replace(**{field: value}))


def test_numbers_are_asked_for(mutants: ModuleType) -> None:
    assert mutants.asked_for("3,17-19", 40) == [3, 17, 18, 19]
    assert mutants.asked_for("", 3) == [1, 2, 3]
