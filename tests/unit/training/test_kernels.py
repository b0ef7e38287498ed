"""cuDNN's switches belong to the process: overlapping trials must neither lose them nor leave them."""

from contextlib import ExitStack

import torch

from icd.training.kernels import reproducible

CUDA = torch.device("cuda")  # only the kind is asked for


def flags() -> tuple[bool, bool]:
    return torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark


def test_the_last_to_leave_puts_the_switches_back() -> None:
    before = flags()
    first, second = ExitStack(), ExitStack()
    try:
        torch.backends.cudnn.benchmark = True
        first.enter_context(reproducible(CUDA))
        second.enter_context(reproducible(CUDA))
        assert flags() == (True, False)
        first.close()  # the one that came first leaves first, as trials do
        assert flags() == (True, False)
        second.close()
        assert flags() == (before[0], True)
    finally:
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = before


def test_nothing_to_choose_on_a_cpu() -> None:
    before = flags()
    with reproducible(torch.device("cpu")):
        assert flags() == before
