"""What CRD draws on a device: a hash that any machine computes alike, uniform over the other classes."""

from typing import Literal

import numpy as np
import pytest
import torch

from icd.data import counter
from icd.methods.contrasts import DeviceContrasts, _mixed

LABELS_N = np.random.default_rng(0).permutation(np.repeat([3, 7, 8], [20, 30, 50]))
INDICES_B = torch.tensor([5, 99, 0, 42])


def test_the_hash_is_that_of_the_host() -> None:
    words = np.array([0, 1, 2**62, -5, 123456789])
    state = torch.from_numpy(counter.bits(9, -3).view(np.int64))
    for word in (7, torch.tensor(4.0, dtype=torch.float64), torch.from_numpy(words)):
        state = _mixed(state, word)
    assert np.array_equal(state.numpy().view(np.uint64), counter.bits(9, -3, 7, 4, words))


@pytest.mark.parametrize("mode", ["exact", "relaxed"])
def test_negatives_are_uniform_over_the_other_classes(mode: Literal["exact", "relaxed"]) -> None:
    drawn_BJ = DeviceContrasts(LABELS_N, 40_000, mode, seed=4)(INDICES_B, 2, 3).numpy()
    assert drawn_BJ.shape == (4, 40_001)
    for index, row_J in zip(INDICES_B.tolist(), drawn_BJ, strict=True):
        others = np.flatnonzero(LABELS_N[index] != LABELS_N)
        counts = np.bincount(row_J[1:], minlength=100)
        expected = 40_000 / len(others)
        assert counts.sum() == counts[others].sum()
        assert ((counts[others] - expected) ** 2 / expected).sum() < len(others) + 5 * (2 * len(others)) ** 0.5
        assert LABELS_N[row_J[0]] == LABELS_N[index]
    assert (drawn_BJ[:, 0] == INDICES_B.numpy()).all() == (mode == "exact")


def test_a_draw_depends_on_seed_moment_and_image_alone() -> None:
    draw = DeviceContrasts(LABELS_N, 8, "relaxed", seed=4)
    whole = draw(INDICES_B, 2, 3)
    assert torch.equal(draw(INDICES_B[2:], 2, 3), whole[2:])
    assert torch.equal(draw(INDICES_B, torch.tensor(2.0, dtype=torch.float64), torch.tensor(3)), whole)
    for other in (
        draw(INDICES_B, 3, 3),
        draw(INDICES_B, 2, 4),
        DeviceContrasts(LABELS_N, 8, "relaxed", 5)(INDICES_B, 2, 3),
    ):
        assert (other != whole).any()
    assert not draw.state_dict(), "a checkpoint keeps nothing of it"
