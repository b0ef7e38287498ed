"""``--submit`` without a cluster: a client that leaves, and what Ray's client does when a server falters."""

import json
import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from icd.cli import submit
from icd.cli.submit import connect, follow, read_file
from icd.errors import SetupError
from tests.command import Command, one_line
from tests.integration.ray_nodes import ROOT

QUICKSTART = ROOT / "search_spaces" / "quickstart.yaml"


# A client that leaves


def test_ctrl_c_leaves_the_job_and_says_how_to_return(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[dict[str, Any]] = []

    class Interrupted:
        """A cluster whose job is followed until Ctrl-C."""

        def submit_job(self, **job: Any) -> None:
            sent.append(job)

        def get_job_info(self, job: str) -> None:
            raise KeyboardInterrupt

    monkeypatch.setattr("icd.cli.submit.connect", lambda url: Interrupted())
    monkeypatch.setenv("ICD_SUBMIT", "http://h:8265")
    said = command("sweep", QUICKSTART)
    assert (said.code, said.out) == (130, "")
    variables = read_file("sweep", QUICKSTART, {"overrides": ()})[1]
    assert sent[0]["runtime_env"] == {"env_vars": variables}, "and no token"
    assert re.fullmatch(r"icd-sweep-quickstart-\d{8}-\d{6}-[0-9a-f]{4}", sent[0]["submission_id"])
    for line in (
        f"job {sent[0]['submission_id']} runs on",
        "icd status quickstart --submit http://h:8265",
    ):
        assert line in said.err
    detached = command("sweep", QUICKSTART, "--detach")
    assert (detached.code, detached.out) == (0, f"{sent[1]['submission_id']}\n")


@pytest.mark.parametrize(
    "words", [["plan", QUICKSTART], ["train", "x.yaml"], ["ui", "x"], ["teacher", "list"]], ids=str
)
def test_verbs_that_work_here_only_are_refused_where_jobs_are_wanted(
    command: Command, monkeypatch: pytest.MonkeyPatch, words: list[object]
) -> None:
    monkeypatch.setenv("ICD_SUBMIT", "http://h:8265")
    said = one_line(command(*words), 2, "USAGE")
    assert "works on this machine only; unset it for this command: env -u ICD_SUBMIT" in said


def test_a_job_asks_nothing(command: Command) -> None:
    said = one_line(command("rm", "quickstart", "--submit", "http://127.0.0.1:1"), 2, "USAGE")
    assert "'icd rm' must have --yes with --submit" in said


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
    server: tuple[str, dict[str, list[Answer]]],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url, answers = server
    monkeypatch.setattr(submit, "_PAUSE_S", 0.01)
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "")
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:1")  # of another cluster: what --submit says counts
    answers["/api/version"] = [VERSION]
    answers["/api/jobs/j"] = [info("PENDING"), silence, *[info("RUNNING")] * 3, info("FAILED", 4)]
    logs = ["", "one\n", None, "one\ntw", "one\ntwo\n"]
    answers["/api/jobs/j/logs"] = [
        answer(502, "down") if text is None else answer(200, {"logs": text}) for text in logs
    ]
    assert follow(connect(url), url, "j") == 4
    assert capsys.readouterr().err == "one\ntwo\n"


def test_a_job_that_is_known_no_longer_is_given_up(
    server: tuple[str, dict[str, list[Answer]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, answers = server
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "")
    answers["/api/version"] = [VERSION]
    answers["/api/jobs/j"] = [answer(404, "Job j does not exist")]
    with pytest.raises(SetupError, match="knows job j no more"):
        follow(connect(url), url, "j")


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        (answer(404, "no such page"), r"takes no jobs.*ray\[default\]"),
        (answer(200, "<html>"), r"takes no jobs.*ray\[default\]"),
        (answer(401, "Unauthorized"), "refuses this machine: .*RAY_AUTH_TOKEN_PATH"),
        (answer(500, "oh"), "takes no jobs"),
        (silence, "takes no jobs"),
    ],
)
def test_what_is_no_job_api_is_refused(
    server: tuple[str, dict[str, list[Answer]]], said: Answer, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, answers = server
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "")
    answers["/api/version"] = [said]
    with pytest.raises(SetupError, match=problem):
        connect(url)


def test_nothing_there_is_said_quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "")
    with pytest.raises(SetupError, match=r"http://127\.0\.0\.1:1 takes no jobs: .*check address and port \(8265"):
        connect("http://127.0.0.1:1")
