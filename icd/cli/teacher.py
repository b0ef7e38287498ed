"""``icd teacher train | import | list | cache``."""

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from icd.cli.format import write
from icd.cli.main import Verbs
from icd.cli.options import CACHE, DEVICE, FILE, JSON, ROOT, SET, WHERE, Verb, check_writable, places, together
from icd.errors import CheckpointError, TeacherError, UsageError
from icd.text import size_text

if TYPE_CHECKING:
    from icd.config.trial import TrialConfig
    from icd.teacher.store import Teacher

_RECIPE = together(
    click.option("--arch", required=True, help="Name the network; see 'icd models'."),
    click.option("--data", required=True, help="Name the data set; see 'icd datasets'."),
    click.option("--path", help="Name the file or folder of the data, where the data set needs one."),
    click.option("--name", help="Name it in the store.  [default: made of network, data and digest]"),
)
_DIGESTS = click.argument("digests", nargs=-1)


@click.group(cls=Verbs)
def teacher() -> None:
    """Train, import and list teachers, each known by the digest of its weights; and keep their answers in caches."""


@teacher.command("train", cls=Verb)
@_RECIPE
@SET
@JSON
@WHERE
@DEVICE
def train_command(as_json: bool, **options: Any) -> None:
    """Train a teacher with cross entropy by the data set's training; an interrupted training continues."""
    from icd.cli.progress import executing
    from icd.teacher.store import train_teacher
    from icd.worker.trial_inputs import read_data

    config, where = _recipe(**options), places(options)
    with executing(options, where.root) as (execution, display):
        config, split = read_data(config, where)
        for note in split.notes:
            display.announce(f"note: {note}")
        card = train_teacher(where.teachers, config, split, execution, options["name"], display.announce)
    write(asdict(card), [_line(card)], as_json=as_json)


@teacher.command("import", cls=Verb)
@FILE
@_RECIPE
@SET
@JSON
@WHERE
def import_command(file: Path, as_json: bool, **options: Any) -> None:
    """Bring in published weights (RepDistiller, mdistiller, SDD, iCD); FILE is read without running its code."""
    from icd.teacher.store import import_teacher
    from icd.worker.trial_inputs import read_data

    if not file.is_file():  # before images are read, which may take a while
        raise TeacherError(f"{file} must be a weights file, but there is no such file")
    config, where = _recipe(**options), places(options)
    config, split = read_data(config, where)
    check_writable(where.root)
    card = import_teacher(where.teachers, file, split, config, name=options["name"])
    write(asdict(card), [_line(card)], as_json=as_json)


@teacher.command("list", cls=Verb)
@JSON
@ROOT
def list_command(as_json: bool, root: Path) -> None:
    """List the teachers of the store."""
    cards = places({"root": root}).teachers.all()
    write([asdict(card) for card in cards], [_line(card) for card in cards], as_json=as_json)
    if not cards and not as_json:
        click.echo("no teachers yet; 'icd teacher train' makes one", err=True)


def _recipe(arch: str, data: str, path: str | None, overrides: tuple[str, ...], **_: Any) -> "TrialConfig":
    from icd.config.plugins import with_ambient
    from icd.config.read_trial import read_trial
    from icd.config.yaml import apply_overrides, parse_yaml

    images: dict[str, Any] = {"name": data} | ({"path": path} if path else {})
    document = parse_yaml(json.dumps({"data": images, "student": {"arch": arch}, "method": "cross_entropy"}), "options")
    return read_trial(apply_overrides(with_ambient(document), overrides))


def _line(card: "Teacher") -> str:
    seen = "" if card.val_unseen else " (may have been trained on)"
    return (
        f"{card.digest[:12]}  {card.name}  {card.arch} ({card.stem})  {card.num_classes} classes of {card.data}  "
        f"val top-1 {card.val_top1:.2f} %{seen}  {card.origin}"
    )


@teacher.group("cache", cls=Verbs)
def cache() -> None:
    """Build, list, check and remove teacher caches: the teacher's answers for the views of every image."""


@cache.command("build", cls=Verb)
@FILE
@SET
@CACHE
@WHERE
@DEVICE
def build_command(file: Path, overrides: tuple[str, ...], **options: Any) -> None:
    """Fill the caches of the trial or sweep in FILE, so that no trial runs the teacher.

    The teacher is trained first if need be. A build that was cut off goes on where it stopped.
    """
    from icd.cli.progress import executing
    from icd.config.yaml import read_yaml
    from icd.search.teacher_cache import build_caches

    document, where = read_yaml(file, overrides), places(options)
    with document.located(), executing(options, where.root) as (execution, display):
        build_caches(
            document, where, options["teacher_cache"], options["teacher_cache_gb"], execution, display.announce
        )


@cache.command("list", cls=Verb)
@JSON
@ROOT
def list_caches_command(as_json: bool, root: Path) -> None:
    """List the caches, how full they are and what they take."""
    from icd.teacher.cache_block import Block, read_spec

    rows = []
    for folder in _named(places({"root": root}).teacher_cache, ()):
        with closing(Block(folder, read_spec(folder))) as block:
            disk, spec = sum(512 * file.stat().st_blocks for file in folder.glob("*")), block.spec
            size = {"slots": spec.num_slots, "filled": block.filled(), "bytes": spec.num_bytes, "disk_bytes": disk}
            rows.append({"digest": folder.name, "mode": "stream" if spec.sequence else "full", **asdict(spec), **size})
    lines = [
        f"{row['digest']}  {row['mode']}  teacher {row['teacher'][:12]}  "
        f"grid {row['side']}  {row['filled']}/{row['slots']} entries  "
        f"{size_text(row['disk_bytes'])} of {size_text(row['bytes'])}"
        for row in rows
    ]
    write(rows, lines, as_json=as_json)
    if not rows and not as_json:
        click.echo("no caches yet; a sweep makes one, or 'icd teacher cache build'", err=True)


@cache.command("verify", cls=Verb)
@_DIGESTS
@click.option("--repair", is_flag=True, help="Drop damaged entries; they are computed again when asked for.")
@ROOT
def verify_command(digests: tuple[str, ...], repair: bool, root: Path) -> None:
    """Check every entry of the caches named by the beginning of their digests, or of all."""
    from icd.teacher.cache_block import Block, read_spec

    damaged = 0
    for folder in _named(places({"root": root}).teacher_cache, digests):
        with closing(Block(folder, read_spec(folder))) as block:
            found = block.damaged(repair=repair)
        click.echo(f"{folder.name}  {found} damaged{' and dropped' if repair and found else ''}")
        damaged += found
    if damaged and not repair:
        raise CheckpointError(f"{damaged} entries fail their checksums; --repair drops them, to be computed again")


@cache.command("rm", cls=Verb)
@_DIGESTS
@click.option("--all", "everything", is_flag=True, help="Remove all caches.")
@ROOT
def rm_command(digests: tuple[str, ...], everything: bool, root: Path) -> None:
    """Remove caches; a trial that has one open keeps it to its end."""
    if bool(digests) == everything:
        raise UsageError("name the caches to remove, or --all")
    for folder in list(_named(places({"root": root}).teacher_cache, digests)):
        shutil.rmtree(folder)
        click.echo(f"{folder.name}  removed")


def _named(folder: Path, digests: Sequence[str]) -> Iterator[Path]:
    from icd.teacher.cache_block import HEADER

    known = sorted(path.parent for path in folder.glob(f"*/{HEADER}"))
    for digest in digests:
        if sum(path.name.startswith(digest) for path in known) != 1:
            rule = f"a cache must be named by the beginning of its digest, but got {digest!r}"
            raise UsageError(f"{rule}; see 'icd teacher cache list'")
    return (path for path in known if not digests or any(path.name.startswith(digest) for digest in digests))
