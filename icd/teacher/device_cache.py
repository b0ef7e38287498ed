"""A teacher cache's entries in the memory of a device, where a training step finds them without the host.

A block that fits is mirrored once in a process and stays for its later trials: room for every slot, filled with what
their epochs ask for. Of one that does not fit, each trial keeps the entries of its present epoch.

Shape key:
    B: batch    N: images shown in an epoch    S: mirrored entries    R: stored rows    K: classes    D: R * K
    V: verdicts
"""

import logging
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from icd.data.loader import Numbers
from icd.teacher.cache_block import Block, BlockSpec
from icd.teacher.cached_outputs import CachedOutputs
from icd.training.cached_teacher import Show

if TYPE_CHECKING:
    from icd.teacher.cache import TeacherCache

logger = logging.getLogger(__name__)

_CHUNK = 4096  # entries that are copied at once
_SPARED = 0.2  # share of the device's memory that is left for the trials themselves
_HOST_ROOM = 10**9  # what a CPU lends, where this path only runs to be tested


class Mirror:
    """Entries on a device."""

    def __init__(self, spec: BlockSpec, num_entries: int, device: torch.device) -> None:
        self.logits_fp16_SD = torch.empty(
            num_entries, spec.num_rows * spec.num_classes, dtype=torch.float16, device=device
        )
        self.verdicts_SV = torch.empty(num_entries, spec.num_verdicts, dtype=torch.bool, device=device)
        self.is_filled_S = np.zeros(num_entries, dtype=bool)

    def copy(self, block: Block, slots_N: Numbers, rows_N: Numbers) -> None:
        """Copy what a block holds in some slots to some rows, in the order of the slots, as they lie on the disk."""
        device, order_N = self.logits_fp16_SD.device, np.argsort(slots_N, kind="stable")
        for first in range(0, len(slots_N), _CHUNK):
            part_n = order_N[first : first + _CHUNK]
            logits_nRK, verdicts_nV = block.read(slots_N[part_n])
            rows_n = torch.from_numpy(rows_N[part_n]).to(device)
            self.logits_fp16_SD.index_copy_(0, rows_n, logits_nRK.flatten(1).to(device))
            self.verdicts_SV.index_copy_(0, rows_n, verdicts_nV.to(device))
        self.is_filled_S[rows_N] = True


mirrors: dict[tuple[Path, torch.device], Mirror] = {}


class DeviceCache:
    """Answers a trial's steps on the device, epoch by epoch.

    Args:
        cache: Where the entries come from; what it lacks it computes.
        device: Where they shall be.
        num_shown: N.
    """

    def __init__(self, cache: "TeacherCache", device: torch.device, num_shown: int) -> None:
        self.cache = cache
        whole = _whole_mirrors(cache.blocks, device)
        self.whole = whole is not None
        self.mirrors = whole or [Mirror(block.spec, num_shown, device) for block in cache.blocks]
        self._reading: threading.Thread | None = None
        for mirror in self.mirrors if device.type == "cuda" else ():  # made on the stream of the process's first trial
            mirror.logits_fp16_SD.record_stream(torch.cuda.current_stream(device))
            mirror.verdicts_SV.record_stream(torch.cuda.current_stream(device))

    def upload(self, epoch: int, indices_N: Numbers, view_ids_N: Numbers, show: Show) -> Numbers:
        """Have the entries of an epoch on the device, computed if need be; returns their rows there."""
        if self._reading is not None:
            self._reading.join()
        slots_N = self.cache.spec.slots(epoch, indices_N, view_ids_N)
        rows_N = slots_N if self.whole else np.arange(len(slots_N))
        new_n = rows_N  # indices into what is shown
        if self.whole:
            new_n = np.flatnonzero(~np.logical_and.reduce([mirror.is_filled_S[slots_N] for mirror in self.mirrors]))
        self.cache.compute(slots_N[new_n], indices_N[new_n], view_ids_N[new_n], show)
        for block, mirror in zip(self.cache.blocks, self.mirrors, strict=True):
            mirror.copy(block, slots_N[new_n], rows_N[new_n])
        return rows_N

    def outputs(self, rows_B: Tensor) -> CachedOutputs:
        """Give the teacher's outputs for a batch; asks nothing of the host."""
        parts = []
        for block, mirror in zip(self.cache.blocks, self.mirrors, strict=True):
            logits_BD = mirror.logits_fp16_SD.index_select(0, rows_B)
            rows_BRK = logits_BD.float().view(-1, block.spec.num_rows, block.spec.num_classes)
            parts.append((block.spec, rows_BRK, mirror.verdicts_SV.index_select(0, rows_B)))
        return CachedOutputs(parts)

    def read_ahead(self, epoch: int, indices_N: Numbers, view_ids_N: Numbers) -> None:
        """Begin to read a later epoch's entries on a thread: ``upload`` finds them in memory, their checksums seen."""
        slots_N = np.sort(self.cache.spec.slots(epoch, indices_N, view_ids_N))
        self._reading = threading.Thread(target=self._read, args=(slots_N,), name="icd-read-ahead", daemon=True)
        self._reading.start()

    def _read(self, slots_N: Numbers) -> None:
        for block, mirror in zip(self.cache.blocks, self.mirrors, strict=True):
            block.missing(slots_N[~mirror.is_filled_S[slots_N]] if self.whole else slots_N)


def _whole_mirrors(blocks: list[Block], device: torch.device) -> list[Mirror] | None:
    """Give whole mirrors of the blocks, made where they are missing; None where they do not fit.

    Those of earlier trials, which are over, go if need be. Another process may take the memory that was free a moment
    ago; then what was made here is given back.
    """
    wanted = {(block.folder, device): block.spec for block in blocks}
    new = {key: spec for key, spec in wanted.items() if key not in mirrors}
    needed = sum(spec.num_slots * (2 * spec.num_rows * spec.num_classes + spec.num_verdicts) for spec in new.values())
    if needed > _room(device):
        for key in {key for key in mirrors if key[1] == device} - set(wanted):
            del mirrors[key]
    if new and needed > _room(device):
        return None
    try:
        made = {key: Mirror(spec, spec.num_slots, device) for key, spec in new.items()}
    except torch.OutOfMemoryError as error:
        logger.warning("a teacher cache does not fit on %s and is copied there epoch by epoch: %s", device, error)
        return None
    mirrors.update(made)
    return [mirrors[block.folder, device] for block in blocks]


def _room(device: torch.device) -> int:
    if device.type != "cuda":
        return _HOST_ROOM
    free, total = torch.cuda.mem_get_info(device)
    own = total * torch.cuda.get_per_process_memory_fraction()  # what this process may have of it
    room = min(free + torch.cuda.memory_reserved(device), own) - torch.cuda.memory_allocated(device)
    return int(room - _SPARED * own)
