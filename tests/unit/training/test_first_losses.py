"""The losses of the first steps, through resumptions."""

import pytest
import torch

from icd.config.read_trial import read_trial
from icd.config.trial import Fingerprint, plain_data
from icd.config.yaml import parse_yaml
from icd.errors import NonFiniteLossError
from icd.training.first_losses import NUM_STEPS, beginning, noted, stored
from icd.training.step import LossLog

CONFIG = read_trial(parse_yaml("student: resnet8\nmethod: cross_entropy\n", "x.yaml"))


def begun() -> Fingerprint:
    return beginning(CONFIG, torch.device("cpu"), "live")


def epoch_of(*losses: float) -> LossLog:
    log = LossLog(1, 1)
    for loss in losses:
        log.add(("ce",), torch.tensor([loss]))
    return log


def test_fifty_and_no_more() -> None:
    first = noted(begun(), epoch_of(*[1.0] * 30))
    assert first is not None
    assert len(first.losses) == 30
    first = noted(first, epoch_of(*map(float, range(30))))
    assert first is not None
    assert len(first.losses) == NUM_STEPS
    assert first.losses[29:32] == (1.0, 0.0, 1.0)
    assert (first.key, first.teacher) == (CONFIG.key(), "live")
    assert noted(first, epoch_of(7.0)) == first


def test_a_resumed_training_keeps_its_beginning() -> None:
    first = noted(begun(), epoch_of(2.5, 2.25))
    assert first is not None
    assert stored(plain_data(first)) == first


def test_a_beginning_that_nobody_noted_stays_unknown() -> None:
    assert noted(stored(None), epoch_of(1.0)) is None  # of a checkpoint without it


@pytest.mark.parametrize("look_every", [1, 2, 50])
def test_totals_of_a_log(look_every: int) -> None:
    log = LossLog(1, look_every)
    for step in range(5):
        log.add(("ce", "kd"), torch.tensor([step, 0.5]))
    assert log.totals(3) == [0.5, 1.5, 2.5]
    assert log.totals(50) == [0.5, 1.5, 2.5, 3.5, 4.5]
    assert log.means() == {"ce": 2.0, "kd": 0.5}


def test_totals_find_what_is_not_finite() -> None:
    log = LossLog(1, 50)
    log.add(("ce",), torch.tensor([float("inf")]))
    with pytest.raises(NonFiniteLossError):
        log.totals(1)
