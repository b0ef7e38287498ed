"""``icd teacher train | import | list | table``."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from icd.cli.main import write_json
from icd.cli.options import check_writable, device_of, device_options, place_options, places
from icd.cli.progress import Display
from icd.cli.root import ROOT
from icd.cli.stopping import stop_requested, stopping_politely
from icd.cli.table import table
from icd.config.read_trial import read_trial
from icd.config.trial import TrialConfig
from icd.config.yaml import apply_overrides, parse_yaml
from icd.trial.runs import read_data
from icd.trial.teachers import Teacher, import_teacher, train_teacher
from icd.trial.train import Execution

_ARCH = click.option("--arch", required=True, help="Network; see 'icd models'.")
_DATA = click.option("--data", required=True, help="Data set; see 'icd datasets'.")
_PATH = click.option("--path", help="File or folder of the data, where the data set needs one.")
_NAME = click.option("--name", help="Name in the store [made from network, data and digest].")
_SET = click.option("--set", "overrides", multiple=True, metavar="A.B=VALUE", help="Change a field, as in 'icd train'.")
_JSON = click.option("--json", "as_json", is_flag=True, help="Print as JSON.")


@click.group()
def teacher() -> None:
    """Train, import and list teachers; each is known by the digest of its weights."""


teacher.add_command(table)


@teacher.command("train")
@_ARCH
@_DATA
@_PATH
@_NAME
@_SET
@_JSON
@place_options
@device_options
def train_command(
    arch: str,
    data: str,
    path: str | None,
    name: str | None,
    overrides: tuple[str, ...],
    as_json: bool,
    root: Path | None,
    data_root: Path | None,
    download: bool,
    device: str,
    threads: int | None,
    workers: int,
) -> None:
    """Train a teacher with cross entropy by the data set's training; an interrupted training continues."""
    config = _recipe(arch, data, path, overrides)
    where = places(root, data_root, download=download)
    target = device_of(device, threads)
    check_writable(where.root)
    with stopping_politely(), Display(sys.stderr) as display:
        execution = Execution(
            device=target, num_workers=workers, report=display.report, progress=display.progress, stop=stop_requested
        )
        config, split = read_data(config, where)
        for note in split.notes:
            display.announce(f"note: {note}")
        card = train_teacher(where.teachers, config, split, execution, name, display.announce)
    _show(card, as_json=as_json)


@teacher.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@_ARCH
@_DATA
@_PATH
@_NAME
@_SET
@_JSON
@place_options
def import_command(
    file: Path,
    arch: str,
    data: str,
    path: str | None,
    name: str | None,
    overrides: tuple[str, ...],
    as_json: bool,
    root: Path | None,
    data_root: Path | None,
    download: bool,
) -> None:
    """Bring in published weights (RepDistiller, mdistiller, SDD, iCD); FILE is read without running its code."""
    config = _recipe(arch, data, path, overrides)
    where = places(root, data_root, download=download)
    config, split = read_data(config, where)
    check_writable(where.root)
    card = import_teacher(where.teachers, file, split, config, name=name)
    _show(card, as_json=as_json)


@teacher.command("list")
@_JSON
@ROOT
def list_command(as_json: bool, root: Path | None) -> None:
    """List the teachers of the store."""
    cards = places(root, None, download=False).teachers.all()
    if as_json:
        write_json([asdict(card) for card in cards])
        return
    for card in cards:
        click.echo(_line(card))
    if not cards:
        click.echo("no teachers yet; 'icd teacher train' makes one", err=True)


def _recipe(arch: str, data: str, path: str | None, overrides: tuple[str, ...]) -> TrialConfig:
    images: dict[str, Any] = {"name": data} | ({"path": path} if path else {})
    document = parse_yaml(json.dumps({"data": images, "student": {"arch": arch}, "method": "cross_entropy"}), "options")
    return read_trial(apply_overrides(document, overrides) if overrides else document)


def _show(card: Teacher, *, as_json: bool) -> None:
    if as_json:
        write_json(asdict(card))
    else:
        click.echo(_line(card))


def _line(card: Teacher) -> str:
    seen = "" if card.val_unseen else " (may have been trained on)"
    return (
        f"{card.digest[:12]}  {card.name}  {card.arch} ({card.stem})  {card.num_classes} classes of {card.data}  "
        f"val top-1 {card.val_top1:.2f} %{seen}  {card.origin}"
    )
