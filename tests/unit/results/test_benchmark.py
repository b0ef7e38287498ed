"""Which sweeps a table's file makes, which seeds they share, and what is refused."""

from pathlib import Path
from typing import Any

import pytest

from icd.config.ranges import Choice
from icd.config.yaml import read_yaml
from icd.errors import ConfigError, IcdError, Interrupted, StateError, UsageError
from icd.results import benchmark
from icd.results.benchmark import JUDGING, Entry, begun, benchmark_plan, benchmark_seeds, entries, run_benchmark
from icd.results.benchmark_table import read_benchmark
from icd.results.outcome import PlannedArm
from icd.results.plan import Plan, begin_plan
from icd.search import run_sweep
from icd.search.settings import Settings
from icd.search.study.sweep_index import find
from tests.tables import confirmed, document, rows, searched

WEIGHT = {"cluster_weight": {"low": 1, "high": 8}}


def told(entry: Entry) -> tuple[str, str, list[Any], str, int | None]:
    data = entry.document.data
    return entry.row, entry.sweep.name, data["search"]["enqueue"], entry.sweep.sampler.name, entry.sweep.budget.trials


@pytest.mark.parametrize(
    "methods",
    [
        ["KD", {"iCD-KD": WEIGHT}],
        {"choices": ["KD", {"iCD-KD": WEIGHT}]},
        {"KD": None, "iCD-KD": WEIGHT},
        {"KD": {}, "iCD-KD": WEIGHT},
        [{"KD": {}}, {"iCD-KD": WEIGHT}],
    ],
    ids=["list", "choices", "mapping", "empty", "single-keys"],
)
def test_every_way_to_name_rows_makes_the_same_sweeps(methods: Any) -> None:
    found = rows(methods)
    assert [told(entry) for entry in found] == [
        ("KD", "my_table.KD", [{"label": "KD", "method": {"recipe": "KD"}}], "grid", None),
        ("iCD-KD", "my_table.iCD-KD", [{"label": "iCD-KD", "method": {"recipe": "iCD-KD"}}], "random", 2),
    ]
    assert [entry.sweep.digest() for entry in found] == [
        entry.sweep.digest() for entry in rows(["KD", {"iCD-KD": WEIGHT}])
    ]
    whole = found[1].sweep.template["method"]
    assert isinstance(whole, Choice)
    assert whole.labels == ("iCD-KD",)


def test_fixed_fields_of_a_row_are_also_those_of_its_untuned_trial() -> None:
    fixed = {"allow_repeated_cells": True, "scales": [1, 2], "base_loss": {"kd": {"temperature": 2}}}
    (entry,) = rows({"iCD-KD": {**fixed, **WEIGHT}})
    assert entry.document.data["search"]["enqueue"] == [{"label": "iCD-KD", "method": {"recipe": "iCD-KD", **fixed}}]
    (baseline,) = entry.sweep.enqueue
    assert baseline.changes["method"] == {"recipe": "iCD-KD", **fixed}


def test_a_row_that_is_a_method_of_ours_has_no_untuned_trial() -> None:
    by_name = {entry.row: entry for entry in rows(["sp", "cross_entropy", {"distill": WEIGHT}])}
    assert [entry.document.data["search"]["enqueue"] for entry in by_name.values()] == [[], [], []]
    assert by_name["sp"].sweep.sampler.name == "grid"
    assert by_name["distill"].sweep.budget.trials == 2


def test_a_small_space_is_walked_through() -> None:
    (entry,) = rows({"KD": {"scales": {"choices": [[1], [1, 2], [1, 4]]}}}, budget={"trials": 5, "hours": 1})
    assert (entry.sweep.sampler.name, entry.sweep.budget.trials, entry.sweep.budget.hours) == ("grid", None, 1)
    (entry,) = rows({"KD": {"scales": {"choices": [[1], [1, 2], [1, 4]]}}}, budget={"trials": 3})
    assert (entry.sweep.sampler.name, entry.sweep.budget.trials) == ("random", 3)


def test_the_paper_s_table() -> None:
    found = entries(read_yaml(Path(__file__).parents[3] / "search_spaces" / "paper_table.yaml"))
    assert len(found) == len({entry.sweep.name for entry in found}) == 36
    assert found[0].sweep.name == "paper-table.resnet32x4-mobilenetv2.SP"
    assert found[0].column == "resnet32x4>mobilenetv2"
    assert [entry.row for entry in found[:3]] == ["SP", "CRD", "LDRLD"]
    last = found[-1].sweep
    assert (last.template["teacher"], last.template["student"]) == ({"arch": "vgg13"}, {"arch": "vgg8"})


def test_pairs_that_cannot_be_names_are_numbered() -> None:
    pairs = [
        {"teacher": {"arch": "resnet8", "weights": "train", "training": {"epochs": n}}, "student": "resnet8"}
        for n in (1, 2)
    ]
    found = entries(document(teacher=None, student=None, ranges={"pair": pairs, "method": ["KD"]}))
    assert [entry.sweep.name for entry in found] == ["my_table.pair1.KD", "my_table.pair2.KD"]
    assert [entry.sweep.template["teacher"]["training"]["epochs"] for entry in found] == [1, 2]
    assert len({entry.column for entry in found}) == 2


def test_the_file_itself_is_not_changed() -> None:
    given = document()
    before = repr(given.data)
    entries(given)
    assert repr(given.data) == before


@pytest.mark.parametrize(
    ("parts", "kind", "rule"),
    [
        ({"ranges": WEIGHT}, UsageError, "x.yaml: a table needs the rows to compare"),
        ({"ranges": {"method": ["KD"], "seed": [1, 2]}}, ConfigError, "give one seed, and say --seeds"),
        (
            {"ranges": {"method": ["KD"], "seed": {"low": 0, "high": 9}}},
            ConfigError,
            "x.yaml: seed: must be one number in a table",
        ),
        ({"enqueue": ["KD"]}, UsageError, "drop enqueue"),
        ({"ranges": {"method": ["KD", "kd"]}}, ConfigError, "method"),
        ({"name": "x" * 62}, ConfigError, "must be 1 to 64 letters"),
    ],
    ids=["no-rows", "seeds", "seed-range", "enqueue", "unknown", "long"],
)
def test_refused(parts: dict[str, Any], kind: type[IcdError], rule: str) -> None:
    with pytest.raises(kind) as caught:
        entries(document(**parts))
    assert rule in str(caught.value)


# Seeds


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("ICD_STORAGE_URL", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def test_rows_share_fresh_seeds(root: Path) -> None:
    found = entries(document(seed=102))
    assert benchmark_seeds(found, root) == (101, 103, 104, 105, 106)
    assert benchmark_seeds(found, root, 2) == (101, 103)
    assert not list(root.iterdir())  # nothing was made by asking


def test_seeds_that_one_row_has_used_are_used_by_none(root: Path) -> None:
    found = entries(document())
    study = searched(root, found[1])
    arm = PlannedArm(label="whole", kind="baseline", config={})
    begin_plan(study.ledger, Plan(stage="ablate", arms=(arm, arm), seeds=(101, 103), first=2), anew=False)
    assert benchmark_seeds(found, root, 3) == (102, 104, 105)


def test_a_table_keeps_the_seeds_it_was_begun_with(root: Path) -> None:
    found = entries(document())
    confirmed(searched(root, found[1]), {101: 60.0, 102: 61.0})
    assert benchmark_seeds(found, root) == benchmark_seeds(found, root, 2) == (101, 102)
    with pytest.raises(StateError) as caught:
        benchmark_seeds(found, root, 5)
    assert "begun with 2 seeds; take --seeds 2, or another name" in str(caught.value)


def test_a_row_that_is_added_leaves_the_others_as_they_are(root: Path) -> None:
    methods = {"KD": WEIGHT, "SD-KD": WEIGHT}
    for entry in rows(methods):
        confirmed(searched(root, entry), {101: 60.0, 102: 61.0})
    wider = rows({**methods, "DKD": WEIGHT})
    assert benchmark_seeds(wider, root) == (101, 102)
    table = read_benchmark("my_table", wider, root)
    assert [(cell.row, cell.finished, len(cell.arm.runs)) for cell in table.cells] == [
        ("KD", True, 2),
        ("SD-KD", True, 2),
        ("DKD", False, 0),
    ]


def test_a_confirmation_of_the_sweep_itself_is_none_of_the_table(root: Path) -> None:
    found = entries(document())
    study = searched(root, found[0])
    arms = tuple(PlannedArm(label=label, kind="finalist", config={}) for label in ("trial 0", "KD"))
    begin_plan(study.ledger, Plan(stage="confirm", arms=arms, seeds=(101, 102, 103)), anew=False)
    assert benchmark_plan(study.ledger) is None
    assert benchmark_seeds(found, root, 2) == (104, 105)
    confirmed(study, {101: 60.0, 102: 61.0})
    made = benchmark_plan(study.ledger)
    assert made is not None
    assert made.round == 2
    begin_plan(study.ledger, Plan(stage="confirm", arms=arms, seeds=(107, 108, 109)), anew=True)
    assert benchmark_plan(study.ledger) == made


def test_a_sweep_of_another_file_is_refused(root: Path) -> None:
    entry = entries(document())[0]
    searched(root, entry)
    assert begun(root, entry) is not None
    (cheaper, *_) = entries(document(budget={"trials": 3}))
    assert begun(root, cheaper) is not None
    (other, *_) = entries(document(training={"epochs": 2, "batch_size": 50}))
    with pytest.raises(StateError) as caught:
        begun(root, other)
    assert "'my_table.KD' was begun otherwise" in str(caught.value)
    assert "epochs: 1 -> 2" in str(caught.value)


def test_what_a_table_is_judged_by_is_kept_before_its_runs(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found, judging = entries(document()), {"against": ["KD"], "alpha": 0.05, "rows": ["KD", "SD-KD", "sp"]}
    for entry in found:
        searched(root, entry)
    kept: list[Any] = []

    def train_listed(stage: str, name: str, settings: Settings, listed: Any) -> str:
        ledger = find(root, name)
        listed(ledger, found[len(kept)].sweep)
        kept.append(ledger.attributes[JUDGING])
        return ""

    monkeypatch.setattr(benchmark, "train_listed", train_listed)
    run_benchmark(document(), Settings(root=root), judging=judging)
    assert kept == [judging] * 3


# What ends a row


def test_a_table_ends_with_the_row_that_was_stopped(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """'icd stop' during a confirmation, too: the next row is not begun."""
    for entry in entries(document()):
        searched(root, entry)
    asked: list[str] = []

    def train_listed(stage: str, name: str, *more: Any) -> str:
        asked.append(name)
        return "stop"

    monkeypatch.setattr(benchmark, "train_listed", train_listed)
    with pytest.raises(StateError, match="was stopped; the same command goes on with it"):
        run_benchmark(document(), Settings(root=root))
    assert asked == ["my_table.KD"]


@pytest.mark.parametrize("searches", [True, False])
def test_a_signal_names_the_table_and_not_the_row(
    root: Path, monkeypatch: pytest.MonkeyPatch, *, searches: bool
) -> None:
    def interrupted(*more: Any) -> str:
        raise Interrupted("continue with 'icd confirm my_table.KD'")

    if searches:
        monkeypatch.setattr(run_sweep, "run", interrupted)
    else:
        searched(root, entries(document())[0])
        monkeypatch.setattr(benchmark, "train_listed", interrupted)
    with pytest.raises(Interrupted) as caught:
        run_benchmark(document(), Settings(root=root))
    told = str(caught.value)
    assert told.startswith("the table stopped at my_table.KD; continue with 'icd benchmark x.yaml --root ")
    assert "confirm" not in told


@pytest.mark.parametrize("stage", ["search", "confirm"])
def test_rows_of_which_too_many_runs_failed_are_named(root: Path, stage: str) -> None:
    for entry in entries(document()):
        study = searched(root, entry)
        bad = entry.row == "SD-KD"
        if bad and stage == "search":
            study.trial("failed", reason="OSError")
        confirmed(study, {101: 60.0, 102: 61.0}, failed=(102,) if bad and stage == "confirm" else ())
    assert run_benchmark(document(), Settings(root=root)) == ["my_table.SD-KD"]
