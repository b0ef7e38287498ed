"""``icd train`` and ``icd validate``."""

import logging
import re
import sys
from pathlib import Path
from typing import Any

import click
import yaml

from icd.cli.main import write_json
from icd.cli.options import ENGINE, check_writable, device_of, device_options, place_options, places, table_options
from icd.cli.progress import Display
from icd.cli.stopping import stop_requested, stopping_politely
from icd.config.engine import Engine, engine_asked
from icd.config.fingerprint import Comparison, compare, stored_fingerprint
from icd.config.habits import is_sweep
from icd.config.located import located
from icd.config.read_trial import advice, notes_of, read_trial
from icd.config.yaml import Document, apply_overrides, read_yaml
from icd.errors import CheckpointError, UsageError
from icd.trial.bucket import url_of
from icd.trial.runs import fingerprint_of, run_trial
from icd.trial.teacher_table import TableMode
from icd.trial.train import Execution

logger = logging.getLogger(__name__)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

_CONFIG = click.argument("config", type=click.Path(path_type=Path))
_SET = click.option("--set", "overrides", multiple=True, metavar="A.B=VALUE", help="Change one field; repeatable.")
_JSON = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")


@click.command()
@_CONFIG
@_SET
@click.option("--name", help="Folder of the trial below ROOT/trials [the file's name].")
@click.option("--resume", is_flag=True, help="Continue a trial that was cut off.")
@click.option("--test", "open_test", is_flag=True, help="Open the test set once, after the last epoch.")
@click.option("--check-fingerprint", is_flag=True, help="Exit 6 unless the first losses are those in CONFIG.")
@_JSON
@table_options
@place_options
@device_options
@ENGINE
def train(
    config: Path,
    overrides: tuple[str, ...],
    name: str | None,
    resume: bool,
    open_test: bool,
    check_fingerprint: bool,
    as_json: bool,
    table: TableMode,
    table_gb: float,
    root: Path | None,
    data_root: Path | None,
    download: bool,
    device: str,
    threads: int | None,
    workers: int,
    engine: Engine | None,
) -> None:
    """Train the configuration in CONFIG; its teacher is trained first if need be.

    Everything is kept in ROOT/trials/NAME. The same command again gives the same result without training.
    """
    document = apply_overrides(read_yaml(config), overrides)
    trial, recorded = read_trial(document), stored_fingerprint(document)
    if check_fingerprint and recorded is None:
        raise UsageError(f"--check-fingerprint needs a file with a fingerprint (see 'icd export'), but got {config}")
    for line in advice(trial):
        logger.warning("note: %s", line)
    name = _trial_name(name, config)
    where = places(root, data_root, download=download)
    target = device_of(device, threads)
    if url_of(where.root):
        raise UsageError(f"--root must be a folder for a single trial, but got {url_of(where.root)}")
    check_writable(where.root)
    with located(document), stopping_politely(), Display(sys.stderr) as display:
        execution = Execution(
            device=target,
            num_workers=workers,
            report=display.report,
            progress=display.progress,
            stop=stop_requested,
            engine=engine_asked(engine),
        )
        result = run_trial(
            trial,
            name,
            where,
            execution,
            resume=resume,
            open_test=open_test,
            table=table,
            table_gb=table_gb,
            announce=display.announce,
        )
    compared = compare(recorded, fingerprint_of(where.trial(name))) if recorded else None
    if as_json:
        write_json({**result, **({"fingerprint": compared.to_data()} if compared else {})})
    else:
        for line in _summary(result, where.trial(name)):
            click.echo(line)
    if compared is not None:
        _say(compared, strict=check_fingerprint)


def _say(compared: Comparison, *, strict: bool) -> None:
    """Tell on stderr whether the training began as the file says; only a strict user's command fails."""
    if compared.equal:
        logger.info("%s", compared)
    elif strict:
        raise CheckpointError(str(compared))
    else:
        logger.warning("%s", compared)


@click.command()
@_CONFIG
@_SET
@_JSON
def validate(config: Path, overrides: tuple[str, ...], as_json: bool) -> None:
    """Check CONFIG, of a trial or a sweep, with both networks' feature maps, and print it with every default."""
    document = apply_overrides(read_yaml(config), overrides)
    if is_sweep(document.data):
        _validate_sweep(document, as_json=as_json)
        return
    trial = read_trial(document)
    for line in advice(trial):
        logger.warning("note: %s", line)
    if as_json:
        write_json({"key": trial.key(), "config": trial.to_data(), "notes": advice(trial)})
        return
    click.echo(f"# {config} is valid; key {trial.key()[:12]}")
    click.echo(yaml.safe_dump(trial.to_data(), sort_keys=False), nl=False)


def _validate_sweep(document: Document, *, as_json: bool) -> None:
    from icd.config.read_sweep import read_sweep
    from icd.search.space import SearchSpace

    sweep = read_sweep(document)
    notes = notes_of(SearchSpace(sweep).extremes())
    for line in notes:
        logger.warning("note: %s", line)
    if as_json:
        write_json({"digest": sweep.digest(), "sweep": sweep.to_data(), "notes": notes})
        return
    click.echo(f"# {document.source} is a valid sweep; digest {sweep.digest()[:12]}")
    for source in sweep.sources:
        click.echo(f"# starts from the best {source.top} trials of {source.sweep}; 'icd plan' shows which")
    click.echo(yaml.safe_dump(sweep.to_data(), sort_keys=False), nl=False)


def _trial_name(name: str | None, config: Path) -> str:
    chosen = config.stem if name is None else name
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
