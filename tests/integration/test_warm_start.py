"""Start from another sweep through the verbs themselves; the executor is a tiny one, so nothing is trained."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from icd import search
from icd.config.read_trial import read_trial
from icd.config.yaml import Document
from icd.errors import StateError
from icd.search import session
from icd.search.core.attempts import AttemptResult, EpochReport, Policy
from icd.search.core.preparation import PreflightRequest, PreflightResult, teacher_name
from icd.search.study.database import open_storage, storage_url
from icd.search.study.sweep_index import find
from tests.command import Command, one_line
from tests.documents import document_of
from tests.driving import DOCUMENT
from tests.studies import Study, changed

NEW: dict[str, Any] = {
    **DOCUMENT,
    "name": "new",
    "method": "iCD-KD",
    "enqueue": ["KD", {"from": "by-hand", "top": 2}],
    "ranges": {"cluster_weight": {"low": 0.5, "high": 64, "log": True}},
    "budget": {"trials": 4},
}


class Killed(BaseException):
    pass


class TinyExecutor:
    """Prepares what was asked for and ends every trial after one epoch; dies before the first where told to."""

    name = "tiny"

    def __init__(self, *, dies: bool) -> None:
        self.dies = dies

    def prepare(
        self, request: PreflightRequest, say: Callable[[str], None], stop: Callable[[], bool]
    ) -> PreflightResult:
        configs = [read_trial(Document(dict(config), "configuration")) for config in request.configs]
        return PreflightResult(
            data_digest="d" * 64,
            data="digits",
            num_classes=10,
            teachers={teacher_name(config): "e" * 64 for config in configs},
            teacher_lines=(),
            gpus=0,
            device="cpu",
        )

    def run(self, policy: Policy, tick: Callable[[], None]) -> None:
        if self.dies:
            raise Killed
        while (attempt := policy.next_attempt()) is not None:
            metrics = {"val/top1": 50.0, "val/loss": 1.0, "seconds/epoch": 1.0, "time": time.time()}
            (attempt.folder / "metrics.jsonl").write_text(json.dumps({"epoch": 1, **metrics}) + "\n")
            policy.on_epoch(EpochReport(number=attempt.number, attempt=attempt.attempt, epoch=1, metrics=metrics))
            result = {"minutes": 1.0, "parameters": 1, "student_sha256": "f", "epochs": 1}
            policy.on_finished(
                AttemptResult(
                    number=attempt.number, attempt=attempt.attempt, kind="complete", device="cpu", result=result
                )
            )
            tick()

    def close(self) -> None:
        pass


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    """Give a sweep with a baseline and three trials, the last the best."""
    for name in ("ICD_STORAGE_URL", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ICD_ROOT", str(tmp_path))
    made = Study(tmp_path, changed(pruner=None))
    for value in (1, 10, 20, 30):
        made.trial("complete", [value], baseline=value == 1)
    return made


def file(folder: Path, **parts: Any) -> Path:
    path = folder / "new.yaml"
    path.write_text(yaml.safe_dump(document_of({**NEW, **parts})))
    return path


def test_killed_before_the_first_trial_and_resumed_without_the_source(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "_executor", lambda *_: TinyExecutor(dies=True))
    with pytest.raises(Killed):
        search.sweep(document_of(NEW), executor="process")
    assert search.trials("new") == []
    best = {record.number: dict(record.params) for record in study.ledger.records()}
    study.trial("complete", [99])  # a better one, which came too late
    monkeypatch.setattr(session, "_executor", lambda *_: TinyExecutor(dies=False))
    assert search.plan(document_of(NEW)).starts[0].label == "by-hand trial 3"  # as it was begun
    storage = open_storage(storage_url(tmp_path))
    storage.delete_study(storage.get_study_id_from_name("by-hand"))
    result = search.resume("new", ["resources.retries=7"], executor="process")
    assert result.stopped_by == "budget"
    assert session.stored_sweep(find(tmp_path, "new")).resources.retries == 7, "whoever resumes without it has it too"
    told = [(record.baseline, record.start) for record in result.records]
    assert told == [("KD", None), (None, "by-hand trial 3"), (None, "by-hand trial 2"), (None, None)]
    assert [dict(record.params) for record in result.records[1:3]] == [best[3], best[2]]
    again = search.sweep(document_of(NEW), executor="process")  # the same file, not refused
    assert again.records == result.records
    with pytest.raises(StateError, match="enqueue"):
        search.sweep(document_of({**NEW, "enqueue": ["KD", {"from": "by-hand", "top": 1}]}), executor="process")


@pytest.mark.usefixtures("study")
def test_plan_shows_what_would_be_taken(command: Command, tmp_path: Path) -> None:
    words = ["plan", file(tmp_path, budget={"trials": 7}, enqueue={"from": "by-hand", "top": 4})]
    told = json.loads(command(*words, "--json").out)
    assert [start["label"] for start in told["starts"]] == [f"by-hand trial {n}" for n in (3, 2, 1, 0)]
    assert [bool(start["params"]) for start in told["starts"]] == [True, True, True, False]
    assert next(iter(told["suggestions"])) == "4"
    lines = command(*words).out.splitlines()
    assert any(line.startswith("  by-hand trial 3 (30 there): cluster_weight=") for line in lines)
    assert any(line.startswith("  by-hand trial 0 (1 there), outside the ranges: name=distill") for line in lines)


@pytest.mark.usefixtures("study")
def test_sources_that_are_none(command: Command, tmp_path: Path) -> None:
    misspelt = file(tmp_path, enqueue={"from": "by-hnad"})
    for words in (["plan", misspelt], ["sweep", misspelt, "--executor", "process"]):
        assert "did you mean 'by-hand'" in one_line(command(*words, "--set", "search.budget.trials=9"), 5, "STATE")
    itself = one_line(command("validate", file(tmp_path, enqueue={"from": "new"})), 2, "CONFIG")
    assert "search.enqueue.from: must be another sweep than this one, but got 'new'" in itself


def test_validate_says_where_it_starts(command: Command, tmp_path: Path) -> None:
    said = command("validate", file(tmp_path))
    assert said.code == 0, said.err
    assert "# starts from the best 2 trials of by-hand; 'icd plan' shows which" in said.out
    assert {"from": "by-hand", "top": 2} in yaml.safe_load(said.out)["search"]["enqueue"]
