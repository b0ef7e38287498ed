"""The teacher's answer for a batch, made of what blocks of the cache hold.

Shape key:
    B: batch    K: classes    R: stored rows    M: stored cells    P: cells of all scales    V: verdicts
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from icd.teacher.cache_block import BlockSpec, coarsening

GridKey = tuple[int, bool]  # side, from_map


def grid_key(scale: int, grid: int | None) -> GridKey:
    """Which block holds a scale's cells."""
    return (grid, False) if grid is not None and grid % scale == 0 else (scale, True)


class CachedOutputs:
    """The teacher's answer for a batch, read from blocks; a ``methods.NetworkOutputs`` without features.

    Args:
        parts: What each block is, its rows, float32 [B, R, K], and its verdicts, [B, V].
    """

    def __init__(self, parts: Sequence[tuple[BlockSpec, Tensor, Tensor]]) -> None:
        self._parts = {(spec.side, spec.from_map): (spec, rows_BRK, verdicts) for spec, rows_BRK, verdicts in parts}
        self._spec, self._rows_BRK, self._verdicts_BV = parts[0]

    @property
    def logits_BK(self) -> Tensor:
        """The global logits."""
        return self._rows_BRK[:, 0] if self._spec.own_logits else self._rows_BRK.mean(dim=1)

    @property
    def features_BCHW(self) -> Tensor:
        raise ValueError("a teacher cache holds logits, not features")

    block_BCHW = features_BCHW

    def cells(self, scales: Sequence[int], grid: int | None) -> Tensor:
        """Logits of all cells of the scales, [B, P, K]."""
        keys = [grid_key(scale, grid) for scale in scales]
        if len(set(keys)) == 1:
            return self._cells_of(keys[0], tuple(scales))
        return torch.cat([self._cells_of(key, (scale,)) for key, scale in zip(keys, scales, strict=True)], dim=1)

    def cells_right(self, scales: Sequence[int], cells_BPK: Tensor, labels_B: Tensor) -> Tensor:
        """Read from the cache: the arg-max was taken before the logits were rounded."""
        parts = self._parts.values()
        found = [next(right[:, s.verdicts_of(scale)] for s, _, right in parts if scale in s.scales) for scale in scales]
        return torch.cat(found, dim=1)

    def logits_right(self, labels_B: Tensor) -> Tensor:
        """Read from the cache."""
        return self._verdicts_BV[:, 0]

    def _cells_of(self, key: GridKey, scales: tuple[int, ...]) -> Tensor:
        spec, rows_BRK, _ = self._parts[key]
        cells_BMK = rows_BRK[:, 1:] if spec.own_logits else rows_BRK
        if scales == (spec.side,):
            return cells_BMK
        return coarsening(spec.side, scales, cells_BMK.device) @ cells_BMK
