"""``--submit`` on a real head with its dashboard and a token; what its client does when a server falters."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from icd.errors import SetupError
from icd.search import ray_jobs
from icd.search.ray_jobs import Ended, Job, Jobs
from tests.command import Command, one_line
from tests.integration.ray_nodes import ROOT

QUICKSTART = ROOT / "search_spaces" / "quickstart.yaml"


# A whole cluster


def icd(*words: object, err: Path, **environment: str | None) -> subprocess.Popen[str]:
    """Start a command; what it says on stderr goes to a file."""
    names = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]), **environment}
    with err.open("w") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "icd.cli.main", *map(str, words)],
            env={name: value for name, value in names.items() if value is not None},
            cwd=err.parent,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )


def said(process: subprocess.Popen[str], err: Path) -> tuple[int, str, str]:
    out, _ = process.communicate(timeout=240)
    return process.returncode, out, err.read_text()


# A client that leaves


def test_ctrl_c_leaves_the_job_and_says_how_to_return(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[Job] = []

    class Interrupted:
        """A cluster whose job is followed until Ctrl-C."""

        ray_here = ray_there = "2.60.0"

        def __init__(self, url: str) -> None:
            self.url = url

        def submit(self, job: Job) -> None:
            sent.append(job)

        def follow(self, job_id: str, write: object) -> Ended:
            raise KeyboardInterrupt

    monkeypatch.setattr("icd.cli.submit.Jobs", Interrupted)
    monkeypatch.setenv("ICD_SUBMIT", "http://h:8265")
    said = command("sweep", QUICKSTART)
    assert (said.code, said.out) == (130, "")
    for line in (
        f"job {sent[0].id} runs on",
        "icd status quickstart --submit http://h:8265",
        "icd stop quickstart --submit http://h:8265",
        f"ray job logs {sent[0].id} --follow --address http://h:8265",
    ):
        assert line in said.err
    detached = command("sweep", QUICKSTART, "--detach")
    assert (detached.code, detached.out) == (0, f"{sent[1].id}\n")


def test_detach_is_for_submitting(command: Command) -> None:
    assert "--detach goes with --submit" in one_line(command("sweep", QUICKSTART, "--detach"), 2, "USAGE")


# A server that falters


Answer = Callable[[BaseHTTPRequestHandler], None]


def answer(status: int, value: Any) -> Answer:
    """Say this; text as it is, anything else as JSON."""

    def act(handler: BaseHTTPRequestHandler) -> None:
        body = (value if isinstance(value, str) else json.dumps(value)).encode()
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return act


def silence(handler: BaseHTTPRequestHandler) -> None:
    """Close the connection."""
    handler.close_connection = True


VERSION = answer(200, {"version": "4", "ray_version": "2.60.0", "ray_commit": "", "session_name": ""})


def info(status: str, code: int | None = None) -> Answer:
    told = {"type": "SUBMISSION", "entrypoint": "x", "submission_id": "j", "status": status, "driver_exit_code": code}
    return answer(200, told)


@pytest.fixture
def server() -> Iterator[tuple[str, dict[str, list[Answer]]]]:
    """A server that gives the answers listed for a path one after the other, and the last one for ever."""
    answers: dict[str, list[Answer]] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            due = answers[self.path]
            (due.pop(0) if len(due) > 1 else due[0])(self)

        def log_message(self, *words: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever, args=(0.05,))
        thread.start()
        yield f"http://127.0.0.1:{listening.server_port}", answers
        listening.shutdown()
        thread.join()


def test_a_broken_connection_is_tried_again(
    server: tuple[str, dict[str, list[Answer]]], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, answers = server
    monkeypatch.setattr(ray_jobs, "_SHORTEST_S", 0.01)
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:1")  # of another cluster: what --submit says counts
    answers["/api/version"] = [VERSION]
    answers["/api/jobs/j"] = [info("PENDING"), silence, info("RUNNING"), info("RUNNING"), info("FAILED", 4)]
    logs = ["", "one\n", None, "one\ntw", "one\ntwo\n"]
    answers["/api/jobs/j/logs"] = [
        answer(502, "down") if text is None else answer(200, {"logs": text}) for text in logs
    ]
    text: list[str] = []
    ended = Jobs(url).follow("j", text.append)
    assert (ended.status, ended.code) == ("FAILED", 4)
    assert text == ["", "one\n", "tw", "o\n"]
    assert caplog.text.count("does not answer; the job runs on") == caplog.text.count("answers again") == 2
    assert os.environ.get("RAY_API_SERVER_ADDRESS") is None


def test_a_job_that_is_known_no_longer_is_given_up(server: tuple[str, dict[str, list[Answer]]]) -> None:
    url, answers = server
    answers["/api/version"] = [VERSION]
    answers["/api/jobs/j"] = [answer(404, "Job j does not exist")]
    with pytest.raises(SetupError, match="no longer knows job j"):
        Jobs(url).follow("j", lambda text: None)


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        (answer(404, "no such page"), r"does not take jobs.*ray\[default\]"),
        (answer(200, "<html>"), r"does not take jobs.*ray\[default\]"),
        (answer(200, {"version": "4"}), "does not take jobs"),
        (answer(401, "Unauthorized"), "refuses this machine: .*RAY_AUTH_TOKEN_PATH"),
        (answer(500, "oh"), "no Ray dashboard answers"),
        (silence, "no Ray dashboard answers"),
    ],
)
def test_what_is_no_job_api_is_refused(server: tuple[str, dict[str, list[Answer]]], said: Answer, problem: str) -> None:
    url, answers = server
    answers["/api/version"] = [said]
    with pytest.raises(SetupError, match=problem):
        Jobs(url)


def test_nothing_there_is_said_quickly() -> None:
    with pytest.raises(SetupError, match=r"no Ray dashboard answers at http://127\.0\.0\.1:1 .*refused.*8265"):
        Jobs("http://127.0.0.1:1")
