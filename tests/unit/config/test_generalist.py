"""Reading ``generalist``: what a file may say, what is refused and at which line."""

from pathlib import Path

import pytest
import yaml

from icd.config.read_sweep import read_sweep
from icd.config.sweep import Generalist, Pair, SweepConfig
from icd.config.yaml import Document, read_yaml
from icd.errors import ConfigError, UsageError
from icd.results.tournament import entries
from icd.search.space import SearchSpace

TEXT = """\
name: g
data: {name: digits100}
generalist:
  pairs:
    - {teacher: resnet20, student: resnet8}
    - {teacher: resnet20, student: {arch: resnet14}, name: large}
space: {cluster_weight: {low: 1, high: 8}}
budget: {trials: 5}
"""
SECOND = "    - {teacher: resnet20, student: {arch: resnet14}, name: large}\n"


def read(folder: Path, text: str) -> SweepConfig:
    path = folder / "g.yaml"
    path.write_text(text)
    return read_sweep(read_yaml(path))


def test_pairs_are_named_after_their_networks(tmp_path: Path) -> None:
    sweep = read(tmp_path, TEXT)
    assert sweep.generalist == Generalist(
        pairs=(
            Pair(name="resnet20-resnet8", teacher="resnet20", student="resnet8"),
            Pair(name="large", teacher="resnet20", student={"arch": "resnet14"}),
        ),
        rank="mean",
    )
    assert sweep.to_data()["generalist"]["rank"] == "mean"
    assert not {"teacher", "student"} & set(sweep.fixed)
    assert read(tmp_path, TEXT.replace("space:", "  rank: worst\nspace:")).digest() != sweep.digest()
    again = read_sweep(Document(yaml.safe_load(TEXT), "study g"))
    assert again.digest() == sweep.digest()


def test_a_trial_has_a_run_for_each_pair_and_all_else_in_common(tmp_path: Path) -> None:
    space = SearchSpace(read(tmp_path, TEXT))
    small, large = space.members(space.document({"cluster_weight": 2.5}))
    assert (small.name, small.config.student.arch, small.before) == ("resnet20-resnet8", "resnet8", 0)
    assert (large.name, large.config.student.arch, large.before) == ("large", "resnet14", small.last)
    assert small.config.method == large.config.method
    assert small.config.seed == large.config.seed
    assert {config.student.arch for config in space.extremes()} == {"resnet8", "resnet14"}
    assert space.row(small.config, large.config)["student"] == "resnet8+resnet14"


def test_a_sweep_without_pairs_is_written_as_it_was(tmp_path: Path) -> None:
    text = TEXT[: TEXT.index("generalist")] + "teacher: resnet20\nstudent: resnet8\n" + TEXT[TEXT.index("space") :]
    assert "generalist" not in read(tmp_path, text).to_data()


SETS = "generalist.pairs sets the networks of every trial"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("generalist:", "teacher: resnet20\ngeneralist:", f":3: teacher: {SETS}"),
        ("generalist:", "student: resnet8\ngeneralist:", f":3: student: {SETS}"),
        ("space: {", "space: {student: [resnet8], ", f":7: space.student: {SETS}"),
        ("budget:", "enqueue: [{label: x, student: resnet8}]\nbudget:", f":8: enqueue[0].student: {SETS}"),
        ("budget:", "enqueue: {from: other}\nbudget:", ":8: enqueue: a sweep over several pairs cannot start from"),
        (
            "budget:",
            "objective: [val/top1, val/loss]\nbudget:",
            ":8: objective: a sweep over several pairs ranks",
        ),
        ("budget:", "pruner: median\nbudget:", ":8: pruner.name: a trial of several pairs cannot be pruned"),
        ("budget:", "pruner: {dead_terms: true}\nbudget:", ":8: pruner.dead_terms: a trial of several pairs cannot"),
        ("space:", "  rank: median\nspace:", ":7: generalist.rank: unknown rank, but got 'median'"),
        (SECOND, "", ":4: generalist.pairs: must be a list of at least two pairs"),
        (", name: large", ", name: ../x", ":6: generalist.pairs[1].name: must be 1 to 64 letters"),
        (", name: large", ", name: ResNet20-resnet8", ":6: generalist.pairs[1]: every pair needs a name of its own"),
        ("{arch: resnet14}", "resnet15", ":6: generalist.pairs[1].student: unknown network, but got 'resnet15'"),
        ("student: resnet8}", "students: resnet8}", ":5: generalist.pairs[0].students: unknown key"),
        ("student: resnet8}", "student: null}", ":5: generalist.pairs[0].student: required key is missing"),
        ("high: 8}", "high: 8}, scales: {choices: [[1, 64]]}", ":7: space.scales.choices[0]: every scale must be at"),
    ],
)
def test_what_is_refused(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert TEXT.count(old) == 1
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, TEXT.replace(old, new))
    assert any(said in str(problem) for problem in caught.value.problems), str(caught.value)


def test_a_table_of_methods_is_refused(tmp_path: Path) -> None:
    text = TEXT.replace("{cluster_weight: {low: 1, high: 8}}", "{method: [KD, iCD-KD]}")
    with pytest.raises(UsageError, match="drop generalist"):
        entries(Document(yaml.safe_load(text), "g.yaml"))
