"""Reads weights files of other projects: plain tensors and numbers, never code.

``torch.load(weights_only=True)`` builds nothing but tensors, numbers and containers. The size of a file is checked
first, and a file that holds no weights is named for what it is.

Source of the formats: RepDistiller, mdistiller, SDD and iCD save ``{"model": state_dict, ...}``, sometimes from
``DataParallel`` (names start with ``module.``), with numpy scalars and ``argparse.Namespace`` beside it.
"""

import argparse
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from icd.errors import TeacherError

_MOST_BYTES = 8 << 30
_CONTAINERS = ("model", "state_dict", "model_state_dict", "net", "student", "teacher")
# Modules that PyTorch puts around a network: DataParallel and AveragedModel, torch.compile, FSDP, checkpointing.
_WRAPPERS = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}

_SAFETENSORS = re.compile(rb'.{8}\s*\{\s*"', re.DOTALL)
# What people save by mistake, by how it begins.
_OTHER_FILES: tuple[tuple[re.Pattern[bytes], str], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE | re.DOTALL), what)
    for pattern, what in (
        (rb"\s*(<!doctype html|<html|<head|<!--)", "a web page; download the file that the page offers"),
        (rb"version https://git-lfs", "a pointer of Git LFS; run 'git lfs pull' to get the file itself"),
        (rb"\s*<\?xml|\s*<error", "an answer of a server (XML), probably an error; look into it"),
        (rb"\x89HDF", "an HDF5 file (Keras?), which PyTorch does not read"),
        (rb"\x1f\x8b|\xfd7zXZ|BZh|7z\xbc\xaf|Rar!", "a compressed archive; unpack it first"),
        (rb"\s*[\[{]", "a JSON or text file"),
    )
)


def read_foreign(path: Path) -> dict[str, Tensor]:
    """Read the state dict out of a foreign file, of ``torch.save`` or safetensors.

    Raises:
        TeacherError: If the file is missing, too large, holds no weights, or needs anything but plain data to be read.
    """
    try:
        if (size := path.stat().st_size) > _MOST_BYTES:
            raise ValueError(f"it must have at most {_MOST_BYTES >> 30} GiB, but has {size / (1 << 30):.1f}")
        with path.open("rb") as file:
            head = file.read(512)
        if _SAFETENSORS.match(head):
            return safetensors.torch.load(path.read_bytes())
        return _load_pickle(path, head)
    except Exception as error:  # whatever a hostile file causes is a refusal
        raise TeacherError(f"{path} is not a safe weights file: {_refusal(error)}") from error


def _load_pickle(path: Path, head: bytes) -> dict[str, Tensor]:
    what = "empty" if not head else next((what for form, what in _OTHER_FILES if form.match(head)), "")
    if what:
        raise ValueError(f"it is {what}")
    with torch.serialization.safe_globals(_plain_globals()):
        return state_dict_of(torch.load(path, map_location="cpu", weights_only=True))


def state_dict_of(content: Any) -> dict[str, Tensor]:
    """Find the weights in what a file holds.

    Raises:
        ValueError: If there are none, or one declares more numbers than the file holds.
    """
    while isinstance(content, dict) and not _is_state_dict(content):
        inner = next((content[name] for name in _CONTAINERS if isinstance(content.get(name), dict)), None)
        if inner is None:
            raise ValueError(f"it holds no weights (keys: {', '.join(str(key) for key in list(content)[:8])})")
        content = inner
    if not isinstance(content, dict) or not content:
        raise ValueError(f"it holds a {type(content).__name__}, not weights")
    for name, tensor in content.items():
        if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            raise ValueError(f"{name} declares {tensor.numel()} numbers, but the file holds fewer")
    return {name: tensor.detach().clone().contiguous() for name, tensor in content.items()}


def unwrapped(state: Mapping[str, Tensor], wanted: Collection[str]) -> Mapping[str, Tensor]:
    """Take the names of wrappers out of a state dict's keys where all of them are a network's own after that.

    Args:
        state: As it was saved, perhaps by a compiled or wrapped network.
        wanted: The network's own keys.
    """
    plain = {
        ".".join(part for part in name.split(".") if part not in _WRAPPERS): tensor
        for name, tensor in state.items()
        if name != "n_averaged"
    }
    first = next(iter(plain), "").partition(".")[0] + "."
    short = {name.removeprefix(first): tensor for name, tensor in plain.items()}
    return next((named for named in (plain, short, state) if all(name in wanted for name in named)), plain)


def _is_state_dict(content: dict[Any, Any]) -> bool:
    return bool(content) and all(isinstance(n, str) and isinstance(t, Tensor) for n, t in content.items())


def _plain_globals() -> list[Any]:
    """Names that research checkpoints need beside tensors; building them runs no code of the file."""
    import _codecs

    import numpy as np
    from numpy._core import multiarray

    scalar = multiarray.scalar
    dtypes = [type(np.dtype(kind)) for kind in ("f4", "f8", "i4", "i8", "?", "u1")]
    names = [(scalar, f"numpy.{module}.multiarray.scalar") for module in ("core", "_core")]
    return [*names, np.dtype, *dtypes, _codecs.encode, argparse.Namespace]


def _refusal(error: BaseException) -> str:
    wanted = re.search(r"GLOBAL (\S+)", str(error))
    if wanted:
        return f"it needs {wanted[1]}; nothing was run"
    if isinstance(error, OSError):
        return f"it cannot be read: {error.strerror}"
    if isinstance(error, ValueError):
        return " ".join(str(error).split())[:200]
    # Not torch's own words, which advise to switch the safety off.
    return f"it is damaged, or no file of torch.save or safetensors ({type(error).__name__})"
