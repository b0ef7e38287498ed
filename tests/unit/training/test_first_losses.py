"""The losses of the first steps, through resumptions."""

import pytest
import torch

from icd.config.read_trial import read_trial
from icd.config.yaml import parse_yaml
from icd.errors import NonFiniteLossError
from icd.training.first_losses import NUM_STEPS, FirstLosses
from icd.training.step import LossLog

CONFIG = read_trial(parse_yaml("student: resnet8\nmethod: cross_entropy\n", "x.yaml"))


def begun() -> FirstLosses:
    return FirstLosses(CONFIG, torch.device("cpu"), "live")


def test_fifty_and_no_more() -> None:
    first = begun()
    first.add([1.0] * 30)
    assert not first.full
    first.add([float(step) for step in range(30)])
    assert first.full
    assert first.fingerprint is not None
    assert len(first.fingerprint.losses) == NUM_STEPS
    assert first.fingerprint.losses[29:32] == (1.0, 0.0, 1.0)
    assert (first.fingerprint.key, first.fingerprint.teacher) == (CONFIG.key(), "live")


def test_a_resumed_training_keeps_its_beginning() -> None:
    first, again = begun(), FirstLosses(CONFIG, torch.device("cpu"), "cache")
    first.add([2.5, 2.25])
    again.load(first.state())
    assert again.fingerprint == first.fingerprint


def test_a_beginning_that_nobody_noted_stays_unknown() -> None:
    first = begun()
    first.load(None)  # of a checkpoint without it
    first.add([1.0])
    assert (first.fingerprint, first.state(), first.full) == (None, None, True)


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
