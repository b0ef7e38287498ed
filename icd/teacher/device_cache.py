"""A teacher cache's entries in the memory of a device, where a training step finds them without the host.

A block that fits is mirrored once in a process and shared by all trials of it: room for every slot, filled with what
their epochs ask for. Of one that does not fit, each trial keeps the entries of its present epoch.

Shape key:
    B: batch    N: images shown in an epoch    S: mirrored entries    R: stored rows    K: classes    D: R * K
    V: verdicts
"""

import logging
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from icd.data.loader import Batch
from icd.teacher.cache import CachedOutputs, TeacherCache
from icd.teacher.cache_block import Block, BlockSpec

logger = logging.getLogger(__name__)

Numbers = NDArray[np.int64]
Show = Callable[[Numbers, Numbers, int], Iterator[Batch]]  # image indices, view ids, batch size

_CHUNK = 4096  # entries that are copied at once
_FILLED_AT_ONCE = 256  # images given to the cache at once
_SPARED = 0.2  # share of the device's memory that is left for the trials themselves
_HOST_ROOM = 10**9  # what a CPU lends, where this path only runs to be tested


class Mirror:
    """Entries on a device."""

    def __init__(self, spec: BlockSpec, num_entries: int, device: torch.device) -> None:
        self.halves_SD = torch.empty(num_entries, spec.num_rows * spec.num_classes, dtype=torch.float16, device=device)
        self.verdicts_SV = torch.empty(num_entries, spec.num_verdicts, dtype=torch.bool, device=device)
        self.there_S = np.zeros(num_entries, dtype=bool)
        self.users: weakref.WeakSet[DeviceCache] = weakref.WeakSet()
        self._writing = threading.Lock()

    def copy(self, block: Block, slots_N: Numbers, entries_N: Numbers) -> None:
        """Bring what a block holds in some slots to some entries; back when it is there for every stream."""
        device = self.halves_SD.device
        with self._writing:
            for first in range(0, len(slots_N), _CHUNK):
                part = slice(first, first + _CHUNK)
                halves_nRK, verdicts_nV = block.read_halves(slots_N[part])
                entries_n = torch.from_numpy(entries_N[part]).to(device)
                self.halves_SD.index_copy_(0, entries_n, halves_nRK.flatten(1).to(device))
                self.verdicts_SV.index_copy_(0, entries_n, verdicts_nV.to(device))
            if device.type == "cuda":
                torch.cuda.current_stream(device).synchronize()
            self.there_S[entries_N] = True


_mirrors: dict[tuple[Path, torch.device], Mirror] = {}
_choosing = threading.Lock()


class DeviceCache:
    """Answers a trial's steps on the device, epoch by epoch.

    Args:
        cache: Where the entries come from; what it lacks it computes.
        device: Where they shall be.
        num_shown: N.
    """

    def __init__(self, cache: TeacherCache, device: torch.device, num_shown: int) -> None:
        self.cache = cache
        with _choosing:
            whole = _whole_mirrors(cache.blocks, device)
            self.whole = whole is not None
            self.mirrors = whole or [Mirror(block.spec, num_shown, device) for block in cache.blocks]
            for mirror in self.mirrors:
                mirror.users.add(self)
                if device.type == "cuda":  # made on the stream of whoever came first
                    mirror.halves_SD.record_stream(torch.cuda.current_stream(device))
                    mirror.verdicts_SV.record_stream(torch.cuda.current_stream(device))

    def bring(self, epoch: int, indices_N: Numbers, view_ids_N: Numbers, show: Show) -> Numbers:
        """Have the entries of an epoch on the device, computed if need be; returns where they are."""
        slots_N = self.cache.spec.slots(epoch, indices_N, view_ids_N)
        if not self.whole:
            self._compute(slots_N, indices_N, view_ids_N, show)
            entries_N = np.arange(len(slots_N))
            for block, mirror in zip(self.cache.blocks, self.mirrors, strict=True):
                mirror.copy(block, slots_N, entries_N)
            return entries_N
        new_n = np.flatnonzero(~np.logical_and.reduce([mirror.there_S[slots_N] for mirror in self.mirrors]))
        self._compute(slots_N[new_n], indices_N[new_n], view_ids_N[new_n], show)
        for block, mirror in zip(self.cache.blocks, self.mirrors, strict=True):
            mirror.copy(block, slots_N[new_n], slots_N[new_n])
        return slots_N

    def side(self, entries_B: Tensor) -> CachedOutputs:
        """Give the teacher's side of a batch; asks nothing of the host."""
        parts = {}
        for block, mirror in zip(self.cache.blocks, self.mirrors, strict=True):
            spec = block.spec
            halves_BD = mirror.halves_SD.index_select(0, entries_B)
            rows_BRK = halves_BD.float().view(-1, spec.num_rows, spec.num_classes)
            verdicts_BV = mirror.verdicts_SV.index_select(0, entries_B)
            parts[spec.side, spec.from_map] = (spec, rows_BRK, verdicts_BV)
        return CachedOutputs(parts)

    def _compute(self, slots_n: Numbers, indices_n: Numbers, view_ids_n: Numbers, show: Show) -> None:
        lacking = np.flatnonzero(self.cache.missing(slots_n))
        shown = show(indices_n[lacking], view_ids_n[lacking], _FILLED_AT_ONCE)
        for part, batch in enumerate(shown):
            self.cache.fill(batch, slots_n[lacking[part * _FILLED_AT_ONCE : (part + 1) * _FILLED_AT_ONCE]])


def _whole_mirrors(blocks: list[Block], device: torch.device) -> list[Mirror] | None:
    """Give whole mirrors of the blocks, made where they are missing; None where they do not fit.

    Another process may take the memory that was free a moment ago; then what was made here is given back.
    """
    if not _makes_room(blocks, device):
        return None
    new = {(block.folder, device): block.spec for block in blocks if (block.folder, device) not in _mirrors}
    try:
        made = {key: Mirror(spec, spec.num_slots, device) for key, spec in new.items()}
    except torch.OutOfMemoryError as error:
        logger.warning("a teacher cache does not fit on %s and is brought there epoch by epoch: %s", device, error)
        return None
    _mirrors.update(made)
    return [_mirrors[block.folder, device] for block in blocks]


def _makes_room(blocks: list[Block], device: torch.device) -> bool:
    """Whether whole mirrors of the blocks fit; those that no trial uses go first if they stand in the way."""
    wanted = {(block.folder, device): block.spec for block in blocks}
    specs = [spec for key, spec in wanted.items() if key not in _mirrors]
    needed = sum(spec.num_slots * (2 * spec.num_rows * spec.num_classes + spec.num_verdicts) for spec in specs)
    if needed > _room(device):
        idle = [key for key, mirror in _mirrors.items() if key[1] == device and not mirror.users]
        for key in set(idle) - set(wanted):
            del _mirrors[key]
    return needed == 0 or needed <= _room(device)


def _room(device: torch.device) -> int:
    if device.type != "cuda":
        return _HOST_ROOM
    free, total = torch.cuda.mem_get_info(device)
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(free + unused - _SPARED * total)
