"""What a sweep refuses before it starts anything."""

import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Literal

import pytest

from icd import search
from icd.config.read_sweep import read_sweep
from icd.config.read_trial import read_trial
from icd.config.sweep import Budget, Resources
from icd.config.yaml import Document, read_yaml
from icd.errors import ConfigError, DataError, SetupError, StateError
from icd.fields import FieldError
from icd.results import confirm_sweep
from icd.results.confirm import make_plan
from icd.results.plan import begin_plan
from icd.search import run_sweep, session
from icd.search.core.preparation import PreflightRequest, PreflightResult, teacher_name
from icd.search.session import _check_fit
from icd.search.settings import Settings
from icd.worker.preflight import run_preflight
from icd.worker.trial_inputs import TrialFolders, read_data
from tests.studies import Study
from tests.tiny import training, write_images

FILE = Path(__file__).parents[3] / "search_spaces" / "quickstart.yaml"


def test_a_store_that_mlflow_no_longer_takes_is_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "./mlruns")
    settings = Settings(root=tmp_path, executor="process")
    with pytest.raises(SetupError, match=r"try sqlite:////FOLDER/mlflow\.db"):
        run_sweep.run(read_sweep(read_yaml(FILE)), read_yaml(FILE).data, settings)
    assert not (tmp_path / "study.db").exists()
    assert not list(tmp_path.glob("sweeps/*/logs"))


def test_gpu_hours_alone_need_gpus() -> None:
    sweep = replace(read_sweep(read_yaml(FILE)), budget=Budget(gpu_hours=1.0))
    prepared = PreflightResult(data_digest="", num_classes=2, teachers={}, device="cpu")
    with pytest.raises(SetupError, match=r"budget\.gpu_hours: must not be the only limit"):
        _check_fit(sweep, prepared)
    _check_fit(sweep, replace(prepared, gpus=1))
    _check_fit(replace(sweep, budget=Budget(gpu_hours=1.0, hours=1.0)), prepared)


@pytest.mark.parametrize("gpus", [1.5, 2])
def test_a_trial_takes_one_gpu_at_most(gpus: float) -> None:
    with pytest.raises(FieldError, match="0 <= gpus_per_trial <= 1 must hold"):
        Resources(gpus_per_trial=gpus)


@pytest.mark.parametrize("gpus", [None, 0.0, 0.25, 1.0])
def test_other_numbers_of_gpus_are_fine(gpus: float | None) -> None:
    assert Resources(gpus_per_trial=gpus).gpus_per_trial == gpus


SWEEP = """name: away
data: {data}
teacher: resnet20
student: resnet8
method: {{recipe: iCD-KD, cluster_weight: {{low: 1, high: 8}}}}
search: {{budget: {{trials: 2}}}}
"""


class ExecutorAskedError(Exception):
    """Takes the place of a worker or a Ray."""


@pytest.fixture
def no_executor(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise ExecutorAskedError

    monkeypatch.setattr(session, "_executor", refuse)
    monkeypatch.delenv("ICD_STORAGE_URL", raising=False)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def file(folder: Path, data: str) -> Path:
    path = folder / "sweep.yaml"
    path.write_text(SWEEP.format(data=data))
    return path


@pytest.mark.usefixtures("no_executor")
@pytest.mark.parametrize(
    ("data", "root", "told"),
    [
        ("{name: npz, path: none.npz}", "", "data.path: npz: {here}/none.npz does not exist; correct data.path"),
        ("{name: imagefolder, path: none}", "", "data.path: imagefolder: {here}/none does not exist"),
        ("tiny_imagenet", "none", "data: tiny_imagenet: the data folder {here}/none is not there; pass --data-root"),
        ("cub200", "none", "data: cub200: the data folder {here}/none is not there; pass --data-root"),
        ("cifar10", "none", "data: cifar10: the data folder {here}/none is not there; run with --download"),
        ("cifar100", "none", "data: cifar100: the data folder {here}/none is not there; run with --download"),
    ],
)
@pytest.mark.parametrize("executor", ["ray", "process"])
def test_images_that_are_not_here_are_told_before_a_worker_or_ray_starts(
    tmp_path: Path, data: str, root: str, told: str, executor: Literal["ray", "process"]
) -> None:
    path = file(tmp_path, data)
    with pytest.raises(DataError) as caught:
        search.sweep(path, root=tmp_path / "root", data_root=tmp_path / root, executor=executor)
    assert str(caught.value).startswith(f"{path}:2: {told.format(here=tmp_path)}")


@pytest.mark.usefixtures("no_executor")
@pytest.mark.parametrize("joined", [False, True])
def test_images_of_a_cluster_need_not_be_here(tmp_path: Path, joined: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if joined:
        monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(is_initialized=lambda: True))
    path = file(tmp_path, "{name: npz, path: none.npz}")
    with pytest.raises(ExecutorAskedError):
        search.sweep(path, root=tmp_path / "root", data_root=tmp_path, address="local" if joined else "auto")


@pytest.mark.usefixtures("no_executor")
def test_cifar_that_is_fetched_need_not_be_here(tmp_path: Path) -> None:
    with pytest.raises(ExecutorAskedError):
        search.sweep(file(tmp_path, "cifar100"), root=tmp_path / "root", data_root=tmp_path / "none", download=True)


class HereExecutor:
    """Makes ready in this process; trains nothing."""

    def prepare(
        self, request: PreflightRequest, say: Callable[[str], None], stop: Callable[[], bool]
    ) -> PreflightResult:
        return run_preflight(request, say, stop)

    def close(self) -> None:
        pass


@pytest.mark.parametrize(
    ("verb", "changed"), [*product(("resume", "confirm"), ("images", "teacher")), ("confirm", "test images")]
)
def test_other_images_or_teachers_are_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str, changed: str
) -> None:
    monkeypatch.setattr(session, "_executor", lambda *_: HereExecutor())
    study = Study(tmp_path)
    study.trial("complete", [1, 2, 3, 4])
    config, _ = read_data(study.space.extremes()[0], TrialFolders(root=tmp_path))
    if changed == "teacher":
        study.ledger.note_study(data_digest=config.data.digest, teachers={teacher_name(config): "e" * 64})
    if changed == "test images":
        study.ledger.note_study(data_digest=config.data.digest, test_digest="t")
        plan = begin_plan(study.ledger, make_plan(study.ledger, study.sweep))
        run = plan.runs([])[0]
        own = {"stage": "confirm", "round": 1, "arm": run.arm, "seed": run.seed, "key": "k"}
        study.ledger.add_epoch(study.ledger.add_baseline(run.label, {}, {}, own), 1, 50.0)
    told = {
        "images": r"comparable: the images or their split \(digest d, now \w{12}\)",
        "test images": r"comparable: the test images \(digest t, now \w{12}\)",
        "teacher": "comparable: teacher .*resnet8",
    }[changed]
    with pytest.raises(StateError, match=rf"{told}.* changed; .*--name by-hand-2.*from: by-hand"):
        (search.resume if verb == "resume" else confirm_sweep)("by-hand", root=tmp_path)
    assert bool(list(tmp_path.glob("teachers/*"))) == (changed == "teacher"), "no teacher is trained on other images"


def test_crd_is_refused_where_there_is_one_class(tmp_path: Path) -> None:
    write_images(tmp_path / "one.npz", num_classes=1)
    document = {"data": {"name": "npz", "path": str(tmp_path / "one.npz")}, "student": "resnet8"}
    teacher = {"arch": "resnet14", "training": training(1)}
    more = {"teacher": teacher, "method": "CRD", "training": training(1)}
    config = read_trial(Document({**document, **more}, "trial"))
    with pytest.raises(ConfigError, match=r"method: CRD contrasts an image with those of other classes .* but got 1"):
        read_data(config, TrialFolders(root=tmp_path))


@pytest.mark.parametrize(
    ("train_on", "protocol", "told"),
    [
        ("train", {"batch_size": 81, "drop_last": True}, r"images \(80\) must hold with drop_last, but got 81"),
        ("train+val", {"batch_size": 81, "drop_last": True}, ""),
        ("train+val", {"batch_size": 33}, "batch_size: must not leave a batch of one of 100 images"),
        ("train", {"batch_size": 33}, ""),
    ],
)
def test_batches_must_suit_what_is_trained_on(
    tmp_path: Path, train_on: str, protocol: dict[str, object], told: str
) -> None:
    data = {"name": "npz", "path": str(write_images(tmp_path / "ten.npz")), "val_fraction": 0.2, "train_on": train_on}
    data["measure_on"] = "val" if train_on == "train" else "test"
    more = {"student": "torchvision_resnet18", "method": "cross_entropy", "training": {**training(1), **protocol}}
    request = PreflightRequest(configs=[{"data": data, **more}], root=str(tmp_path), probe=True)
    with pytest.raises(ConfigError, match=told) if told else nullcontext():
        run_preflight(request, lambda line: None, lambda: False)


def test_a_cache_that_is_named_again_is_not_asked_room_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A confirmation goes on where the disk has become too small; the next one has to be asked for room."""
    data = {"name": "npz", "path": str(write_images(tmp_path / "ten.npz")), "val_fraction": 0.2}
    teacher = {"arch": "resnet8", "training": training(1)}
    trial = {"data": data, "teacher": teacher, "student": "resnet8", "method": "iCD-KD", "training": training(1)}
    asked = PreflightRequest(configs=[trial], root=str(tmp_path / "root"), teacher_cache="full")

    def ready(request: PreflightRequest) -> PreflightResult:
        return run_preflight(request, lambda line: None, lambda: False)

    first = ready(asked)
    assert list(first.teacher_caches.values()) == ["full"]
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=10**9 + 1))
    again = ready(replace(asked, teacher_caches=dict.fromkeys(first.teacher_caches, "full")))
    assert again.teacher_caches == first.teacher_caches
    with pytest.raises(SetupError, match="--teacher-cache full needs"):
        ready(asked)
    with pytest.raises(SetupError, match="--teacher-cache full needs"):
        ready(replace(asked, teacher_caches=dict.fromkeys(first.teacher_caches, "stream")))
