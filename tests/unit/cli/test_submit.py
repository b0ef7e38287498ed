"""``--submit``: a command line becomes a job, a job's log becomes stdout and stderr, its end an exit code."""

import base64
import gzip
import os
import shlex
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import click
import pytest
from ray._private.utils import update_envs

from icd.cli import submit
from icd.cli.look import status
from icd.cli.main import icd
from icd.cli.outcomes import export
from icd.cli.submit import FILE_VARIABLE, MARK, connect, entry, follow, read_file, words_of
from icd.cli.sweep import resume, stop, sweep
from icd.config.yaml import parse_yaml, read_yaml
from icd.errors import ConfigError, SetupError, UsageError

QUICKSTART = Path(__file__).parents[3] / "search_spaces" / "quickstart.yaml"


def words(command: click.Command, name: str, *given: str, before: tuple[str, ...] = ()) -> list[str]:
    with icd.make_context("icd", [*before, name]) as parent, command.make_context(name, [*given], parent) as context:
        return words_of(context)


def test_only_what_was_given_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ICD_ROOT", "/home/me/runs")
    monkeypatch.setenv("ICD_DATA", "/home/me/data")
    assert words(sweep, "sweep", "x.yaml", "--submit", "http://h:1", "--detach") == ["sweep", "--address=auto"]
    given = ["--set", "search.budget.trials=3", "--set", "seed=-1", "--engine", "graph", "--json", "--root", "/runs"]
    passed = ["--set=search.budget.trials=3", "--set=seed=-1", "--engine=graph", "--json", "--root=/runs"]
    assert sorted(words(sweep, "sweep", "x.yaml", *given)) == sorted(["sweep", "--address=auto", *passed])
    executed = words(sweep, "sweep", "x.yaml", "--executor", "process")
    assert executed == ["sweep", "--executor=process", "--address=auto"]


def test_a_bucket_travels_by_its_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ICD_CACHE", str(tmp_path))
    found = words(status, "status", "a", "--root", "s3://sweeps/team")
    assert found == ["status", "--root=s3://sweeps/team", "--", "a"]


def test_names_and_the_options_of_icd_itself_travel_too() -> None:
    assert words(resume, "resume", "a", "--extend") == ["resume", "--extend", "--address=auto", "--", "a"]
    assert words(status, "status", before=("--debug", "-q")) == ["--quiet", "--debug", "status"]
    assert words(status, "status", "--debug", before=("--json",)) == ["--json", "status", "--debug"]
    assert words(status, "status", "a b;c", "--json") == ["status", "--json", "--", "a b;c"]
    given = ["a", "-o", "/shared/best", "--register", "--format", "onnx", "--format", "pt2", "--trial", "3"]
    passed = ["--output=/shared/best", "--register=", "--format=onnx", "--format=pt2", "--trial=3"]
    found = words(export, "export", *given)
    assert (found[0], sorted(found[1:-2]), found[-2:]) == ("export", sorted(passed), ["--", "a"])


def test_the_words_mean_over_there_what_they_meant_here() -> None:
    given = ["a", "--set", "search.budget.trials=4", "--extend", "--teacher-cache-gb", "2.5", "--root", "/my runs"]
    rest = words(resume, "resume", *given)[1:]
    here, there = (resume.make_context("resume", [*line]).params for line in (given, rest))
    assert (there.pop("address"), here.pop("address")) == ("auto", "local")
    assert there == here


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        (["--address", "10.0.0.1:6379"], "--submit and --address exclude each other"),
        (["--root", "runs"], "--root must be an absolute path of the cluster with --submit, but got 'runs'"),
        (["--data-root", "~/data"], "--data-root must be an absolute path"),
        (["--set", "plugins=[./x.py]"], "--set plugins would be looked for on the cluster with --submit; list them in"),
    ],
)
def test_what_means_nothing_over_there_is_refused(given: list[str], problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        words(sweep, "sweep", "x.yaml", *given)


def test_a_bad_file_is_refused_here(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(QUICKSTART.read_text().replace("student:", "studnt:"))
    with pytest.raises(ConfigError, match="did you mean 'student'"):
        read_file("sweep", path, {"overrides": ()})
    with pytest.raises(UsageError, match="a table needs the rows to compare"):
        read_file("benchmark", QUICKSTART, {"overrides": ()})
    path.write_text(QUICKSTART.read_text() + "# \u044f\n" * 30_000)
    assert len(read_file("sweep", path, {"overrides": ()})[1][FILE_VARIABLE]) < 5_000, "what counts is packed"
    path.write_text(QUICKSTART.read_text() + f"# {Random(0).randbytes(80_000).hex()}\n")
    with pytest.raises(UsageError, match=r"it must have at most 100000 bytes, but got \d{6};"):
        read_file("sweep", path, {"overrides": ()})


def test_a_file_travels_with_the_one_that_it_extends(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(QUICKSTART.read_text())
    path = tmp_path / "longer.yaml"
    path.write_text("extends: base.yaml\nname: longer\ntraining: {epochs: 9}\n")
    name, variables = read_file("sweep", path, {"overrides": ()})
    assert name == "longer"
    text = gzip.decompress(base64.b64decode(variables[FILE_VARIABLE])).decode()
    assert parse_yaml(text, "job").data == read_yaml(path).data


def test_a_name_is_text_whatever_it_looks_like() -> None:
    assert read_file("sweep", QUICKSTART, {"overrides": (), "name": "2026"})[0] == "2026"
    with pytest.raises(ConfigError, match="name: must be 1 to 64 letters"):
        read_file("sweep", QUICKSTART, {"overrides": (), "name": "x #y"})


@pytest.fixture
def there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str, dict[str, str]], "subprocess.CompletedProcess[str]"]:
    """Run a job's command line as Ray's shell does, with a 'python' that says what it was called with."""
    fake = tmp_path / "bin" / "python"
    fake.parent.mkdir()
    fake.write_text(
        '#!/bin/sh\nshift 2; echo "$@"; echo "submit: $ICD_SUBMIT"; eval "cat \\"\\${$#}\\""; echo said >&2; exit 4\n'
    )
    fake.chmod(0o755)

    def run(line: str, variables: dict[str, str]) -> "subprocess.CompletedProcess[str]":
        monkeypatch.setenv("PATH", str(fake.parent), prepend=os.pathsep)
        for name, value in {"ICD_SUBMIT": "http://h:1", "TMPDIR": str(tmp_path), **variables}.items():
            monkeypatch.setenv(name, value)
        update_envs(variables)  # as Ray does on the head
        return subprocess.run(line, shell=True, capture_output=True, text=True, check=False)

    return run


def test_a_job_runs_the_verb_with_the_file_as_it_was(
    tmp_path: Path, there: Callable[[str, dict[str, str]], "subprocess.CompletedProcess[str]"]
) -> None:
    text = QUICKSTART.read_text() + "# \u00e9 'quoted' \"twice\" $HOME ${UNSET_THERE} `x`\n"
    path = tmp_path / "my file.yaml"
    path.write_text(text, encoding="utf-8")
    name, variables = read_file("sweep", path, {"overrides": ("search.budget.trials=3",), "name": "other"})
    assert (name, set(variables)) == ("other", {FILE_VARIABLE})
    done = there(entry(["sweep", "--set=name=a b"], path), variables)
    lines = done.stdout.splitlines()
    assert all(line.startswith(MARK) for line in lines)
    assert lines[0].startswith(f"{MARK}sweep --set=name=a b -- {tmp_path}/")
    assert lines[0].endswith("/my file.yaml")
    assert lines[1] == f"{MARK}submit: ", "a job's own jobs go nowhere"
    assert "\n".join(line.removeprefix(MARK) for line in lines[2:]) == text.rstrip("\n")
    assert (done.returncode, done.stderr) == (4, "said\n")


def test_a_verb_without_a_file_runs_with_its_words() -> None:
    shell = shlex.split(entry(["status", "--", "a b"], None))
    assert shell[:6] == ["env", "-u", "ICD_SUBMIT", "bash", "-o", "pipefail"]
    assert shell[8:] == ["icd", "status", "--", "a b"]


class Jobs:
    """A job API that gives one answer after the other: (log or error, status, exit code)."""

    def __init__(self, *answers: tuple[str | Exception, str, int | None]) -> None:
        self.answers = list(answers)

    def get_job_info(self, job: str) -> Any:
        text, status, code = self.answers[0]
        if isinstance(text, Exception):
            self.answers.pop(0)
            raise text
        ended = status not in ("PENDING", "RUNNING")
        state = type("Status", (str,), {"is_terminal": lambda self: ended})(status)
        return SimpleNamespace(status=state, driver_exit_code=code, message="no\nroom")

    def get_job_logs(self, job: str) -> str:
        return str((self.answers.pop(0) if len(self.answers) > 1 else self.answers[0])[0])


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submit, "_PAUSE_S", 0.0)


def test_a_log_is_taken_apart_however_it_is_cut(capsys: pytest.CaptureFixture[str]) -> None:
    whole = f"icd: warned\n{MARK}[\n{MARK}]\n{MARK}\nkilled"
    steps: Sequence[str | Exception] = [whole[:size] for size in range(0, len(whole), 3)]
    gone = ConnectionError("no answer to /api/jobs/icd-sweep-x-20261201-140404-ab12")
    answers = [(step, "RUNNING", None) for step in [*steps, RuntimeError("status code 502"), gone]]
    assert follow(Jobs(*answers, (whole, "FAILED", 5)), "http://h", "j") == 5
    assert capsys.readouterr() == ("[\n]\n\n", "icd: warned\nkilled\n")


@pytest.mark.parametrize("code", [0, 2, 3, 4, 5, 6, 70, 130, 143])
def test_a_verbs_exit_code_is_the_commands(code: int) -> None:
    assert follow(Jobs(("", "FAILED" if code else "SUCCEEDED", code)), "http://h", "j") == code


def test_jobs_that_were_ended_are_told_from_those_that_never_ran() -> None:
    assert follow(Jobs(("", "STOPPED", None)), "http://h", "j") == 143
    assert follow(Jobs(("", "FAILED", -9)), "http://h", "j") == 137
    never = "could not run icd there: no\nroom; 'python' on the head"
    for code, said in ((None, "job j ended there: no\nroom; give the same command again"), (1, never), (127, never)):
        with pytest.raises(SetupError, match=said):
            follow(Jobs(("", "FAILED", code)), "http://h", "j")
    with pytest.raises(SetupError, match="knows job j no more"):
        follow(Jobs((RuntimeError("status code 404"), "RUNNING", None)), "http://h", "j")


def test_a_job_of_a_head_that_is_silent_may_run_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    again = "'ray job logs {} --follow --address http://h'"
    monkeypatch.setattr(submit, "_GIVE_UP_S", -1.0)
    with pytest.raises(SetupError) as caught:
        follow(Jobs((ConnectionError("gone"), "RUNNING", None)), "http://h", "j")
    assert f"and job j may run on; follow it again with {again.format('j')}" in str(caught.value)
    assert "resume" not in str(caught.value)
    sent: list[str] = []
    cluster = SimpleNamespace(submit_job=lambda submission_id, **more: sent.append(submission_id))
    monkeypatch.setattr(submit, "connect", lambda url: cluster)
    caplog.set_level("INFO")
    with icd.make_context("icd", ["stop"]) as parent, stop.make_context("stop", ["a"], parent) as context:
        assert submit.send("http://h/", context, detach=True) == 0
    assert f"follow it again with {again.format(sent[0])}" in caplog.text


@pytest.mark.parametrize(
    "url", ["ray://h:10001", "auto", "h:8265", "http://", "ftp://h", "https://me:geheim@h:8265", "http://h/\n"]
)
def test_an_address_that_is_no_dashboard_is_refused(url: str) -> None:
    with pytest.raises(SetupError, match="--submit must be a Ray dashboard without user or password") as caught:
        connect(url)
    assert "geheim" not in str(caught.value)
