"""A run of a sweep as files that others can use: a configuration and weights, or a folder with programs and a card."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from icd.errors import SetupError, UsageError
from icd.results.exports.pairs import PAIRS_CARD, pairs_card, read_pairs
from icd.results.exports.run import (
    CARD,
    CONFIG,
    WEIGHTS,
    ExportRun,
    Filled,
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """What was written.

    Attributes:
        trial: Number of the exported run.
        confirmed: Whether its arm was confirmed.
        config: The configuration file.
        weights: The weights file.
        provenance: Where both come from; in the first as comments, in the second as metadata,
            but for the hour.
        files: All files.
        differences: Largest difference of a logit for each program, by file name.
        compared_on: What the programs were compared on; empty where there are none.
        registered: The registered model, where that was asked for.
        pairs: What was written for each of several pairs; all of the above is then the first one's, but for the files
            and differences, which are all. Empty where there is one.
    """

    trial: int
    confirmed: bool
    config: Path
    weights: Path
    provenance: Mapping[str, str]
    files: Sequence[Path] = ()
    differences: Mapping[str, float] = field(default_factory=dict)
    compared_on: str = ""
    registered: "Registered | None" = None
    pairs: "Mapping[str, Exported]" = field(default_factory=dict)


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
        return _write_pairs(ledger, winner, target, formats, folder, Path(data_root) if data_root is not None else None)
    uri, model = tracking_uri(folder), name if register is True else register
    if model:
        from icd.results.exports.registry import check

        check(uri, model, alias)
    run = read_run(ledger, winner, folder)
    made = _write_folder(run, target, formats, folder, Path(data_root) if data_root is not None else None)
    return replace(made, registered=_register(ledger, folder, uri, made, run, model, alias)) if model else made


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
    return _exported(run, config, weights)


def _write_folder(
    run: ExportRun, target: Path, formats: "Sequence[Format] | None", root: Path, data_root: Path | None
) -> Exported:
    """Write everything aside, compare the programs with the student, and move it into place."""
    from icd.results.exports.programs import FILES, formats_for

    asked, material = formats_for(formats), material_of(run, root, data_root)
    with staged([target], (CONFIG, WEIGHTS, CARD, *FILES.values())) as (aside,):
        filled = fill(run, material, aside, asked)
    return _exported_folder(run, target, filled)


def _write_pairs(
    ledger: Ledger,
    winner: Winner,
    target: Path,
    formats: "Sequence[Format] | None",
    root: Path,
    data_root: Path | None,
) -> Exported:
    """Write a folder for each pair, all of them or none, and a card above them."""
    from icd.results.exports.programs import FILES, formats_for
    from icd.training.checkpoints import write_durably

    asked, runs = formats_for(formats), read_pairs(ledger, winner, root)
    materials = {pair: material_of(run, root, data_root) for pair, run in runs.items()}
    with staged([target / pair for pair in runs], (CONFIG, WEIGHTS, CARD, *FILES.values())) as asides:
        filled = {
            pair: fill(run, materials[pair], aside, asked)
            for (pair, run), aside in zip(runs.items(), asides, strict=True)
        }
    made = {pair: _exported_folder(run, target / pair, filled[pair]) for pair, run in runs.items()}
    write_durably(target / PAIRS_CARD, pairs_card(ledger.name, winner, runs).encode())
    return replace(
        next(iter(made.values())),
        files=(target / PAIRS_CARD, *(file for one in made.values() for file in one.files)),
        differences={
            f"{pair}/{file}": difference for pair, one in made.items() for file, difference in one.differences.items()
        },
        pairs=made,
    )


def _exported_folder(run: ExportRun, target: Path, filled: Filled) -> Exported:
    made = _exported(run, target / CONFIG, target / WEIGHTS)
    files = tuple(target / name for name in filled.names)
    return replace(made, files=files, differences=filled.differences, compared_on=filled.compared_on)


def _exported(run: ExportRun, config: Path, weights: Path) -> Exported:
    return Exported(
        trial=run.winner.trial,
        confirmed=run.winner.confirmation is not None,
        config=config,
        weights=weights,
        provenance=run.provenance,
        files=(config, weights),
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
