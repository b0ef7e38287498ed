"""Good sweep files: short forms, ranges wherever a value may stand, identity, round trips and one spelling."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from icd.cli.main import main
from icd.config.document import Document
from icd.config.names import shown_params, tails
from icd.config.ranges import Choice, Interval, ScaleWeights
from icd.config.read_sweep import read_sweep
from icd.config.read_trial import read_trial
from icd.config.space import Stored, nodes_below, trial_document
from icd.config.sweep import METRICS, Budget, Objective, PrunerConfig, Resources, SamplerConfig
from icd.config.walk import corners, dimensions, points, size
from icd.config.yaml import apply_overrides, read_yaml
from icd.results.tables import best_trials
from icd.search.core.records import TrialRecord
from icd.search.suggest import params_of
from icd.search.suggest.flat_row import FlatRow
from icd.search.sweep_status import flat_rows
from tests.documents import document_of
from tests.unit.config.sweeps import RANGE, sweep

FOLDER = Path(__file__).parents[3] / "search_spaces"
SHIPPED = sorted(FOLDER.rglob("*.yaml"))


def test_what_a_file_may_leave_out() -> None:
    config = sweep()
    assert config.objectives == (Objective(metric="val/top1", direction="maximize"),)
    assert config.sampler == SamplerConfig(name="random", seed=0, startup_trials=6)
    assert (config.pruner, config.budget, config.resources) == (PrunerConfig(), Budget(trials=10), Resources())
    assert (config.enqueue, config.sources, config.pairs) == ((), (), ())
    assert sweep(RANGE, pruner="null", resources="null", enqueue="null") == config


def test_the_sampler_has_a_seed_of_its_own() -> None:
    config = sweep(RANGE, seed="7", sampler="{name: tpe, seed: 3}")
    assert (config.sampler.seed, config.template["seed"]) == (3, 7)


@pytest.mark.parametrize("metric", METRICS)
def test_a_metric_knows_its_direction(metric: str) -> None:
    (objective,) = sweep(RANGE, objective=metric).objectives
    assert objective.direction == ("maximize" if "top" in metric else "minimize")
    (other,) = sweep(RANGE, objective=f"{{metric: {metric}, direction: maximize}}").objectives
    assert other.direction == "maximize"


@pytest.mark.parametrize("budget", ["{trials: 3}", "{hours: 0.5}", "{gpu_hours: 2}"])
def test_any_one_limit_is_a_budget(budget: str) -> None:
    assert sweep(RANGE, budget=budget).budget == Budget(**yaml.safe_load(budget))


def test_a_range_may_stand_at_any_leaf() -> None:
    text = """
name: x
teacher: {arch: {choices: [resnet20, resnet32]}, training: {epochs: {low: 2, high: 9}}, seed: {choices: [0, 1]}}
student: {choices: [resnet8, {arch: resnet14, stem: conv7x7_s2}]}
method: {recipe: {choices: [KD, SD-KD]}, base_loss: {kd: {temperature: {low: 1, high: 8}}}, gram: {choices: [cells]}}
training: {lr: {low: 0.01, high: 0.1, log: true}, augmentation: {crop_flip: {size: 32, pad: {low: 0, high: 4}}}}
seed: {low: 0, high: 3}
search: {budget: {hours: 1}}
"""
    config = read_sweep(Document(yaml.safe_load(text), "x.yaml"))
    assert [row.name for row in dimensions(config.template)] == [
        "teacher.training.epochs",
        "teacher.seed",
        "teacher.arch",
        "student",
        "method.recipe",
        "method.base_loss.kd.temperature",
        "method.gram",
        "training.augmentation.crop_flip.pad",
        "training.lr",
        "seed",
    ]
    kinds = {row.name: row.kind for row in dimensions(config.template)}
    assert (kinds["seed"], kinds["teacher.training.epochs"], kinds["training.lr"]) == ("integer", "integer", "float")


def test_one_option_may_be_written_in_three_ways() -> None:
    ways = ["{kd: , dkd: {beta: {low: 1, high: 2}}}", "[kd, {dkd: {beta: {low: 1, high: 2}}}]"]
    first, second = (sweep("{}", method=f"{{base_loss: {{choices: {way}}}}}") for way in ways)
    assert first == second
    assert first.digest() == second.digest()
    named = sweep("{}", method="{choices: {KD: , iCD-KD: {cluster_weight: {low: 1, high: 2}}}}")
    listed = sweep("{}", method="{choices: [KD, {recipe: iCD-KD, cluster_weight: {low: 1, high: 2}}]}")
    assert named == listed


def test_equal_files_are_asked_in_one_order() -> None:
    first = sweep("training: {lr: {low: 1, high: 2}}\ncluster_weight: {low: 1.0, high: 2}\ngram: {choices: [cells]}")
    second = sweep("gram: {choices: [cells]}\ncluster_weight: {high: 2, low: 1}\ntraining: {lr: {high: 2, low: 1}}")
    assert first.digest() == second.digest()
    assert [place.path for place in nodes_below(first.template)] == [
        place.path for place in nodes_below(second.template)
    ]


def test_identity_leaves_out_what_may_change() -> None:
    config = sweep()
    assert sweep(RANGE, budget="{trials: 99}", resources="{retries: 0}").digest() == config.digest()
    others = [sweep("cluster_weight: {low: 1, high: 3}"), sweep(RANGE, seed="1"), sweep(RANGE, enqueue="[KD]")]
    assert len({config.digest(), *(other.digest() for other in others)}) == 4


def test_weights_are_shown_with_sum_1() -> None:
    raw = {"method.cluster_scale_weights.s2": 0.2, "method.cluster_scale_weights.s4": 0.6, "method.cluster_weight": 8.0}
    assert shown_params(raw) == {
        "method.cluster_scale_weights.s2": 0.25,
        "method.cluster_scale_weights.s4": 0.75,
        "method.cluster_weight": 8.0,
    }


def test_columns_show_the_shortest_clear_tail() -> None:
    names = ["method.base_loss.kd.temperature", "method.base_loss.dkd.temperature", "training.lr", "seed"]
    names += ["method.cluster_scale_weights.s2"]
    assert list(tails(names).values()) == [
        "kd.temperature",
        "dkd.temperature",
        "lr",
        "seed",
        "cluster_scale_weights.s2",
    ]


# Shipped files


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.stem)
def test_what_validate_prints_of_a_shipped_sweep_is_the_same_sweep(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """``icd validate SWEEP > x.yaml && icd validate x.yaml``."""
    assert main(["validate", str(file)]) == 0
    (tmp_path / "x.yaml").write_text(printed := capsys.readouterr().out)
    assert main(["validate", str(tmp_path / "x.yaml")]) == 0
    again = capsys.readouterr().out
    assert again.splitlines()[0].rpartition("; digest")[2] == printed.splitlines()[0].rpartition("; digest")[2]
    assert read_sweep(read_yaml(tmp_path / "x.yaml")) == read_sweep(read_yaml(file))


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.stem)
def test_a_parameter_has_one_spelling(file: Path) -> None:
    """In the study, in MLflow, CSV and the report, for ``--set`` in both files, and in what a trial is written as."""
    document, config = read_yaml(file), read_sweep(read_yaml(file))
    names = {row.name for row in dimensions(config.template)}
    for params in corners(config.template):
        assert params.keys() <= names, "Optuna is asked by the same names"
        record = TrialRecord(number=0, state="complete", values=[50.0], params=params, curve={1: 50.0})
        assert {f"params_{name}" for name in params} <= flat_rows([record], ["val/top1"])[0].keys(), "CSV too"
        facts: Any = SimpleNamespace(complete=[record], metrics=["val/top1"], confirmation=None)
        told = str(best_trials(facts))
        first = next(iter(params)).removeprefix("method.")  # a cell of the report shows a clear tail
        assert f"{first} " in told
        trial = read_trial(Document(trial_document(config.template, Stored(params)), "t")) if not config.pairs else None
        if trial is None:
            continue
        assert params.keys() <= FlatRow(config.template).row(trial).keys(), "MLflow has the same names"
        best = Document(trial.to_data(), "best.yaml")
        for name, value in params.items():
            if name == "pair":  # two networks
                continue
            node = best.data
            for part in name.split("."):
                node = node[part]
            if isinstance(value, float) and "weights.s" not in name:
                assert node == pytest.approx(value)
                read_trial(apply_overrides(best, [f"{name}={value}"]))
    for path, node, *_ in nodes_below(config.template):
        written = [str(part) for part in path]
        if isinstance(node, Interval):  # --set goes through choices to the very place
            changed = read_sweep(apply_overrides(document, [f"{'.'.join(written)}={node.to_data()}"]))
            assert changed == config


# Round trips

_CHOICE = st.lists(st.sampled_from(["cells", "classes", "samples"]), min_size=1, max_size=3, unique=True)
_RANGE = st.tuples(st.floats(0.01, 5), st.floats(0.01, 5), st.booleans()).map(
    lambda ends: {"low": ends[0], "high": ends[0] + ends[1], "log": ends[2]}
)
_METHOD = st.fixed_dictionaries(
    {"cluster_weight": _RANGE},
    optional={
        "gram": _CHOICE.map(lambda options: {"choices": options}),
        "cluster_temperature": _RANGE,
        "scales": st.sampled_from([{"subsets_of": [1, 2, 4]}, {"choices": [[1], [1, 2]]}]),
        "base_loss": st.sampled_from(
            [
                {"kd": {"temperature": {"low": 1, "high": 8}}},
                {"choices": {"kd": None, "nkd": {"gamma": {"low": 1, "high": 2}}}},
            ]
        ),
        "warmup_epochs": st.just({"choices": [0, 20]}),
    },
)


@settings(derandomize=True, deadline=None, max_examples=25, database=None)
@given(_METHOD, st.sampled_from(["resnet8", {"choices": ["resnet8", "resnet14"]}]), st.integers(0, 2**63 - 1))
def test_a_sweep_comes_back_from_what_it_writes(method: dict[str, object], student: object, seed: int) -> None:
    parts = {"name": "x", "teacher": "resnet20", "student": student, "method": method, "seed": seed}
    config = read_sweep(Document(document_of({**parts, "budget": {"trials": 9}}), "x.yaml"))
    assert read_sweep(Document(yaml.safe_load(yaml.safe_dump(config.to_data())), "again")) == config
    for params in corners(config.template):
        assert Stored(params).params.keys() <= {row.name for row in dimensions(config.template)}


def test_points_of_a_grid_come_in_one_order() -> None:
    config = sweep(
        "cluster_weight: {low: 0, high: 1, step: 0.1}\nscales: {choices: [[1], [1, 2]]}", sampler="grid", budget=None
    )
    found = list(points(config.template))
    assert size(config.template) == len(found) == 22
    assert [point["method.cluster_weight"] for point in found[:11]] == [
        0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0
    ]  # fmt: skip
    assert isinstance(config.template["method"]["scales"], Choice)


def test_a_range_of_very_many_whole_numbers_is_counted_without_listing_them() -> None:
    config = sweep("seed: {low: 0, high: 9223372036854775807}")
    assert size(config.template) == 2**63
    assert params_of.holds(config.template["seed"], 2**62)
    assert not params_of.holds(config.template["seed"], -1)


def test_weights_are_asked_where_two_matter() -> None:
    config = sweep("scales: {subsets_of: [1, 2, 4]}\ncluster_scale_weights: {low: 0.1, high: 1}")
    assert isinstance(config.template["method"]["cluster_scale_weights"], ScaleWeights)
    rows = {row.name: row.condition for row in dimensions(config.template)}
    assert rows["method.cluster_scale_weights.s2"] == "method.scales has 2 and another weighted scale"
    assert "method.cluster_scale_weights.s1" not in rows
