"""A confirmation driven by hand: its runs are fixed, survive their drivers, and leave the search alone."""

from pathlib import Path
from typing import Any

import pytest

from icd.errors import StateError, UsageError
from icd.results.confirm import make_plan
from icd.results.outcome import Run
from icd.results.plan import stored_plans
from icd.results.pruning import audit_sweep
from icd.results.read_outcome import shown_by
from icd.search.core.records import TrialRecord
from icd.search.sweep_status import found_line, plain_sweep, status_of
from tests.confirming import Confirming, close, confirming, gaps, level, outcome, searched
from tests.driving import EPOCHS, POINTS, Hand, Value


@pytest.fixture(autouse=True)
def no_other_database(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ICD_STORAGE_URL", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)


def test_a_run_is_committed_with_all_that_it_is_and_trained_on_what_was_planned(tmp_path: Path) -> None:
    hand = confirming(searched(tmp_path), against=["KD"])
    attempt = hand.driver.next_attempt()
    assert attempt is not None
    record = hand.record(attempt)
    assert (record.stage, record.baseline, record.control, record.attempts) == ("confirm", "trial 3 seed 101", True, 1)
    assert {name: record.attributes[name] for name in ("arm", "seed", "round")} == {
        "arm": "trial 3",
        "seed": 101,
        "round": 1,
    }
    assert (attempt.context.stage, attempt.runs[""]["seed"]) == ("confirm", 101)
    assert (attempt.runs[""]["data"]["train_on"], attempt.runs[""]["data"]["measure_on"]) == ("train+val", "test")
    weights = [record.params["method.cluster_weight"] for record in hand.ledger.records()]
    assert attempt.runs[""]["method"]["cluster_weight"] == weights[3]
    begun = hand.tracker.begun[-1]
    assert (begun.tags["stage"], begun.tags["group"]) == ("confirm", "trial 3")
    assert begun.name == f"{attempt.number:04d} confirm trial 3 seed 101"
    hand.run(attempt, level)
    end = hand.ends[-1]
    assert end.totals is not None
    assert end.totals.metrics == {"final/test/top1": level("trial 3", 101)}


@pytest.mark.parametrize("every", [1, 4])
def test_drivers_that_are_killed_lose_and_repeat_nothing(tmp_path: Path, every: int) -> None:
    (tmp_path / "whole").mkdir()
    (tmp_path / "cut").mkdir()
    whole = confirming(searched(tmp_path / "whole"), against=["KD"])
    names = whole.finish_all(close)
    assert 9 < len(names) < 15, "some comparisons were meant to end early"
    cut, trained = confirming(searched(tmp_path / "cut"), against=["KD"]), list[str]()
    while fresh := cut.finish_all(close, most=every):
        trained += fresh
        if (attempt := cut.driver.next_attempt()) is not None:  # under way when its driver is killed
            label = cut.record(attempt).baseline
            cut = cut.again()
            retaken = cut.driver.next_attempt()
            assert retaken is not None
            assert (retaken.number, retaken.attempt, cut.record(retaken).baseline) == (attempt.number, 2, label)
            cut.run(retaken, close)
            trained.append(str(label))
    assert trained == names
    assert outcome(cut.found) == outcome(whole.found)
    assert cut.found.finished
    assert cut.driver.done
    assert cut.driver.stopped_by == "exhausted"
    assert cut.again().driver.done, "there is nothing left to do"


def test_faults_are_tried_again_and_then_shown(tmp_path: Path) -> None:
    hand = confirming(searched(tmp_path), against=["KD"], seeds=3)
    first = hand.driver.next_attempt()
    assert first is not None
    hand.end(first, "killed", "process killed by signal 9")
    again = hand.driver.next_attempt()
    assert again is not None
    assert (again.number, again.attempt) == (first.number, 2)
    hand.run(again, level)
    second = hand.driver.next_attempt()
    assert second is not None
    hand.end(second, "error", "KeyError: 'x'")
    third = hand.driver.next_attempt()
    assert third is not None
    assert hand.record(third).baseline == "KD seed 101"
    hand.end(third, "diverged", "loss term 'kd' must be finite")
    hand.finish_all(level)
    found = hand.found
    assert found.arm("trial 2").failures == {101: "KeyError: 'x'"}
    assert found.arm("KD").failures == {101: "loss term 'kd' must be finite"}
    assert [item.seeds for item in found.comparisons] == [2, 2]
    assert (found.faults, found.test_evaluations, found.winner) == (1, 7, "trial 3")
    assert "trial 2 gave no result on seed 101: KeyError: 'x'; the run is left out." in found.statement
    assert {item.verdict for item in found.comparisons} == {"no difference shown"}
    assert hand.again().finish_all(level) == [], "a failed run is not tried again"


def test_anew_takes_fresh_seeds_and_gives_up_what_was_under_way(tmp_path: Path) -> None:
    hand = confirming(searched(tmp_path), against=["KD"], seeds=3)
    hand.finish_all(level, most=4)
    left = hand.driver.next_attempt()
    assert left is not None
    hand.epoch(left, 1, 40.0)
    before = {record.number: record.values for record in hand.runs if record.state == "complete"}
    again = hand.again(anew=True, asked={"against": ["KD"], "seeds": 3, "top": 1})
    assert (again.plan.round, again.plan.seeds) == (2, (104, 105, 106))
    given_up = again.ledger.record(left.number)
    assert (given_up.state, given_up.reason) == ("failed", "given up: list 2 was begun")
    names = again.finish_all(level)
    assert names[0] == "trial 3 seed 104 (2)"
    assert len(names) == 6
    assert {number: again.ledger.record(number).values for number in before} == before
    assert again.found.test_evaluations == 4 + 1 + 6, "over both"
    assert again.found.faults == 0
    first = shown_by(again.ledger, stored_plans(again.ledger, "confirm")[0])
    assert (first.round, first.test_evaluations, len(first.arms)) == (1, 11, 3)
    assert [plan.round for plan in stored_plans(again.ledger, "confirm")] == [1, 2]
    assert again.again().plan.round == 2, "without options the last one goes on"


def test_a_changed_request_is_refused_and_the_same_one_goes_on(tmp_path: Path) -> None:
    asked = {"against": ["KD"], "seeds": 3}
    hand = confirming(searched(tmp_path), **asked)
    names = hand.finish_all(level, most=2)
    for changed, said in (
        ({"seeds": 4}, "seeds: 3 -> 4"),
        ({"top": 1}, "on seeds of its own: arms: trial 2 dropped"),
        ({"against": ["SD-KD"]}, "on seeds of its own: arms: KD dropped, SD-KD added"),
        ({"alpha": 0.1}, "alpha: 0.05 -> 0.1"),
        ({"train_on": "train"}, "train_on: 'train+val' -> 'train'"),
        ({"adaptive": False}, "adaptive: True -> False"),
        ({"failed_runs": "chance-level"}, "failed_runs: 'left-out' -> 'chance-level'"),
    ):
        with pytest.raises(StateError, match="was begun otherwise; undo, or add --keep-seeds") as caught:
            hand.again(asked={**asked, **changed})
        assert said in str(caught.value)
    names += hand.again(asked=asked).finish_all(level)
    assert len(names) == len(set(names)) == 9


def test_another_round_on_the_same_seeds_takes_over_the_runs_that_it_needs(tmp_path: Path) -> None:
    """More baselines, fewer finalists, more seeds: whatever was trained with the same key is not trained again."""
    value = gaps(trial_3=5, SD_KD=1)
    first = confirming(searched(tmp_path), against=["KD"], seeds=3)
    diverged = first.driver.next_attempt()  # trial 3 on seed 101
    assert diverged is not None
    first.end(diverged, "diverged", "loss term 'kd' must be finite")
    names = first.finish_all(value)
    asked = {"top": 1, "seeds": 4, "against": ["KD", "SD-KD"], "adaptive": False}
    second = first.again(keep_seeds=True, asked=asked)
    assert second.plan.seeds[:3] == first.plan.seeds
    assert len(second.plan.reused) == 6, "trial 3 and KD on three seeds; trial 2 is no finalist any more"
    fresh = second.finish_all(value, most=2)
    second = second.again()  # whoever goes on knows it too
    fresh += second.finish_all(value)
    sd_kd = [f"SD-KD seed {seed} (2)" for seed in second.plan.seeds]
    assert sorted(fresh) == sorted([f"{arm} seed {second.plan.seeds[3]} (2)" for arm in ("trial 3", "KD")] + sd_kd)
    found = second.found
    assert (found.finished, found.reused, found.test_evaluations) == (True, 6, len(names) + len(fresh))
    assert [len(arm.runs) for arm in found.arms] == [3, 4, 4]
    assert list(found.arm("trial 3").failures) == [101], "what diverged would diverge again"
    assert found.arm("KD").runs[:3] == first_runs(second, "KD")
    assert SEEN.format(6) in found.statement
    keys = [record.key for record in second.runs]
    assert len(keys) == len(set(keys)), "no configuration was trained twice on one seed"
    other = second.again(keep_seeds=True, asked={**asked, "train_on": "train"})
    assert other.plan.reused == (), "trained on other images"


def test_a_finding_names_the_rounds_before_it_and_stands_until_the_next_one_is_finished(tmp_path: Path) -> None:
    asked = {"top": 1, "against": ["KD"], "seeds": 3}
    first = confirming(searched(tmp_path), **asked)
    first.finish_all(level)
    second = first.again(anew=True, asked=asked)
    second.finish_all(gaps(trial_3=5), most=2)
    assert (second.found.round, second.found.under_way, second.found.finished) == (1, 2, True)
    assert second.found.statement.endswith("Confirmation 2 is under way.")
    third = second.again(anew=True, asked=asked)
    third.finish_all(gaps(trial_3=5))
    assert (third.found.round, third.found.under_way) == (3, 0)
    assert third.found.earlier == {1: "No difference between trial 3 and KD was shown.", 2: "given up."}
    assert third.found.statement.endswith(
        "This is confirmation 3 of this sweep: over all of them a false difference may be more likely than 5%. "
        "Confirmation 1: No difference between trial 3 and KD was shown. Confirmation 2: given up."
    )


SEEN = (
    "This confirmation took over {} runs of earlier rounds, with values that were known when it was chosen: a false "
    "difference may be more likely than 5%."
)


def test_a_round_that_was_cut_down_while_it_was_under_way_has_no_error_rate(tmp_path: Path) -> None:
    """Whoever looks after each seed, and ends where it is clear, shows a false difference in one of five cases."""
    first = confirming(searched(tmp_path), against=["KD"], top=1, seeds=5)
    first.finish_all(gaps(trial_3=5), most=6)
    assert not first.found.finished
    found = first.again(keep_seeds=True, asked={"top": 1, "seeds": 3, "against": ["KD"]}).found
    assert (found.finished, found.reused, found.comparisons[0].verdict) == (True, 6, "better")
    assert SEEN.format(6) in found.statement
    assert "one would be shown in 5%" not in found.statement
    third = first.again(anew=True, asked={"top": 1, "seeds": 3, "against": ["KD"]})
    third.finish_all(level)
    assert third.found.earlier == {1: "given up.", 2: "Trial 3 is better than KD."}, "it trained nothing and was seen"


def test_a_round_whose_last_run_was_given_up_is_no_finding(tmp_path: Path) -> None:
    asked = {"top": 1, "seeds": 3, "against": ["KD"]}
    first = confirming(searched(tmp_path), **asked)
    first.finish_all(gaps(trial_3=5), most=5)
    assert first.driver.next_attempt() is not None
    second = first.again(anew=True, asked=asked)
    assert (second.found.round, second.found.finished) == (2, False)
    second.finish_all(level)
    assert second.found.earlier == {1: "given up."}


def first_runs(hand: Confirming, arm: str) -> tuple[Run, ...]:
    return shown_by(hand.ledger, stored_plans(hand.ledger, "confirm")[0]).arm(arm).runs


@pytest.mark.parametrize("others", [[], ["cost/parameters"]])
def test_finalists_of_an_objective_that_is_minimised(tmp_path: Path, others: list[str]) -> None:
    hand = searched(tmp_path, objective=["val/loss", *others])
    plan = make_plan(hand.ledger, hand.sweep, top=2, seeds=3)
    assert [(arm.label, arm.search_value) for arm in plan.arms[:2]] == [("trial 3", 1.7), ("trial 2", 1.8)]
    assert [arm.label for arm in plan.arms[2:]] == ["KD", "SD-KD", "iCD-KD"]
    confirmed = confirming(hand, against=["KD", "trial 0"], seeds=3)
    assert [(arm.label, arm.kind) for arm in confirmed.plan.arms[2:]] == [("KD", "baseline"), ("trial 0", "baseline")]
    confirmed.finish_all(gaps(trial_3=5, trial_2=1))
    assert confirmed.found.winner == "trial 3"
    assert {item.search_gain for item in confirmed.found.comparisons} == {None}, "losses are no points of top-1"
    assert {arm.search_value for arm in confirmed.found.arms} == {None}, "they have no place beside top-1"
    assert [record.state for record in confirmed.ledger.records()] == ["complete"] * 4


def test_finalists_are_no_baselines(tmp_path: Path) -> None:
    hand = searched(tmp_path, enqueue=["KD", "iCD-KD"])  # 0 and 1
    plan = make_plan(hand.ledger, hand.sweep, top=9, seeds=3)
    assert [arm.label for arm in plan.arms] == ["trial 3", "trial 2", "KD", "iCD-KD"]
    plan = make_plan(hand.ledger, hand.sweep, top=9, seeds=3, against=["trial 3", "KD", "KD"])
    assert [arm.label for arm in plan.arms] == ["trial 2", "trial 1", "trial 3", "KD"]
    with pytest.raises(StateError, match=r"has no finalist: .* not one of KD, iCD-KD, trial 2, trial 3"):
        make_plan(hand.ledger, hand.sweep, top=9, seeds=3, against=["KD", "iCD-KD", "trial 2", "trial 3"])
    with pytest.raises(UsageError, match="but got 'SD-KDD'; did you mean 'SD-KD'"):
        make_plan(hand.ledger, hand.sweep, top=9, seeds=3, against=["SD-KDD"])
    for top, seeds in ((0, 3), (3, 1)):
        with pytest.raises(UsageError, match="--top must be 1 or more and --seeds 2 or more"):
            make_plan(hand.ledger, hand.sweep, top=top, seeds=seeds)


def test_seeds_are_none_that_the_search_used(tmp_path: Path) -> None:
    hand = searched(tmp_path, trials=1, seed=101, enqueue=[{"label": "other", "seed": 103}])
    used = {hand.space.read(hand.space.baseline(hand.sweep.enqueue[0])).seed}
    plan = make_plan(hand.ledger, hand.sweep, top=1, seeds=3, against=["KD"])
    assert used
    assert not used & set(plan.seeds)
    assert len(set(plan.seeds)) == 3


# The search beside it

POOR = {"ranges": {"cluster_weight": {"low": 0.5, "high": 64, "log": True}, "scales": [1, 2], "base_loss": "kd"}}
SEARCHES: dict[str, dict[str, Any]] = {
    "random, median": {"pruner": {"name": "median", "startup_trials": 2, "control_fraction": 0.3}},
    "tpe, halving": {
        "sampler": {"name": "tpe", "startup_trials": 2},
        "pruner": {"name": "successive_halving", "min_epochs": 1, "reduction": 2, "control_fraction": 0.3},
    },
    "auto, hyperband": {
        "sampler": {"name": "auto", "startup_trials": 2},
        "pruner": {"name": "hyperband", "min_epochs": 1, "reduction": 2, "control_fraction": 0.3},
    },
    "grid": {
        "sampler": {"name": "grid"},
        "ranges": {**POINTS, "cluster_weight": {"choices": [1, 2, 3, 4, 5, 6, 7, 8]}},
    },
    "two objectives": {"sampler": {"name": "nsga2", "startup_trials": 2}, "objective": ["val/top1", "val/loss"]},
}


def rising(step: float) -> Value:
    """Give a curve that grows by so much each epoch."""
    return lambda number, epoch: 50 + epoch * step


def train_all(hand: Hand) -> None:
    """Train what is left; a trial's curve follows from what it is."""
    while (attempt := hand.driver.next_attempt()) is not None:
        weight = attempt.runs[""]["method"].get("cluster_weight", 3.0)
        hand.train(attempt, rising(10 + weight % 7))


def told(hand: Hand) -> list[Any]:
    """Everything that a search says of its trials."""
    return [
        (r.number, r.state, dict(r.params), tuple(r.values), dict(r.curve), r.key, r.control, r.would_stop_at, r.twin)
        for r in hand.ledger.records()
    ]


def reading(hand: Hand) -> Any:
    records: list[TrialRecord] = hand.ledger.records()
    status = status_of(hand.root, hand.sweep.name)
    audit = audit_sweep(plain_sweep(hand.ledger), records)
    return records, status, audit, found_line(hand.root, hand.ledger)


@pytest.mark.parametrize("kind", SEARCHES)
def test_a_search_goes_on_after_a_confirmation_as_without_it(tmp_path: Path, kind: str) -> None:
    short, long = {**SEARCHES[kind], "budget": {"trials": 5}}, {**SEARCHES[kind], "budget": {"trials": 8}}
    (tmp_path / "alone").mkdir()
    (tmp_path / "beside").mkdir()
    alone = Hand(tmp_path / "alone", **short)
    train_all(alone)
    alone = alone.again(**long)
    train_all(alone)
    beside = Hand(tmp_path / "beside", **short)
    train_all(beside)
    before = reading(beside)
    confirmed = confirming(beside, against=["KD"], seeds=2)
    confirmed.finish_all(level, most=3)
    begun = [confirmed.driver.next_attempt() for _ in range(2)]  # under way when the driver is killed
    assert all(begun)
    assert reading(confirmed) == before, "a reader of the search sees nothing of it"
    confirmed.close()
    extended = Hand(tmp_path / "beside", **long)
    assert len(extended.ledger.records()) == len(before[0])
    train_all(extended)
    assert extended.driver.done
    assert told(extended) == told(alone)
    assert [record.state for record in extended.ledger.records("confirm")].count("running") == 2
    extended.close()
    confirmed = Confirming(tmp_path / "beside", **long)
    assert len(confirmed.finish_all(level)) == 3, "two that were under way, and the last of six"
    assert confirmed.found.finished


def test_an_unfinished_search_and_a_confirmation_take_turns(tmp_path: Path) -> None:
    hand = Hand(tmp_path, budget={"trials": 4})
    for _ in range(2):
        attempt = hand.driver.next_attempt()
        assert attempt is not None
        hand.train(attempt)
    under_way = hand.driver.next_attempt()
    assert under_way is not None
    confirmed = confirming(hand, top=2, seeds=2, against=["KD"])
    assert confirmed.finish_all(level) == [
        f"{arm} seed {seed}" for seed in (101, 102) for arm in ("trial 1", "trial 0", "KD")
    ]
    confirmed.close()
    again = Hand(tmp_path, budget={"trials": 4})
    assert again.finish() == [under_way.number, 3], "the one under way, then a new one"
    assert [record.attempts for record in again.ledger.records()] == [1, 1, 2, 1]
    assert EPOCHS in again.ledger.records()[2].curve
