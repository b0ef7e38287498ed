r"""What the teacher says about every view of every image, kept in files: no trial computes an entry twice.

A view is a number (icd/data/views.py), so (image, view) has one answer. An entry holds the logits of the finest cells
in float16 and, bit by bit, whether the teacher was right: coarser cells and the global logits are means of the finest
ones, because pooling is an average and the head is linear, but an arg-max must not be asked of rounded numbers, where
ties flip the weight of a cell.

One folder holds one *block*: the cells of one grid, for one teacher, data set and family of views.

    block.json      what it is; another teacher, data set or version is another folder
    entries.bin     the entries, sparse: a slot that nobody asked for takes no disk
    checks.bin      CRC-32 of each entry, written after it; 0 means missing
    claims          locked byte by byte: one image, one writer at a time

Any number of processes of one machine share it, and of threads in each. A writer that dies leaves its entries missing,
and its locks free. Neither file is flushed to the disk: an entry that a power cut took from under its checksum counts
as missing too.

Shape key:
    B: batch    K: classes    R: stored rows (cells of the grid, the global logits before them where they differ)
    P: cells of all scales    V: verdicts    S: slots    W: bytes of an entry
"""

import errno
import fcntl
import hashlib
import json
import logging
import os
import zlib
from contextlib import AbstractContextManager, ExitStack, closing
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from icd.data.loader import Numbers
from icd.errors import CheckpointError, SetupError
from icd.kept import kept
from icd.losses.cells import bins, cell_logits
from icd.models import Output
from icd.storage.byte_locks import ByteLocks
from icd.storage.durable import write_durably

logger = logging.getLogger(__name__)

VERSION = 2  # 1 drew the operations of RandAugment from the stream of the splits
_DIGITS = 16
HEADER, _ENTRIES, _CHECKS, _CLAIMS = "block.json", "entries.bin", "checks.bin", "claims"


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockSpec:
    """What one block holds; its digest names the folder.

    Attributes:
        teacher: Digest of the weights; the network that they are in, its stem, and its plugin's digest.
        data: Digest of the images, split and normalisation.
        views: The family of views, as plain data.
        num_images: Training images.
        num_classes: K.
        side: Cells along one side of the block's grid.
        from_map: Whether the cells are cut from the map itself, and stand for their own scale only; else from the
            grid of ``side``, and all scales that divide it are means of them.
        own_logits: Whether the network's own logits are stored too: they differ from the mean of the cells where the
            grid's windows overlap.
        sequence: None for every view of every image; else (seed, epochs) of the one sequence of views it follows.
    """

    teacher: str
    data: str
    views: str
    num_images: int
    num_views: int
    num_classes: int
    side: int
    from_map: bool
    own_logits: bool
    sequence: tuple[int, int] | None = None

    @property
    def num_slots(self) -> int:
        """Entries when full."""
        return self.num_images * (self.num_views if self.sequence is None else self.sequence[1])

    @property
    def scales(self) -> tuple[int, ...]:
        """Scales whose cells are means of the stored ones."""
        if self.from_map:
            return (self.side,)
        return tuple(scale for scale in range(1, self.side + 1) if self.side % scale == 0)

    @property
    def num_rows(self) -> int:
        """R."""
        return self.side**2 + self.own_logits

    @property
    def num_verdicts(self) -> int:
        """V: the network's own, then the cells of every scale."""
        return 1 + sum(scale**2 for scale in self.scales)

    @property
    def entry_bytes(self) -> int:
        """W."""
        return 2 * self.num_rows * self.num_classes + -(-self.num_verdicts // 8)

    @property
    def num_bytes(self) -> int:
        """Disk when full."""
        return self.num_slots * (self.entry_bytes + 4)

    def digest(self) -> str:
        """SHA-256 of what it is."""
        return hashlib.sha256(self.text().encode()).hexdigest()

    def text(self) -> str:
        """Write it as JSON."""
        return json.dumps({"version": VERSION, **asdict(self)}, sort_keys=True)

    def verdicts_of(self, scale: int) -> slice:
        """Where the verdicts on the cells of a scale are, after the one on the network's own logits."""
        start = 1 + sum(other**2 for other in self.scales if other < scale)
        return slice(start, start + scale**2)

    def slots(self, epoch: int, indices_B: Numbers, view_ids_B: Numbers) -> Numbers:
        """Where the entries of a batch lie."""
        if self.sequence is None:
            return indices_B * self.num_views + view_ids_B
        return (epoch - 1) * self.num_images + indices_B

    def image_of(self, slots_S: Numbers) -> Numbers:
        """Which image a slot belongs to."""
        return slots_S // self.num_views if self.sequence is None else slots_S % self.num_images


class Block:
    """The files of one block, open for reading and filling.

    Raises:
        CheckpointError: If the folder holds another block, or its files do not fit.
        SetupError: If it cannot be made.
    """

    def __init__(self, folder: Path, spec: BlockSpec) -> None:
        self.folder, self.spec = folder, spec
        self._seen_S, self._told = np.zeros(spec.num_slots, dtype=bool), False  # checked once by this process
        try:
            with ExitStack() as opened:
                _make(folder, spec)
                self._entries_fd = os.open(folder / _ENTRIES, os.O_RDWR)
                opened.callback(os.close, self._entries_fd)
                self._claims = opened.enter_context(closing(ByteLocks(folder / _CLAIMS)))
                shape, checks = (spec.num_slots, spec.entry_bytes), folder / _CHECKS
                self._entries_SW: NDArray[np.uint8] = np.memmap(folder / _ENTRIES, np.uint8, "r", shape=shape)
                self._checks_S: NDArray[np.uint32] = np.memmap(checks, np.uint32, "r+", shape=shape[:1])
                self._opened = opened.pop_all()
        except (FileNotFoundError, ValueError) as error:  # NumPy maps no file that is too short
            raise CheckpointError(f"{folder} is incomplete; drop the cache: {error}") from error
        except OSError as error:
            raise SetupError(f"{folder} cannot be made or opened: {error.strerror}") from error

    def close(self) -> None:
        """Let go of the files; a second time does nothing."""
        self._opened.close()

    def filled(self) -> int:
        """Count entries."""
        return int(np.count_nonzero(self._checks_S))

    def missing(self, slots_B: Numbers) -> NDArray[np.bool_]:
        """Say which entries are not there yet, or fail their checksums; of those a warning tells once."""
        is_there_B = np.asarray(self._checks_S[slots_B] != 0)
        unseen = slots_B[is_there_B & ~self._seen_S[slots_B]].tolist()
        whole = [slot for slot in unseen if self._is_whole(slot)]
        self._seen_S[whole] = True
        if len(whole) < len(unseen) and not self._told:
            self._told = True
            logger.warning("%s: entries fail their checksums, and the teacher computes them again", self.folder)
        return ~(is_there_B & self._seen_S[slots_B])

    def read(self, slots_B: Numbers) -> tuple[Tensor, Tensor]:
        """Give rows [B, R, K] in float16, as they are stored, and verdicts [B, V].

        Raises:
            CheckpointError: If an entry is missing, or fails its checksum.
        """
        for slot in slots_B[self.missing(slots_B)].tolist():
            raise CheckpointError(f"{self.folder}: entry {slot} is missing or fails its checksum")
        spec, entries_BW = self.spec, np.ascontiguousarray(self._entries_SW[slots_B])
        end = 2 * spec.num_rows * spec.num_classes
        rows_BR = np.ascontiguousarray(entries_BW[:, :end]).view(np.float16)
        bits_BV = np.unpackbits(entries_BW[:, end:], axis=1, count=spec.num_verdicts)
        rows_BRK = torch.from_numpy(rows_BR.reshape(len(slots_B), spec.num_rows, spec.num_classes))
        return rows_BRK, torch.from_numpy(bits_BV.astype(bool))

    def write(self, slots_B: Numbers, rows_BRK: Tensor, verdicts_BV: Tensor) -> None:
        """Put entries in place, each whole before its checksum says that it is there; neighbours in one go.

        Raises:
            SetupError: If the disk is full.
            CheckpointError: If a logit is not finite in float16.
        """
        halves_BRK = rows_BRK.to(torch.float16)
        if not bool(torch.isfinite(halves_BRK).all()):
            raise CheckpointError(
                f"logits of teacher {self.spec.teacher[:_DIGITS]} do not fit float16; use --teacher-cache off"
            )
        halves_BW = halves_BRK.reshape(len(slots_B), -1).numpy().view(np.uint8)
        bits_BW = np.packbits(verdicts_BV.numpy(), axis=1)
        order_B = np.argsort(slots_B)
        slots_B, entries_BW = slots_B[order_B], np.concatenate([halves_BW, bits_BW], axis=1)[order_B]
        starts = [0, *(np.flatnonzero(np.diff(slots_B) != 1) + 1).tolist(), len(slots_B)]
        try:
            for start, end in pairwise(starts):
                content = entries_BW[start:end].data
                if os.pwrite(self._entries_fd, content, int(slots_B[start]) * self.spec.entry_bytes) != content.nbytes:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            raise SetupError(f"{self.folder / _ENTRIES} cannot be written: {error.strerror}") from error
        self._checks_S[slots_B] = [_check(entry_W) for entry_W in entries_BW]

    def claim(self, slots_B: Numbers) -> AbstractContextManager[None]:
        """Keep other writers, threads of this process too, from the images of these slots; waits for their ends."""
        return self._claims.held(self.spec.image_of(slots_B).tolist())

    def damaged(self, *, repair: bool = False) -> int:
        """Check every entry; returns how many fail. ``repair`` makes them missing, to be computed again."""
        bad = [slot for slot in np.flatnonzero(self._checks_S).tolist() if not self._is_whole(slot)]
        if repair:
            self._checks_S[bad] = 0
        return len(bad)

    def _is_whole(self, slot: int) -> bool:
        return _check(self._entries_SW[slot]) == int(self._checks_S[slot])


def block_folder(root: Path, spec: BlockSpec) -> Path:
    """Name the folder of a block below the folder of all teacher caches."""
    return root / spec.digest()[:_DIGITS]


def read_spec(folder: Path) -> BlockSpec:
    """Read what a folder holds.

    Raises:
        CheckpointError: If it holds no block, or one of another version.
    """
    try:
        data = json.loads((folder / HEADER).read_text())
        if data.pop("version") != VERSION:
            raise ValueError("another version")
        return BlockSpec(**{**data, "sequence": data["sequence"] and tuple(data["sequence"])})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        rule = f"holds no teacher cache of version {VERSION} ({error})"
        raise CheckpointError(f"{folder} {rule}; drop it: icd teacher cache rm {folder.name}") from error


def rows_of(output: Output, head: nn.Linear, spec: BlockSpec, labels_B: Tensor) -> tuple[Tensor, Tensor]:
    """Give the rows and verdicts of a forward, on the CPU: [B, R, K] and [B, V]."""
    grid = None if spec.from_map else spec.side
    cells_BPK = cell_logits(output.features_BCHW, head, spec.scales, grid=grid).float()
    logits_B1K = output.logits_BK.float().unsqueeze(1)
    verdicts_BV = torch.cat([logits_B1K, cells_BPK], dim=1).argmax(dim=2) == labels_B.unsqueeze(1)
    finest_BMK = cells_BPK[:, -(spec.side**2) :]
    rows_BRK = torch.cat([logits_B1K, finest_BMK], dim=1) if spec.own_logits else finest_BMK
    return rows_BRK.cpu(), verdicts_BV.cpu()


@kept
def coarsening(side: int, scales: tuple[int, ...], device: torch.device) -> Tensor:
    """Averaging of the stored cells to those of the scales, [P, side * side]."""
    return torch.cat([bins(side, side, scale) for scale in scales]).float().to(device)


def _check(entry_W: NDArray[np.uint8]) -> int:
    return zlib.crc32(entry_W.data) or 1  # 0 means missing


def _make(folder: Path, spec: BlockSpec) -> None:
    header = folder / HEADER
    if header.exists():
        if header.read_text() != spec.text():
            raise CheckpointError(f"{folder} holds another teacher cache than the one asked for; drop it")
        return
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".making").open("w") as making:
        fcntl.flock(making, fcntl.LOCK_EX)  # two may come at once
        if header.exists():
            return
        (folder / _CLAIMS).touch()
        (folder / _ENTRIES).touch()
        os.truncate(folder / _ENTRIES, spec.num_slots * spec.entry_bytes)
        with (folder / _CHECKS).open("wb") as checks:  # real blocks: a hole could not be filled on a full disk
            os.posix_fallocate(checks.fileno(), 0, 4 * spec.num_slots)
        write_durably(header, spec.text().encode())  # last: a block without a header does not exist
