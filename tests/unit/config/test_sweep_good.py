"""Good sweep files: what each short form means, defaults, identity, and trials checked before anything starts."""

from pathlib import Path

import pytest

from icd.config.labels import canonical, labels_of
from icd.config.read_sweep import load_sweep
from icd.config.space import Stored, baseline_document, trial_document
from icd.config.sweep import (
    METRICS,
    Baseline,
    Branches,
    Budget,
    Choice,
    Interval,
    Objective,
    PrunerConfig,
    Resources,
    SamplerConfig,
    ScaleWeights,
    Source,
)
from icd.config.walk import Dimension, corners, dimensions
from icd.errors import ConfigError
from icd.methods import METHODS, PAPER_ROWS
from tests.unit.config.sweeps import sweep, sweep_text

RANGE = "cluster_weight: {low: 1, high: 2}"


# Parts other than the space


def test_what_a_file_may_leave_out() -> None:
    config = sweep(RANGE)
    assert config.objectives == (Objective(metric="val/top1", direction="maximize"),)
    assert config.sampler == SamplerConfig(name="random", startup_trials=6)
    assert config.pruner == PrunerConfig()
    assert config.budget == Budget(trials=10)
    assert config.resources == Resources()
    assert config.enqueue == ()
    assert config.seed == 0


def test_the_seed_is_the_samplers_and_every_trials() -> None:
    config = sweep(RANGE, seed="7")
    assert config.seed == 7
    assert config.fixed["seed"] == 7


@pytest.mark.parametrize("metric", METRICS)
def test_a_metric_knows_its_direction(metric: str) -> None:
    (objective,) = sweep(RANGE, objective=f"{{metric: {metric}}}").objectives
    assert objective.direction == ("maximize" if "top" in metric else "minimize")
    (other,) = sweep(RANGE, objective=f"{{metric: {metric}, direction: maximize}}").objectives
    assert other.direction == "maximize"


def test_several_objectives() -> None:
    config = sweep(RANGE, objective="[{metric: val/top1}, cost/parameters]")
    assert config.objectives == (
        Objective(metric="val/top1", direction="maximize"),
        Objective(metric="cost/parameters", direction="minimize"),
    )


def test_a_grid_needs_no_number_of_trials() -> None:
    config = sweep("cluster_weight: {choices: [1, 2]}", sampler="grid", budget=None)
    assert config.budget.trials is None


def test_null_stands_for_a_part_left_out() -> None:
    assert sweep(RANGE, pruner="null", resources="null", enqueue="null") == sweep(RANGE)


def test_overrides_reach_into_the_space(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_text(sweep_text("cluster_weight: {low: 1, high: 2}"), encoding="utf-8")
    config = load_sweep(file, ["space.cluster_weight.high=5", "budget.trials=3"])
    assert config.space == {"method.cluster_weight": Interval(low=1, high=5)}
    assert config.budget.trials == 3


def test_identity_leaves_out_what_may_change() -> None:
    config = sweep(RANGE)
    assert sweep(RANGE, budget="{trials: 99}", resources="{retries: 0}").digest() == config.digest()
    changed = [sweep("cluster_weight: {low: 1, high: 3}"), sweep(RANGE, seed="1"), sweep(RANGE, enqueue="[KD]")]
    assert len({config.digest(), *(other.digest() for other in changed)}) == 4


def test_equal_files_have_equal_digests() -> None:
    first = sweep("protocol: {lr: {low: 1, high: 2}}\ncluster_weight: {low: 1.0, high: 2}\ngram: cells")
    second = sweep("gram: cells\ncluster_weight: {high: 2, low: 1}\nprotocol: {lr: {high: 2, low: 1}}")
    assert first.digest() == second.digest()
    assert list(first.space) == list(second.space)


# Nodes


@pytest.mark.parametrize(
    ("text", "path", "node"),
    [
        ("cluster_weight: {low: 1, high: 2}", "method.cluster_weight", Interval(low=1.0, high=2.0)),
        (
            "cluster_weight: {low: 1, high: 2, log: true}",
            "method.cluster_weight",
            Interval(low=1.0, high=2.0, log=True),
        ),
        (
            "cluster_weight: {low: 0, high: 1, step: 0.1}",
            "method.cluster_weight",
            Interval(low=0.0, high=1.0, step=0.1),
        ),
        ("grid: {low: 2, high: 8}", "method.grid", Interval(low=2, high=8, integer=True)),
        ("grid: {low: 2, high: 8, step: 3}", "method.grid", Interval(low=2, high=8, step=3, integer=True)),
        ("grid: {choices: [2, null]}", "method.grid", Choice(options=(2, None), labels=("grid2", "none"))),
        ("gram: {choices: [cells]}", "method.gram", Choice(options=("cells",), labels=("cells",))),
        (
            "allow_repeated_cells: {choices: [false, true]}",
            "method.allow_repeated_cells",
            Choice(options=(False, True), labels=("false", "true")),
        ),
        (
            "scales: {subsets_of: [2, 1]}",
            "method.scales",
            Choice(options=([1], [2], [1, 2]), labels=("s1", "s2", "s1+s2")),
        ),
        (
            "scales: {subsets_of: [1, 2, 4], containing: [1]}",
            "method.scales",
            Choice(options=([1], [1, 2], [1, 4], [1, 2, 4]), labels=("s1", "s1+s2", "s1+s4", "s1+s2+s4")),
        ),
        ("scales: {choices: [[4, 1]]}", "method.scales", Choice(options=([1, 4],), labels=("s1+s4",))),
        ("scale_weights: {low: 0.1, high: 1}", "method.scale_weights", ScaleWeights(low=0.1, high=1.0)),
        ("base_loss: [kd, dkd]", "method.base_loss", Branches(fields={"kd": {}, "dkd": {}})),
        ("base_loss: {choices: [kd, dkd]}", "method.base_loss", Branches(fields={"kd": {}, "dkd": {}})),
        (
            "base_loss: {choices: [kd, {dkd: {beta: 2}}]}",
            "method.base_loss",
            Branches(fields={"kd": {}, "dkd": {"beta": 2}}),
        ),
        (
            "base_loss: {ldrld: {k: {low: 3, high: 9}}}",
            "method.base_loss",
            Branches(fields={"ldrld": {"k": Interval(low=3, high=9, integer=True)}}),
        ),
        ("protocol: {epochs: {low: 2, high: 4}}", "protocol.epochs", Interval(low=2, high=4, integer=True)),
        (
            "protocol: {milestones: {choices: [[1, 2], []]}}",
            "protocol.milestones",
            Choice(options=([1, 2], []), labels=("milestones1+2", "milestones")),
        ),
        (
            "protocol: {preset: {choices: [digits100, cifar100]}}",
            "protocol.preset",
            Choice(options=("digits100", "cifar100"), labels=("digits100", "cifar100")),
        ),
        ("seed: {choices: [0, 1]}", "seed", Choice(options=(0, 1), labels=("seed0", "seed1"))),
        ("seed: [0, 1]", "seed", Choice(options=(0, 1), labels=("seed0", "seed1"))),
    ],
)
def test_what_a_line_of_the_space_means(text: str, path: str, node: object) -> None:
    assert sweep(text).space == {path: node}


@pytest.mark.parametrize(
    ("text", "field", "value"),
    [
        ("cluster_weight: 3", "cluster_weight", 3),
        ("scales: [1, 2]", "scales", [1, 2]),
        ("scale_weights: [1, 2, 3]", "scale_weights", [1, 2, 3]),
        ("base_loss: dkd", "base_loss", "dkd"),
        ("base_loss: {dkd: {beta: 2}}", "base_loss", {"dkd": {"beta": 2}}),
        ("grid: null", "grid", None),
    ],
)
def test_a_plain_value_joins_the_fixed_method(text: str, field: str, value: object) -> None:
    config = sweep(f"{text}\nwarmup_epochs: {{low: 0, high: 1}}")
    assert config.fixed["method"] == {"row": "iCD-KD", field: value}
    assert list(config.space) == ["method.warmup_epochs"]


def test_plain_protocol_values_join_the_fixed_protocol() -> None:
    config = sweep("protocol: {lr: {low: 0.1, high: 1}, batch_size: 32}", protocol="cifar100")
    assert config.fixed["protocol"] == {"preset": "cifar100", "batch_size": 32}
    assert list(config.space) == ["protocol.lr"]


def test_fields_of_the_fixed_method_whatever_it_is() -> None:
    assert list(sweep("similarity_weight: {low: 1, high: 2}", method="SP").space) == ["method.similarity_weight"]
    assert list(sweep("num_negatives: {low: 1, high: 2}", method="{name: crd}").space) == ["method.num_negatives"]


def test_without_a_method_fields_belong_to_distill() -> None:
    config = sweep(RANGE, method=None)
    assert config.fixed["method"] == {}
    assert list(config.space) == ["method.cluster_weight"]


def test_whole_methods() -> None:
    rows = sweep(f"method: [{', '.join([*PAPER_ROWS, *METHODS])}]", method=None, sampler="grid")
    assert list(rows.space["method"].fields) == [*PAPER_ROWS, *METHODS]
    config = sweep("method: {KD: , SP: {similarity_weight: {low: 1, high: 2}, ce_weight: 2}}", method=None)
    assert config.space["method"] == Branches(
        fields={"KD": {}, "SP": {"ce_weight": 2, "similarity_weight": Interval(low=1.0, high=2.0)}}
    )


def test_networks() -> None:
    config = sweep("student: [resnet8, {arch: resnet8, stem: cub}]\nteacher: [resnet20]", student=None, teacher=None)
    assert config.space["student"].labels == ("resnet8", "resnet8(stem=cub)")
    assert config.space["teacher"].options == ("resnet20",)
    pair = "pair: {choices: [{teacher: resnet20, student: {arch: resnet8}}]}"
    assert sweep(pair, student=None, teacher=None).space["pair"].labels == ("resnet20>resnet8",)


@pytest.mark.parametrize(
    "config",
    [
        ("lr", [0.1, 1, 1.0e9]),
        ("milestones", [[1], [2, 3], []]),
        ("x", ["1e3", "nan", "inf", "1_000", "text"]),
        ("views", [{"crop_flip": {"size": 32}}, {"crop_flip": {"size": 32, "pad": 2}}]),
        ("student", [{"arch": "a", "b": {"c": 1}}, {"arch": "a", "b": {"c": 2}}, "a"]),
        ("grid", [None, True, 4]),
    ],
)
def test_labels_differ_and_never_look_like_numbers(config: tuple[str, list[object]]) -> None:
    labels = labels_of(*config)
    assert len(set(labels)) == len(config[1])
    for label in labels:
        with pytest.raises(ValueError, match="could not convert"):
            float(label)


def test_equal_options_read_alike() -> None:
    assert canonical({"a": 2, "b": [1.0]}) == canonical({"b": [1], "a": 2.0})
    assert canonical(2) != canonical(2.5)


def test_numbers_of_a_step() -> None:
    assert Interval(low=0.1, high=0.7, step=0.2).values() == (0.1, 0.3, 0.5, 0.7)
    assert Interval(low=1, high=4, integer=True).values() == (1, 2, 3, 4)
    assert Interval(low=1, high=7, step=3, integer=True).values() == (1, 4, 7)
    assert not Interval(low=0, high=1).finite


# Baselines


def test_baselines() -> None:
    config = sweep(RANGE, enqueue="[KD, {label: mine, method: {cluster_weight: 9}, protocol: {lr: 0.2}, seed: 3}]")
    assert config.enqueue == (
        Baseline(label="KD", changes={"method": "KD"}),
        Baseline(label="mine", changes={"method": {"cluster_weight": 9}, "protocol": {"lr": 0.2}, "seed": 3}),
    )


def test_sources() -> None:
    one, two = Source(sweep="other", top=3), Source(sweep="last")
    assert sweep(RANGE, enqueue="{from: other, top: 3}").sources == (one,)
    mixed = sweep(RANGE, enqueue="[{from: other, top: 3}, KD, {from: last}]")
    assert (mixed.sources, [item.label for item in mixed.enqueue], two.top) == ((one, two), ["KD"], 5)
    assert mixed.to_data()["sources"] == [{"sweep": "other", "top": 3}, {"sweep": "last", "top": 5}]
    assert mixed.digest() != sweep(RANGE, enqueue="[KD]").digest()
    assert "sources" not in sweep(RANGE, enqueue="[KD]").to_data()  # as studies have it that were begun before


def test_what_a_baseline_changes() -> None:
    fixed = {"student": "resnet8", "method": "iCD-KD", "protocol": "cifar100", "seed": 1}
    document = baseline_document(fixed, {}, {"method": {"cluster_weight": 9}, "protocol": {"lr": 0.2}})
    assert document == {
        "student": "resnet8",
        "method": {"row": "iCD-KD", "cluster_weight": 9},
        "protocol": {"preset": "cifar100", "lr": 0.2},
        "seed": 1,
    }
    assert baseline_document(fixed, {}, {"method": {"row": "KD"}})["method"] == {"row": "KD"}
    assert baseline_document(fixed, {}, {"method": "SP", "student": "vgg8"}) == {
        **fixed,
        "method": "SP",
        "student": "vgg8",
    }


def test_a_baseline_takes_the_first_option_of_what_it_does_not_name() -> None:
    space = "pair: [{teacher: resnet20, student: resnet8}, {teacher: resnet32, student: resnet14}]\nseed: [4, 5]"
    config = sweep(space, student=None, teacher=None, enqueue="[KD]", seed="7")
    assert (config.seed, "seed" in config.fixed) == (7, False)
    document = baseline_document(config.fixed, config.space, config.enqueue[0].changes)
    assert (document["teacher"], document["student"], document["seed"]) == ("resnet20", "resnet8", 4)


# Questions and answers


def test_stored_parameters_must_fit() -> None:
    config = sweep("cluster_weight: {low: 1, high: 2}\ngram: {choices: [cells, classes]}")
    good = {"cluster_weight": 1.5, "gram": "cells"}
    assert trial_document(config.fixed, config.space, Stored(good))["method"] == {"row": "iCD-KD", **good}
    for wrong, rule in (
        ({"cluster_weight": 3}, "cluster_weight: must be a number with 1 <= cluster_weight <= 2, but got 3"),
        ({"cluster_weight": "1"}, "cluster_weight: must be a number"),
        ({"gram": "cell"}, "gram: must be one of cells, classes, but got 'cell'"),
    ):
        with pytest.raises(ConfigError, match=rule):
            trial_document(config.fixed, config.space, Stored({**good, **wrong}))
    with pytest.raises(ConfigError, match="gram: this parameter of the space is missing"):
        trial_document(config.fixed, config.space, Stored({"cluster_weight": 1}))


def test_the_fixed_part_is_never_changed() -> None:
    config = sweep("base_loss: {dkd: {beta: {low: 1, high: 2}}}\nprotocol: {lr: {low: 0.1, high: 1}}")
    before = config.digest()
    document = trial_document(
        config.fixed, config.space, Stored({"base_loss": "dkd", "dkd.beta": 1.0, "protocol.lr": 1.0})
    )
    document["method"]["base_loss"]["dkd"]["beta"] = 9
    document["protocol"]["lr"] = 9
    assert config.digest() == before


def weights(space: str, params: dict[str, object], **parts: str | None) -> dict[str, object]:
    config = sweep(space, **parts)
    method = trial_document(config.fixed, config.space, Stored(params))["method"]
    return {name: value for name, value in method.items() if "scale_weights" in name}


def test_scale_weights_are_normalised_and_scale_1_has_none() -> None:
    space = "scales: {subsets_of: [1, 2, 4]}\nscale_weights: {low: 0.1, high: 1}"
    both = {"scale_weights.s2": 0.2, "scale_weights.s4": 0.6}
    assert weights(space, {"scales": "s1+s2+s4", **both}) == {"scale_weights": [0.0, 0.25, 0.75]}
    assert weights(space, {"scales": "s2+s4", **both}) == {"scale_weights": [0.25, 0.75]}
    assert weights(space, {"scales": "s1+s4"}) == {"scale_weights": [0.0, 1.0]}
    assert weights(space, {"scales": "s1"}) == {}


def test_scale_1_has_a_weight_where_classes_are_compared() -> None:
    space = "scales: [2, 1]\nscale_weights: {low: 0.1, high: 1}\ngram: {choices: [cells, classes]}"
    both = {"scale_weights.s1": 0.1, "scale_weights.s2": 0.4}
    assert weights(space, {"gram": "classes", **both}) == {"scale_weights": [0.8, 0.2]}  # in the order of the file
    assert weights(space, {"gram": "cells"}) == {"scale_weights": [1.0, 0.0]}


def test_base_scale_weights_count_every_scale() -> None:
    space = "scales: {choices: [[1], [1, 2]]}\nbase_scale_weights: {low: 0.1, high: 1}"
    both = {"base_scale_weights.s1": 0.5, "base_scale_weights.s2": 0.5}
    assert weights(space, {"scales": "s1+s2", **both}) == {"base_scale_weights": [0.5, 0.5]}
    assert weights(space, {"scales": "s1"}) == {}


def test_dimensions() -> None:
    config = sweep(
        "base_loss:\n  kd: {temperature: {low: 1, high: 8}}\n  dkd:\n"
        "scales: {choices: [[1], [2, 4]]}\nscale_weights: {low: 0.1, high: 1, log: true}\n"
        "protocol: {epochs: {low: 2, high: 4}}\nseed: [0, 1]"
    )
    choices = {"kind": "choice", "options": 2}
    only = "scales in s2+s4"
    assert dimensions(config.fixed, config.space) == [
        Dimension(name="base_loss", values="kd, dkd", **choices),
        Dimension(name="kd.temperature", kind="float", values="1 to 8", condition="base_loss is kd"),
        Dimension(name="scales", values="s1, s2+s4", **choices),
        Dimension(name="scale_weights.s2", kind="float", values="0.1 to 1 log", condition=only),
        Dimension(name="scale_weights.s4", kind="float", values="0.1 to 1 log", condition=only),
        Dimension(name="protocol.epochs", kind="integer", values="2 to 4"),
        Dimension(name="seed", values="seed0, seed1", **choices),
    ]


def test_every_network_meets_every_scale_set_in_a_corner() -> None:
    config = sweep("student: [resnet8, resnet14, resnet20]\nscales: {subsets_of: [1, 2, 4]}", student=None)
    met = {(params["student"], params["scales"]) for params in corners(config.fixed, config.space)}
    assert len(met) == 3 * 7


# Samplers that need a simple space


def test_samplers_take_the_spaces_they_can() -> None:
    assert sweep(RANGE, sampler="cmaes").sampler.name == "cmaes"
    assert sweep("gram: {choices: [cells, classes]}", sampler="gp").sampler.name == "gp"
    assert sweep("base_loss: {kd: {temperature: {low: 1, high: 8}}}", sampler="cmaes").sampler.name == "cmaes"
    fixed_set = "scales: [1, 2, 4]\nscale_weights: {low: 0.1, high: 1}"
    assert sweep(fixed_set, sampler="gp").sampler.name == "gp"
    assert sweep("cluster_weight: {low: 1, high: 8, step: 1}", sampler="grid").sampler.name == "grid"
    assert sweep("base_loss: [kd, dkd]", sampler="gp").sampler.name == "gp"  # differing names, no differing fields
