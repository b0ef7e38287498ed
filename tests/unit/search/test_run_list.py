"""A list beside a sweep, run by its own driver and a hand that plays the workers."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from icd.config.sweep import SweepConfig
from icd.results.confirm import make_plan
from icd.results.plan import Plan, begin_plan, stored_plans
from icd.search import session
from icd.search.controller.controller import SweepController
from icd.search.core.preparation import PreflightRequest, PreflightResult
from icd.search.run_list import run_stage
from icd.search.settings import Settings
from icd.search.study.ledger import Ledger
from tests.confirming import searched
from tests.driving import EPOCHS, Hand


class Workers:
    """An executor that keeps what it is asked to prepare, and breaks after so many runs."""

    def __init__(self, hand: Hand, most: int) -> None:
        self.hand, self.most, self.asked = hand, most, list[PreflightRequest]()

    def prepare(self, request: PreflightRequest, *_: object) -> PreflightResult:
        self.asked.append(request)
        return replace(self.hand.prepared, teacher_caches=dict.fromkeys(self.hand.prepared.teachers, "full"))

    def run(self, driver: SweepController, tick: Callable[[], None]) -> None:
        self.hand.driver, self.hand.part = driver, "test"
        while not driver.done:
            if (attempt := driver.next_attempt()) is None:
                continue
            if not self.most:
                raise RuntimeError("the machine is lost")
            self.most -= 1
            self.hand.epoch(attempt, EPOCHS, 70.0)
            self.hand.end(attempt)

    def close(self) -> None: ...


def test_a_second_round_asks_for_room_of_its_own_and_one_that_goes_on_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second may have more seeds or views; what a round has begun with one rounding ends with it."""
    for name in ("ICD_STORAGE_URL", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    for name in ("check_server", "_begin", "ask_for_summary"):
        monkeypatch.setattr(session, name, lambda *_, **__: None)
    hand = searched(tmp_path)
    hand.close()

    def drive(listed: Callable[[Ledger, SweepConfig], Plan], most: int = 1000) -> dict[str, Any]:
        workers = Workers(hand, most)
        monkeypatch.setattr(session, "_executor", lambda *_: workers)
        try:
            assert run_stage("tiny", listed, Settings(root=tmp_path, executor="process")).stopped_by == "exhausted"
        except RuntimeError:
            assert not workers.most
        return dict(workers.asked[-1].teacher_caches)

    def begun(ledger: Ledger, sweep: SweepConfig) -> Plan:
        return begin_plan(ledger, make_plan(ledger, sweep, top=1, seeds=3), anew=bool(stored_plans(ledger, "confirm")))

    assert drive(begun, most=1) == {}
    kept = dict.fromkeys(hand.prepared.teachers, "full")
    assert drive(lambda ledger, sweep: stored_plans(ledger, "confirm")[-1]) == kept
    assert drive(begun) == {}
