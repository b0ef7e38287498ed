"""``--submit``: a command line becomes a job, a job's log becomes stdout and stderr, its end an exit code."""

import io
import logging
import os
import random
import shlex
from pathlib import Path

import click
import pytest

from icd import __version__
from icd.cli import job as far
from icd.cli.export import export
from icd.cli.job import FILE_VARIABLE, MARK, Marked, pack, unpack
from icd.cli.main import icd
from icd.cli.status import status
from icd.cli.submit import Reader, code_of, job_of, read_file, words_of
from icd.cli.sweep import resume, sweep
from icd.errors import ConfigError, SetupError, UsageError
from icd.search.ray_jobs import Ended, Job, checked, differs

QUICKSTART = Path(__file__).parents[3] / "search_spaces" / "quickstart.yaml"
JOB = Job(id="icd-sweep-x-1", entrypoint="", metadata={}, variables={})


def words(command: click.Command, name: str, *given: str, before: tuple[str, ...] = ()) -> list[str]:
    with icd.make_context("icd", [*before, name]) as parent, command.make_context(name, [*given], parent) as context:
        return words_of(context)


def test_only_what_was_given_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ICD_ROOT", "/home/me/runs")
    monkeypatch.setenv("ICD_DATA", "/home/me/data")
    assert words(sweep, "sweep", "x.yaml", "--submit", "http://h:1", "--detach") == ["sweep", "--address=auto"]
    given = [
        "--set",
        "search.budget.trials=3",
        "--set",
        "seed=-1",
        "--table",
        "live",
        "--json",
        "--root",
        "/shared/runs",
    ]
    passed = ["--set=search.budget.trials=3", "--set=seed=-1", "--table=live", "--json", "--root=/shared/runs"]
    assert sorted(words(sweep, "sweep", "x.yaml", *given)) == sorted(["sweep", "--address=auto", *passed])
    executed = words(sweep, "sweep", "x.yaml", "--executor", "process")
    assert executed == ["sweep", "--executor=process", "--address=auto"]


def test_a_bucket_travels_by_its_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ICD_CACHE", str(tmp_path))
    assert words(status, "status", "a", "--root", "s3://sweeps/team") == [
        "status",
        "--root=s3://sweeps/team",
        "--",
        "a",
    ]


def test_names_and_the_options_of_icd_itself_travel_too() -> None:
    assert words(resume, "resume", "a", "--extend") == ["resume", "--extend", "--address=auto", "--", "a"]
    assert words(status, "status", before=("--debug", "-q")) == ["--debug", "--quiet", "status"]
    assert words(status, "status", "a b;c", "--json") == ["status", "--json", "--", "a b;c"]
    given = ["a", "-o", "/shared/best", "--register", "--format", "onnx", "--format", "pt2", "--trial", "3"]
    passed = ["--output=/shared/best", "--register=", "--format=onnx", "--format=pt2", "--trial=3"]
    found = words(export, "export", *given)
    assert (found[0], sorted(found[1:-2]), found[-2:]) == ("export", sorted(passed), ["--", "a"])


def test_the_words_mean_over_there_what_they_meant_here() -> None:
    given = ["a", "--set", "search.budget.trials=4", "--extend", "--table-gb", "2.5", "--root", "/shared/my runs"]
    job = job_of("resume", "a", words(resume, "resume", *given), {}, unique="1")
    python, option, module, version, verb, *rest = shlex.split(job.entrypoint)
    assert (python, option, module, version, verb) == ("python", "-m", "icd.cli.job", __version__, "resume")
    here = resume.make_context("resume", given).params
    there = resume.make_context("resume", rest).params
    assert there.pop("address") == "auto"
    assert here.pop("address") == "local"
    assert there == here


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        (["--address", "10.0.0.1:6379"], "--submit and --address exclude each other"),
        (["--root", "runs"], "--root must be an absolute path of the cluster with --submit, but got 'runs'"),
        (["--data-root", "~/data"], "--data-root must be an absolute path"),
    ],
)
def test_what_means_nothing_over_there_is_refused(given: list[str], problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        words(sweep, "sweep", "x.yaml", *given)


def test_a_job_has_a_readable_name_of_its_own() -> None:
    first, second = (job_of("sweep", "my sweep/1", ["sweep"], {}) for _ in range(2))
    assert first.id != second.id
    assert first.id.startswith("icd-sweep-my_sweep_1-2")
    assert first.metadata == {"icd": "sweep", "sweep": "my sweep/1", "version": __version__}
    assert job_of("status", None, ["status"], {}, unique="7").id == "icd-status-all-7"


def test_no_token_is_in_a_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "5" * 64)
    name, variables = read_file("sweep", QUICKSTART, {"overrides": ()})
    job = job_of("sweep", name, words(sweep, "sweep", str(QUICKSTART)), variables)
    assert "5" * 64 not in repr(job)
    assert set(job.variables) == {FILE_VARIABLE}


def test_a_file_travels_as_it_is(tmp_path: Path) -> None:
    text = QUICKSTART.read_text() + "# \u00e9 'quoted' \"twice\" $HOME `x`\n" + "# filler\n" * 3000
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    name, variables = read_file("sweep", path, {"overrides": ("search.budget.trials=3",), "name": "other"})
    assert name == "other"
    assert unpack(variables[FILE_VARIABLE]) == ("mine.yaml", text)


def test_a_bad_file_is_refused_here(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(QUICKSTART.read_text().replace("student:", "studnt:"))
    with pytest.raises(ConfigError, match="did you mean 'student'"):
        read_file("sweep", path, {"overrides": ()})
    with pytest.raises(UsageError, match="a table needs the rows to compare"):
        read_file("table", QUICKSTART, {"overrides": ()})


def test_a_file_too_large_for_a_job_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "large.yaml"
    noise = "".join(f"# {random.Random(number).getrandbits(256):x}\n" for number in range(2500))
    path.write_text(QUICKSTART.read_text() + noise)
    with pytest.raises(UsageError, match=r"too large for a job .*python jobs/sweep\.py"):
        read_file("sweep", path, {"overrides": ()})


def test_stdout_is_marked_line_by_line(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w+") as log:
        with io.TextIOWrapper(io.BufferedWriter(Marked(log.fileno())), encoding="utf-8", line_buffering=True) as out:
            click.echo("one\ntwo \u00e9", file=out)
            click.echo("three", file=out, nl=False)
        assert (tmp_path / "log").read_text() == f"{MARK}one\n{MARK}two \u00e9\n{MARK}three\n"


def test_a_log_is_taken_apart_however_it_is_cut(capsys: pytest.CaptureFixture[str]) -> None:
    log = (
        "2026-11-21 20:45:11,786\tINFO job_manager.py:581 -- Runtime env is setting up.\n"
        "Running entrypoint for job icd-status-x: python -m icd.cli.job\n"
        f"icd: warned\n{MARK}[\n{MARK}]\n{MARK}\nkilled"
    )
    for size in (1, 7, len(log)):
        reader = Reader()
        for start in range(0, len(log), size):
            reader.take(log[start : start + size])
        reader.close()
        assert capsys.readouterr() == ("[\n]\n\n", "icd: warned\nkilled\n")


@pytest.mark.parametrize("code", [0, 2, 3, 4, 5, 6, 70, 130, 143])
def test_a_verbs_exit_code_is_the_commands(code: int) -> None:
    assert code_of(Ended(status="FAILED" if code else "SUCCEEDED", code=code, message=""), JOB) == code


def test_jobs_that_were_ended_are_told_from_those_that_never_ran(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "icd"):
        assert code_of(Ended(status="STOPPED", code=None, message=""), JOB) == 143
        assert code_of(Ended(status="FAILED", code=-9, message=""), JOB) == 137
        assert code_of(Ended(status="FAILED", code=137, message=""), JOB) == 137
    assert "ended by signal 9" in caplog.text
    with pytest.raises(SetupError, match="no room"):
        code_of(Ended(status="FAILED", code=None, message="no\nroom"), JOB)
    for code in (1, 127):
        with pytest.raises(SetupError, match="'python' on the head's PATH must have icd"):
            code_of(Ended(status="FAILED", code=code, message=""), JOB)


@pytest.mark.parametrize("url", ["ray://h:10001", "auto", "h:8265", "http://", "ftp://h", "http://[::1"])
def test_an_address_that_is_no_dashboard_is_refused(url: str) -> None:
    with pytest.raises(SetupError, match="--submit must be the http:// or https:// address"):
        checked(url)


def test_a_password_in_an_address_is_refused_and_not_said() -> None:
    with pytest.raises(SetupError, match="no user or password") as caught:
        checked("https://me:geheim@h:8265")
    assert "geheim" not in str(caught.value)
    assert checked("https://h:8265/") == "https://h:8265"


def test_versions_of_ray_differ_by_their_first_two_numbers() -> None:
    assert not differs("2.60.0", "2.60.1")
    assert differs("2.60.0", "2.59.0")
    assert not differs("2.60.0", None)


def test_over_there_the_file_is_named_last_and_nothing_is_sent_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[tuple[list[str], str]] = []

    def run(words: list[str]) -> int:
        seen.append((words[:-1], Path(words[-1]).read_text()))
        return 4

    monkeypatch.setattr(far, "main", run)
    monkeypatch.setenv(FILE_VARIABLE, pack("../../x.yaml", "name: x\n"))
    monkeypatch.setenv("ICD_SUBMIT", "http://h:1")
    assert far.run(["0.0.9", "sweep", "--json"]) == 4
    assert seen == [(["sweep", "--json", "--"], "name: x\n")]
    assert "sent by icd 0.0.9" in capsys.readouterr().err
    assert not {FILE_VARIABLE, "ICD_SUBMIT"} & set(os.environ)
