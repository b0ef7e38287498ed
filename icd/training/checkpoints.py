"""Checkpoints that are whole or absent: written aside, digested, synced, then moved into place.

A file is one header line, ``icd-checkpoint 1 <SHA-256 of the rest>``, and the payload of ``torch.save``. It is read
back with ``weights_only=True`` and only if the digest fits: torch itself would load a file with flipped bits without
a word.
"""

import hashlib
import io
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from icd.errors import CheckpointError
from icd.storage.durable import write_durably

logger = logging.getLogger(__name__)

_MAGIC = b"icd-checkpoint 1 "
_KEEP = 2


class Checkpoint(NamedTuple):
    """A checkpoint that was found whole."""

    epoch: int
    payload: dict[str, Any]
    path: Path


def save(path: Path, payload: Mapping[str, Any]) -> None:
    """Write a payload of tensors and plain values under its SHA-256."""
    buffer = io.BytesIO()
    torch.save(dict(payload), buffer)
    body = buffer.getvalue()
    write_durably(path, _MAGIC + hashlib.sha256(body).hexdigest().encode() + b"\n" + body)


def load(path: Path) -> dict[str, Any]:
    """Read a payload back after checking its digest.

    Raises:
        CheckpointError: If the file is missing, cut short or altered.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error
    header, _, body = content.partition(b"\n")
    if not header.startswith(_MAGIC) or not body:
        raise CheckpointError(f"{path} is no checkpoint of icd, or was cut short at {len(content)} bytes")
    if hashlib.sha256(body).hexdigest().encode() != header.removeprefix(_MAGIC):
        raise CheckpointError(f"{path} fails its SHA-256: it was altered or cut short after it was written")
    payload: dict[str, Any] = torch.load(io.BytesIO(body), map_location="cpu", weights_only=True)
    return payload


def weights_digest(state: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and values, whatever the order or memory layout."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def save_epoch(folder: Path, epoch: int, payload: Mapping[str, Any]) -> None:
    """Write the checkpoint of an epoch and drop all but the newest two."""
    save(folder / f"epoch-{epoch:06d}.ckpt", payload)
    for path in _epoch_paths(folder)[_KEEP:]:
        path.unlink(missing_ok=True)


def drop_unfinished(folder: Path) -> None:
    """Drop what a kill left half written. Only whoever takes a folder over may: another may be writing until then."""
    for path in folder.glob(".epoch-*.tmp"):
        path.unlink(missing_ok=True)


def newest(folder: Path) -> Checkpoint | None:
    """Give the newest whole checkpoint of a folder, None where there is none at all.

    Raises:
        CheckpointError: If there are checkpoints and every one of them is damaged.
    """
    damaged = []
    for path in _epoch_paths(folder):
        try:
            return Checkpoint(_epoch_of(path), load(path), path)
        except CheckpointError as error:
            damaged.append(str(error))
            logger.warning("%s; trying the one before", error)
    if damaged:
        raise CheckpointError("no valid checkpoint is left: " + "; ".join(damaged))
    return None


def newest_epoch(folder: Path) -> int:
    """Give the epoch of the newest checkpoint of a folder without reading it; 0 where there is none."""
    return max(map(_epoch_of, _epoch_paths(folder)), default=0)


def _epoch_of(path: Path) -> int:
    return int(path.stem.removeprefix("epoch-"))


def _epoch_paths(folder: Path) -> list[Path]:
    return sorted(folder.glob("epoch-" + 6 * "[0-9]" + ".ckpt"), reverse=True)
