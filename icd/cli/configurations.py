"""``icd validate | train``, and the tables of what a file may name: ``icd methods | models | datasets``."""

import logging
import re
from collections.abc import Mapping
from dataclasses import fields
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from icd.cli.format import write
from icd.cli.options import CACHE, DEVICE, ENGINE, FILE, JSON, SET, WHERE, Verb, places
from icd.errors import CheckpointError, UsageError, did_you_mean

if TYPE_CHECKING:
    from icd.config.yaml import Document

logger = logging.getLogger(__name__)

PLUGIN = click.option("--plugin", "plugins", multiple=True, help="Also show what this file or module adds.")

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_SHOWN_SIZES = (("conv3x3", 32), ("conv7x7_s2", 224), ("conv7x7_s2_pool", 224), ("own", 32), ("own", 224))


@click.command(cls=Verb)
@FILE
@SET
@click.option("--name", help="Name the trial's folder below ROOT/trials.  [default: the file's name]")
@click.option("--resume", is_flag=True, help="Go on with a trial that was cut off.")
@click.option("--test", "open_test", is_flag=True, help="Open the test set at the end, or where FILE says so.")
@click.option("--check-fingerprint", is_flag=True, help="Exit with 6 unless the first losses are those in FILE.")
@JSON
@CACHE
@WHERE
@DEVICE
@ENGINE
def train(file: Path, overrides: tuple[str, ...], name: str | None, **options: Any) -> None:
    """Train the configuration in FILE; its teacher is trained first if need be.

    Everything is kept in ROOT/trials/NAME. Once finished, the same command gives the same result without training.
    """
    from icd.cli.progress import executing
    from icd.config.checks import advice
    from icd.config.read_trial import read_trial, stored_fingerprint
    from icd.config.yaml import read_yaml
    from icd.storage.bucket import url_of
    from icd.worker.same_beginning import compare
    from icd.worker.single_trial import run_trial
    from icd.worker.trial_metrics import fingerprint_of

    document = read_yaml(file, overrides)
    trial, recorded = read_trial(document), stored_fingerprint(document)
    if options["check_fingerprint"] and recorded is None:
        raise UsageError(f"--check-fingerprint needs a file with a fingerprint (see 'icd export'), but got {file}")
    for line in advice(trial):
        logger.warning("note: %s", line)
    name = _trial_name(name, file)
    where = places(options)
    if url_of(where.root):
        raise UsageError(f"--root must be a folder for a single trial, but got {url_of(where.root)}")
    with document.located(), executing(options, where.root) as (execution, display):
        asked = {key: options[key] for key in ("resume", "open_test", "teacher_cache", "teacher_cache_gb")}
        result = run_trial(trial, name, where, execution, announce=display.announce, **asked)
    compared = compare(recorded, fingerprint_of(where.trial(name))) if recorded else None
    told = {**result, **({"fingerprint": compared} if compared else {})}
    write(told, _summary(result, where.trial(name)), as_json=options["as_json"])
    if compared is not None and not compared.equal and options["check_fingerprint"]:
        raise CheckpointError(compared.sentence)
    if compared is not None:
        logger.log(logging.INFO if compared.equal else logging.WARNING, "%s", compared.sentence)


def _trial_name(name: str | None, file: Path) -> str:
    chosen = file.stem if name is None else name
    if not _NAME.fullmatch(chosen):
        raise UsageError(f"--name must be letters, digits, '.', '_' and '-', at most 64, but got {chosen!r}")
    return chosen


def _summary(result: dict[str, Any], folder: Path) -> list[str]:
    part = "val" if "val" in result else "test"
    measured, best = result[part], result["best_epoch"]
    how = f"epoch {result['epochs']}, seed {result['seed']}, {result['minutes']:.1f} min"
    top1, top5, ece = (f"{measured[name]:.2f} %" for name in ("top1", "top5", "ece"))
    lines = [
        f"{part} top-1 {top1}  top-5 {top5}  calibration error {ece}  ({how})",
        f"best epoch {best['epoch']}: {best['top1']:.2f} % (shown, never ranked)",
    ]
    if part != "test" and "test" in result:
        lines.append(f"test top-1 {result['test']['top1']:.2f} %  top-5 {result['test']['top5']:.2f} %")
    return [*lines, f"in {folder}"]


@click.command(cls=Verb)
@FILE
@SET
@JSON
def validate(file: Path, overrides: tuple[str, ...], as_json: bool) -> None:
    """Check FILE, of a trial or a sweep, with both networks' feature maps, and print it with every default."""
    from icd.config.habits import is_sweep
    from icd.config.yaml import read_yaml, yaml_text

    document = read_yaml(file, overrides)
    head, told, data = _sweep(document) if is_sweep(document.data) else _trial(document)
    for line in told["notes"]:
        logger.warning("note: %s", line)
    text = yaml_text(data).rstrip()
    write(told, [*(f"# {line}" for line in head), text], as_json=as_json)


def _trial(document: "Document") -> tuple[list[str], dict[str, Any], Any]:
    from icd.config.checks import advice
    from icd.config.read_trial import read_trial

    trial = read_trial(document)
    told = {"key": trial.key(), "config": trial.to_data(), "notes": advice(trial)}
    return [f"{document.source} is valid; key {trial.key()[:12]}"], told, trial.to_data()


def _sweep(document: "Document") -> tuple[list[str], dict[str, Any], Any]:
    from icd.config.checks import notes_of
    from icd.config.read_sweep import read_sweep
    from icd.search.suggest.search_space import SearchSpace

    sweep = read_sweep(document)
    told = {"digest": sweep.digest(), "sweep": sweep.to_data(), "notes": notes_of(SearchSpace(sweep).extremes())}
    head = [f"{document.source} is a valid sweep; digest {sweep.digest()[:12]}"]
    head += [f"starts from the best {s.top} trials of {s.sweep}; 'icd plan' shows which" for s in sweep.sources]
    return head, told, sweep.to_data()


@click.command(cls=Verb)
@click.argument("kind", type=click.Choice(["trial", "sweep"]), default="sweep")
@PLUGIN
def schema(kind: Literal["trial", "sweep"], plugins: tuple[str, ...]) -> None:
    """Print the JSON Schema of a trial's or a sweep's file, with the meaning, range and default of every field.

    Editors complete and check a file that begins with the line
    ``# yaml-language-server: $schema=PATH``. Keep the schema there with ``icd schema sweep > PATH``.
    """
    if _activate(plugins):
        from icd.config.json_schema import text_of

        click.echo(text_of(kind), nl=False)
        return
    click.echo(files("icd.config").joinpath(f"{kind}.schema.json").read_text(encoding="utf-8"), nl=False)


@click.command(cls=Verb)
@click.argument("name", required=False)
@PLUGIN
@JSON
def methods(name: str | None, plugins: tuple[str, ...], as_json: bool) -> None:
    """List methods and base losses with their fields and defaults, and the rows of the paper's table.

    With a NAME of any of them: print it as YAML that can stand in a file.
    """
    _activate(plugins)
    if name is not None:
        click.echo(_pasted(name), nl=False)
        return
    from icd.config.habits import one_line
    from icd.config.trial import plain_data
    from icd.losses import BASE_LOSSES
    from icd.methods import METHODS, PAPER_ROWS

    rows = {name: plain_data(method) for name, method in PAPER_ROWS.items()}
    tables: dict[str, Mapping[str, Any]] = {"method": METHODS, "base_loss": BASE_LOSSES}
    listed: dict[str, Any] = {kind: {} for kind in tables}
    lines = []
    for kind, table in tables.items():
        for name, cls in table.items():
            listed[kind][name] = {"title": cls.title, "fields": _defaults(cls)}
            lines.append(f"{kind} {name}:  # {cls.title}")
            lines += [f"  {field}: {one_line(default)}" for field, default in _defaults(cls).items()]
    lines.append("rows of the paper's table:  # method: NAME, or method: {recipe: NAME, field: value}")
    lines += [f"  {name}: {one_line(_row(data))}" for name, data in rows.items()]
    write({**listed, "rows": rows}, lines, as_json=as_json)


@click.command(cls=Verb)
@PLUGIN
@JSON
def models(plugins: tuple[str, ...], as_json: bool) -> None:
    """List networks with the size of their feature map; any of timm's can be had as timm:NAME where that is installed.

    A network that takes images of one size only is shown without a map where that is neither 32 nor 224 pixels.
    """
    _activate(plugins)
    from icd.models import MODELS

    listed: dict[str, dict[str, Any]] = {}
    for name, row in MODELS.items():
        sizes = {
            f"{stem} {size} px": list(row.features(stem, size))
            for stem, size in _SHOWN_SIZES
            if stem in row.stems and row.features(stem, size)[1]
        }
        listed[name] = {"summary": row.summary, "paper_name": row.paper_name or name, "features": sizes}
    lines = []
    for name, entry in listed.items():
        sizes_text = "; ".join(f"{k}: {' x '.join(map(str, v))}" for k, v in entry["features"].items())
        lines.append(f"{name:26s} {entry['summary']} [features {sizes_text}]")
    write(listed, lines, as_json=as_json)


@click.command(cls=Verb)
@PLUGIN
@JSON
def datasets(plugins: tuple[str, ...], as_json: bool) -> None:
    """List data sets with their options."""
    _activate(plugins)
    from icd.data import DATASETS

    own = ("summary", "num_classes", "preset", "needs_path")
    listed = {
        name: {**{key: getattr(row, key) for key in own}, "options": dict(row.options)}
        for name, row in DATASETS.items()
    }
    lines = []
    for name, entry in listed.items():
        options = "".join(f"  {option}: {default}" for option, default in entry["options"].items())
        lines.append(f"{name:14s} {entry['summary']} [preset {entry['preset']}]{options}")
    write(listed, lines, as_json=as_json)


def _activate(names: tuple[str, ...]) -> bool:
    """Import the plugins that were named, and those of the environment; says whether there is any."""
    from icd import plugins

    found = [*(plugins.resolve(name, Path.cwd()) for name in names), *plugins.ambient()]
    plugins.activate(list(dict.fromkeys(found)))
    return bool(found)


def _pasted(name: str) -> str:
    """Write a method, row or base loss as a file may have it, with what every field means."""
    from icd.config.json_schema import descriptions
    from icd.config.trial import plain_data
    from icd.config.yaml import yaml_text
    from icd.losses import BASE_LOSSES
    from icd.methods import METHODS, PAPER_ROWS

    cls: Any
    if name in BASE_LOSSES:
        data, cls = {"base_loss": {name: _defaults(BASE_LOSSES[name])}}, BASE_LOSSES[name]
    elif name in METHODS or name in PAPER_ROWS:
        method = METHODS[name]() if name in METHODS else PAPER_ROWS[name]
        data, cls = plain_data(method), type(method)
    else:
        known = [*PAPER_ROWS, *METHODS, *BASE_LOSSES]
        raise UsageError(f"no method, row or base loss {name!r}; {did_you_mean(name, known)}")
    lines, told = ["method:"], descriptions(cls)
    text = yaml_text(data, default_flow_style=None, width=10_000)
    for line in text.splitlines():
        field = line.strip().partition(":")[0]
        note = f"  # {told[field]}" if field in told else ""
        lines.append(f"  {line}{note}")
    return "\n".join([f"# {cls.title}", *lines]) + "\n"


def _defaults(cls: Any) -> dict[str, Any]:
    from icd.config.trial import plain_data

    return {field.name: plain_data(getattr(cls(), field.name)) for field in fields(cls)}


def _row(data: dict[str, Any]) -> dict[str, Any]:
    if data["name"] != "distill":
        return data
    shown = ["base_loss", "scales", "ce_weight", "base_weight", "cluster_weight", "warmup_epochs"]
    shown += ["logit_standardization"] if data.get("logit_standardization") else []
    return {key: data[key] for key in shown}
