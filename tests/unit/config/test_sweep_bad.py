"""Bad sweeps: ``bad_sweeps.yaml`` says what is told of each mistake; nothing else may be told."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from icd.errors import ConfigError
from tests.unit.config.sweeps import RANGE, sweep

CASES: dict[str, Any] = yaml.safe_load(Path(__file__).with_name("bad_sweeps.yaml").read_text())


@pytest.mark.parametrize("name", CASES)
def test_a_bad_sweep_is_refused(name: str) -> None:
    ranges, parts, said = CASES[name]
    with pytest.raises(ConfigError) as caught:
        sweep(RANGE if ranges is None else ranges, **parts)
    told = [
        str(problem).partition(": ")[2] for problem in caught.value.problems if "nothing to search" not in problem.rule
    ]
    for line in told:
        assert any(line.startswith(begin) for begin in said), line
    for begin in said:
        assert any(line.startswith(begin) for line in told), f"{begin!r} is missing in {told}"
    numbers = [problem.line or 0 for problem in caught.value.problems]
    assert numbers == sorted(numbers)
    assert all(problem.source == "x.yaml" and len(str(problem)) < 500 for problem in caught.value.problems)
