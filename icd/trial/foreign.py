"""Reads weights files of other projects in a process of its own, with little memory and no trust.

A pickle can run code and a 1.5 kB file can declare a tensor of a billion numbers, so such a file is opened by a child
process: ``weights_only`` (nothing but tensors, numbers and containers is built), a limit on memory, and a limit on
time. What comes out is a plain dictionary of tensors in our own format.

Source of the formats: RepDistiller, mdistiller, SDD and iCD save ``{"model": state_dict, ...}``, sometimes from
``DataParallel`` (names start with ``module.``), with numpy scalars and ``argparse.Namespace`` beside it.
"""

import argparse
import json
import re
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from icd.errors import TeacherError
from icd.trial import checkpoint

_TIMEOUT_S = 120
_MEMORY_BYTES = 4 << 30
_CONTAINERS = ("model", "state_dict", "model_state_dict", "net", "student", "teacher")


def read_foreign(path: Path) -> dict[str, Tensor]:
    """Read the state dict out of a foreign file.

    Raises:
        TeacherError: If the file is missing, holds no weights, or needs anything but plain data to be read.
    """
    if not path.is_file():
        raise TeacherError(f"{path} must be a weights file, but there is no such file")
    with tempfile.TemporaryDirectory(prefix="icd-import-") as folder:
        target = Path(folder) / "weights.ckpt"
        command = [sys.executable, "-m", "icd.trial.foreign", str(path.resolve()), str(target)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
        except subprocess.TimeoutExpired as error:
            raise TeacherError(f"{path} could not be read within {_TIMEOUT_S} s") from error
        if done.returncode != 0:
            raise TeacherError(f"{path} is not a safe weights file: {_reason(done)}")
        state: dict[str, Tensor] = checkpoint.load(target)["weights"]
        return state


def _reason(done: "subprocess.CompletedProcess[str]") -> str:
    for line in reversed(done.stdout.splitlines()):
        try:
            return str(json.loads(line)["refused"])
        except (ValueError, KeyError, TypeError):
            continue
    return f"reading it ended with exit code {done.returncode} (more than {_MEMORY_BYTES >> 30} GiB of memory?)"


def state_dict_of(content: Any) -> dict[str, Tensor]:
    """Find the weights in what a file holds; prefixes of ``DataParallel`` are dropped.

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
    return {name.removeprefix("module."): tensor.detach().clone().contiguous() for name, tensor in content.items()}


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
    return " ".join(str(error).split())[:200] or type(error).__name__


def main(source: Path, target: Path) -> int:
    """Body of the child process."""
    in_use = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limit = in_use + _MEMORY_BYTES + 4 * source.stat().st_size
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    try:
        with torch.serialization.safe_globals(_plain_globals()):
            content = torch.load(source, map_location="cpu", weights_only=True)
        checkpoint.save(target, {"weights": state_dict_of(content)})
    except Exception as error:  # whatever a hostile file causes is a refusal
        sys.stdout.write(json.dumps({"refused": _refusal(error)}) + "\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
