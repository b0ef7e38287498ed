"""The floors named in the package are those that pip is told."""

import re
import tomllib
from pathlib import Path

from icd.cli.floors import FLOORS

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]


def test_every_floor_is_a_lower_bound_of_the_project() -> None:
    lines = PROJECT["dependencies"]
    bounds = dict(re.match(r"([A-Za-z0-9_-]+)(?:\[\w+\])?>=([\d.]+)", line).groups() for line in lines)  # type: ignore[union-attr]
    assert {name: floor.version for name, floor in FLOORS.items()} == {name: bounds[name] for name in FLOORS}
