"""What a trial is shown: the training images, or those and the validation images; the test set only where it is due."""

import copy
import dataclasses
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch

from icd.config.read_trial import read_trial
from icd.config.yaml import Document
from icd.data import DATASETS, Split
from icd.data.images import ArrayImages, FileImages, ImageSet
from icd.data.split import ClosedTest, for_training, for_trial
from icd.errors import DataError, StateError, TestSetClosedError
from icd.search.core.attempts import Attempt, RunContext
from icd.teacher.cache_plan import plan_cache
from icd.testing.data import pixel_hashes
from icd.training.loop import Execution
from icd.worker.run_trial import train_attempt
from icd.worker.trial_inputs import SharedInputs, TrialFolders
from tests.data_contract import save_pictures, twin

WAYS: dict[str, Callable[[Any], object]] = {
    "open": lambda test: test.open("a trial that is curious"),
    "len": len,
    "bool": bool,
    "iter": list,
    "index": lambda test: test[0],
    "in": lambda test: 0 in test,
    "labels": lambda test: test.labels_N,
    "pixels": lambda test: test.images_NCHW,
    "source": lambda test: test.source(0, None),
    "subset": lambda test: test.subset([0]),
    "loader": lambda test: test._load(),
}


def arrays(first: int, count: int) -> ArrayImages:
    pixels_NCHW = torch.arange(first, first + count, dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 4, 4)
    return ArrayImages(pixels_NCHW.contiguous(), torch.arange(first, first + count))


def files(folder: Path, name: str, first: int, count: int) -> FileImages:
    names = [file.relative_to(folder).as_posix() for file in save_pictures(folder / name, count, first)]
    return FileImages.found(folder, names, range(first, first + count))


@pytest.mark.parametrize("kind", ["arrays", "files"])
def test_images_follow_each_other(kind: str, tmp_path: Path) -> None:
    one: ImageSet = arrays(0, 3) if kind == "arrays" else files(tmp_path, "a", 0, 3)
    other: Any = arrays(3, 2) if kind == "arrays" else files(tmp_path, "b", 3, 2)
    both = one.with_images(other)
    assert len(both) == 5
    assert both.labels_N.tolist() == [0, 1, 2, 3, 4]
    assert pixel_hashes(both) == pixel_hashes(one) + pixel_hashes(other)
    assert both.digest not in (one.digest, other.digest, other.with_images(one).digest)
    assert both.subset(np.arange(3)).digest == one.digest
    assert (len(one), len(other)) == (3, 2), "neither is changed"


@pytest.fixture(params=list(DATASETS))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def load(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Split]:
    return twin(name, tmp_path, monkeypatch)


def test_a_search_trial_has_no_way_to_test_images(load: Callable[[], Split]) -> None:
    read = load()
    split = for_trial(read, "train", "val", "a sweep's trials")
    assert (split.train, split.val) == (read.train, read.val)
    tests = [split.test, copy.copy(split.test), copy.deepcopy(split.test), pickle.loads(pickle.dumps(split.test))]
    tests += [dataclasses.replace(split, name="other").test, copy.copy(split).test, split.test.seal("again")]
    for test in tests:
        for act in WAYS.values():
            with pytest.raises(TestSetClosedError):
                act(test)
        assert test.looks == []
    with pytest.raises(TestSetClosedError, match=r"sealed: a sweep's trials is measured on val images"):
        for_trial(split, "train+val", "test", "a trial that was handed a trial's split")
    assert read.test.looks == []


def test_a_confirmation_sees_all_of_them_once_and_counted(load: Callable[[], Split]) -> None:
    read = load()
    split = for_trial(read, "train+val", "test", "confirm")
    assert pixel_hashes(split.train) == pixel_hashes(read.train) + pixel_hashes(read.val)
    assert split.val.digest == read.test.open("contract").digest
    assert read.test.looks == ["confirm", "contract"]
    assert (split.digest, split.split_digest, split.mean) == (read.digest, read.split_digest, read.mean)
    with pytest.raises(TestSetClosedError, match="measured on test images"):
        split.test.open("again")
    assert len(for_training(read, "train+val").train) == len(split.train)
    assert for_training(read, "train") is read


def test_a_search_task_that_asks_for_test_images_is_refused(name: str, tmp_path: Path) -> None:
    path = {"path": "nowhere"} if name in ("npz", "imagefolder") else {}
    data = {"name": name, "measure_on": "test", **path}
    document = {"data": data, "student": "resnet8", "method": "cross_entropy", "training": DATASETS[name].preset}
    for stage in ("search", "ablate"):
        attempt = Attempt(
            number=3, attempt=1, runs={"": document}, context=RunContext(folder=tmp_path, root=tmp_path, stage=stage)
        )
        outcome = train_attempt(attempt, lambda epoch: True, progress=lambda *where: None, inputs=SharedInputs())
        assert outcome.kind == "setup"
        assert "data.measure_on: must be val: only a confirmation sees test images, but got 'test'" in outcome.reason


def test_a_seal_says_why() -> None:
    closed = ClosedTest(lambda: arrays(0, 1))
    with pytest.raises(ValueError, match="reason must say"):
        closed.seal(" ")
    assert len(closed.open("what was sealed is another object")) == 1


DATA: dict[str, Any] = {"name": "digits100", "train_per_class": 4, "test_per_class": 1, "val_fraction": 0.25}


def config(**data: str) -> Any:
    document = {
        "data": {**DATA, **data},
        "teacher": {"arch": "resnet8", "weights": "train", "training": {"preset": "digits100", "epochs": 1}},
        "student": "resnet8",
        "method": "KD",
        "training": {"preset": "digits100", "epochs": 1},
    }
    return read_trial(Document(document, "x.yaml"))


def test_a_worker_seals_what_it_read_for_each_kind_of_trial(tmp_path: Path) -> None:
    bench, places = SharedInputs(), TrialFolders(root=tmp_path)
    searching = bench.split(config(), places, Execution())
    assert bench.split(config(), places, Execution()) is searching
    confirming = bench.split(config(train_on="train+val", measure_on="test"), places, Execution())
    again = bench.split(config(), places, Execution())
    assert (len(searching.train), len(searching.val)) == (300, 100)
    assert (len(confirming.train), len(confirming.val)) == (400, 100)
    assert again.val.digest == searching.val.digest != confirming.val.digest
    for split in (searching, confirming, again):
        with pytest.raises(TestSetClosedError):
            split.test.open("a trial")


@pytest.mark.parametrize("digest", [None, "e" * 64])
def test_a_worker_trains_no_teacher_on_confirmation_data(tmp_path: Path, digest: str | None) -> None:
    bench, places = SharedInputs(), TrialFolders(root=tmp_path)
    asked = config(train_on="train+val", measure_on="test")
    asked = dataclasses.replace(asked, teacher=dataclasses.replace(asked.teacher, digest=digest))
    split = bench.split(asked, places, Execution())
    with pytest.raises(StateError, match="no teacher is trained on what a confirmation trains on"):
        bench.teacher(asked, split, places, Execution())
    assert not places.teachers.folder.exists()


def test_published_teachers_need_no_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Torchvision's weights are not in the store and never trained here, so a confirmation may use them."""
    from icd.worker import trial_inputs as bench

    asked = config(train_on="train+val", measure_on="test")
    teacher = dataclasses.replace(asked.teacher, weights="pretrained", training=None, digest="e" * 64)

    def prepare(*arguments: object) -> None:
        raise DataError("reached")

    monkeypatch.setattr(bench, "prepare", prepare)
    asked, unread = dataclasses.replace(asked, teacher=teacher), cast("Split", None)
    with pytest.raises(DataError, match="reached"):
        SharedInputs().teacher(asked, unread, TrialFolders(root=tmp_path), Execution())


def test_caches_are_of_what_is_trained_on(tmp_path: Path) -> None:
    """A confirmation on the training images alone finds the search's cache; one on all images has its own."""

    def cache(**data: str) -> str:
        asked = config(**data)
        asked = dataclasses.replace(
            asked,
            data=dataclasses.replace(asked.data, digest="a:b"),
            teacher=dataclasses.replace(asked.teacher, digest="e" * 64),
        )
        (spec,) = plan_cache([asked], split, "stream", folder=tmp_path).specs
        return spec.digest()

    split = SharedInputs().split(config(), TrialFolders(root=tmp_path), Execution())
    assert cache() == cache(measure_on="test") != cache(train_on="train+val", measure_on="test")
