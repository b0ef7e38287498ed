"""Students as plugins bring them: one that draws, one with a frozen part, one whose classifier has two names."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from icd.config.read_trial import read_trial
from icd.config.trial import TrialConfig
from icd.config.yaml import parse_yaml
from icd.data.split import Split
from icd.errors import ConfigError
from icd.methods import CrossEntropy
from icd.models import build_model
from icd.training.checkpoints import weights_digest
from icd.training.draws import seed_step
from icd.training.evaluation import evaluate
from icd.training.loop import EpochMetrics, Execution, Trained, train
from icd.training.student_file import read_student, write_student
from icd.worker import single_trial
from tests.tiny import images, views

PLUGIN = Path(__file__).parents[2] / "support" / "networks.py"


@pytest.fixture(scope="module")
def split() -> Split:
    return images()


def config_of(student: str, **training: Any) -> TrialConfig:
    training = {"epochs": 3, "batch_size": 12, "augmentation": views(), **training}
    content = {
        "plugins": [str(PLUGIN)],
        "data": {"name": "npz", "path": "tiny.npz"},
        "student": student,
        "method": "cross_entropy",
        "training": training,
    }
    return read_trial(parse_yaml(json.dumps(content), "test"))


def digest_of(trained: Trained) -> str:
    return weights_digest(trained.network.state_dict())


def test_what_a_network_draws_follows_from_seed_epoch_and_step(split: Split, tmp_path: Path) -> None:
    config = config_of("drops")
    torch.manual_seed(1)
    state = torch.get_rng_state()
    whole = train(config, split, None, Execution())
    assert torch.equal(torch.get_rng_state(), state), "the caller's generator is put back"
    torch.manual_seed(2)
    assert digest_of(train(config, split, None, Execution())) == digest_of(whole)
    assert digest_of(train(config, split, None, Execution(engine="graph"))) == digest_of(whole)
    assert digest_of(train(replace(config, seed=1), split, None, Execution())) != digest_of(whole)

    execution = Execution(checkpoints=tmp_path)
    train(config, split, None, replace(execution, stop=lambda: True))
    torch.manual_seed(3)
    assert digest_of(train(config, split, None, execution)) == digest_of(whole)


def test_each_step_has_draws_of_its_own() -> None:
    config_of("drops")  # registers it
    network, found = build_model("drops", num_classes=10, stem="own", seed=0), []
    images_BCHW = torch.ones(2, 3, 8, 8)
    for moment in [(0, 1, 0), (0, 1, 0), (0, 1, 1), (0, 2, 0), (1, 1, 0)]:
        seed_step(torch.device("cpu"), *moment)
        found.append(network(images_BCHW).logits_BK)
    assert torch.equal(found[0], found[1])
    assert all(not torch.equal(found[0], other) for other in found[2:])


def test_measuring_disturbs_no_draw(split: Split) -> None:
    rows: list[EpochMetrics] = []
    measured = train(config_of("drops", measure_every=1), split, None, Execution(report=rows.append))
    assert "train/gradient_norm/ce" in rows[0].values
    assert digest_of(train(config_of("drops", measure_every=0), split, None, Execution())) == digest_of(measured)


def test_terms_that_are_no_scalars_are_told_at_the_first_step(split: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CrossEntropy, "terms", lambda self, side, teacher, step: {"ce": side.logits_BK.mean()[None]})
    with pytest.raises(ConfigError, match=r"method: must give scalar terms, but got \[1\]"):
        train(config_of("frozen"), split, None, Execution())


def test_test_images_are_measured_as_the_validation_images_were(
    split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the precision and the memory layout of the training."""
    asked: list[object] = []

    @contextmanager
    def noted(device: torch.device, precision: str) -> Iterator[None]:
        asked.append((device.type, precision))
        yield

    def measured(network: Any, batches: Any) -> dict[str, float]:
        asked.append(network.conv.weight.is_contiguous())
        return evaluate(network, batches)

    monkeypatch.setattr(single_trial, "kernels", noted)
    monkeypatch.setattr(single_trial, "evaluate", measured)
    config = config_of("frozen", precision="tf32", channels_last=False)
    write_student(tmp_path, build_model("frozen", num_classes=10, stem="own", seed=0).state_dict(), config.key())
    assert single_trial._look_at_test(config, split, tmp_path, Execution(), "mine")["top1"] >= 0
    assert asked == [("cpu", "tf32"), True]


def test_a_frozen_part_stays_and_is_not_measured(split: Split) -> None:
    rows: list[EpochMetrics] = []
    trained = train(config_of("frozen", measure_every=1), split, None, Execution(report=rows.append))
    assert rows[-1].values["train/gradient_share/ce"] == 1
    before = build_model("frozen", num_classes=10, stem="own", seed=0).state_dict()
    after = trained.network.state_dict()
    assert torch.equal(after["conv.weight"], before["conv.weight"])
    assert not torch.equal(after["fc.weight"], before["fc.weight"])


def test_a_classifier_with_two_names_is_kept_under_both(split: Split, tmp_path: Path) -> None:
    trained = train(config_of("second_name", epochs=1), split, None, Execution())
    write_student(tmp_path, trained.network.state_dict(), "key")
    found = read_student(tmp_path, "key")
    assert torch.equal(found["classifier.weight"], found["fc.weight"])
    build_model("second_name", num_classes=10, stem="own").load_state_dict(found)
    assert weights_digest(found) == digest_of(trained)
