"""The entry of the command: help without a verb, help that is named, listings that can be pasted."""

from collections.abc import Callable

import pytest
import yaml

from icd.cli.main import main
from icd.config.read_trial import read_trial
from icd.config.trial import TrialConfig
from icd.config.yaml import Document

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*words: str) -> tuple[int, str, str]:
        code = main(words)
        said = capsys.readouterr()
        return code, said.out, said.err

    return call


@pytest.mark.parametrize("words", [(), ("teacher",)], ids=["icd", "teacher"])
def test_without_a_verb_the_help_is_shown(run: Run, words: tuple[str, ...]) -> None:
    code, out, err = run(*words)
    assert (code, out) == (2, "")
    assert err.startswith(f"Usage: {' '.join(['icd', *words])} [OPTIONS] COMMAND")
    assert len(err.splitlines()) > 10
    assert "error[" not in err


@pytest.mark.parametrize(
    ("words", "help_of"),
    [(("validate",), "icd validate"), (("teacher", "train", "--foo"), "icd teacher train"), (("trian",), "icd")],
)
def test_a_wrong_call_names_the_help_of_its_verb(run: Run, words: tuple[str, ...], help_of: str) -> None:
    code, _, err = run(*words)
    assert code == 2
    assert err.endswith(f"; see '{help_of} --help'\n")
    assert ".;" not in err


def test_what_methods_prints_can_be_pasted(run: Run) -> None:
    """Every default, and every row, is YAML that a trial's file may hold."""
    listed = yaml.safe_load(run("methods")[1])

    def read(method: object) -> TrialConfig:
        return read_trial(Document({"student": "resnet8", "teacher": "resnet20", "method": method}, "pasted"))

    methods = {name.removeprefix("method "): value for name, value in listed.items() if name.startswith("method ")}
    losses = {name.split()[1]: value for name, value in listed.items() if name.startswith("base_loss ")}
    rows = listed["rows of the paper's table"]
    assert (len(methods), len(losses), len(rows)) == (4, 4, 12)
    for name, fields in methods.items():
        assert read({"name": name, **(fields or {})}) == read(name)
    for name, fields in losses.items():
        assert read({"base_loss": {name: fields}}) == read({"base_loss": name})
    for name, fields in rows.items():
        assert read(fields) == read(name)
