"""What a new sweep takes over from another one, and that it does so once; trials are told, nothing is trained."""

import json
from pathlib import Path
from typing import Any

import pytest

from icd import search
from icd.errors import ConfigError, StateError
from icd.methods import PAPER_ROWS, CellDistillation
from icd.search.suggest.search_space import SearchSpace, Start
from icd.search.suggest.warm_start import find_starts
from tests.driving import Hand, empty_database, sweep_of
from tests.studies import Study, changed

SPACE: dict[str, Any] = {
    "scales": {"choices": [[1], [1, 2], [1, 2, 4]]},
    "cluster_scale_weights": {"low": 0.1, "high": 1},
    "cluster_weight": {"low": 0.5, "high": 64, "log": True},
    "base_loss": {"kd": {"temperature": {"low": 1, "high": 8}}, "dkd": {}},
}
FROM: dict[str, Any] = {"enqueue": {"from": "other", "top": 3}, "name": "new"}


def other(root: Path, trials: int = 5, **parts: Any) -> Study:
    """A finished sweep whose later trials are better; its baseline is the worst."""
    shared = {"name": "other", "ranges": SPACE, "pruner": None, "budget": {"trials": 50}}
    if not (root / "study.db").exists():
        root.mkdir(parents=True, exist_ok=True)
        (root / "study.db").write_bytes(empty_database())
    study = Study(root, changed(**{**shared, **parts}))
    several = len(study.sweep.objectives) > 1
    for number in range(trials):
        first = 10.0 + number
        study.trial("complete", [first], values=[first, 5.0 + number % 2] if several else None)
    return study


def starts(root: Path, **parts: Any) -> tuple[tuple[Start, ...], SearchSpace, list[str]]:
    said: list[str] = []
    sweep, _ = sweep_of(**{**FROM, "ranges": SPACE, "budget": {"trials": 20}, **parts})
    found = find_starts(sweep, root, said.append)
    return found, SearchSpace(sweep, found), said


def test_the_best_come_first_with_their_parameters(tmp_path: Path) -> None:
    records = other(tmp_path).ledger.records()
    found, space, said = starts(tmp_path)
    assert [start.label for start in found] == ["other trial 4", "other trial 3", "other trial 2"]
    assert [start.values for start in found] == [(14.0,), (13.0,), (12.0,)]
    for start, record in zip(found, records[:1:-1], strict=True):
        assert dict(start.params) == dict(record.params)
        assert space.document(start.params)["student"] == {"arch": "resnet8"}  # networks are this sweep's
    assert said == []


def test_fewer_than_asked_for_are_announced_and_the_first_objective_says_which_way(tmp_path: Path) -> None:
    other(tmp_path, trials=2, objective={"metric": "val/loss"})
    found, _, said = starts(tmp_path)
    assert [start.label for start in found] == ["other trial 0", "other trial 1"]
    assert said == ["sweep 'other' has 2 trials to start from, fewer than 3"]


def test_of_several_objectives_the_front_counts(tmp_path: Path) -> None:
    other(tmp_path, objective=["val/top1", "val/ece"])  # 4 and 2 have ece 5, 3 has 6: only 4 is on the front
    found, _, _ = starts(tmp_path)
    assert [start.label for start in found] == ["other trial 4"]


def test_fields_that_either_searches_are_taken_and_the_rest_is_this_sweeps(tmp_path: Path) -> None:
    other(
        tmp_path,
        method="iCD-DKD",
        ranges={"cluster_weight": {"low": 1, "high": 8}, "training": {"lr": {"low": 0.1, "high": 0.2}}},
    )
    space = {"scales": {"choices": [[1, 2], [1, 2, 4]]}, "cluster_weight": {"low": 0.5, "high": 64, "log": True}}
    found, made, _ = starts(tmp_path, method="iCD-KD", ranges=space, training={"preset": "digits100", "epochs": 7})
    config = made.read(made.baseline(found[0]))
    data = config.to_data()
    assert (data["method"]["scales"], data["method"]["ce_weight"]) == ([1, 2, 4], 0.1)  # iCD-KD's own weight stays
    assert "kd" in data["method"]["base_loss"]
    assert 1 <= data["method"]["cluster_weight"] <= 8
    assert 0.1 <= data["training"]["lr"] <= 0.2
    assert data["training"]["epochs"] == 7
    assert not found[0].params  # lr is no part of this space


def test_another_kind_of_method_is_taken_whole_and_stays_outside(tmp_path: Path) -> None:
    other(tmp_path, method=None, ranges={"method": ["SP", "iCD-NKD"]}, trials=4)
    found, space, _ = starts(tmp_path, enqueue={"from": "other", "top": 4})
    configs = [space.read(space.baseline(start)) for start in found]
    assert {type(config.method).__name__ for config in configs} == {"SimilarityPreserving", "CellDistillation"}
    assert all(not start.params for start in found)
    cells = [config.method for config in configs if isinstance(config.method, CellDistillation)]
    assert cells == [PAPER_ROWS["iCD-NKD"]]


def test_a_method_among_several_is_found_again(tmp_path: Path) -> None:
    fields = {"cluster_weight": {"low": 1, "high": 9}}
    other(tmp_path, method="iCD-KD", ranges=fields)
    found, space, _ = starts(tmp_path, ranges={"method": {"SP": {}, "iCD-DKD": fields, "iCD-KD": fields}})
    assert [start.params["method"] for start in found] == ["iCD-KD"] * 3  # a baseline's or branch's own settings tell
    assert {"method.cluster_weight"} == {name for start in found for name in start.params if name != "method"}
    assert space.read(space.baseline(found[0])).key() != space.read(space.baseline(found[1])).key()


def test_networks_and_seed_are_the_others_where_both_have_them(tmp_path: Path) -> None:
    space = {"cluster_weight": {"low": 1, "high": 9}, "seed": {"choices": [1, 2]}}
    other(tmp_path, student=None, ranges={**space, "student": ["resnet14", "resnet8"]}, trials=8)
    here = {**space, "student": [{"arch": "resnet20"}, {"arch": "resnet8"}], "seed": {"choices": [7, 2]}}
    source = {"from": "other", "top": 8}
    found, made, _ = starts(tmp_path, student=None, method="iCD-KD", ranges=here, enqueue=source)
    told = {record.number: record.params for record in search.trials("other", root=tmp_path)}
    for start in found:
        theirs = told[int(start.label.split()[-1])]
        assert start.params["student"] == ("resnet8" if theirs["student"] == "resnet8" else "resnet20")
        assert start.params["seed"] == ("seed2" if theirs["seed"] == "seed2" else "seed7")
        assert made.read(made.baseline(start)).seed in (2, 7)
    assert len({(start.params["student"], start.params["seed"]) for start in found}) > 1


def test_epochs_are_this_sweeps(tmp_path: Path) -> None:
    other(tmp_path, ranges={"cluster_weight": {"low": 1, "high": 9}, "training": {"epochs": {"choices": [2, 3]}}})
    here = {"cluster_weight": {"low": 1, "high": 9}, "training": {"epochs": {"choices": [3, 5]}}}
    found, space, _ = starts(tmp_path, method="iCD-KD", ranges=here, enqueue={"from": "other", "top": 5})
    epochs = {start.label: space.read(space.baseline(start)).training.epochs for start in found}
    told = {f"other trial {r.number}": r.params for r in search.trials("other", root=tmp_path)}
    assert all(start.params for start in found)
    assert epochs == {label: 3 if told[label]["training.epochs"] == "epochs3" else 5 for label in epochs}


def test_what_cannot_be_tried_here_is_left_out_and_said(tmp_path: Path) -> None:
    theirs = {"scales": {"choices": [[1, 2], [1, 4]]}, "cluster_weight": {"low": 1, "high": 9}}
    other(tmp_path, ranges=theirs, trials=10)
    told = search.trials("other", root=tmp_path)
    wide = [r.number for r in told if "s4" in r.params["method.scales"]]
    assert 0 < len(wide) < 10
    here = {**theirs, "scales": {"choices": [[1], [1, 2]]}}
    source = {"from": "other", "top": 10}
    found, _, said = starts(tmp_path, method="iCD-KD", ranges=here, student="mobilenetv2", enqueue=source)
    assert len(found) == 10 - len(wide)
    assert all(start.params for start in found)
    assert len(said) == len(wide)
    assert f"other trial {wide[-1]}: method.scales: every scale must be at most the feature map" in said[0]


def test_none_that_can_be_tried_is_an_error(tmp_path: Path) -> None:
    weight = {"cluster_weight": {"low": 1, "high": 9}}
    other(tmp_path, method={"recipe": "iCD-KD", "scales": [1, 4]}, ranges=weight)
    here = {"scales": {"choices": [[1], [1, 2]]}, **weight}
    found, _, _ = starts(tmp_path, ranges=here, method="iCD-KD")
    assert [bool(start.params) for start in found] == [False] * 3  # scales that only their file has
    with pytest.raises(ConfigError, match="no trial of sweep 'other' can be tried here: other trial 4: "):
        starts(tmp_path, ranges=here, method="iCD-KD", student="mobilenetv2")


def test_equal_ones_are_tried_once(tmp_path: Path) -> None:
    other(tmp_path, ranges={"seed": {"choices": [1, 2, 3]}}, trials=3)  # all are iCD-KD with another seed
    found, _, said = starts(tmp_path, ranges=SPACE, enqueue=["KD", {"from": "other", "top": 3}])
    assert (len(found), len(said)) == (1, 2)
    assert "left out, since other trial 2 is the same configuration here: other trial 1" in said
    found, _, said = starts(
        tmp_path,
        method="iCD-KD",
        ranges={"cluster_weight": {"low": 1, "high": 9}},
        enqueue=["iCD-KD", {"from": "other", "top": 3}],
    )
    assert not found
    assert "since iCD-KD is the same" in said[0]


def test_starts_of_a_sweep_that_had_starts_and_baselines(tmp_path: Path) -> None:
    other(tmp_path, trials=2)
    source = {"from": "other", "top": 2}
    parts: dict[str, Any] = {"name": "new", "ranges": SPACE, "enqueue": ["SP", source], "budget": {"trials": 4}}
    hand = Hand(tmp_path, **parts)
    hand.ledger.note_study(document=json.dumps(sweep_of(**parts)[1]))
    hand.finish(lambda number, epoch: 90.0 - number)
    sweep, _ = sweep_of(name="third", ranges=SPACE, enqueue={"from": "new", "top": 3}, budget={"trials": 9})
    found = find_starts(sweep, tmp_path, lambda text: None)
    assert [start.label for start in found] == ["new trial 0", "new trial 1", "new trial 2"]
    assert found[0].changes["method"]["name"] == "sp"
    assert [bool(start.params) for start in found] == [False, True, True]
    assert [start.params for start in found[1:]] == [start.params for start in hand.space.starts]


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("othre", "no sweep 'othre' in .*; did you mean 'other'"),
        ("empty", "sweep 'empty' has no complete trial to start from"),
    ],
)
def test_a_source_that_is_none(tmp_path: Path, name: str, error: str) -> None:
    other(tmp_path, trials=1)
    other(tmp_path, trials=0, name="empty")
    with pytest.raises(StateError, match=error):
        starts(tmp_path, enqueue={"from": name})
    with pytest.raises(StateError, match="nothing was started there"):
        starts(tmp_path / "elsewhere")
