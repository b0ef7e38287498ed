"""A run of a sweep as files that others can use: a configuration and weights, or a folder with programs and a card."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from icd.errors import SetupError, UsageError
from icd.results.exports.run import (
    CARD,
    CONFIG,
    WEIGHTS,
    Exported,
    ExportRun,
    exported,
    fill,
    read_pairs,
    read_run,
    text_of,
    train_command,
    weights_of,
)
from icd.results.exports.staging import check_free, staged
from icd.results.exports.winner import Winner, choose
from icd.results.templating import rendered
from icd.search import root_of
from icd.search.study.ledger import Ledger
from icd.search.study.sweep_files import fetch_trials
from icd.search.study.sweep_index import find, sweep_folder, tracking_uri

if TYPE_CHECKING:
    from icd.results.exports.programs import Format
    from icd.results.exports.registry import Registered

_YAML = (".yaml", ".yml")


def export(
    name: str,
    output: Path | str,
    *,
    trial: int | None = None,
    unconfirmed: bool = False,
    simplest: bool = False,
    formats: "Sequence[Format] | None" = None,
    register: bool | str = False,
    alias: str = "best",
    force: bool = False,
    root: Path | str | None = None,
    data_root: Path | str | None = None,
) -> Exported:
    """Write the confirmed winner of a sweep, or on request the simplest configuration or a trial as searched.

    Args:
        name: Of the sweep.
        output: A folder for everything, or a file ending in ``.yaml`` for configuration and weights alone. Of a sweep
            over several pairs it has a folder for each.
        trial: Search trial of another finalist; with ``unconfirmed`` any trial that ran all epochs.
        unconfirmed: Take the search's own trial; needed where nothing is confirmed.
        simplest: Take the simplest configuration within one standard error of the best; needs ``icd ablate``.
        formats: Programs for a folder; None writes all that this machine can.
        register: Whether, or under which name, the model goes to MLflow's registry; True takes the sweep's name.
        alias: Of the registered version.
        force: Whether existing files may be replaced.
        root: Folder of results.
        data_root: Folder of data sets; programs are compared on validation images where they are at hand.

    Raises:
        StateError: If nothing is confirmed and ``unconfirmed`` is off, nothing is ablated and ``simplest`` is on, the
            trial did not run all epochs, or something exists and ``force`` is off.
        UsageError: If there are several objectives and no trial is named, or options do not fit the output, or a sweep
            over several pairs.
        CheckpointError: If the trial's files are missing or altered, or a program differs from the student.
        SetupError: If something cannot be written, or a package or the registry is not there.
    """
    folder, target = root_of(root), Path(output)
    data = Path(data_root) if data_root is not None else None
    ledger = find(folder, name)
    alone = target.suffix in _YAML
    if ledger.ranked and (alone or register):
        raise UsageError(
            f"sweep {name!r} is over several pairs, so there is a student for each: -o must be a folder, without "
            "--register; each folder below it has a best.yaml"
        )
    if alone and (formats or register):
        raise UsageError(f"programs and the registry need a folder as output, but got {target}")
    if simplest and (unconfirmed or trial is not None):
        raise UsageError("the simplest is one configuration: --simplest goes neither with --trial nor --unconfirmed")
    winner = choose(ledger, folder, trial=trial, unconfirmed=unconfirmed, simplest=simplest)
    fetch_trials(folder, ledger, weights=winner.record.number)
    if alone:
        return _write_two(read_run(ledger, winner, folder), target, force=force)
    check_free(target, force=force)
    if ledger.ranked:
        runs = read_pairs(ledger, winner, folder)
        again = {pair: train_command(f"{pair}/{CONFIG}", data) for pair in runs}
        return _with_card_above(name, winner, runs, target, _write(runs, target, formats, folder, data), again)
    uri, model = tracking_uri(folder), name if register is True else register
    if model:
        from icd.results.exports.registry import check

        check(uri, model, alias)
    run = read_run(ledger, winner, folder)
    (one,) = _write({"": run}, target, formats, folder, data)
    return replace(one, registered=_register(ledger, folder, uri, one, run, model, alias)) if model else one


def _write_two(run: ExportRun, config: Path, *, force: bool) -> Exported:
    """Write a configuration and weights beside it, each whole or not at all."""
    from icd.training import checkpoints

    weights = config.with_suffix(".safetensors")
    for path in (config, weights):
        check_free(path, force=force)
    try:
        config.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SetupError(f"{config.parent} cannot be made: {error.strerror}") from error
    checkpoints.write_durably(weights, weights_of(run))
    checkpoints.write_durably(config, text_of(run, weights.name).encode())
    return exported(run, config.parent, [config.name, weights.name])


def _write(
    runs: Mapping[str, ExportRun], target: Path, formats: "Sequence[Format] | None", root: Path, data_root: Path | None
) -> list[Exported]:
    """Fill a folder for each run aside, compare the programs with the students, and move all of them, or none."""
    from icd.results.exports.programs import FILES, formats_for

    asked, targets = formats_for(formats), [target / pair for pair in runs]
    with staged(targets, (CONFIG, WEIGHTS, CARD, *FILES.values())) as asides:
        return [
            fill(run, aside, own, asked, root, data_root)
            for run, own, aside in zip(runs.values(), targets, asides, strict=True)
        ]


def _with_card_above(
    name: str,
    winner: Winner,
    runs: Mapping[str, ExportRun],
    target: Path,
    made: Sequence[Exported],
    again: Mapping[str, str],
) -> Exported:
    """Write the card above the folders of several pairs."""
    from icd.training.checkpoints import write_durably

    card = rendered("pairs.md.j2", name=name, winner=winner, runs=runs, metric=next(iter(winner.values)), again=again)
    write_durably(target / CARD, card.encode())
    pairs = dict(zip(runs, made, strict=True))
    return replace(
        made[0],
        files=(target / CARD, *(file for one in made for file in one.files)),
        differences={f"{pair}/{file}": gap for pair, one in pairs.items() for file, gap in one.differences.items()},
        pairs=pairs,
    )


def _register(
    ledger: Ledger, root: Path, uri: str, made: Exported, run: ExportRun, model: str, alias: str
) -> "Registered":
    from icd.results.exports.registry import Version, register
    from icd.training.checkpoints import weights_digest

    version = Version(
        model=model,
        alias=alias,
        files=made.files,
        contents=(weights_digest(run.state), made.provenance["key"]),
        tags=made.provenance,
        description=made.provenance["status"],
    )
    uid = str(ledger.attributes.get("uid", ""))
    return register(uri, sweep_folder(root, ledger.name), ledger.name, uid, made.trial, version)
