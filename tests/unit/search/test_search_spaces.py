"""Every file of ``search_spaces/`` is read, launched as far as a trial's configuration, and says what it is for."""

from pathlib import Path

import optuna
import pytest

from icd.config.read_sweep import read_sweep
from icd.config.trial import TrialConfig
from icd.config.yaml import read_yaml
from icd.methods import PAPER_ROWS, CellDistillation
from icd.search.suggest.search_space import SearchSpace

FOLDER = Path(__file__).parents[3] / "search_spaces"
FILES = sorted(FOLDER.rglob("*.yaml"))
CIFAR_PAIRS = {
    "resnet32x4": ("mobilenetv2", "shufflenetv1", "shufflenetv2"),
    "resnet50": ("mobilenetv2", "shufflenetv1", "vgg8"),
    "vgg13": ("mobilenetv2",),
    "wrn_40_2": ("mobilenetv2", "shufflenetv1", "vgg8"),
}
# Finite ones only.
SIZES = {"ablation_cluster_weight": 24, "ablation_scales": 42, "paper_table": 36}


def name_of(file: Path) -> str:
    return file.relative_to(FOLDER).as_posix()


def search(name: str) -> SearchSpace:
    return SearchSpace(read_sweep(read_yaml(FOLDER / f"{name}.yaml")))


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_a_file_says_its_question_and_how_to_launch_it(file: Path) -> None:
    editor, question, launch, *rest = file.read_text(encoding="utf-8").splitlines()
    schema = editor.removeprefix("# yaml-language-server: $schema=")
    assert (file.parent / schema).resolve() == FOLDER.parent / "icd" / "config" / "sweep.schema.json"
    assert question.startswith("# ")
    assert "?" in question
    verb = "benchmark" if file.stem.startswith(("table_", "rivals_", "paper_")) else "sweep"
    assert launch.startswith(f"# icd {verb} search_spaces/{name_of(file)}")
    assert all(len(line) <= 140 for line in rest)


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_corners_baselines_and_suggestions_are_trials(file: Path) -> None:
    space = SearchSpace(read_sweep(read_yaml(file)))
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    documents = [space.document(params) for params in space.corners()]
    documents += [space.baseline(baseline) for baseline in space.sweep.enqueue]
    documents += [space.suggest(study.ask()) for _ in range(20)]
    trials = [[run.config for run in space.members(document)] for document in documents]
    assert all(isinstance(config, TrialConfig) and config.teacher for configs in trials for config in configs)
    assert len({tuple(space.row(*configs)) for configs in trials}) == 1


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_size(file: Path) -> None:
    space = SearchSpace(read_sweep(read_yaml(file)))
    assert space.size() == SIZES.get(file.stem)
    if space.size() is not None:
        assert len({space.read(space.document(params)).key() for params in space.points()}) == space.size()


def test_names_differ() -> None:
    names = [read_sweep(read_yaml(file)).name for file in FILES]
    assert len(set(names)) == len(names) == 24


def test_the_papers_pairs_are_there() -> None:
    cub = {path.stem for path in (FOLDER / "cub200").iterdir()}
    assert cub == {"resnet32x4_mobilenetv2", "resnet32x4_shufflenetv1", "vgg13_vgg8"}
    cifar = {f"{teacher}_{student}" for teacher, students in CIFAR_PAIRS.items() for student in students}
    assert {path.stem for path in (FOLDER / "cifar100").iterdir()} == cifar


@pytest.mark.parametrize("folder", ["cub200", "cifar100"])
def test_a_pairs_file_is_about_its_pair(folder: str) -> None:
    for file in sorted((FOLDER / folder).iterdir()):
        space = search(f"{folder}/{file.stem}")
        config = space.read(space.document(space.corners()[0]))
        assert config.teacher is not None
        assert f"{config.teacher.arch}_{config.student.arch}" == file.stem
        assert (config.data.name, config.training.epochs) == (folder, 240)
        small = config.student.arch in ("mobilenetv2", "shufflenetv1", "shufflenetv2")
        assert config.training.lr == (0.01 if small else 0.05)
        rows = list(PAPER_ROWS)[2 if folder == "cub200" else 3 : 12]  # LDRLD is searched on CUB-200 alone
        assert [baseline.label for baseline in space.sweep.enqueue] == rows


def test_the_scale_ablation_holds_the_sets_the_authors_code_refuses() -> None:
    space = search("ablation_scales")
    methods = [space.read(space.document(params)).method for params in space.points()]
    scales = {method.scales for method in methods if isinstance(method, CellDistillation)}
    assert scales == {(1,), (2,), (4,), (1, 2), (1, 4), (2, 4), (1, 2, 4)}


def test_the_weight_ablation_runs_from_1_to_8() -> None:
    space = search("ablation_cluster_weight")
    values = [params["method.cluster_weight"] for params in space.points()]
    assert sorted(set(values)) == [1, 2, 3, 4, 5, 6, 7, 8]
    starts = [space.read(space.baseline(baseline)) for baseline in space.sweep.enqueue]
    assert [(start.method, start.seed) for start in starts] == [(PAPER_ROWS["SD-KD"], seed) for seed in range(3)]


def test_the_papers_table_is_rows_times_pairs() -> None:
    space = search("paper_table")
    cells = set()
    for params in space.points():
        config = space.read(space.document(params))
        assert config.teacher is not None
        assert config.method == PAPER_ROWS[params["method"]]
        cells.add((params["method"], config.teacher.arch, config.student.arch))
    assert len(cells) == 12 * 3


def test_the_quick_start_is_a_real_search_and_small() -> None:
    space = search("quickstart")
    config = space.read(space.document(space.corners()[0]))
    assert space.sweep.budget.trials is not None
    assert space.sweep.budget.trials >= 16
    assert [baseline.label for baseline in space.sweep.enqueue] == ["KD", "SD-KD", "iCD-KD"]
    options = {row.name: row.options for row in space.dimensions() if row.options}
    assert options["method.base_loss"] >= 2
    assert options["method.scales"] >= 2
    images = 100 * dict(config.data.options)["train_per_class"]
    assert images * config.training.epochs <= 30_000
