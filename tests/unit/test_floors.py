"""The floors named in the package are those that pip is told, and what was tested is newer."""

import re
import tomllib
from pathlib import Path

import pytest

from icd.doctor.diagnosis import floors, numbers
from icd.doctor.min_versions import FLOORS

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = [line for lines in PROJECT["optional-dependencies"].values() for line in lines]


def test_every_floor_is_a_lower_bound_of_the_project() -> None:
    lines = PROJECT["dependencies"]
    bounds = dict(re.findall(r"^([A-Za-z0-9_-]+)(?:\[\w+\])?>=([\d.]+)", line)[0] for line in lines)
    assert {name: floor.version for name, floor in FLOORS.items()} == {name: bounds[name] for name in FLOORS}


def test_extras_ask_for_no_less() -> None:
    found = [re.match(r"([A-Za-z0-9_-]+)(?:\[[\w,]+\])?>=([\d.]+)", line) for line in EXTRAS]
    bounds = [match.groups() for match in found if match and match[1] in FLOORS]
    assert {"ray", "mlflow"} <= {name for name, _ in bounds}
    assert all(numbers(version) >= numbers(FLOORS[name].version) for name, version in bounds)


def test_what_was_tested_together_is_no_older() -> None:
    pinned = dict(
        re.findall(r"^([A-Za-z0-9_.-]+)(?:\[[\w,]+\])?==([\w.]+)", (ROOT / "constraints.txt").read_text(), re.M)
    )
    assert set(FLOORS) <= set(pinned)
    assert all(numbers(pinned[name]) >= numbers(floor.version) for name, floor in FLOORS.items())


@pytest.mark.parametrize("name", FLOORS)
def test_the_doctor_reads_them(name: str) -> None:
    facts = {"versions": {name: "0.0.1", "other": "0.0.1"}}
    (finding,) = floors("here", facts)  # type: ignore[arg-type]
    assert (finding.level, finding.check) == ("fail", "versions")
    assert f"{name} 0.0.1 is older than {FLOORS[name].version}: {FLOORS[name].why}" == finding.text
    assert list(floors("here", {"versions": {name: FLOORS[name].version}})) == []  # type: ignore[typeddict-item]
    assert any(word in FLOORS[name].why for word in ("CVE", "advisories", "pairs", "behaviour"))
