"""What the driver gives out and how it takes what comes back, with a real ledger and space."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from optuna.samplers import RandomSampler

from icd.errors import StateError
from icd.search.core.attempts import EpochReport, Location, ended, trial_folder
from icd.search.core.records import best
from icd.search.suggest.search_source import SearchSource
from tests.driving import EPOCHS, POINTS, REPEATS, Hand

# What docs/administration/faults.md promises, written out; None stands for the sweep's own number of retries.
FAULTS = [("killed", None), ("lost", None), ("hang", None), ("gpu", None), ("memory", 1), ("setup", 0), ("error", 0)]


def test_baselines_come_first_and_once(tmp_path: Path) -> None:
    hand = Hand(tmp_path, enqueue=["KD", "iCD-KD"], budget={"trials": 5})
    assert hand.finish() == [0, 1, 2, 3, 4]
    records = hand.ledger.records()
    assert [record.baseline for record in records] == ["KD", "iCD-KD", None, None, None]
    assert [record.control for record in records] == [True, True, False, False, False]
    assert hand.driver.stopped_by == "budget"
    again = hand.again(enqueue=["KD", "iCD-KD"], budget={"trials": 6})
    assert again.finish() == [5]
    assert [record.baseline for record in again.ledger.records()].count("KD") == 1


def test_number_and_parameters_are_committed_before_the_task(tmp_path: Path) -> None:
    hand = Hand(tmp_path)
    attempt = hand.driver.next_attempt()
    assert attempt is not None
    (stored,) = hand.stored()
    assert (stored.number, stored.state, stored.attempts) == (attempt.number, "running", 1)
    assert (
        hand.space.document(stored.params)["method"]["cluster_weight"] == attempt.runs[""]["method"]["cluster_weight"]
    )
    assert (attempt.folder / "attempt").read_text() == "1"
    assert [view.key for view in hand.tracker.begun] == ["0000"]


def test_an_epoch_is_committed_before_it_is_answered(tmp_path: Path) -> None:
    hand = Hand(tmp_path)
    attempt = hand.driver.next_attempt()
    assert attempt is not None
    assert hand.epoch(attempt, 1, 51.0)
    assert hand.stored()[0].curve == {1: 51.0}
    ((key, row),) = hand.tracker.epochs
    assert (key, row.step) == ("0000", 1)
    assert "time" not in row.metrics


def test_epochs_said_twice_are_kept_once(tmp_path: Path) -> None:
    hand = Hand(tmp_path)
    attempt = hand.driver.next_attempt()
    assert attempt is not None
    for value in (51.0, 99.0):
        assert hand.epoch(attempt, 1, value)
    assert hand.stored()[0].curve == {1: 51.0}
    assert len(hand.tracker.epochs) == 1


def test_an_infinite_side_metric_is_left_out(tmp_path: Path) -> None:
    hand = Hand(tmp_path)
    attempt = hand.driver.next_attempt()
    assert attempt is not None
    assert hand.epoch(attempt, 1, 51.0, **{"train/gradient_share/base": float("nan")})
    assert hand.stored()[0].curve == {1: 51.0}
    assert "train/gradient_share/base" not in hand.tracker.epochs[0][1].metrics


def test_duplicates_are_told_with_their_twin_and_cost_nothing(tmp_path: Path) -> None:
    hand = Hand(tmp_path, ranges=POINTS, sampler=REPEATS, budget={"trials": 3})
    trained = hand.finish()
    records = hand.ledger.records()
    duplicates = [record for record in records if record.state == "duplicate"]
    assert len(trained) == 3
    assert duplicates, "the draws of this seed were meant to repeat"
    for record in duplicates:
        assert record.twin is not None
        assert record.params == records[record.twin].params
        assert record.reason == f"same configuration as trial {record.twin}"
        assert not trial_folder(hand.folder, record.number).exists()
    assert hand.driver.stopped_by == "budget"
    assert {int(view.key) for view in hand.tracker.begun} == set(trained)
    again = hand.again(ranges=POINTS, sampler=REPEATS, budget={"trials": 3})
    assert again.driver.source.tried == 3, "nor do they cost the next driver anything"


def test_a_finite_space_ends_when_nothing_is_new(tmp_path: Path) -> None:
    hand = Hand(tmp_path, ranges=POINTS, budget={"trials": 10})
    assert len(hand.finish()) == 3
    assert hand.driver.stopped_by == "exhausted"
    assert hand.states[-1] == "complete", "nobody draws when no point is left"
    again = hand.again(ranges=POINTS, budget={"trials": 10})
    assert again.driver.next_attempt() is None
    assert len(again.states) == len(hand.states), "a resumed driver asks no further"


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_after_ten_duplicates_in_a_row_the_first_untried_point_is_tried(tmp_path: Path, sampler: str) -> None:
    """By several workers, none of which has ended when the next one asks, and by one driver after another."""
    weights = {"low": 0.1, "high": 2.1, "step": 0.1}  # of which Optuna draws 0.30000000000000004
    changes: dict[str, Any] = {
        "ranges": {**POINTS, "cluster_weight": weights},
        "sampler": {"name": sampler, "startup_trials": 4, "seed": 2},  # draws ten duplicates in a row
        "budget": {"trials": 50},
    }
    hand = Hand(tmp_path, **changes)
    for begun in range(1, 22):
        while hand.driver.next_attempt() is None:
            assert not hand.driver.source.exhausted
        if begun == 10:
            hand = hand.again(**changes)
            assert [hand.driver.next_attempt() is not None for _ in range(begun)] == [True] * begun
    assert hand.driver.next_attempt() is None
    assert hand.driver.source.exhausted
    shown = [(record.state, round(10 * record.params["method.cluster_weight"])) for record in hand.ledger.records()]
    assert sorted(tenths for state, tenths in shown if state == "running") == list(range(1, 22))
    in_vain = [i for i in range(10, len(shown)) if all(state == "duplicate" for state, _ in shown[i - 10 : i])]
    assert in_vain, "the sampler was meant to repeat itself"
    for place in in_vain:
        assert shown[place] == ("running", min({*range(1, 22)} - {tenths for _, tenths in shown[:place]}))


def test_a_hundred_duplicates_in_a_row_end_a_space_without_a_list_of_points(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RandomSampler, "sample_independent", lambda *given: 2.0)
    hand = Hand(tmp_path, budget={"trials": 10})
    assert hand.finish() == [0]
    assert (hand.states, hand.driver.stopped_by) == (["complete", *["duplicate"] * 100], "exhausted")


def test_draws_that_come_to_nothing_do_not_keep_workers_waiting(tmp_path: Path) -> None:
    hand = Hand(tmp_path, ranges=POINTS, budget={"trials": 10})
    drawn, most = 0, 0
    while not hand.driver.done:
        if (attempt := hand.driver.next_attempt()) is not None:
            hand.train(attempt)
        drawn, before = len(hand.states), drawn
        most = max(most, drawn - before)
    assert 0 < most <= 10, "draws before workers are served"


def test_a_grid_gives_every_point_once(tmp_path: Path) -> None:
    changes: dict[str, Any] = {
        "ranges": {**POINTS, "base_loss": {"kd": {"temperature": {"choices": [2, 4]}}}},
        "sampler": "grid",
        "budget": {},
        "enqueue": ["KD"],
    }
    hand = Hand(tmp_path, **changes)
    for _ in range(3):
        attempt = hand.driver.next_attempt()
        assert attempt is not None
        hand.train(attempt)
    again = hand.again(**changes)
    again.finish()
    points = [tuple(sorted(record.params.items())) for record in again.ledger.records() if record.baseline is None]
    assert points == [tuple(sorted(point.items())) for point in again.space.points()]
    assert len(set(points)) == 6
    assert again.driver.stopped_by == "exhausted"


@pytest.mark.parametrize(("kind", "allowed"), FAULTS)
def test_retries(tmp_path: Path, kind: str, allowed: int | None) -> None:
    hand = Hand(tmp_path, resources={"retries": 2}, budget={"trials": 1})
    allowed = 2 if allowed is None else allowed
    for count in range(1, allowed + 2):
        attempt = hand.driver.next_attempt()
        assert attempt is not None
        assert (attempt.number, attempt.attempt) == (0, count)
        assert (attempt.folder / "attempt").read_text() == str(count)
        if count == 1:
            hand.epoch(attempt, 1)
            (attempt.folder / "checkpoints").mkdir()
            for epoch in (1, 2):  # the second was durable, and died before it was told
                (attempt.folder / "checkpoints" / f"epoch-{epoch:06d}.ckpt").touch()
        hand.end(attempt, kind, "it broke")
    assert hand.driver.next_attempt() is None
    assert hand.driver.done
    alone = " alone" if kind == "memory" else ""
    expected = [f"trial 0: it broke; retry {count}/{allowed}{alone} from epoch 2" for count in range(1, allowed + 1)]
    assert hand.said == [*expected, "trial 0: failed: it broke"]
    (record,) = hand.stored()
    assert (record.state, record.reason, record.attempts) == ("failed", "it broke", allowed + 1)
    assert record.attributes["exit_reason"] == kind
    assert record.attributes["faults"] == {kind: allowed + 1}
    assert [view.failed for view in hand.ends] == [True]


def test_retries_are_remembered_by_the_next_driver(tmp_path: Path) -> None:
    changes: dict[str, Any] = {"resources": {"retries": 1}, "budget": {"trials": 1}}
    hand = Hand(tmp_path, **changes)
    attempt = hand.driver.next_attempt()
    assert attempt is not None
    hand.end(attempt, "killed", "gone")
    again = hand.again(**changes)
    attempt = again.driver.next_attempt()
    assert attempt is not None
    assert attempt.attempt == 2
    again.end(attempt, "killed", "gone again")
    assert again.states == ["failed"]


def test_what_failed_may_be_tried_again_under_another_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RandomSampler, "sample_independent", lambda *given: 2.0)
    hand = Hand(tmp_path, budget={"trials": 2, "max_failed_fraction": 1.0})
    attempt = hand.driver.next_attempt()
    assert attempt is not None
    hand.end(attempt, "error", "bug")
    assert hand.finish() == [1]
    assert hand.states == ["failed", "complete"]


def test_diverged_is_pruned_with_its_finite_values_and_never_best(tmp_path: Path) -> None:
    hand = Hand(tmp_path, budget={"trials": 3})
    first, second = hand.driver.next_attempt(), hand.driver.next_attempt()
    assert first is not None
    assert second is not None
    hand.epoch(first, 1, 99.0)
    hand.end(first, "diverged", "loss is NaN at epoch 2")
    hand.end(second, "diverged", "loss is NaN at epoch 1")
    hand.finish()
    records = hand.stored()
    assert [record.state for record in records] == ["pruned", "pruned", "complete"]
    assert [record.curve for record in records[:2]] == [{1: 99.0}, {0: 10.0}], "chance level of ten classes"
    assert [record.reason for record in records[:2]] == ["loss is NaN at epoch 2", "loss is NaN at epoch 1"]
    assert {record.attributes["exit_reason"] for record in records[:2]} == {"diverged"}
    winner = best(records, maximize=True)
    assert winner is not None
    assert winner.number == 2
    assert hand.ledger.study.best_trial.number == 2
    assert "trial 0: diverged: loss is NaN at epoch 2" in hand.said


def test_chance_is_no_better_than_all_right(tmp_path: Path) -> None:
    hand = Hand(tmp_path, objective="val/top5", budget={"trials": 1})
    hand.prepared = replace(hand.prepared, num_classes=3)
    hand.driver = hand.drive()
    attempt = hand.driver.next_attempt()
    assert attempt is not None
    hand.end(attempt, "diverged", "loss is NaN at epoch 1")
    assert [record.curve for record in hand.stored()] == [{0: 100.0}]


def test_a_result_that_is_not_finite_is_no_result(tmp_path: Path) -> None:
    hand = Hand(tmp_path, objective="cost/parameters", budget={"trials": 1})
    attempt = hand.driver.next_attempt()
    assert attempt is not None
    hand.train(attempt, parameters=float("inf"))
    (record,) = hand.stored()
    assert (record.state, record.reason) == ("pruned", "a metric is not finite")


def test_a_stale_attempt_is_refused(tmp_path: Path) -> None:
    hand = Hand(tmp_path)
    old = hand.driver.next_attempt()
    assert old is not None
    hand.epoch(old, 1)
    hand.end(old, "lost", "node lost")
    new = hand.driver.next_attempt()
    assert new is not None
    assert (new.number, new.attempt) == (0, 2)
    metrics = {"val/top1": 99.0, "time": 0.0}
    assert not hand.driver.on_epoch(EpochReport(number=0, attempt=1, epoch=2, metrics=metrics))
    hand.end(old, "complete")
    assert hand.states == ["running"]
    assert hand.stored()[0].curve == {1: 50.0}
    hand.train(new)
    assert hand.states == ["complete"]


@pytest.mark.parametrize("name", ["median", "successive_halving", "hyperband"])
def test_pruning_and_control_trials(tmp_path: Path, name: str) -> None:
    pruner = {"name": name, "min_epochs": 1, "reduction": 2, "startup_trials": 1, "control_fraction": 0.4}
    hand = Hand(tmp_path, pruner=pruner, enqueue=["KD"], budget={"trials": 16})
    hand.finish(lambda number, epoch: 90.0 - 5 * number + epoch / 10)  # each worse than the one before
    records = hand.ledger.records()
    pruned = [record for record in records if record.state == "pruned"]
    warned = [record for record in records if record.would_stop_at is not None]
    assert pruned
    assert warned
    for record in pruned:
        assert not record.control
        assert record.reason == f"pruned at epoch {max(record.curve)}"
        assert max(record.curve) < EPOCHS == record.attributes["planned_epochs"]
    for record in warned:
        assert record.control
        assert record.state == "complete"
        assert len(record.curve) == EPOCHS
    assert records[0].state == "complete"
    assert records[0].baseline == "KD"
    assert {int(view.key): view.mark for view in hand.ends} == dict(enumerate(hand.states))


@pytest.mark.parametrize("name", ["median", "successive_halving", "hyperband"])
def test_no_trial_is_pruned_before_min_epochs(tmp_path: Path, name: str) -> None:
    pruner = {"name": name, "min_epochs": 3, "reduction": 2, "startup_trials": 1, "control_fraction": 0}
    hand = Hand(tmp_path, pruner=pruner, budget={"trials": 12})
    hand.finish(lambda number, epoch: 90.0 - 5 * number + epoch / 10)  # each worse than the one before
    assert {max(record.curve) for record in hand.ledger.records() if record.state == "pruned"} == {3}


def test_the_fraction_of_control_trials_is_the_one_asked_for(tmp_path: Path) -> None:
    hand = Hand(tmp_path, pruner={"name": "median", "control_fraction": 0.15})
    source = hand.driver.source
    assert isinstance(source, SearchSource)
    chosen = [source._is_control(number, "control") for number in range(4000)]
    assert sum(chosen) / len(chosen) == pytest.approx(0.15, abs=4 * (0.15 * 0.85 / 4000) ** 0.5)


DEAD: dict[str, Any] = {"pruner": {"dead_terms": True, "min_epochs": 2, "control_fraction": 0.0}}


def share(value: float) -> dict[str, float]:
    return {"train/gradient_share/cluster": value, "train/gradient_share/ce": 1 - value}


@pytest.mark.parametrize("name", ["none", "median", "successive_halving"])
def test_a_dead_term_ends_a_trial_once_min_epochs_are_over(tmp_path: Path, name: str) -> None:
    hand = Hand(tmp_path, pruner={**DEAD["pruner"], "name": name})
    alive, dead = hand.driver.next_attempt(), hand.driver.next_attempt()
    assert alive is not None
    assert dead is not None
    assert hand.epoch(alive, 1, 51.0, **share(0.2))
    assert hand.epoch(dead, 1, 51.0, **share(0.004))
    assert hand.epoch(alive, 2, 52.0, **share(0.005)), "not at every measurement"
    assert not hand.epoch(dead, 2, 52.0, **share(0.003))
    record = hand.ledger.record(dead.number)
    weight = dead.runs[""]["method"]["cluster_weight"]
    assert (record.state, record.curve) == ("pruned", {1: 51.0, 2: 52.0})
    assert record.reason == f"dead term: cluster 0.4 % of the gradient at cluster_weight {weight:g}"
    assert record.attributes["exit_reason"] == "pruned"
    (noted,) = record.attributes["dead_terms"]
    (told,) = hand.ends
    assert told.tags["dead_terms"] == noted["sentence"]
    assert (told.tags["state"], told.tags["reason"]) == ("pruned", record.reason)
    hand.epoch(alive, 3)
    hand.epoch(alive, 4)
    hand.end(alive)
    assert "dead_terms" not in hand.ledger.record(alive.number).attributes
    assert "dead_terms" not in hand.ends[1].tags


def test_without_being_asked_dead_terms_end_nothing_but_are_noted(tmp_path: Path) -> None:
    hand = Hand(tmp_path, budget={"trials": 1})
    attempt = hand.driver.next_attempt()
    assert attempt is not None
    assert all(hand.epoch(attempt, epoch, **share(0.001)) for epoch in range(1, EPOCHS + 1))
    hand.end(attempt)
    (record,) = hand.stored()
    assert record.state == "complete"
    assert [term["term"] for term in record.attributes["dead_terms"]] == ["cluster"]


def test_a_dead_term_that_is_not_searched_ends_nothing(tmp_path: Path) -> None:
    space = {"scales": [1, 2], "base_loss": "kd", "cluster_weight": 2, "training": {"lr": {"low": 0.01, "high": 0.1}}}
    hand = Hand(tmp_path, **DEAD, ranges=space)
    attempt = hand.driver.next_attempt()
    assert attempt is not None
    assert all(hand.epoch(attempt, epoch, **share(0.001)) for epoch in range(1, EPOCHS))


def test_scale_weights_are_said_to_matter_not_only_where_they_were_sampled(tmp_path: Path) -> None:
    ranges = {
        "scales": {"choices": [[1, 2], [1, 2, 4]]},
        "cluster_scale_weights": {"low": 0.1, "high": 1},
        "cluster_weight": {"low": 1, "high": 2},
        "base_loss": "kd",
    }
    hand = Hand(tmp_path, ranges=ranges, budget={"trials": 8})
    while (attempt := hand.driver.next_attempt()) is not None:
        assert all(hand.epoch(attempt, epoch, **share(0.001)) for epoch in range(1, EPOCHS + 1))
        hand.end(attempt)
    said = {
        r.params["method.scales"]: r.attributes["dead_terms"][0]["sentence"]
        for r in hand.stored()
        if r.state == "complete"
    }
    assert set(said) == {"s1+s2", "s1+s2+s4"}
    assert "it could as well be left out" in said["s1+s2"], "there only one weight counts, so none is sampled"
    assert "the searched cluster scale weights cannot matter" in said["s1+s2+s4"]


def test_controls_and_baselines_go_on_with_dead_terms_and_remember(tmp_path: Path) -> None:
    hand = Hand(tmp_path, pruner={**DEAD["pruner"], "control_fraction": 1.0}, enqueue=["iCD-KD"], budget={"trials": 2})
    for _ in range(2):
        attempt = hand.driver.next_attempt()
        assert attempt is not None
        assert all(hand.epoch(attempt, epoch, **share(0.001)) for epoch in range(1, EPOCHS + 1))
        hand.end(attempt)
    assert [(r.state, r.control, r.would_stop_at) for r in hand.stored()] == [("complete", True, 2)] * 2


def test_another_driver_finds_the_same_dead_term(tmp_path: Path) -> None:
    """By what was committed, or from its worker, which says the last stored epoch again."""
    for heard in (True, False):
        (tmp_path / str(heard)).mkdir()
        hand = Hand(tmp_path / str(heard), **DEAD)
        attempt = hand.driver.next_attempt()
        assert attempt is not None
        hand.epoch(attempt, 1, **share(0.004))
        if heard:  # committed, but the driver died before it judged
            hand.ledger.add_epoch(attempt.number, 2, 50.0)
        again = hand.again(**DEAD)
        retaken = again.driver.next_attempt()
        assert retaken is not None
        assert (retaken.number == attempt.number) == (not heard)
        assert heard or not again.epoch(retaken, 2, **share(0.003))
        assert again.ledger.record(attempt.number).reason.startswith("dead term: cluster 0.4 % of the gradient")


def test_drain_and_stop(tmp_path: Path) -> None:
    hand = Hand(tmp_path)
    attempt = hand.driver.next_attempt()
    assert attempt is not None
    hand.driver.drain = True
    assert hand.driver.next_attempt() is None
    assert not hand.driver.done
    assert hand.epoch(attempt, 1), "what runs goes on"
    hand.driver.stop_now = True
    assert not hand.epoch(attempt, 2)
    hand.end(attempt, "stopped")
    assert hand.driver.done
    assert hand.states == ["running"]


def test_a_full_disk_halts_the_sweep_and_costs_no_attempt(tmp_path: Path) -> None:
    hand = Hand(tmp_path)
    first, second = hand.driver.next_attempt(), hand.driver.next_attempt()
    assert first is not None
    assert second is not None
    full = ended(first, "disk", "No space left on device")
    hand.driver.on_finished(replace(full, location=Location(host="n3", gpu="1", node="a1b2c3d4e5")))
    assert hand.driver.stopping
    assert not hand.epoch(second, 1)
    hand.end(second, "stopped")
    assert hand.driver.done
    assert str(hand.driver.halted).startswith("host n3 (node a1b2c3d4): No space left on device; trials are paused")
    again = hand.again()
    assert [record.attributes.get("faults") for record in again.ledger.records()] == [None, None]
    assert again.finish() == [0, 1, 2, 3]


def test_another_reading_of_the_same_parameters_is_refused(tmp_path: Path) -> None:
    hand = Hand(tmp_path)
    attempt = hand.driver.next_attempt()
    assert attempt is not None
    again = hand.again(training={"preset": "digits100", "epochs": EPOCHS + 1})
    with pytest.raises(StateError, match="trial 0 was committed with the key"):
        again.driver.next_attempt()
