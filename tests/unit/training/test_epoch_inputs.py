"""Which images an epoch shows, and how many steps it has."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from icd.config.training import TrainingConfig
from icd.data.views import CropFlip
from icd.errors import ConfigError
from icd.models import Stem, build_model
from icd.training.checkpoints import weights_digest
from icd.training.epoch_inputs import EpochInputs
from icd.training.loop import Execution
from tests.tiny import images

NETWORKS: dict[str, Stem] = {"torchvision_resnet18": "conv7x7_s2_pool", "resnet8": "conv3x3"}  # maps of 1 x 1, 4 x 4
TRAINING = TrainingConfig(epochs=2, batch_size=12, lr=0.1, weight_decay=0.0, augmentation=CropFlip(size=16, pad=2))


def inputs_of(**changes: Any) -> EpochInputs:
    student = SimpleNamespace(arch="torchvision_resnet18")
    config: Any = SimpleNamespace(seed=3, training=replace(TRAINING, **changes), student=student)
    split = images()
    return EpochInputs(config, split, split.train, Execution())


@pytest.mark.parametrize(("drop_last", "sizes"), [(False, [12, 12, 12, 12, 2]), (True, [12, 12, 12, 12])])
def test_an_epoch_shows_each_image_once_but_for_a_last_batch_that_is_left_out(
    drop_last: bool, sizes: list[int]
) -> None:
    inputs = inputs_of(drop_last=drop_last)
    indices_N, view_ids_N = inputs.order(2)
    batches = list(inputs.show(indices_N, view_ids_N, 12))
    assert [len(batch.labels_B) for batch in batches] == sizes
    assert (inputs.num_steps, inputs.num_shown) == (len(sizes), sum(sizes))
    assert len(set(indices_N.tolist())) == sum(sizes)
    assert indices_N.tolist() == inputs_of().order(2)[0][: sum(sizes)].tolist(), "the same order either way"
    assert indices_N.tolist() != inputs.order(1)[0].tolist()


def test_fewer_images_than_a_batch_are_no_epoch_where_the_last_batch_is_left_out() -> None:
    assert inputs_of(batch_size=51).num_steps == 1
    with pytest.raises(ConfigError, match=r"number of training images \(50\) must hold with drop_last, but got 51"):
        assert inputs_of(batch_size=51, drop_last=True).num_steps


@pytest.mark.parametrize(("changes", "more"), [({"batch_size": 7}, ".*drop_last: true"), ({"batch_size": 1}, "$")])
def test_a_batch_of_one_image_is_refused_only_for_a_network_that_cannot_be_trained_on_it(
    changes: Any, more: str
) -> None:
    small, large = (build_model(arch, num_classes=10, stem=stem, seed=0) for arch, stem in NETWORKS.items())
    before = weights_digest(small.state_dict())
    inputs_of(**changes).check_batch_of_one(large)
    inputs_of(batch_size=7, drop_last=True).check_batch_of_one(small)
    inputs_of(batch_size=8).check_batch_of_one(small)
    rule = (
        r"training.batch_size: must not leave a batch of one of 50 images: torchvision_resnet18 says Expected more than"
    )
    with pytest.raises(ConfigError, match=rf"{rule}.*, but got {changes['batch_size']}; take another size{more}"):
        inputs_of(**changes).check_batch_of_one(small)
    assert weights_digest(small.state_dict()) == before, "running means are not touched"
