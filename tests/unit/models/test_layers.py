"""The shared pieces of the networks."""

import pytest
import torch

from icd.models.layers import halved, shuffle_channels


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_shuffle_interleaves_the_groups(memory_format: torch.memory_format) -> None:
    images = torch.arange(6.0).reshape(1, 6, 1, 1).expand(2, 6, 4, 5).contiguous(memory_format=memory_format)
    shuffled = shuffle_channels(images, 2)
    assert shuffled[0, :, 0, 0].tolist() == [0, 3, 1, 4, 2, 5]
    assert shuffled.is_contiguous(memory_format=memory_format)


def test_shuffle_of_one_group_changes_nothing() -> None:
    images = torch.randn(2, 6, 4, 4)
    assert torch.equal(shuffle_channels(images, 1), images)


@pytest.mark.parametrize(("size", "times", "expected"), [(32, 3, 4), (36, 3, 5), (1, 5, 1), (7, 0, 7)])
def test_halved_rounds_up_at_every_step(size: int, times: int, expected: int) -> None:
    assert halved(size, times) == expected
