"""A table as values: what is read of rows that are not all there, how they compare, and that it is written exactly."""

import csv
import io
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from icd.errors import StateError, UsageError
from icd.results.benchmark import JUDGING, Entry, entries
from icd.results.benchmark_table import Cell, Table, read_benchmark, reported, written
from icd.results.outcome import Arm, Comparison, Run
from icd.search.study.sweep_index import find
from icd.search.study.sweep_study import LIST_NUMBERS
from tests.tables import confirmed, document, searched

VALUES: Mapping[str, Mapping[int, float | None]] = {
    "KD": {101: 60.0, 102: 61.0, 103: 62.0},
    "SD-KD": {101: 64.0, 102: 65.1, 103: 65.9},
}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("ICD_STORAGE_URL", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def found() -> list[Entry]:
    return entries(document())


def told(root: Path, found: list[Entry], values: Mapping[str, Mapping[int, float | None]], planned: int = 3) -> None:
    for entry in found:
        if entry.row in values:
            study = searched(root, entry)
            if values[entry.row]:
                confirmed(study, values[entry.row], planned)


def test_nothing_is_there_yet(root: Path, found: list[Entry]) -> None:
    table = read_benchmark("my_table", found, root)
    assert (table.rows, table.columns, table.seeds) == (("KD", "SD-KD", "sp"), ("all",), 5)
    assert [(cell.arm.mean, cell.arm.trial, cell.test_evaluations, cell.finished) for cell in table.cells] == [
        (None, None, 0, False)
    ] * 3
    assert [(item.difference, item.verdict) for item in table.comparisons] == [(None, "open")] * 2
    assert table.statement == "No row has a result yet."


def test_rows_that_are_not_all_there(root: Path, found: list[Entry]) -> None:
    told(root, found, {**VALUES, "sp": {}})
    table = read_benchmark("my_table", found, root)
    assert table.seeds == 3
    kd, _, sp = table.cells
    assert (kd.arm.by_seed, kd.arm.mean, kd.arm.sd, kd.test_evaluations, kd.finished) == (
        VALUES["KD"],
        61.0,
        1.0,
        3,
        True,
    )
    assert (kd.sweep, kd.arm.trial, kd.trials, kd.per) == ("my_table.KD", 0, 1, "CPU")
    assert kd.hours == pytest.approx((3 + 3 * 36) / 3600)
    assert kd.runs == tuple(f"uidKD/{LIST_NUMBERS + place}" for place in range(3))
    assert (sp.arm.mean, sp.arm.trial, sp.trials, sp.finished) == (None, None, 1, False)
    assert not table.finished
    first, second = table.comparisons
    assert (first.arm, first.against, first.seeds, first.verdict) == ("SD-KD", "KD", 3, "open"), (
        "nothing is shown early"
    )
    assert first.difference == pytest.approx(4.0)
    assert (second.arm, second.difference, second.p) == ("sp", None, None)
    assert "SD-KD has the highest mean, 65.00 %. Not decided yet against KD: SD-KD, sp." in table.statement


def test_rows_that_are_all_there_are_judged(root: Path, found: list[Entry]) -> None:
    told(root, found, VALUES)
    table = read_benchmark("my_table", found[:2], root)
    (item,) = table.comparisons
    assert (table.finished, item.verdict) == (True, "better")
    assert "SD-KD has the highest mean, 65.00 %. Better than KD: SD-KD." in table.statement


def test_a_run_that_diverged_counts_as_the_plan_says(root: Path, found: list[Entry]) -> None:
    told(root, found, {"KD": VALUES["KD"]})
    confirmed(searched(root, found[1]), {101: 64.0, 102: None, 103: 65.0}, 3, "chance-level")
    table = read_benchmark("my_table", found[:2], root)
    arm = table.cells[1].arm
    assert (table.finished, arm.failures, arm.counted) == (True, {102: "diverged"}, {102: 1.0})
    assert arm.n == 3, "as many values as are compared"
    assert arm.mean == pytest.approx((64 + 1 + 65) / 3)
    assert table.cells[1].arm.by_seed == {101: 64.0, 102: 1.0, 103: 65.0}
    (item,) = table.comparisons
    assert (item.seeds, item.verdict) == (3, "no difference shown")
    assert item.difference == pytest.approx((4 - 60 + 3) / 3)
    assert "SD-KD gave no result on seed 102: diverged; the run counts as 1.00 %." in table.statement


def test_one_run_that_failed_leaves_the_verdict_to_the_others(root: Path, found: list[Entry]) -> None:
    kd = {101: 60.0, 102: 61.0, 103: 62.0, 104: 60.5, 105: None}
    other = {101: 70.0, 102: 71.1, 103: 71.9, 104: 70.7, 105: 70.0}
    told(root, found, {"KD": kd, "SD-KD": other}, planned=5)
    table = read_benchmark("my_table", found[:2], root)
    (item,) = table.comparisons
    assert (item.seeds, item.verdict) == (4, "better")
    assert (item.p or 1) < 0.001
    assert "KD gave no result on seed 105: diverged; the run is left out." in table.statement


def test_a_search_without_a_complete_trial_is_finished_and_counts(root: Path, found: list[Entry]) -> None:
    told(root, found, VALUES)
    searched(root, found[2], None)
    table = read_benchmark("my_table", found, root)
    assert (table.cells[2].finished, table.finished) == (True, True)
    assert [item.verdict for item in table.comparisons] == ["better", "not judged"]


def test_baselines(root: Path, found: list[Entry]) -> None:
    told(root, found, VALUES)
    with pytest.raises(UsageError) as caught:
        read_benchmark("my_table", found, root, against=["DKD"])
    assert "--against must name rows of the table, but got 'DKD'" in str(caught.value)
    both = read_benchmark("my_table", found, root, against=["KD", "SD-KD", "KD"])
    pairs = [(item.arm, item.against) for item in both.comparisons]
    assert pairs == [("SD-KD", "KD"), ("sp", "KD"), ("sp", "SD-KD")], "the two baselines with each other once"
    (item,) = read_benchmark("my_table", found[:2], root, against=["SD-KD"]).comparisons
    assert (item.arm, item.verdict) == ("KD", "worse")
    assert item.difference == pytest.approx(-4.0)
    without_kd = entries(document(ranges={"method": ["sp", "SD-KD"]}, name="other"))
    assert len(read_benchmark("other", without_kd, root).comparisons) == 1


@pytest.mark.parametrize(
    ("otherwise", "rows", "said"),
    [
        ({"against": ["SD-KD"]}, 2, "against: ['KD'] -> ['SD-KD']"),
        ({"alpha": 0.2}, 2, "alpha: 0.05 -> 0.2"),
        ({}, 3, "rows: ['KD', 'SD-KD'] -> ['KD', 'SD-KD', 'sp']"),
        ({}, 1, "rows: ['KD', 'SD-KD'] -> ['KD']"),
    ],
)
def test_runs_that_are_known_are_judged_otherwise_only_where_that_is_said(
    root: Path, found: list[Entry], otherwise: dict[str, Any], rows: int, said: str
) -> None:
    told(root, found, VALUES)
    judging = read_benchmark("my_table", found[:2], root).judging
    assert judging == {"against": ["KD"], "alpha": 0.05, "rows": ["KD", "SD-KD"]}
    ledger = find(root, "my_table.KD")
    ledger.note_study(**{JUDGING: judging})
    plain = read_benchmark("my_table", found[:2], root, against=["KD"])
    assert (plain.begun_otherwise, "begun otherwise" in written(plain, "md")) == ((), False)
    with pytest.raises(StateError) as caught:
        read_benchmark("my_table", found[:rows], root, **otherwise)
    assert "begun otherwise, and its runs may be known; undo, or add --judge-again" in str(caught.value)
    assert said in str(caught.value)
    again = read_benchmark("my_table", found[:rows], root, **otherwise, again=True)
    assert f"begun otherwise ({said}) and is judged with {min(rows, 2) * 3} of {rows * 3} runs known" in again.statement
    assert all("begun otherwise" in written(again, ending) for ending in ("md", "tex"))
    ledger.note_study(**{JUDGING: {**judging, **otherwise}})
    assert read_benchmark("my_table", found[:2], root).judging == {**judging, **otherwise}, "asked once"


@pytest.mark.parametrize(
    ("data", "teacher", "student", "row", "value"),
    [
        ("cub200", "resnet32x4", "mobilenetv2", "iCD-KD", 61.17),
        ("cub200", "resnet32x4", "shufflenetv1", "LDRLD", 65.19),
        ("cub200", "vgg13", "vgg8", "iCD-NKD", 68.95),
        ("cifar100", "resnet32x4", "shufflenetv1", "SD-DKD", 77.30),
        ("cifar100", "resnet50", "vgg8", "NKD", 74.01),
        ("cifar100", "vgg13", "mobilenetv2", "KD", 67.37),
        ("cifar100", "resnet32x4", "shufflenetv1", "iCD-KD", None),
        ("cub200", "vgg13", "mobilenetv2", "KD", None),
        ("digits100", "resnet32x4", "mobilenetv2", "KD", None),
        ("cub200", "vgg13", "vgg8", "distill", None),
    ],
)
def test_reported(data: str, teacher: str, student: str, row: str, value: float | None) -> None:
    assert reported({"data": data, "teacher": teacher, "student": student}, row) == value


def test_reported_numbers_stand_beside_their_pair(root: Path) -> None:
    pairs = [{"teacher": teacher, "student": "mobilenetv2"} for teacher in ("resnet32x4", "vgg13")]
    file = document(
        data="cub200", training="cub200", teacher=None, student=None, ranges={"pair": pairs, "method": ["KD"]}
    )
    table = read_benchmark("paper", entries(file), root)
    assert [cell.reported for cell in table.cells] == [56.09, None]
    sampled = document(data="cub200", training="cub200", student=None, ranges={"student": ["vgg8"], "method": ["KD"]})
    assert read_benchmark("paper", entries(sampled), root).cells[0].reported is None


# As text


def reached(values: Mapping[int, float], **more: Any) -> Arm:
    runs = tuple(Run(trial=9, seed=seed, value=value, seconds=1.0) for seed, value in values.items())
    return Arm(label="x", kind="finalist", runs=runs, **more)


CELL = Cell(
    row="cross_entropy",
    column="all",
    sweep="my_table.cross_entropy",
    arm=reached({101: 60.0, 102: 61.0}, trial=3, mean=60.5, sd=0.70710678),
    trials=4,
    hours=1.25,
    per="GPU",
    test_evaluations=2,
    runs=("f00d/0004", "f00d/0005"),
    reported=56.09,
    finished=True,
)
BETTER = replace(
    CELL, row="iCD-KD", sweep="my_table.iCD-KD", runs=("f00d/0009",), reported=None,
    arm=reached({101: 62.0}, trial=1, mean=62.0, failures={102: "diverged"}),
)  # fmt: skip
NOTHING = Cell(row="sp", column="all", sweep="my_table.sp", arm=reached({}), per="GPU")
COMPARED = Comparison(
    arm="iCD-KD", against="cross_entropy", column="all", seeds=1, difference=2.0, low=0.5, high=3.5, p=0.0123,
    verdict="better",
)  # fmt: skip


def table(**changes: Any) -> Table:
    whole = Table(
        name="my_table",
        metric="test/top1",
        rows=("cross_entropy", "iCD-KD", "sp"),
        columns=("all",),
        cells=(CELL, BETTER, NOTHING),
        comparisons=(COMPARED,),
        alpha=0.05,
        seeds=2,
        finished=False,
        statement="iCD-KD has the highest mean.",
    )
    return replace(whole, **changes)


def test_markdown() -> None:
    assert written(table(), "md") == (
        "# my_table: top-1 (%) on test images, last epoch\n"
        "\n"
        "| method | top-1, mean ± sd (n) | minus cross_entropy | paper reports | trials | hours |\n"
        "| --- | ---: | ---: | ---: | ---: | ---: |\n"
        "| cross_entropy | 60.50 ± 0.71 (2) |  | 56.09 | 4 | 1.25 GPU |\n"
        "| iCD-KD | 62.00 (1, 1 failed) | +2.00 [+0.50 to +3.50], p 0.012 + |  | 4 | 1.25 GPU |\n"
        "| sp | no result |  |  | 0 | 0.00 GPU |\n"
        "\n"
        "iCD-KD has the highest mean.\n"
        "\n"
        "Intervals, p-values and marks hold together for the whole table. "
        "4 test evaluations. "
        "Every row had the same budget of trials where it has something to tune. "
        "Hours are of training, times the GPUs of a trial, or its cores where it has no GPU. "
        "Numbers that a paper reports are of its best test epoch and are not comparable. The table is not finished.\n"
        "\n"
        "## Runs\n"
        "\n"
        "- cross_entropy, all: sweep my_table.cross_entropy, trial 3; icd.trial of its MLflow runs by seed: "
        "101 f00d/0004, 102 f00d/0005\n"
        "- iCD-KD, all: sweep my_table.iCD-KD, trial 1; icd.trial of its MLflow runs by seed: 101 f00d/0009\n"
        "- sp, all: sweep my_table.sp, nothing confirmed\n"
    )


def test_csv() -> None:
    rows = list(csv.DictReader(io.StringIO(written(table(), "csv"))))
    assert [row["row"] for row in rows] == ["cross_entropy", "iCD-KD", "sp"]
    assert rows[0] | {"against": "", "verdict": ""} == rows[0]
    assert rows[0]["icd_trials"] == "f00d/0004 f00d/0005"
    expected = {"mean": "62.0000", "sd": "", "n": "1", "values": "101:62.0000", "against": "cross_entropy"}
    expected |= {"difference": "2.0000", "low": "0.5000", "high": "3.5000", "p": "0.0123", "verdict": "better"}
    expected |= {"reported": "", "hours": "1.2500", "per": "GPU", "trial": "1", "sweep": "my_table.iCD-KD"}
    assert rows[1] | expected == rows[1]
    assert (rows[2]["mean"], rows[2]["trial"], rows[2]["icd_trials"]) == ("", "", "")


def test_latex() -> None:
    text = written(table(), "tex")
    comments = [line for line in text.splitlines() if line.startswith("%")]
    assert "mean and sd over 2 seeds, or (n) where runs are missing" in comments[0]
    assert comments[0].endswith("+ and - mark differences from cross_entropy")
    assert comments[1] == "% where the chance of any false one among 1 comparisons is 0.05"
    assert comments[2].startswith("% cross_entropy, all: sweep my_table.cross_entropy, trial 3; icd.trial of its")
    assert text.splitlines()[len(comments) :] == [
        r"\begin{tabular}{lc}",
        r"\toprule",
        r"method & top-1 (\%) \\",
        r"\midrule",
        r"cross\_entropy & $60.50 \pm 0.71$ {\scriptsize (56.09 reported)} \\",
        r"iCD-KD & $62.00^{+}$ (1) \\",
        r"sp & -- \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]


def test_several_pairs_with_awkward_names() -> None:
    names = ("a_b>c(50%|{x}=~^1)", "plain")
    cells = tuple(replace(cell, column=name) for name in names for cell in (CELL, BETTER, NOTHING))
    wide = table(columns=names, cells=cells, comparisons=(replace(COMPARED, column=names[0]),))
    text = written(wide, "tex")
    assert r"\begin{tabular}{lcc}" in text
    assert r"method & a\_b\textgreater{}c(50\%|\{x\}=\textasciitilde{}\textasciicircum{}1) & plain \\" in text
    assert r"iCD-KD & $62.00^{+}$ (1) & $62.00$ (1) \\" in text
    assert written(wide, "md").count("\n## ") == 3
    assert "## a_b>c(50%|{x}=~^1)\n" in written(wide, "md")
    assert {row["pair"] for row in csv.DictReader(io.StringIO(written(wide, "csv")))} == set(names)


def test_only_the_first_baseline_is_marked_in_latex() -> None:
    worse = replace(COMPARED, against="sp", verdict="worse")
    assert r"$62.00^{+}$" in written(table(comparisons=(COMPARED, worse)), "tex")
    assert r"$62.00$" in written(table(comparisons=(replace(COMPARED, arm="sp"), worse)), "tex")
