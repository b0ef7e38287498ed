"""A run of a sweep as files that others can use: a configuration and weights, or a folder with programs and a card."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from icd.errors import SetupError, UsageError
from icd.results.exports.pairs import pairs_card, read_pairs
from icd.results.exports.run import (
    CARD,
    CONFIG,
    WEIGHTS,
    Exported,
    ExportRun,
    exported,
    fill,
    material_of,
    read_run,
    text_of,
    weights_of,
)
from icd.results.exports.staging import check_free, staged
from icd.results.exports.winner import Winner, choose, choose_simplest
from icd.results.read_outcome import outcome_of
from icd.search import root_of
from icd.search.study.ledger import Ledger
from icd.search.study.sweep_files import fetch_trials
from icd.search.study.sweep_index import find, sweep_folder, tracking_uri
from icd.search.sweep_status import plain_sweep

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
    weights: Path | str | None = None,
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
        weights: Weights file beside a ``.yaml`` output; the same name as ``.safetensors`` by default.
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
    ledger = find(folder, name)
    alone = target.suffix in _YAML
    if ledger.ranked and (alone or register):
        raise UsageError(
            f"sweep {name!r} is over several pairs, so there is a student for each: -o must be a folder, without "
            "--register; each folder below it has a best.yaml"
        )
    if alone and (formats or register):
        raise UsageError(f"programs and the registry need a folder as output, but got {target}")
    if not alone and weights is not None:
        raise UsageError(f"weights of their own need an output ending in .yaml, but got {target}")
    if simplest and (unconfirmed or trial is not None):
        raise UsageError("the simplest is one configuration: --simplest goes neither with --trial nor --unconfirmed")
    winner = _simplest(ledger, folder) if simplest else _chosen(ledger, folder, trial, unconfirmed=unconfirmed)
    fetch_trials(folder, ledger, weights=winner.trial)
    if alone:
        beside = Path(weights) if weights is not None else target.with_suffix(".safetensors")
        return _write_pair(read_run(ledger, winner, folder), target, beside, force=force)
    check_free(target, force=force)
    if ledger.ranked:
        runs = read_pairs(ledger, winner, folder)
        made = _write_folders({target / pair: run for pair, run in runs.items()}, formats, folder, data_root)
        return _with_card_above(name, winner, runs, target, made)
    uri, model = tracking_uri(folder), name if register is True else register
    if model:
        from icd.results.exports.registry import check

        check(uri, model, alias)
    run = read_run(ledger, winner, folder)
    (one,) = _write_folders({target: run}, formats, folder, data_root)
    return replace(one, registered=_register(ledger, folder, uri, one, run, model, alias)) if model else one


def _chosen(ledger: Ledger, root: Path, trial: int | None, *, unconfirmed: bool = False) -> Winner:
    return choose(
        ledger.name,
        ledger.records(),
        plain_sweep(ledger)["objectives"],
        outcome_of(ledger, "confirm"),
        ledger.records("confirm"),
        trial=trial,
        unconfirmed=unconfirmed,
        root=root,
    )


def _simplest(ledger: Ledger, root: Path) -> Winner:
    return choose_simplest(
        ledger.name,
        ledger.records(),
        outcome_of(ledger, "ablate"),
        ledger.records("ablate"),
        lambda trial: _chosen(ledger, root, trial),
        root,
    )


def _write_pair(run: ExportRun, config: Path, weights: Path, *, force: bool) -> Exported:
    """Write a configuration and weights, each whole or not at all."""
    from icd.training import checkpoints

    if config == weights:
        raise UsageError(f"configuration and weights must be two files, but both are {config}")
    for path in (config, weights):
        check_free(path, force=force)
    try:
        for path in (config, weights):
            path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SetupError(f"{path.parent} cannot be made: {error.strerror}") from error
    checkpoints.write_durably(weights, weights_of(run))
    checkpoints.write_durably(config, text_of(run, weights.name).encode())
    return exported(run, config, weights)


def _write_folders(
    runs: Mapping[Path, ExportRun], formats: "Sequence[Format] | None", root: Path, data_root: Path | str | None
) -> list[Exported]:
    """Write a folder for each run aside, compare the programs with the students, and move all of them, or none."""
    from icd.results.exports.programs import FILES, formats_for

    asked = formats_for(formats)
    materials = [material_of(run, root, Path(data_root) if data_root is not None else None) for run in runs.values()]
    with staged([*runs], (CONFIG, WEIGHTS, CARD, *FILES.values())) as asides:
        return [
            fill(run, material, aside, target, asked)
            for (target, run), material, aside in zip(runs.items(), materials, asides, strict=True)
        ]


def _with_card_above(
    name: str, winner: Winner, runs: Mapping[str, ExportRun], target: Path, made: Sequence[Exported]
) -> Exported:
    """Write the card above the folders of several pairs."""
    from icd.training.checkpoints import write_durably

    write_durably(target / CARD, pairs_card(name, winner, runs).encode())
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
