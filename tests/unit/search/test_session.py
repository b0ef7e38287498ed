"""A driver's session around a driver that is driven by hand: what is asked for before its first trial counts."""

import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from icd import search
from icd.search import session
from icd.search.core.attempts import Policy
from icd.search.settings import Settings
from icd.search.study import database
from icd.search.study.sweep_files import sweep_files_of
from icd.search.sweep_status import StopHow
from tests.driving import POINTS, Hand


class Workers:
    """An executor whose trials are trained at once."""

    def __init__(self, hand: Hand, *, breaks: bool = False) -> None:
        self.hand, self.breaks = hand, breaks

    def run(self, policy: Policy, tick: Any) -> None:
        if self.breaks:
            raise RuntimeError("the object store is full")
        self.hand.finish()


@pytest.fixture
def held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> session.Session:
    """A session that leaves MLflow alone."""
    monkeypatch.delenv("ICD_STORAGE_URL", raising=False)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for name in ("check_server", "_begin", "ask_for_summary"):
        monkeypatch.setattr(session, name, lambda *_, **__: None)
    Hand(tmp_path).close()
    return session.Session("tiny", Settings(root=tmp_path), None, ExitStack())


def conduct(held: session.Session, hand: Hand, *, breaks: bool = False) -> bool:
    """Drive it to its end; whether that is a clean one."""
    ends = list[str]()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(held, "_executor", Workers(hand, breaks=breaks), raising=False)
        held.conduct(hand.driver, lambda: ends.append("clean"))
    return ends == ["clean"]


def test_a_trial_asked_for_after_the_end_is_trained(held: session.Session, tmp_path: Path) -> None:
    changes: dict[str, Any] = {"name": "points", "ranges": POINTS, "budget": {"trials": 10}, "sampler": "grid"}
    hand = Hand(tmp_path, **changes)
    assert (len(hand.finish()), hand.driver.stopped_by) == (3, "exhausted")
    search.try_trial("points", ["training.lr=0.3"], root=tmp_path)
    held = session.Session("points", held.settings, None, ExitStack())
    again = hand.again(**changes)
    conduct(held, again)
    assert [record.start for record in again.ledger.records()][3:] == ["try training.lr=0.3"]
    assert again.states == ["complete"] * 4
    assert again.ledger.attributes["seconds"] > 0


def test_an_error_is_noted_for_those_who_look_later(held: session.Session, tmp_path: Path) -> None:
    hand = Hand(tmp_path)
    with pytest.raises(RuntimeError):
        conduct(held, hand, breaks=True)
    assert hand.ledger.attributes["stopped_by"] == "error"


@pytest.mark.parametrize("how", ["drain", "now"])
def test_a_stop_during_the_start_is_obeyed(held: session.Session, tmp_path: Path, how: StopHow) -> None:
    hand = Hand(tmp_path)
    sweep_files_of(held.folder).ask_to_stop(how)
    assert conduct(held, hand) == (how == "drain"), "who has to leave at once writes no report"
    assert (hand.states, hand.ledger.attributes["stopped_by"]) == ([], "stop")


def test_a_stop_while_the_database_is_opened_is_not_forgotten(
    held: session.Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, opened = sweep_files_of(held.folder), database.open_storage
    files.ask_to_stop("now")  # of an earlier driver

    def slow(url: str) -> Any:
        assert files.stop_asked() == ""
        files.ask_to_stop("drain")
        return opened(url)

    monkeypatch.setattr(session, "open_storage", slow)
    again = session.Session("tiny", held.settings, None, ExitStack())
    assert again.files.stop_asked() == "drain"


def test_hours_are_noted_each_minute_while_a_trial_runs(
    held: session.Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hand, now = Hand(tmp_path), time.monotonic()
    noted = []
    for minutes in (0.5, 1.5, 2.0, 3.0):
        monkeypatch.setattr(time, "monotonic", lambda at=now + 60 * minutes: at)
        monkeypatch.setattr(held, "_executor", Workers(hand), raising=False)
        held._tick(hand.driver)
        noted.append(hand.ledger.attributes.get("seconds", 0.0) // 60)
    assert noted == [0, 1, 1, 3]
    hand.close()
