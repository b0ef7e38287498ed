"""Bad files are refused with sentences a person can act on.

``bad_trials.yaml`` says which for every trial in ``bad/``; ``bad_sweeps.yaml`` holds sweeps with what is told of them.
"""

from pathlib import Path
from typing import Any

import pytest
import yaml

from icd.config.read_sweep import read_sweep
from icd.config.read_trial import read_trial
from icd.config.yaml import Document, read_yaml
from icd.errors import ConfigError
from tests.unit.config.sweeps import RANGE, plain, sweep, sweep_text

FOLDER = Path(__file__).parent / "bad"
CANARY = "hunter2canary"

EXPECTED: dict[str, list[str]] = yaml.safe_load(Path(__file__).with_name("bad_trials.yaml").read_text())
CASES: dict[str, Any] = yaml.safe_load(Path(__file__).with_name("bad_sweeps.yaml").read_text())


def refused(name: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        read_trial(read_yaml(FOLDER / f"{name}.yaml"))
    return caught.value


def test_the_table_and_the_folder_agree() -> None:
    assert sorted(EXPECTED) == sorted(path.stem for path in FOLDER.iterdir())
    assert len(EXPECTED) >= 60


@pytest.mark.parametrize("name", EXPECTED)
def test_a_bad_file_is_refused_with_every_mistake_in_it(name: str) -> None:
    error = refused(name)
    message = str(error)
    for part in EXPECTED[name]:
        assert part in message
    assert len(error.problems) == max(1, sum(part.startswith(":") for part in EXPECTED[name]))
    numbers = [problem.line or 0 for problem in error.problems]
    assert numbers == sorted(numbers), "in the order of the file"
    check_what_holds_for_every_refusal(error, str(FOLDER / f"{name}.yaml"))


def check_what_holds_for_every_refusal(error: ConfigError, source: str) -> None:
    assert error.exit_code == 2
    assert error.code == "CONFIG"
    assert CANARY not in repr(error)
    assert CANARY not in str(error.__cause__)
    lines = str(error).split("\n")
    assert len(lines) == len(error.problems)
    assert len(set(lines)) == len(lines)
    for line in lines:
        assert line.startswith(f"{source}:")
        assert line.isprintable()
        assert len(line.removeprefix(str(FOLDER))) < 400
        for noise in ("Traceback", "pydantic", "<class", "object at 0x", "icd."):
            assert noise not in line.removeprefix(source)


@pytest.mark.parametrize("name", [name for name in EXPECTED if name.startswith("secret")])
def test_a_secret_is_in_the_file_so_that_not_printing_it_means_something(name: str) -> None:
    assert CANARY in (FOLDER / f"{name}.yaml").read_text()


@pytest.mark.parametrize(
    ("key", "misspelt"),
    [
        (("search", "budget"), "budgets"),
        (("search", "budget", "trials"), "trial"),
        (("search",), "serach"),
        (("name",), "nmae"),
        (("method",), "methdo"),
        (("student",), "studnet"),
        (("teacher",), "teachr"),
        (("teacher", "arch"), "ach"),
    ],
)
def test_a_misspelt_key_has_no_second_message(key: tuple[str, ...], misspelt: str) -> None:
    data = plain(sweep_text(teacher="{arch: resnet20}"))
    part = data
    for name in key[:-1]:
        part = part[name]
    part[misspelt] = part.pop(key[-1])
    with pytest.raises(ConfigError) as caught:
        read_sweep(Document(data, "x"))
    (problem,) = caught.value.problems
    assert str(problem) == f"x: {'.'.join((*key[:-1], misspelt))}: unknown key; did you mean {key[-1]!r}?"


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
