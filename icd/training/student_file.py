"""The finished student as a file that other tools open: safetensors, with what belongs to it in its metadata.

Safetensors notices a file that was cut short, but not a flipped bit, so the metadata hold the digest of the weights.
They are one entry, as safetensors writes several in an order that changes from call to call.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from icd.errors import CheckpointError
from icd.storage.durable import write_durably
from icd.training import STUDENT
from icd.training.checkpoints import weights_digest


def write_student(folder: Path, weights: Mapping[str, Tensor], key: str) -> str:
    """Write a trial's trained weights into its folder; returns the file's SHA-256."""
    # Copies: the file holds a tensor once for each name, and safetensors refuses names that share memory.
    weights = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for name, tensor in weights.items()
    }
    belongs = {"key": key, "weights": weights_digest(weights)}
    content = save(weights, metadata={"icd": json.dumps(belongs, sort_keys=True)})
    write_durably(folder / STUDENT, content)
    return hashlib.sha256(content).hexdigest()


def read_student(folder: Path, key: str) -> dict[str, Tensor]:
    """Read a trial's trained weights.

    Args:
        folder: The trial's.
        key: Of the configuration that the weights must belong to.

    Raises:
        CheckpointError: If the file is missing, cut short, altered, or of another configuration.
    """
    path = folder / STUDENT
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error
    try:
        size = int.from_bytes(content[:8], "little")
        metadata = json.loads(content[8 : 8 + size])["__metadata__"]
        belongs = json.loads(metadata["icd"])
        weights: dict[str, Tensor] = load(content)
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} is no student of icd, or was cut short at {len(content)} bytes") from error
    if belongs.get("weights") != weights_digest(weights):
        raise CheckpointError(f"{path} fails its SHA-256: it was altered after it was written")
    if belongs.get("key") != key:
        raise CheckpointError(f"{path} belongs to another configuration")
    return weights
