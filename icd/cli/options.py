"""Options that several verbs share, and what they mean."""

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
import torch

from icd.cli.root import ROOT
from icd.errors import SetupError
from icd.search import default_root
from icd.trial.gpus import no_silent_cpu, training_device, visible_gpus, why_unusable
from icd.trial.runs import Places
from icd.trial.teacher_table import BUDGET_GB

logger = logging.getLogger(__name__)

F = TypeVar("F", bound=Callable[..., Any])


def place_options(command: F) -> F:
    """``--root``, ``--data-root`` and ``--download``."""
    for option in (
        click.option("--download", is_flag=True, help="Fetch data sets that can be fetched."),
        click.option(
            "--data-root", type=click.Path(path_type=Path), help="Folder of data sets [ICD_DATA, or one in your cache]."
        ),
        ROOT,
    ):
        command = option(command)
    return command


def device_options(command: F) -> F:
    """``--device``, ``--threads`` and ``--workers``."""
    for option in (
        click.option("--workers", type=click.IntRange(0, 256), default=2, show_default=True, help="Image decoders."),
        click.option("--threads", type=click.IntRange(1, 1024), help="CPU threads of torch."),
        click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N."),
    ):
        command = option(command)
    return command


ENGINE = click.option(
    "--engine",
    type=click.Choice(["auto", "eager", "graph"]),
    help="Steps one operation after the other, or recorded as CUDA graphs [ICD_ENGINE, or auto: eager].",
)


def table_options(command: F) -> F:
    """``--table`` and ``--table-gb``."""
    for option in (
        click.option(
            "--table-gb",
            type=click.FloatRange(min=0),
            default=BUDGET_GB,
            show_default=True,
            help="Disk that a teacher table may take.",
        ),
        click.option(
            "--table",
            type=click.Choice(["auto", "table", "stream", "live"]),
            default="auto",
            show_default=True,
            help="The teacher's answers: kept for every view, for one sequence of views, or computed in every step.",
        ),
    ):
        command = option(command)
    return command


def places(root: Path | None, data_root: Path | None, *, download: bool) -> Places:
    """Give the places an invocation uses."""
    data = data_root or (Path(os.environ["ICD_DATA"]) if os.environ.get("ICD_DATA") else None)
    return Places(root=root or default_root(), data_root=data, download=download)


def device_of(name: str, threads: int | None) -> torch.device:
    """Choose the device.

    Raises:
        SetupError: If it is not there.
    """
    if threads:
        torch.set_num_threads(threads)
    if name == "auto":
        device = training_device()
        if device.type == "cpu" and (unused := no_silent_cpu(visible_gpus())):
            logger.warning("training on the CPU: %s", unused)
        return device
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise SetupError(f"--device must be auto, cpu, cuda or cuda:N, but got {name!r}") from error
    if device.type not in ("cpu", "cuda"):
        raise SetupError(f"--device must be auto, cpu, cuda or cuda:N, but got {name!r}")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        why = "" if torch.cuda.is_available() else f": {why_unusable()}"
        raise SetupError(f"--device {name}: torch can use {torch.cuda.device_count()} CUDA devices here{why}")
    return device


def check_writable(folder: Path) -> None:
    """Make the folder and try what training will do there: write, sync, rename, remove.

    Raises:
        SetupError: If it cannot be done.
    """
    probe = folder / f".icd-probe-{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with probe.open("wb") as file:
            file.write(b"probe")
            os.fsync(file.fileno())
        moved = probe.replace(probe.with_suffix(".moved"))
        moved.unlink()
    except OSError as error:
        raise SetupError(f"{folder} must be a folder that can be written: {error.strerror}; choose --root") from error
