"""Trials of another sweep in the hands of the driver: they come after the baselines, once, and the sampler learns."""

from pathlib import Path
from typing import Any

import pytest

from icd.search.study.ledger import Ledger
from icd.search.study.sweep_study import OUTSIDE
from tests.driving import Hand
from tests.unit.search.suggest.test_warm_start import SPACE, other

NEW: dict[str, Any] = {
    "name": "new",
    "ranges": SPACE,
    "enqueue": ["KD", {"from": "other", "top": 3}],
    "budget": {"trials": 8},
    "sampler": {"name": "tpe", "startup_trials": 2},
}


def stored(hand: Hand) -> list[Any]:
    return hand.ledger.study.get_trials(deepcopy=False)


def test_they_come_after_the_baselines_and_count(tmp_path: Path) -> None:
    other(tmp_path)
    hand = Hand(tmp_path, **NEW)
    assert hand.finish() == list(range(8))
    records = hand.ledger.records()
    assert [record.baseline for record in records] == ["KD", *[None] * 7]
    assert [record.start for record in records[:5]] == [None, *(f"other trial {n}" for n in (4, 3, 2)), None]
    assert hand.tracker.begun[1].name == "0001 other trial 4"
    again = hand.again(**NEW)
    assert again.finish() == []


def test_the_sampler_learns_from_those_inside_the_space_alone(tmp_path: Path) -> None:
    other(tmp_path)
    hand = Hand(tmp_path, **NEW)
    sampled: dict[str, Any] = {}
    hand.finish()
    for trial in stored(hand):
        sampled |= trial.distributions if "start" not in trial.user_attrs else {}
    for trial in stored(hand)[1:4]:
        assert trial.params
        assert trial.distributions.keys() == trial.params.keys()
        assert OUTSIDE not in trial.user_attrs
        assert all(sampled.get(name, item) == item for name, item in trial.distributions.items())  # else Optuna refuses
    (tmp_path / "outside").mkdir()
    other(tmp_path / "outside", ranges={"cluster_weight": {"low": 100, "high": 200}})
    far = Hand(tmp_path / "outside", **NEW)
    far.finish()
    assert [(trial.params, trial.user_attrs[OUTSIDE]) for trial in stored(far)[1:4]] == [({}, True)] * 3
    # Both have trained KD and three others; TPE has its two startup trials in the first sweep only.
    assert stored(hand)[4].params != stored(far)[4].params


def test_a_driver_that_dies_before_the_first_trial(tmp_path: Path) -> None:
    study = other(tmp_path)
    hand = Hand(tmp_path, **NEW)  # the study is made; nothing was tried
    before = hand.space.starts
    assert len(before) == 3
    for value in (98, 99):
        study.trial("complete", [value])
    hand.storage.delete_study(hand.storage.get_study_id_from_name("other"))
    again = hand.again(**NEW)
    assert "other" not in Ledger.names(again.storage)
    assert again.space.starts == before
    again.finish()
    assert [record.start for record in again.ledger.records()[1:4]] == [start.label for start in before]


@pytest.mark.parametrize("trained", [1, 2, 3])
def test_a_driver_that_dies_among_them_goes_on_the_same_way(tmp_path: Path, trained: int) -> None:
    def table(hand: Hand) -> list[Any]:
        return [
            (r.number, r.start, r.baseline, dict(r.params), r.key, r.control, r.state) for r in hand.ledger.records()
        ]

    parts = {**NEW, "pruner": {"name": "median", "startup_trials": 2, "control_fraction": 0.5}}
    for name in ("whole", "cut"):
        (tmp_path / name).mkdir()
        other(tmp_path / name)
    whole = Hand(tmp_path / "whole", **parts)
    whole.finish()
    cut = Hand(tmp_path / "cut", **parts)
    for _ in range(trained):
        attempt = cut.driver.next_attempt()
        assert attempt is not None
        cut.train(attempt)
    cut.driver.next_attempt()
    again = cut.again(**parts)
    again.finish()
    assert table(again) == table(whole)


def test_they_may_be_pruned(tmp_path: Path) -> None:
    other(tmp_path)
    pruner = {"name": "median", "startup_trials": 1, "control_fraction": 0.0}
    hand = Hand(tmp_path, **{**NEW, "pruner": pruner})
    hand.finish(lambda number, epoch: 50.0 - number)
    assert [record.control for record in hand.ledger.records()[:4]] == [True, False, False, False]
    assert hand.states[:4] == ["complete", "pruned", "pruned", "pruned"]
    share = Hand(tmp_path, **{**NEW, "name": "all", "pruner": {**pruner, "control_fraction": 1.0}})
    share.finish()
    assert all(record.control for record in share.ledger.records()[1:4])


def test_a_grid_leaves_out_what_a_start_has_trained(tmp_path: Path) -> None:
    points = {"scales": [1, 2], "base_loss": "kd", "cluster_weight": {"choices": [1, 2, 4]}}
    other(tmp_path, method="iCD-KD", ranges={"cluster_weight": {"choices": [2, 3]}}, trials=8)
    hand = Hand(tmp_path, name="new", ranges=points, sampler="grid", budget={}, enqueue={"from": "other", "top": 8})
    assert sorted(bool(start.params) for start in hand.space.starts) == [False, True]  # weights 3 and 2
    hand.finish()
    records = hand.ledger.records()
    sampled = [record.params["method.cluster_weight"] for record in records if record.start is None]
    assert sampled == ["cluster_weight1", "cluster_weight4"]
    assert "duplicate" not in hand.states
