"""A run of a sweep as files that others can use: a configuration and weights, or a folder with programs and a card."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from icd.errors import UsageError
from icd.results.exports.run import (
    CARD,
    CONFIG,
    WEIGHTS,
    ExportRun,
    card_of,
    read_pairs,
    read_run,
    text_of,
    train_command,
    weights_of,
)
from icd.results.exports.staging import check_free, staged
from icd.results.exports.winner import choose
from icd.search import root_of
from icd.search.study.sweep_files import fetch_trials
from icd.search.study.sweep_index import find

if TYPE_CHECKING:
    from icd.results.exports.programs import Format
    from icd.results.exports.registry import Registered

_YAML = (".yaml", ".yml")


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """What was written.

    Attributes:
        trial: Number of the exported run.
        provenance: Where both come from: comments of the configuration, metadata of the weights, but for the hour.
        differences: Largest difference of a logit for each program, by file name.
        compared_on: What the programs were compared on; empty where there are none.
        measure_on: What the configuration's epochs are measured on: with ``test``, ``icd train`` needs ``--test``.
        registered: The registered model, where that was asked for.
        pairs: What was written for each of several pairs; all of the above is then the first one's, but for the files
            and differences, which are all. Empty where there is one.
    """

    trial: int
    confirmed: bool
    config: Path
    weights: Path
    provenance: Mapping[str, str]
    files: Sequence[Path]
    differences: Mapping[str, float] = field(default_factory=dict)
    compared_on: str = ""
    measure_on: str = "val"
    registered: "Registered | None" = None
    pairs: "Mapping[str, Exported]" = field(default_factory=dict)


def export(
    name: str,
    output: Path | str,
    *,
    trial: int | None = None,
    unconfirmed: bool = False,
    simplest: bool = False,
    formats: "Sequence[Format] | None" = None,
    register: bool | str = False,
    alias: str | None = None,
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
        alias: Of the registered version, ``best`` if it is None.
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
    if alias is not None and not register:
        raise UsageError(f"--alias is of a registered version, so it needs --register, but got --alias {alias} alone")
    winner = choose(ledger, folder, trial=trial, unconfirmed=unconfirmed, simplest=simplest)
    fetch_trials(folder, ledger, weights=winner.record.number)
    if alone:
        return _write_two(read_run(ledger, winner, folder), target, force=force)
    check_free(target, force=force)
    if ledger.ranked:
        return _write(read_pairs(ledger, winner, folder), target, formats, folder, data)
    if register:
        from icd.results.exports import registry

        model, known_as = name if register is True else register, alias or "best"
        registry.check(folder, model, known_as)
    made = _write({"": read_run(ledger, winner, folder)}, target, formats, folder, data)
    return replace(made, registered=registry.register(folder, ledger, made, model, known_as)) if register else made


def _write_two(run: ExportRun, config: Path, *, force: bool) -> Exported:
    """Write a configuration and weights beside it, each whole or not at all."""
    from icd.storage.durable import write_durably

    weights = config.with_suffix(".safetensors")
    for path in (config, weights):
        check_free(path, force=force)
    write_durably(weights, weights_of(run), parents=True)
    write_durably(config, text_of(run, weights.name).encode())
    return _exported(run, [config, weights], {}, "")


def _write(
    runs: Mapping[str, ExportRun], target: Path, formats: "Sequence[Format] | None", root: Path, data_root: Path | None
) -> Exported:
    """Fill a folder for each run aside, compare the programs with the students, and move all of them, or none."""
    from icd.results.exports.programs import FILES, formats_for

    asked, targets = formats_for(formats), {pair: target / pair for pair in runs}
    with staged([*targets.values()], (CONFIG, WEIGHTS, CARD, *FILES.values())) as asides:
        made = {
            pair: _fill(run, aside, targets[pair], asked, root, data_root)
            for (pair, run), aside in zip(runs.items(), asides, strict=True)
        }
    if "" in made:
        return made[""]
    return replace(
        next(iter(made.values())),
        files=tuple(file for one in made.values() for file in one.files),
        differences={f"{pair}/{file}": gap for pair, one in made.items() for file, gap in one.differences.items()},
        pairs=made,
    )


def _fill(
    run: ExportRun, aside: Path, target: Path, formats: "Sequence[Format]", root: Path, data_root: Path | None
) -> Exported:
    """Write everything of a run into an empty folder that becomes ``target``."""
    from icd.results.exports.programs import sample_of, student_of, write_programs

    source = f"the student of trial {run.winner.record.number} {run.winner.pair}".rstrip()
    student, sample = student_of(run.config, run.state, source=source), sample_of(run.config, root, data_root)
    differences = write_programs(student, sample.images_BCHW, aside, formats, run.provenance)
    (aside / WEIGHTS).write_bytes(weights_of(run))
    (aside / CONFIG).write_text(text_of(run, WEIGHTS), encoding="utf-8")
    again = train_command(CONFIG, data_root, run.config.data.measure_on)
    text = card_of(run, sample, differences, student.head.out_features, again)
    (aside / CARD).write_text(text, encoding="utf-8")
    files = [target / name for name in (CONFIG, WEIGHTS, CARD, *differences)]
    return _exported(run, files, differences, sample.source if differences else "")


def _exported(run: ExportRun, files: Sequence[Path], differences: Mapping[str, float], compared_on: str) -> Exported:
    return Exported(
        trial=run.winner.record.number,
        confirmed=run.winner.confirmation is not None,
        config=files[0],
        weights=files[1],
        provenance=run.provenance,
        files=tuple(files),
        differences=differences,
        compared_on=compared_on,
        measure_on=run.config.data.measure_on,
    )
