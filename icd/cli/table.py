"""``icd teacher table build | show | verify | drop``."""

import math
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from icd.cli.main import write_json
from icd.cli.options import check_writable, device_of, device_options, place_options, places, table_options
from icd.cli.progress import Display
from icd.cli.root import ROOT
from icd.cli.stopping import stop_requested, stopping_politely
from icd.config.located import located
from icd.config.read_trial import read_trial
from icd.config.trial import TrialConfig
from icd.config.yaml import Document, apply_overrides, read_yaml
from icd.errors import CheckpointError, UsageError
from icd.trial.runs import Places, read_data
from icd.trial.table_block import Block, read_spec
from icd.trial.table_build import build
from icd.trial.teacher_table import TableMode, as_data, found_tables, open_table, plan_table, suits, summary
from icd.trial.teachers import prepare
from icd.trial.train import Execution

_JSON = click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
_DIGESTS = click.argument("digests", nargs=-1)


@click.group()
def table() -> None:
    """Build, list, check and drop teacher tables: the teacher's answers for every view of every image."""


@table.command("build")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--set", "overrides", multiple=True, metavar="A.B=VALUE", help="Change one field; repeatable.")
@table_options
@place_options
@device_options
def build_command(
    file: Path,
    overrides: tuple[str, ...],
    table: TableMode,
    table_gb: float,
    root: Path | None,
    data_root: Path | None,
    download: bool,
    device: str,
    threads: int | None,
    workers: int,
) -> None:
    """Fill the tables of the trial or sweep in FILE, so that no trial runs the teacher.

    The teacher is trained first if need be. A build that was cut off goes on where it stopped.
    """
    document = read_yaml(file)
    configs = _configs(apply_overrides(document, overrides) if overrides else document)
    where, target = places(root, data_root, download=download), device_of(device, threads)
    check_writable(where.root)
    with located(document), stopping_politely(), Display(sys.stderr) as display:
        execution = Execution(
            device=target, num_workers=workers, report=display.report, progress=display.progress, stop=stop_requested
        )
        for own in _by_teacher(configs):
            _build_one(own, where, table, table_gb, execution, display)


def _build_one(
    configs: Sequence[TrialConfig],
    where: Places,
    mode: TableMode,
    budget_gb: float,
    execution: Execution,
    display: Display,
) -> None:
    first, split = read_data(configs[0], where)
    ready = prepare(first, split, where.teachers, execution, display.announce)
    if ready is None or first.teacher is None:
        display.announce("there is no teacher, and nothing to build")
        return
    display.announce(f"teacher {ready.summary}")
    pinned = [
        replace(config, data=first.data, teacher=replace(config.teacher or first.teacher, digest=ready.digest))
        for config in configs
    ]
    plan = plan_table(pinned, split, mode, folder=where.tables, budget_gb=budget_gb)
    if plan.mode == "live":
        display.announce(summary(plan))
    network = ready.network.to(execution.device).eval().requires_grad_(False)
    for own in _by_layout(pinned) if plan.mode != "live" else ():
        part = replace(plan_table(own, split, plan.mode, folder=where.tables, budget_gb=math.inf), reason=plan.reason)
        answers = open_table(part, own[0], network, where.tables)
        if answers is None:
            continue
        display.announce(summary(part, answers))
        try:
            computed = build(answers, split, execution)
        finally:
            answers.close()
        display.announce(f"table is full; the teacher was run on {computed} images for it")


def _by_layout(configs: Sequence[TrialConfig]) -> list[list[TrialConfig]]:
    """Put trials together whose entries lie in the same places: the same views, and the same sequence of them."""
    groups: dict[Any, list[TrialConfig]] = {}
    for config in filter(suits, configs):
        groups.setdefault((config.training.augmentation, config.seed, config.training.epochs), []).append(config)
    return list(groups.values())


def _configs(document: Document) -> list[TrialConfig]:
    """Give the trial of a file, or every corner and baseline of a sweep."""
    if not (isinstance(document.data, dict) and {"name", "space"} & document.data.keys()):
        return [read_trial(document)]
    from icd.config.read_sweep import read_sweep
    from icd.search.space import SearchSpace

    return SearchSpace(read_sweep(document)).extremes()


def _by_teacher(configs: Sequence[TrialConfig]) -> list[list[TrialConfig]]:
    groups: dict[Any, list[TrialConfig]] = {}
    for config in configs:
        groups.setdefault(config.teacher, []).append(config)
    return list(groups.values())


@table.command("show")
@_JSON
@ROOT
def show_command(as_json: bool, root: Path | None) -> None:
    """List the tables, how full they are and what they take."""
    rows = []
    for folder in found_tables(places(root, None, download=False).tables):
        block = Block(folder, read_spec(folder))
        disk = sum(512 * file.stat().st_blocks for file in folder.glob("*"))
        rows.append({**as_data(block.spec), "filled": block.filled(), "disk_bytes": disk})
        block.close()
    if as_json:
        write_json(rows)
        return
    for row in rows:
        click.echo(
            f"{row['digest']}  {row['mode']}  teacher {row['teacher'][:12]}  grid {row['side']}  "
            f"{row['filled']}/{row['slots']} entries  {row['disk_bytes'] / 1e9:.3g} of {row['bytes'] / 1e9:.3g} GB"
        )
    if not rows:
        click.echo("no tables yet; a sweep makes one, or 'icd teacher table build'", err=True)


@table.command("verify")
@_DIGESTS
@click.option("--repair", is_flag=True, help="Drop damaged entries; they are computed again when asked for.")
@ROOT
def verify_command(digests: tuple[str, ...], repair: bool, root: Path | None) -> None:
    """Check every entry of the tables named by the beginning of their digests, or of all."""
    damaged = 0
    for folder in _named(places(root, None, download=False).tables, digests):
        block = Block(folder, read_spec(folder))
        found = block.damaged(repair=repair)
        block.close()
        click.echo(f"{folder.name}  {found} damaged{' and dropped' if repair and found else ''}")
        damaged += found
    if damaged and not repair:
        raise CheckpointError(f"{damaged} entries fail their checksums; --repair drops them, to be computed again")


@table.command("drop")
@_DIGESTS
@click.option("--all", "everything", is_flag=True, help="Drop all tables.")
@ROOT
def drop_command(digests: tuple[str, ...], everything: bool, root: Path | None) -> None:
    """Delete tables; a trial that has one open keeps it to its end."""
    if bool(digests) == everything:
        raise UsageError("name the tables to drop, or --all")
    for folder in list(_named(places(root, None, download=False).tables, digests)):
        shutil.rmtree(folder)
        click.echo(f"{folder.name}  dropped")


def _named(folder: Path, digests: Sequence[str]) -> Iterator[Path]:
    known = found_tables(folder)
    for digest in digests:
        if sum(path.name.startswith(digest) for path in known) != 1:
            raise UsageError(f"a table must be named by the beginning of its digest, but got {digest!r}; see 'show'")
    return (path for path in known if not digests or any(path.name.startswith(digest) for digest in digests))
