"""What driver and workers on other machines see of each other through a bucket, between epochs."""

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from icd.errors import SetupError
from icd.search.core.attempts import Attempt, AttemptClaim, issued
from icd.search.study.sweep_files import SweepFiles
from icd.storage.bucket import Bucket, bucket_of, local_root
from icd.worker.progress_files import (
    Lookout,
    every,
    find_stack,
    give_notice,
    progress_path,
    publish_progress,
    publish_stack,
    stack_path,
)

WHERE = {"epoch": 2, "step": 5, "steps": 9}
NOTICE = AttemptClaim(1, reason="node a (0123) is taken back", until=1_800_000_000.5)


@pytest.fixture
def task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Attempt:
    """As its driver has it; the worker's copies lie elsewhere (``theirs``)."""
    monkeypatch.setenv("ICD_CACHE", str(tmp_path / "driver"))
    given: dict[str, Any] = {"config": {}, "sweep": "/nowhere/sweeps/x", "root": "/nowhere"}
    return Attempt(number=3, attempt=1, **given, bucket=f"file://{tmp_path}/store", hang_seconds=0.4).here()


@pytest.fixture
def theirs(task: Attempt, tmp_path: Path) -> Attempt:
    elsewhere = replace(task, root=str(tmp_path / "worker"), sweep=str(tmp_path / "worker" / "sweeps" / "x"))
    elsewhere.folder.mkdir(parents=True)
    return elsewhere


@pytest.fixture
def lookout(task: Attempt) -> Iterator[Lookout]:
    with ThreadPoolExecutor(1) as pool:
        yield Lookout(task, pool)


def soon(read: Callable[[], Any]) -> Any:
    """Read until there is something."""
    deadline = time.monotonic() + 10
    while not (found := read()):
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.01)
    return found


@pytest.mark.parametrize("said", [AttemptClaim(1), AttemptClaim(2), NOTICE])
def test_what_is_issued_is_read_again(task: Attempt, said: AttemptClaim) -> None:
    Bucket(task.bucket).write(f"{task.prefix}/attempt", said.to_bytes())
    assert issued(task) == said


def test_an_attempt_is_issued_as_a_number_alone(task: Attempt) -> None:
    root = local_root(task.bucket)
    SweepFiles(root / "sweeps" / "x", bucket_of(root)).issue(3, "", 2)
    assert Bucket(task.bucket).read(f"{task.prefix}/attempt") == b"2"
    assert issued(task) == AttemptClaim(2)
    assert NOTICE.to_bytes().splitlines()[0] == b"1"


@pytest.mark.parametrize("content", [b"", b"x", b"3\n{"])
def test_what_cannot_be_read_says_nothing(task: Attempt, content: bytes) -> None:
    Bucket(task.bucket).write(f"{task.prefix}/attempt", content)
    assert issued(task) == AttemptClaim(task.attempt)


@pytest.mark.parametrize("root", ["bucket", "folder"])
def test_a_notice_reaches_its_own_attempt_alone(task: Attempt, tmp_path: Path, root: str) -> None:
    task = task if root == "bucket" else replace(task, bucket="", sweep=str(tmp_path / "sweeps" / "x"))
    shelf = SweepFiles(tmp_path / "sweeps" / "x", Bucket(task.bucket) if task.bucket else None)
    shelf.issue(3, "", 1)
    give_notice(task, NOTICE)
    assert issued(task) == NOTICE
    shelf.issue(3, "", 2)
    assert issued(task) == AttemptClaim(2)
    give_notice(task, NOTICE)
    assert issued(task) == AttemptClaim(2)


def test_the_step_of_a_worker_elsewhere_is_read_after_some_silence(lookout: Lookout, theirs: Attempt) -> None:
    publish_progress(theirs, {"attempt": 1, **WHERE})
    assert lookout.where(silent=0) == {}
    assert lookout._answer is None, "who was heard just now is not asked for"
    assert soon(lambda: lookout.where(silent=1)) == WHERE
    publish_progress(theirs, {"attempt": 1, **WHERE, "step": 6})
    assert soon(lambda: lookout.where(silent=1))["step"] == 6


def test_another_attempts_step_is_none_of_ours(lookout: Lookout, theirs: Attempt) -> None:
    publish_progress(theirs, {"attempt": 2, **WHERE})
    lookout.where(silent=1)
    soon(lambda: lookout._answer and lookout._answer.done())
    assert lookout.where(silent=0) == {}


def test_a_file_on_this_machine_is_read_at_once(lookout: Lookout, task: Attempt) -> None:
    task.folder.mkdir(parents=True)
    progress_path(task).write_text(json.dumps({"attempt": 1, **WHERE}))
    assert lookout.where(silent=0) == WHERE


def test_a_bucket_that_is_away_is_no_silence(lookout: Lookout, task: Attempt, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "none")
    lookout.task = replace(task, bucket="s3://none/x?endpoint_override=127.0.0.1:1&region=us-east-1&scheme=http")
    with pytest.raises(SetupError, match="does not answer"):
        soon(lambda: lookout.where(silent=1))


def test_a_stack_is_found_where_it_was_published(task: Attempt, theirs: Attempt) -> None:
    assert find_stack(task) == ""
    stack_path(theirs).write_text("Thread 0x1")
    assert find_stack(task) == ""
    publish_stack(theirs)
    assert find_stack(task) == f"{task.prefix}/stack-1.txt of {task.bucket}"
    assert find_stack(replace(task, attempt=2)) == ""


def test_silence_is_broken_well_before_it_looks_like_a_hang(task: Attempt) -> None:
    assert every(task) == pytest.approx(0.1)
    assert every(replace(task, hang_seconds=600)) == 10
