"""The training loop end to end on a few images: reproducible, resumable, honest about what breaks."""

import json
import math
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from icd.config.read_trial import read_trial
from icd.config.trial import TrialConfig
from icd.config.yaml import parse_yaml
from icd.data.split import Split
from icd.errors import CheckpointError, NonFiniteLossError
from icd.models import Network, build_model
from icd.training import checkpoints
from icd.training.checkpoints import weights_digest
from icd.training.evaluation import evaluate
from icd.training.loop import EpochMetrics, Execution, Trained, evaluation_batches, train
from tests.tiny import images, views

DATA = {"name": "npz", "path": "tiny.npz"}
TEACHER = {"arch": "resnet14", "weights": "train", "training": {"epochs": 1, "augmentation": views()}}
METHODS: dict[str, Any] = {"iCD-KD": "iCD-KD", "CRD": {"recipe": "CRD", "num_negatives": 20}}
ADAMW: dict[str, Any] = {"optimizer": "adamw", "lr": 0.01, "label_smoothing": 0.1, "ema_decay": 0.8}


def config_of(method: str, epochs: int = 3, **training: Any) -> TrialConfig:
    training = {"epochs": epochs, "batch_size": 25, "augmentation": views(), **training}
    content = {"data": DATA, "teacher": TEACHER, "student": "resnet8", "method": METHODS[method], "training": training}
    return read_trial(parse_yaml(json.dumps(content), "test"))


@pytest.fixture(scope="module")
def split() -> Split:
    return images()


@pytest.fixture
def teacher() -> Network:
    return build_model("resnet14", num_classes=10, stem="conv3x3", seed=7)


def digest_of(trained: Trained) -> str:
    return weights_digest(trained.network.state_dict())


def timeless(metrics: Any) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if not name.startswith(("time", "seconds/", "speed/"))}


def seen_by(rows: list[EpochMetrics]) -> list[tuple[int, dict[str, float]]]:
    return [(row.epoch, timeless(row.values)) for row in rows]


@pytest.mark.parametrize(("method", "training"), [("iCD-KD", {}), ("CRD", {}), ("iCD-KD", ADAMW)])
def test_stop_and_resume_is_the_uninterrupted_run(
    split: Split, teacher: Network, tmp_path: Path, method: str, training: dict[str, Any]
) -> None:
    config = config_of(method, **training)
    whole_rows: list[EpochMetrics] = []
    whole = train(config, split, teacher, Execution(report=whole_rows.append))
    assert (whole.finished, whole.epoch) == (True, 3)

    rows: list[EpochMetrics] = []
    execution = Execution(checkpoints=tmp_path, report=rows.append)
    first = train(config, split, teacher, replace(execution, stop=lambda: True))
    assert (first.finished, first.epoch) == (False, 1)
    assert [row.epoch for row in rows] == [1]
    assert checkpoints.newest_epoch(tmp_path) == 1
    second = train(config, split, teacher, execution)
    assert second.finished
    assert seen_by(rows) == seen_by(whole_rows)
    assert whole.fingerprint is not None
    assert (whole.fingerprint.teacher, len(whole.fingerprint.losses)) == ("live", 6)  # two steps in each epoch
    first_epoch = whole_rows[0].values["train/loss"]
    assert sum(whole.fingerprint.losses[:2]) / 2 == pytest.approx(first_epoch, rel=1e-12)
    assert second.fingerprint == whole.fingerprint
    assert digest_of(second) == digest_of(whole)
    assert timeless(second.metrics) == timeless(whole.metrics)

    for row in rows:
        shares = [value for name, value in row.values.items() if name.startswith("train/gradient_share/")]
        assert len(shares) >= 2
        assert sum(shares) == pytest.approx(1)
        assert all(math.isfinite(value) for value in row.values.values())
    assert split.test.looks == []


def test_the_average_of_the_weights_is_what_is_measured_and_kept(split: Split, teacher: Network) -> None:
    averaged = train(config_of("iCD-KD", ema_decay=0.8), split, teacher, Execution())
    plain = train(config_of("iCD-KD"), split, teacher, Execution())
    assert digest_of(averaged) != digest_of(plain)
    assert averaged.metrics["train/loss"] == plain.metrics["train/loss"], "the training itself is the same"
    assert averaged.metrics["val/loss"] != plain.metrics["val/loss"]
    measured = evaluate(averaged.network.eval(), evaluation_batches(config_of("iCD-KD"), split, split.val, Execution()))
    assert measured["loss"] == averaged.metrics["val/loss"]


def ungauged(rows: list[EpochMetrics]) -> list[tuple[int, dict[str, float]]]:
    return [
        (epoch, {name: value for name, value in values.items() if "/gradient_" not in name})
        for epoch, values in seen_by(rows)
    ]


@pytest.mark.parametrize("method", METHODS)
def test_measuring_changes_nothing(split: Split, teacher: Network, tmp_path: Path, method: str) -> None:
    rows: list[EpochMetrics] = []
    measured = train(config_of(method), split, teacher, Execution(report=rows.append))
    gauged = {name for name in rows[0].values if "/gradient_" in name}
    assert {name.split("/")[1] for name in gauged} == {"gradient_norm", "gradient_share", "gradient_cosine"}
    for engine in ("eager", "graph") if method != "CRD" else ("eager",):
        plain: list[EpochMetrics] = []
        config = config_of(method, measure_every=0)
        never = train(config, split, teacher, Execution(report=plain.append, engine=engine))
        assert digest_of(never) == digest_of(measured)
        assert [row.epoch for row in plain] == [1, 2, 3]
        assert seen_by(plain) == ungauged(plain) == ungauged(rows)
    assert config.key() == config_of(method).key()


def test_stop_between_reports_resumes_exactly(split: Split, teacher: Network, tmp_path: Path) -> None:
    config = config_of("iCD-KD", report_every=3)
    whole = train(config, split, teacher, Execution())
    rows: list[EpochMetrics] = []
    execution = Execution(checkpoints=tmp_path, report=rows.append)
    train(config, split, teacher, replace(execution, stop=lambda: True))
    assert rows == []
    assert digest_of(train(config, split, teacher, execution)) == digest_of(whole)
    assert [row.epoch for row in rows] == [3]


@pytest.mark.parametrize("batch_size", [50, 25, 10])
def test_no_epoch_is_finished_before_the_one_before_is_kept(
    split: Split, teacher: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch_size: int
) -> None:
    begun = {epoch: threading.Event() for epoch in (1, 2, 3)}
    kept: list[int] = []
    seen: list[tuple[int, bool, list[int]]] = []
    save = checkpoints.save_epoch

    def slow(folder: Path, epoch: int, payload: Any) -> None:
        if batch_size == 10 and epoch < 3:  # steps are not held up: the next epoch's first one comes before this ends
            assert begun[epoch + 1].wait(60)
        time.sleep(0.5)  # far longer than an epoch
        save(folder, epoch, payload)
        kept.append(epoch)

    def progress(epoch: int, step: int, steps: int) -> None:
        assert steps == 50 // batch_size
        seen.append((epoch, step == steps, list(kept)))
        begun[epoch].set()

    monkeypatch.setattr(checkpoints, "save_epoch", slow)
    config = config_of("iCD-KD", batch_size=batch_size, measure_every=0)
    train(config, split, teacher, Execution(checkpoints=tmp_path, progress=progress))
    assert [kept for _, last, kept in seen if last] == [[], [1], [1, 2]]
    if batch_size == 10:  # and steps are not held up before that
        assert (2, False, []) in seen


def test_same_seed_same_weights(split: Split, teacher: Network) -> None:
    config = config_of("iCD-KD", epochs=2)
    first, second = (train(config, split, teacher, Execution()) for _ in range(2))
    other = train(replace(config, seed=1), split, teacher, Execution())
    assert digest_of(first) == digest_of(second) != digest_of(other)
    assert timeless(first.metrics) == timeless(second.metrics)
    assert split.test.looks == []


def test_the_caller_s_random_state_does_not_matter(split: Split, teacher: Network) -> None:
    config = config_of("CRD", epochs=1)
    torch.manual_seed(1)
    first = train(config, split, teacher, Execution())
    torch.manual_seed(2)
    assert digest_of(train(config, split, teacher, Execution())) == digest_of(first)


def test_teacher_is_not_changed(split: Split, teacher: Network) -> None:
    before = weights_digest(teacher.state_dict())
    train(config_of("iCD-KD", epochs=1), split, teacher, Execution())
    assert weights_digest(teacher.state_dict()) == before


def test_finished_training_is_not_trained_again(split: Split, teacher: Network, tmp_path: Path) -> None:
    config, steps = config_of("iCD-KD", epochs=1), []
    first = train(config, split, teacher, Execution(checkpoints=tmp_path))
    execution = Execution(checkpoints=tmp_path, progress=lambda *step: steps.append(step))
    again = train(config, split, teacher, execution)
    assert steps == []
    assert digest_of(again) == digest_of(first)


def test_checkpoint_of_another_configuration(split: Split, teacher: Network, tmp_path: Path) -> None:
    train(config_of("iCD-KD", epochs=1), split, teacher, Execution(checkpoints=tmp_path))
    with pytest.raises(CheckpointError, match="another configuration"):
        train(config_of("iCD-KD", epochs=2), split, teacher, Execution(checkpoints=tmp_path))


def test_poisoned_teacher(split: Split, teacher: Network, tmp_path: Path) -> None:
    with torch.no_grad():
        teacher.head.weight[0, 0] = math.nan
    rows: list[EpochMetrics] = []
    with pytest.raises(NonFiniteLossError, match="epoch 1, step 0") as caught:
        train(config_of("iCD-KD"), split, teacher, Execution(checkpoints=tmp_path, report=rows.append))
    assert (caught.value.epoch, caught.value.step, caught.value.exit_code) == (1, 0, 4)
    assert rows == []
    assert list(tmp_path.iterdir()) == []


def test_far_too_large_rate(split: Split, teacher: Network, tmp_path: Path) -> None:
    rows: list[EpochMetrics] = []
    config = config_of("iCD-KD", lr=1e6, clip_norm=None)
    with pytest.raises(NonFiniteLossError) as caught:
        train(config, split, teacher, Execution(checkpoints=tmp_path, report=rows.append))
    assert caught.value.epoch <= 3
    assert all(row.epoch < caught.value.epoch for row in rows)
    found = checkpoints.newest(tmp_path)
    assert (found.epoch if found else 0) == len(rows) == caught.value.epoch - 1
