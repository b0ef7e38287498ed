"""Confirmations and ablations of sweeps over several pairs, driven by hand."""

import json
import statistics
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from scipy import stats as scipy_stats

from icd.results.ablate import make_plan as parts_plan
from icd.results.outcome import PlannedArm
from icd.results.plan import Plan
from icd.results.read_outcome import compared, outcome_of, ranks_of_arms
from icd.results.report import write_report
from icd.results.tables import outcome_lines
from icd.search.controller.controller import SweepController
from icd.search.core.attempts import Attempt
from icd.search.study.sweep_study import LIST_NUMBERS
from icd.search.suggest.list_source import ListSource, measured
from icd.search.tracking.run_view import trial_key
from icd.search.tracking.sweep_views import follow
from tests.confirming import Confirming, noise, outcome
from tests.driving import EPOCHS, Hand

SMALL, LARGE = "small", "large"
PAIRS = [
    {"name": SMALL, "teacher": "resnet20", "student": "resnet8"},
    {"name": LARGE, "teacher": "resnet20", "student": "resnet14"},
]
CHANGES: dict[str, Any] = {
    "teacher": None,
    "student": None,
    "pairs": PAIRS,
    "enqueue": ["KD"],
    "budget": {"trials": 4},
}
# In the search, by trial (0 is KD): 1 has the best mean, 2 the best mean rank.
REACHED = {
    0: {SMALL: 30.0, LARGE: 30.0},
    1: {SMALL: 90.0, LARGE: 31.0},
    2: {SMALL: 60.0, LARGE: 40.0},
    3: {SMALL: 20.0, LARGE: 35.0},
}
OnPair = Callable[[str, int, str], float]  # arm, seed and pair to top-1


@pytest.fixture(autouse=True)
def no_other_database(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ICD_STORAGE_URL", "MLFLOW_TRACKING_URI", "ICD_ROOT"):
        monkeypatch.delenv(name, raising=False)


def searched(root: Path, **changes: Any) -> Hand:
    hand = Hand(root, **{**CHANGES, **changes})
    while (attempt := hand.driver.next_attempt()) is not None:
        hand.epoch(attempt, EPOCHS, REACHED[attempt.number][SMALL])
        hand.epoch(attempt, 2 * EPOCHS, REACHED[attempt.number][LARGE])
        hand.end(attempt)
    return hand


def confirming(hand: Hand, **asked: Any) -> Confirming:
    hand.close()
    return Confirming(hand.root, asked={"top": 2, "against": ["KD", "iCD-KD"], "seeds": 3, **asked}, **hand.changes)


def value(arm: str, seed: int, pair: str) -> float:
    """Trial 2 gains more on the small pair than on the large one, trial 1 loses on the small one."""
    gains = {("trial 2", SMALL): 3.0, ("trial 2", LARGE): 1.0, ("trial 1", SMALL): -2.0, ("trial 1", LARGE): 9.0}
    own = noise(seed + 5 * len(arm) + ord(arm[-1])) / 10
    return {SMALL: 50.0, LARGE: 60.0}[pair] + gains.get((arm, pair), 0.0) + noise(seed) + own


def run(hand: Confirming, attempt: Attempt, reached: OnPair = value) -> None:
    attributes = hand.record(attempt).attributes
    for place, pair in enumerate((SMALL, LARGE)):
        last = reached(attributes["arm"], attributes["seed"], pair)
        hand.epoch(attempt, (place + 1) * EPOCHS - 1, last + 10)
        hand.epoch(attempt, (place + 1) * EPOCHS, last)
    hand.end(attempt)


def finish(hand: Confirming, reached: OnPair = value, most: int = 1000) -> list[str]:
    done: list[str] = []
    while len(done) < most and (attempt := hand.driver.next_attempt()) is not None:
        done.append(str(hand.record(attempt).baseline))
        run(hand, attempt, reached)
    return done


def test_every_arm_is_trained_on_every_pair(tmp_path: Path) -> None:
    hand = confirming(searched(tmp_path))
    assert [arm.label for arm in hand.plan.arms] == ["trial 2", "trial 1", "KD", "iCD-KD"], "finalists by rank"
    assert [arm.search_value for arm in hand.plan.arms] == [50.0, 60.5, None, None]
    attempt = hand.driver.next_attempt()
    assert attempt is not None
    run(hand, attempt)
    assert (attempt.number, list(attempt.runs), attempt.context.stage) == (LIST_NUMBERS, [SMALL, LARGE], "confirm")
    documents = list(attempt.runs.values())
    assert [document["student"]["arch"] for document in documents] == ["resnet8", "resnet14"]
    weight = hand.ledger.record(2).params["method.cluster_weight"]
    assert {document["method"]["cluster_weight"] for document in documents} == {weight}
    assert {(document["seed"], document["data"]["train_on"]) for document in documents} == {(101, "train+val")}
    record = hand.ledger.record(LIST_NUMBERS)
    assert record.members == {pair: value("trial 2", 101, pair) for pair in (SMALL, LARGE)}
    assert Plan.from_data(json.loads(json.dumps(hand.plan.to_data()))) == hand.plan


def test_differences_are_means_over_the_pairs_and_looks_are_counted_on_each(tmp_path: Path) -> None:
    hand = confirming(searched(tmp_path))
    runs = finish(hand)
    found, seeds = hand.found, (101, 102, 103)
    assert len(runs) == 4 * len(seeds)
    assert (found.finished, found.test_evaluations) == (True, 2 * 2 * len(runs))
    assert found.pairs == (SMALL, LARGE)
    first = found.comparisons[0]
    on_each = {
        pair: statistics.fmean(value("trial 2", seed, pair) - value("KD", seed, pair) for seed in seeds)
        for pair in (SMALL, LARGE)
    }
    assert (first.arm, first.against, first.seeds) == ("trial 2", "KD", 3)
    assert first.difference == pytest.approx(statistics.fmean(on_each.values()))
    assert first.on_pairs == pytest.approx(on_each)
    assert first.search_gain == pytest.approx(50.0 - 30.0)
    arm = found.arm("trial 2")
    assert arm.on_pairs == pytest.approx(
        {pair: statistics.fmean(value("trial 2", seed, pair) for seed in seeds) for pair in (SMALL, LARGE)}
    )


def test_the_rank_of_the_sweep_names_the_winner(tmp_path: Path) -> None:
    hand = confirming(searched(tmp_path))
    finish(hand)
    found = hand.found
    assert (found.arm("trial 1").mean or 0) > (found.arm("trial 2").mean or 0)
    assert [found.arm(label).mean_rank for label in ("trial 2", "trial 1")] == [1.5, 2.5]
    assert [found.arm(label).worst_rank for label in ("trial 2", "trial 1")] == [2, 4]
    assert found.winner == "trial 2"
    assert "mean of 2 pairs" in found.statement
    assert "On each pair against KD: small " in found.statement
    lines = "\n".join(outcome_lines(found))
    assert "the numbers below a pair have no verdict" in lines
    assert json.loads(json.dumps(asdict(found), allow_nan=False))["pairs"] == [SMALL, LARGE]
    page = tmp_path / "page.html"
    write_report(tmp_path, "tiny", page)
    assert "Differences on each pair" in page.read_text()


def test_a_difference_is_judged_by_one_value_for_each_seed() -> None:
    """What a run reaches on its pairs is alike: as many values as runs, not as many as pairs and runs."""
    shifts = {"a": [1.0, -1.0, 0.5], "b": [0.0, 0.5, -1.5]}
    values = {
        (arm, pair): {seed: 50.0 + width * shift for seed, shift in enumerate(own)}
        for arm, own in shifts.items()
        for pair, width in ((SMALL, 1.0), (LARGE, 3.0))
    }
    (item,) = compared(values, [("a", "b")], (SMALL, LARGE), alpha=0.05, finished=True)
    t = scipy_stats.ttest_rel(*([2 * shift for shift in own] for own in shifts.values()))
    assert item.seeds == 3
    assert item.p == pytest.approx(t.pvalue)
    assert item.on_pairs == pytest.approx({SMALL: 0.5, LARGE: 1.5})


def test_a_baseline_that_failed_does_not_choose_the_winner(tmp_path: Path) -> None:
    """The finalists share three seeds; all arms share the first alone, on which trial 1 is ahead."""

    def reached(arm: str, seed: int, pair: str) -> float:
        return 50.0 + (seed == 101 if arm == "trial 1" else seed > 101) * 9 + noise(seed)

    hand = confirming(searched(tmp_path), against=["KD"], adaptive=False)
    while (attempt := hand.driver.next_attempt()) is not None:
        attributes = hand.record(attempt).attributes
        if attributes["arm"] == "KD" and attributes["seed"] > 101:
            hand.end(attempt, "diverged", "loss term 'kd' must be finite")
        else:
            run(hand, attempt, reached)
    assert hand.found.arm("trial 1").mean_rank == 1.0, "over the seed that all have"
    assert hand.found.winner == "trial 2"


def test_drivers_that_are_killed_between_trials_lose_and_repeat_nothing(tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    (tmp_path / "cut").mkdir()
    whole = confirming(searched(tmp_path / "whole"), top=1, against=["KD"])
    names = finish(whole)
    cut, trained = confirming(searched(tmp_path / "cut"), top=1, against=["KD"]), list[str]()
    while fresh := finish(cut, most=2):
        trained += fresh
        if (attempt := cut.driver.next_attempt()) is not None:  # under way when its driver is killed
            cut = cut.again()
            retaken = cut.driver.next_attempt()
            assert retaken is not None
            assert (retaken.number, retaken.attempt) == (attempt.number, attempt.attempt + 1)
            run(cut, retaken)
            trained.append(str(cut.record(retaken).baseline))
    assert trained == names
    assert outcome(cut.found) == outcome(whole.found)
    assert cut.driver.done


def test_an_end_that_was_not_told_is_told_after_another_round_was_begun(tmp_path: Path) -> None:
    hand = confirming(searched(tmp_path), top=1, against=["KD"], seeds=2)
    finish(hand, most=1)
    attempt = hand.driver.next_attempt()
    assert attempt is not None
    attributes = hand.record(attempt).attributes
    for epoch, pair in ((EPOCHS - 1, SMALL), (EPOCHS, SMALL), (2 * EPOCHS, LARGE)):
        hand.epoch(attempt, epoch, value(attributes["arm"], attributes["seed"], pair))
    hand.ledger.tell(
        attempt.number, "complete", [50.0], members={SMALL: 40.0, LARGE: 60.0}
    )  # then its driver is killed
    again = hand.again(anew=True, asked={"top": 1, "against": ["KD"], "seeds": 2})
    assert again.plan.round == 2
    follow(again.tracker, again.driver.recorder.views, again.ledger, driven=True)
    view = again.tracker.ends[trial_key(attempt.number)]()
    assert view.totals is not None
    assert view.totals.metrics["final/large/test/top1"] == 60.0
    assert [row.step for row in view.rows] == [EPOCHS - 1, EPOCHS, 2 * EPOCHS]


def test_an_arm_that_has_no_run_holds_up_no_ranks() -> None:
    config = {"protocol": {"epochs": 1}}
    arms = tuple(PlannedArm(label=label, kind="finalist", pairs={SMALL: config, LARGE: config}) for label in "abc")
    plan = Plan(stage="confirm", arms=arms, seeds=(1, 2))
    values = {
        ("a", SMALL): {1: 10.0, 2: 90.0},
        ("b", SMALL): {1: 20.0},
        ("c", SMALL): {},
        ("a", LARGE): {1: 10.0, 2: 90.0},
        ("b", LARGE): {1: 5.0},
        ("c", LARGE): {},
    }
    assert ranks_of_arms(plan.members, values) == {"a": (1.5, 2), "b": (1.5, 2)}
    assert ranks_of_arms(plan.members, {("a", SMALL): {1: 1.0}, ("b", SMALL): {2: 1.0}}) == {}
    assert ranks_of_arms(plan.members, {}) == {}


class Ablating(Confirming):
    """A driver of an ablation."""

    part = "val"

    def drive(self) -> SweepController:
        self.plan = parts_plan(self.ledger, self.sweep, trial=None, seeds=3)
        self.ledger.note_study(**{"ablate/plans": [self.plan.to_data()]})
        sweep = measured(self.sweep, self.plan.objective)
        self.ledger.drive()
        return self.driver_of(sweep, ListSource(self.plan, self.ledger, self.prepared))


def test_parts_are_worth_what_they_change_on_the_mean_over_the_pairs(tmp_path: Path) -> None:
    hand = searched(tmp_path)
    hand.close()
    ablating = Ablating(tmp_path, **hand.changes)
    arms = {arm.label: arm for arm in ablating.plan.arms}
    whole, without = arms["whole"], arms["cluster weight 0"]
    assert whole.trial == 2
    assert list(without.pairs) == [SMALL, LARGE]
    for pair in (SMALL, LARGE):
        expected = {**whole.pairs[pair]["method"], "cluster_weight": 0.0}
        assert without.pairs[pair] == {**whole.pairs[pair], "method": expected}

    def reached(arm: str, seed: int, pair: str) -> float:
        lost = {SMALL: 4.0, LARGE: 2.0}[pair] if arm == "cluster weight 0" else 0.0
        return 50 - lost + noise(seed) + noise(seed * (1 + len(arm) % 3)) / 100

    finish(ablating, reached)
    found = outcome_of(ablating.ledger, "ablate")
    assert found is not None
    row = found.of("cluster weight 0")[0]
    assert row.difference == pytest.approx(-3, abs=0.1)
    assert row.difference is not None
    assert row.on_pairs == pytest.approx({SMALL: row.difference - 1, LARGE: row.difference + 1})
    assert (row.verdict, found.finished, found.pairs) == ("worse", True, (SMALL, LARGE))
    assert "on validation images, mean over the pairs" in found.statement
    assert "same on all (p)" in "\n".join(outcome_lines(found))
