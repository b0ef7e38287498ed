"""What training asks of a cache that stands for the teacher; ``icd.teacher.cache.TeacherCache`` is one.

Shape key:
    B: batch    N: images shown in an epoch
"""

from collections.abc import Callable, Iterator
from typing import Protocol

import torch
from torch import Tensor

from icd.data.loader import Batch, Numbers
from icd.methods import NetworkOutputs

Show = Callable[[Numbers, Numbers, int], Iterator[Batch]]  # image indices, view ids, batch size


class CachedTeacher(Protocol):
    """Answers for the teacher, batch by batch; what is missing it computes."""

    computed: int  # on how many images the teacher was run so far

    def outputs(self, batch: Batch, epoch: int) -> NetworkOutputs:
        """Give the teacher's outputs for a training batch."""
        ...

    def outputs_aside(self, batch: Batch) -> NetworkOutputs:
        """Give what it would hold of any images; nothing is read, stored or counted."""
        ...

    def on_device(self, device: torch.device, num_shown: int) -> "DeviceTeacher":
        """Give the same answers from a device's memory, for epochs of so many images."""
        ...


class DeviceTeacher(Protocol):
    """Answers for the teacher from the memory of a device, epoch by epoch."""

    def upload(self, epoch: int, indices_N: Numbers, view_ids_N: Numbers, show: Show) -> Numbers:
        """Have an epoch's entries on the device; returns their rows there, [N]."""
        ...

    def read_ahead(self, epoch: int, indices_N: Numbers, view_ids_N: Numbers) -> None:
        """Begin to read what a later epoch will need."""
        ...

    def outputs(self, rows_B: Tensor) -> NetworkOutputs:
        """Give the teacher's outputs for some rows; asks nothing of the host."""
        ...
