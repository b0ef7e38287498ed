"""The space as Optuna asks it: suggestions, stored parameters, corners, grids, keys, and the row MLflow shows."""

from collections import defaultdict
from typing import Any

import optuna
import pytest

from icd.config.sweep import SweepConfig
from icd.config.trial import TrialConfig
from icd.errors import ConfigError
from icd.search.suggest.search_space import SearchSpace
from tests.driving import sweep_of
from tests.unit.config.sweeps import sweep

WIDE = """\
base_loss:
  kd: {temperature: {low: 1, high: 8}}
  dkd: {temperature: {low: 1, high: 8}, beta: {low: 0.5, high: 16, log: true}}
  nkd: {gamma: {low: 0.5, high: 16, log: true}, keep_target: {choices: [true, false]}}
  ldrld: {k: {low: 3, high: 12}}
scales: {subsets_of: [1, 2, 4]}
cluster_scale_weights: {low: 0.05, high: 1}
base_scale_weights: {low: 0.05, high: 1, log: true}
cluster_weight: {low: 0.5, high: 512, log: true}
cluster_temperature: {low: 0.5, high: 4, step: 0.5}
gram: {choices: [cells, classes]}
grid: {choices: [4, null]}
student: [resnet8, {arch: resnet8, stem: conv7x7_s2}, vgg8]
training: {lr: {low: 0.01, high: 0.2, log: true}, epochs: {low: 2, high: 9}}
seed: [0, 1]
"""
METHODS = """\
method:
  SP: {similarity_weight: {low: 100, high: 5000, log: true}}
  iCD-KD:
    base_loss: {kd: {temperature: {low: 1, high: 8}}, dkd: {beta: {low: 1, high: 9}}}
    scales: {choices: [[1, 2], [1, 2, 4]]}
    cluster_scale_weights: {low: 0.1, high: 1}
  CRD: {momentum: {low: 0.1, high: 0.9}}
  cross_entropy:
pair:
  - {teacher: resnet20, student: resnet8}
  - {teacher: {arch: resnet32, training: {epochs: 3}}, student: resnet14}
training: {momentum: {low: 0.1, high: 0.9}}
"""
GRID = """\
base_loss: {kd: {temperature: {low: 0.7, high: 0.9, step: 0.1}}, ldrld: {k: {low: 3, high: 6}}}
scales: {choices: [[1], [1, 2]]}
cluster_weight: {low: 1, high: 3, step: 2}
"""

SPACES: dict[str, SweepConfig] = {
    "wide": sweep(WIDE, student=None, enqueue="[KD, SP, {label: eight, method: {scales: [1, 8]}, student: resnet8}]"),
    "methods": sweep(METHODS, student=None, teacher=None, method=None),
    "grid": sweep(GRID, sampler="grid", budget=None),
}


def asked(config: SweepConfig, trials: int, seed: int = 0) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Ask random trials; give their documents and parameters."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    space, rows = SearchSpace(config), []
    for _ in range(trials):
        trial = study.ask()
        rows.append((space.suggest(trial), dict(trial.params)))
    return rows


@pytest.mark.parametrize("name", SPACES)
def test_every_suggestion_is_a_valid_trial_and_comes_back_from_its_parameters(name: str) -> None:
    space = SearchSpace(SPACES[name])
    for document, params in asked(SPACES[name], 60):
        assert space.document(params) == document
        assert isinstance(space.read(document), TrialConfig)
        fixed = optuna.trial.FixedTrial(params)
        assert space.suggest(fixed) == document


@pytest.mark.parametrize("name", SPACES)
def test_parameters_are_numbers_or_labels(name: str) -> None:
    for _, params in asked(SPACES[name], 60):
        for value in params.values():
            assert type(value) in (int, float, str)
            if isinstance(value, str):
                with pytest.raises(ValueError, match="could not convert"):
                    float(value)


def test_whole_numbers_stay_whole() -> None:
    found = {name: type(value) for _, params in asked(SPACES["wide"], 60) for name, value in params.items()}
    assert {name for name, kind in found.items() if kind is int} == {"method.base_loss.ldrld.k", "training.epochs"}


@pytest.mark.parametrize("name", SPACES)
def test_corners_cover_every_option_and_both_ends(name: str) -> None:
    space, met = SearchSpace(SPACES[name]), defaultdict(set)
    for params in space.corners():
        assert isinstance(space.read(space.document(params)), TrialConfig)
        for key, value in params.items():
            met[key].add(value)
    dimensions = {row.name: row for row in space.dimensions()}
    assert met.keys() == dimensions.keys()
    for key, row in dimensions.items():
        assert len(met[key]) == (row.options or 2), key
    for document, params in asked(SPACES[name], 60):
        assert params.keys() <= met.keys(), document
        assert all(min(met[key]) <= value <= max(met[key]) for key, value in params.items())


@pytest.mark.parametrize("name", SPACES)
def test_conditions_say_when_a_parameter_is_asked(name: str) -> None:
    always = {row.name for row in SearchSpace(SPACES[name]).dimensions() if not row.condition}
    rows = [params.keys() for _, params in asked(SPACES[name], 200)]
    assert always == set.intersection(*(set(keys) for keys in rows))


def test_points_of_a_grid() -> None:
    space = SearchSpace(SPACES["grid"])
    points = list(space.points())
    assert space.size() == len(points) == (3 + 4) * 2 * 2
    assert points == list(space.points())
    assert points[0] == {
        "method.base_loss": "kd",
        "method.base_loss.kd.temperature": 0.7,
        "method.scales": "s1",
        "method.cluster_weight": 1.0,
    }
    assert len({space.read(space.document(point)).key() for point in points}) == len(points)


def test_points_are_what_optuna_may_suggest() -> None:
    space = SearchSpace(SPACES["grid"])
    points = [space.document(point) for point in space.points()]
    assert all(document in points for document, _ in asked(SPACES["grid"], 60)), "0.7 + 0.1 is 0.8 in both"


def test_an_infinite_space_has_no_points() -> None:
    space = SearchSpace(SPACES["wide"])
    assert space.size() is None
    with pytest.raises(ConfigError, match="the space of x has ranges without a step"):
        next(space.points())
    assert space.untried() is None


def test_more_points_than_a_list_may_have_are_only_counted() -> None:
    temperatures = {"kd": {"temperature": {"low": 1, "high": 101, "step": 1}}}
    many = {"scales": [1, 2], "base_loss": temperatures, "cluster_weight": {"low": 1, "high": 1000, "step": 1}}
    space = SearchSpace(sweep_of(ranges=many)[0])
    assert (space.size(), space.untried()) == (101_000, None)


def test_whole_methods_count_as_points() -> None:
    config = sweep("method: {KD: , SP: {ce_weight: {choices: [1, 2]}}}\nseed: [0, 1]", method=None, sampler="grid")
    assert SearchSpace(config).size() == 6
    assert [point["method"] for point in SearchSpace(config).points()] == ["KD", "KD", "SP", "SP", "SP", "SP"]


# Equal configurations


def key(space: str, params: dict[str, Any], **parts: str | None) -> str:
    search = SearchSpace(sweep(space, **parts))
    return search.read(search.document(params)).key()


def test_the_order_of_scales_leaves_no_trace() -> None:
    weights = "cluster_scale_weights: {low: 0.1, high: 1}"
    params = {
        "method.scales": "s1+s2+s4",
        "method.cluster_scale_weights.s2": 0.3,
        "method.cluster_scale_weights.s4": 0.7,
    }
    keys = {
        key(f"scales: {{choices: [[1, 2], {scales}]}}\n{weights}", params)
        for scales in ([1, 2, 4], [4, 2, 1], [2, 1, 4])
    }
    fixed = {name: value for name, value in params.items() if name != "method.scales"}
    keys |= {key(f"scales: {scales}\n{weights}", fixed) for scales in ([1, 2, 4], [4, 1, 2])}
    assert len(keys) == 1


@pytest.mark.parametrize("factor", [0.1, 1 / 7, 0.999])
def test_a_common_factor_of_weights_leaves_no_trace(factor: float) -> None:
    weights = "{low: 0.001, high: 1}"
    space = f"scales: [1, 2, 4]\ncluster_scale_weights: {weights}\nbase_scale_weights: {weights}"
    names = [f"method.cluster_scale_weights.s{scale}" for scale in (2, 4)]
    names += [f"method.base_scale_weights.s{scale}" for scale in (1, 2, 4)]
    for seed in range(8):
        raw = dict(zip(names, (0.1 + (7 * seed + 3 * place) % 11 / 13 for place in range(5)), strict=True))
        scaled = {name: value * factor for name, value in raw.items()}
        assert key(space, raw) == key(space, scaled)
        assert key(space, raw) != key(space, {**raw, names[0]: raw[names[0]] / 2})


def test_a_row_and_its_settings_are_one_configuration() -> None:
    space = "cluster_weight: {low: 0, high: 9}"
    assert key(space, {"method.cluster_weight": 2.0}, method="SD-KD") == key(
        space, {"method.cluster_weight": 2.0}, method="iCD-KD"
    )
    search = SearchSpace(sweep(space, enqueue="[iCD-KD]"))
    baseline = search.read(search.baseline(search.sweep.enqueue[0]))
    assert baseline.key() == key(space, {"method.cluster_weight": 2.0})


# What MLflow shows


@pytest.mark.parametrize("name", SPACES)
def test_every_trial_shows_the_same_columns(name: str) -> None:
    space = SearchSpace(SPACES[name])
    documents = [document for document, _ in asked(SPACES[name], 40)]
    documents += [space.baseline(baseline) for baseline in SPACES[name].enqueue]
    rows = [space.row(space.read(document)) for document in documents]
    assert len({tuple(row) for row in rows}) == 1
    assert all(type(value) is str and value for row in rows for value in row.values())


def test_the_row_of_a_wide_trial() -> None:
    space = SearchSpace(SPACES["wide"])
    params = {
        "student": "vgg8", "method.base_loss": "dkd", "method.base_loss.dkd.temperature": 2.5,
        "method.base_loss.dkd.beta": 3.0, "method.scales": "s2+s4", "method.cluster_weight": 8.0,
        "method.cluster_temperature": 2.0, "method.gram": "cells", "method.grid": "none",
        "method.base_scale_weights.s2": 0.5, "method.base_scale_weights.s4": 0.5,
        "method.cluster_scale_weights.s2": 0.2, "method.cluster_scale_weights.s4": 0.6,
        "training.lr": 0.05, "training.epochs": 4, "seed": "seed1",
    }  # fmt: skip
    assert space.row(space.read(space.document(params))) == {
        "teacher": "resnet20", "student": "vgg8", "method": "distill", "method.base_loss": "dkd",
        "method.scales": "s2+s4", "method.cluster_scale_weights.s1": "0", "method.cluster_scale_weights.s2": "0.25",
        "method.cluster_scale_weights.s4": "0.75", "method.cluster_scale_weights.s8": "0",
        "method.base_scale_weights.s1": "0",
        "method.base_scale_weights.s2": "0.5", "method.base_scale_weights.s4": "0.5",
        "method.base_scale_weights.s8": "0", "method.cluster_weight": "8", "method.cluster_temperature": "2",
        "method.base_loss.dkd.beta": "3", "method.base_loss.dkd.temperature": "2.5",
        "method.base_loss.kd.temperature": "none", "method.base_loss.ldrld.k": "none",
        "method.base_loss.nkd.gamma": "none", "method.base_loss.nkd.keep_target": "none", "method.gram": "cells",
        "method.grid": "none", "training.lr": "0.05", "training.epochs": "4", "seed": "seed1",
    }  # fmt: skip


def test_the_row_of_a_baseline() -> None:
    space = SearchSpace(SPACES["wide"])
    plain, features, eight = (space.row(space.read(space.baseline(item))) for item in space.sweep.enqueue)
    weights = "method.cluster_scale_weights"
    assert [plain[name] for name in ("method", "method.scales", f"{weights}.s1", "method.cluster_weight")] == [
        "KD",
        "s1",
        "0",
        "0",
    ]
    assert plain["method.base_scale_weights.s1"] == "1"
    assert [features[name] for name in ("method", "method.scales", "method.cluster_weight")] == ["SP", "none", "0"]
    assert [eight[name] for name in ("method.scales", f"{weights}.s8", f"{weights}.s1")] == ["s1+s8", "0.8", "0"]


def test_rows_of_whole_methods() -> None:
    space = SearchSpace(SPACES["methods"])
    labels = {params["method"]: space.row(space.read(document)) for document, params in asked(SPACES["methods"], 40)}
    assert labels["cross_entropy"]["teacher"] == "none"
    assert labels["cross_entropy"]["method.similarity_weight"] == "0"
    assert float(labels["SP"]["method.similarity_weight"]) > 0
    assert labels["SP"]["method.momentum"] == "none"
    assert float(labels["CRD"]["method.momentum"]) < 1
    assert labels["iCD-KD"]["teacher"] in ("resnet20", "resnet32")
    assert all(float(row["training.momentum"]) < 1 for row in labels.values())


def test_weights_that_have_no_effect_show_as_zero() -> None:
    config = sweep("gram: {choices: [cells, classes]}\ncluster_weight: {choices: [0, 2]}")
    space = SearchSpace(config)
    shown = {}
    for gram in ("cells", "classes"):
        for weight in (0, 2):
            params = {"method.gram": gram, "method.cluster_weight": f"cluster_weight{weight}"}
            row = space.row(space.read(space.document(params)))
            shown[gram, weight] = [row[f"method.cluster_scale_weights.s{scale}"] for scale in (1, 2, 4)]
    assert shown["cells", 0] == shown["classes", 0] == ["0", "0", "0"]
    assert shown["cells", 2] == ["0", "0.333333", "0.5"]
    assert shown["classes", 2] == ["0.166667", "0.333333", "0.5"]


def test_what_lies_between_the_corners_is_said_to_the_planner_of_caches() -> None:
    ranges = "seed: {low: 0, high: 99}\ngrid: {low: 2, high: 4}\ncluster_weight: {low: 1, high: 8}\n"
    ranges += "training: {epochs: {low: 10, high: 30, step: 10}}"
    asked = SearchSpace(sweep(ranges)).extent()
    assert asked["trials"] == 10
    assert {name: list(values) for name, values in asked["ranges"].items()} == {
        "seed": list(range(10)),  # as many as there are trials
        "method.grid": [2, 3, 4],
        "training.epochs": [10, 20, 30],
    }
    assert SearchSpace(sweep(ranges, budget="{hours: 1}")).extent()["trials"] == 1000


def test_a_trial_that_is_wrong_for_several_pairs_is_told_what_each_has_against_it() -> None:
    pairs = [f"{{teacher: resnet20, student: {arch}}}" for arch in ("resnet8", "vgg8", "resnet14")]
    ranges = "scales: {choices: [[1], [1, 2]]}"
    space = SearchSpace(sweep(ranges, student=None, teacher=None, pairs=f"[{', '.join(pairs)}]"))
    document = space.document({"method.scales": "s1+s2"})

    def refused(scale: int) -> list[str]:
        with pytest.raises(ConfigError) as error:
            space.members({**document, "method": {"recipe": "iCD-KD", "scales": [1, scale]}})
        return [problem.rule.partition("feature map of ")[2] for problem in error.value.problems]

    assert refused(8) == ["the student, 4 x 4 for vgg8 at 32 pixels"]
    students = ["the student, 8 x 8 for resnet8 at 32 pixels", "the student, 4 x 4 for vgg8 at 32 pixels"]
    teacher, third = "the teacher, 8 x 8 for resnet20 at 32 pixels", "the student, 8 x 8 for resnet14 at 32 pixels"
    assert sorted(refused(16)) == sorted([*students, teacher, third])
