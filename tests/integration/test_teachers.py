"""Teachers that cannot be asked, or not be trusted, are refused or named before a student sees them."""

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from icd.config.read_trial import read_trial
from icd.config.trial import TeacherConfig, TrialConfig
from icd.config.yaml import parse_yaml
from icd.data.split import Split
from icd.errors import ConfigError, Interrupted, TeacherError
from icd.models import build_model
from icd.teacher import store as teachers
from icd.teacher.store import TeacherStore, import_teacher, prepare
from icd.training import loop
from icd.training.loop import Execution
from icd.worker.single_trial import run_trial
from icd.worker.trial_inputs import TrialFolders
from tests.tiny import images, views, write_images


def config_of(path: Path = Path("tiny.npz")) -> TrialConfig:
    training = {"epochs": 1, "batch_size": 25, "augmentation": views()}
    content = {
        "data": {"name": "npz", "path": str(path), "val_fraction": 0.5},
        "student": "resnet8",
        "method": "KD",
        "training": training,
        "teacher": {"arch": "resnet8", "weights": "train", "training": {**training, "augmentation": views()}},
    }
    return read_trial(parse_yaml(json.dumps(content), "test"))


@pytest.fixture(scope="module")
def split() -> Split:
    return images()


def test_a_published_teacher_of_other_classes_is_refused(split: Split, tmp_path: Path) -> None:
    """Its head would be random, and another one in every process."""
    teacher = TeacherConfig(arch="torchvision_resnet18", stem="conv7x7_s2_pool", weights="pretrained")
    config = replace(config_of(), teacher=teacher)
    with pytest.raises(ConfigError, match=r"teacher.weights: .* of its 1000 classes, not 10: .*fine-tune it here"):
        prepare(config, split, TeacherStore(tmp_path), Execution())


def test_a_published_teacher_must_have_the_digest_of_the_configuration(
    split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(teachers, "IMAGENET_CLASSES", 10)
    monkeypatch.setattr(teachers, "build_model", lambda *args, **more: build_model("resnet8", num_classes=10, seed=0))
    teacher = TeacherConfig(arch="torchvision_resnet18", stem="conv7x7_s2_pool", weights="pretrained")
    found = prepare(replace(config_of(), teacher=teacher), split, TeacherStore(tmp_path), Execution())
    assert found is not None
    other = replace(config_of(), teacher=replace(teacher, digest="e" * 64))
    with pytest.raises(TeacherError, match="has the digest"):
        prepare(other, split, TeacherStore(tmp_path), Execution())


def test_a_pretrained_teacher_is_fine_tuned_with_a_new_head_and_is_another_teacher(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``teacher: {arch: torchvision_resnet18, pretrained: true, weights: train}``."""
    published, built = TeacherConfig(arch="torchvision_resnet18", stem="conv7x7_s2_pool"), []

    def build(arch: str, *, pretrained: bool = False, **more: Any) -> Any:
        built.append((arch, pretrained, more["num_classes"]))
        return build_model("resnet8", num_classes=more["num_classes"], seed=5 if pretrained else more["seed"])

    monkeypatch.setattr(loop, "build_model", build)
    monkeypatch.setattr(
        teachers, "build_model", lambda *_, num_classes, **__: build_model("resnet8", num_classes=num_classes)
    )
    store, plain = TeacherStore(tmp_path), config_of()
    assert plain.teacher is not None
    asked = replace(published, pretrained=True, training=plain.teacher.training)
    found = prepare(replace(plain, teacher=asked), images(), store, Execution())
    other = prepare(replace(plain, teacher=replace(asked, pretrained=False)), images(), store, Execution())
    assert built == [("torchvision_resnet18", True, 10), ("torchvision_resnet18", False, 10)]
    assert found is not None
    assert other is not None
    assert found.digest != other.digest
    assert found.network.head.out_features == 10
    assert replace(plain, teacher=asked).key() != replace(plain, teacher=replace(asked, pretrained=False)).key()


def test_weights_that_cannot_teach_are_said(split: Split, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path, store = tmp_path / "weights.pth", TeacherStore(tmp_path / "teachers")
    network = build_model("resnet8", num_classes=10, seed=0)
    torch.save(network.state_dict(), path)
    with caplog.at_level(logging.WARNING):
        import_teacher(store, path, split, config_of(), name=None)
    assert "is no better than chance on the validation images of tiny" in caplog.text
    with torch.no_grad():
        network.head.weight[0, 0] = float("nan")
    torch.save(network.state_dict(), path)
    with pytest.raises(TeacherError, match=r"must hold finite weights, but 1 are not, .*weight first"):
        import_teacher(store, path, split, config_of(), name="other")
    assert len(store.all()) == 1


def test_a_stop_in_the_teacher_s_last_epoch_holds_before_the_student_s_first(tmp_path: Path) -> None:
    asked: list[bool] = []
    config = config_of(write_images(tmp_path / "images.npz"))

    def progress(epoch: int, step: int, steps: int) -> None:
        if step:
            asked.append(True)

    places, name = TrialFolders(root=tmp_path), "one"
    execution: Any = Execution(progress=progress, stop=lambda: bool(asked))
    with pytest.raises(Interrupted, match=r"stopped once teacher resnet8-\S+ was trained"):
        run_trial(config, name, places, execution)
    assert len(places.teachers.all()) == 1
    assert len(asked) == 2, "the student made a step"
    with pytest.raises(Interrupted, match="stopped once teacher"):
        run_trial(config, name, places, execution, resume=True)  # the teacher is known, the stop stands
    assert len(asked) == 2
    assert run_trial(config, name, places, Execution(), resume=True)["epochs"] == 1
