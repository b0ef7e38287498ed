"""A run of a sweep as files that others can use: a configuration and weights, or a folder with programs and a card."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from icd import __version__
from icd.errors import CheckpointError, SetupError, UsageError
from icd.results.confirmed import confirmation_of
from icd.results.explained import explanation_of
from icd.results.staging import check_free, staged
from icd.results.winner import Winner, choose, choose_simplest, claims
from icd.search import root_of
from icd.search.reading import plain_sweep
from icd.search.shelf import fetch_trials
from icd.search.studies import find, refuse_several_pairs, sweep_folder, tracking_uri
from icd.search.study import Ledger
from icd.search.task import trial_folder

if TYPE_CHECKING:
    from torch import Tensor

    from icd.config.trial import TrialConfig
    from icd.results.programs import Format
    from icd.search.model_registry import Registered

CONFIG, WEIGHTS, CARD = "best.yaml", "student.safetensors", "README.md"
_NOTED = ("device", "parameters", "student_sha256")
_YAML = (".yaml", ".yml")


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """What was written.

    Attributes:
        trial: Number of the exported run.
        confirmed: Whether its arm was confirmed.
        config: The configuration file.
        weights: The weights file.
        provenance: Where both come from; in the first as comments, in the second as metadata.
        files: All files.
        differences: Largest difference of a logit for each program, by file name.
        compared_on: What the programs were compared on; empty where there are none.
        registered: The registered model, where that was asked for.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """Everything that is known of the run to export."""

    winner: Winner
    config: "TrialConfig"
    fingerprint: Mapping[str, Any] | None
    provenance: Mapping[str, str]
    state: "Mapping[str, Tensor]"


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
        output: A folder for everything, or a file ending in ``.yaml`` for configuration and weights alone.
        trial: Search trial of another finalist; with ``unconfirmed`` any trial that ran all epochs.
        unconfirmed: Take the search's own trial; needed where nothing is confirmed.
        simplest: Take the simplest configuration within one standard error of the best; needs ``icd explain``.
        weights: Weights file beside a ``.yaml`` output; the same name as ``.safetensors`` by default.
        formats: Programs for a folder; None writes all that this machine can.
        register: Whether, or under which name, the model goes to MLflow's registry; True takes the sweep's name.
        alias: Of the registered version.
        force: Whether existing files may be replaced.
        root: Folder of results.
        data_root: Folder of data sets; programs are compared on validation images where they are at hand.

    Raises:
        StateError: If nothing is confirmed and ``unconfirmed`` is off, nothing is explained and ``simplest`` is on, the
            trial did not run all epochs, or something exists and ``force`` is off.
        UsageError: If the sweep is over several pairs, there are several objectives and no trial is named, or options
            do not fit the output.
        CheckpointError: If the trial's files are missing or altered, or a program differs from the student.
        SetupError: If something cannot be written, or a package or the registry is not there.
    """
    folder, target = root_of(root), Path(output)
    ledger = find(folder, name)
    refuse_several_pairs(ledger, "a trial of it, with a student for each, cannot be exported")
    alone = target.suffix in _YAML
    if alone and (formats or register):
        raise UsageError(f"programs and the registry need a folder as output, but got {target}")
    if not alone and weights is not None:
        raise UsageError(f"weights of their own need an output ending in .yaml, but got {target}")
    if simplest and (unconfirmed or trial is not None):
        raise UsageError("the simplest is one configuration: --simplest goes neither with --trial nor --unconfirmed")
    winner = _simplest(ledger) if simplest else _chosen(ledger, trial, unconfirmed=unconfirmed)
    if alone:
        beside = Path(weights) if weights is not None else target.with_suffix(".safetensors")
        return _write_pair(_read(ledger, winner, folder), target, beside, force=force)
    check_free(target, force=force)
    uri, model = tracking_uri(folder), name if register is True else register
    if model:
        from icd.search.model_registry import check

        check(uri, model, alias)
    run = _read(ledger, winner, folder)
    made = _write_folder(run, target, formats, folder, Path(data_root) if data_root is not None else None)
    return replace(made, registered=_register(ledger, folder, uri, made, run, model, alias)) if model else made


def _chosen(ledger: Ledger, trial: int | None, *, unconfirmed: bool = False) -> Winner:
    return choose(
        ledger.name,
        ledger.records(),
        plain_sweep(ledger)["objectives"],
        confirmation_of(ledger),
        ledger.records("confirm"),
        trial=trial,
        unconfirmed=unconfirmed,
    )


def _simplest(ledger: Ledger) -> Winner:
    return choose_simplest(
        ledger.name,
        ledger.records(),
        explanation_of(ledger),
        ledger.records("explain"),
        lambda trial: _chosen(ledger, trial),
    )


def _read(ledger: Ledger, winner: Winner, root: Path) -> _Run:
    """Read a run's files and check that they are the study's."""
    from icd.config.read_trial import load_trial
    from icd.trial import checkpoint
    from icd.trial.runs import fingerprint_of

    fetch_trials(root, ledger, weights=winner.trial)
    folder = trial_folder(sweep_folder(root, ledger.name), winner.trial)
    path = folder / "config.yaml"
    if not path.exists():
        raise CheckpointError(f"{path} is missing; the trial's folder was removed or is on another machine")
    config = load_trial(path)
    key = winner.key or config.key()
    if config.key() != key:
        raise CheckpointError(f"{path} was altered: its key is {config.key()[:12]}, the study's is {key[:12]}")
    state = checkpoint.load(folder / "student.ckpt")
    if state.get("key") != key:
        raise CheckpointError(f"{folder / 'student.ckpt'} belongs to another configuration")
    noted = fingerprint_of(folder)
    return _Run(
        winner=winner,
        config=config,
        fingerprint=None if noted is None else noted.to_data(),
        provenance=_provenance(ledger, winner, config),
        state={name: tensor.contiguous().clone() for name, tensor in state["weights"].items()},
    )


def _provenance(ledger: Ledger, winner: Winner, config: "TrialConfig") -> dict[str, str]:
    attributes = ledger.attributes
    versions = attributes.get("versions", {})
    facts = {
        "study": ledger.name,
        "study_uid": attributes.get("uid", ""),
        "trial": winner.trial,
        **claims(winner),
        "epochs": config.protocol.epochs,
        "seed": config.seed,
        "key": config.key(),
        "data_digest": config.data.digest or "",
        "teacher_digest": (config.teacher.digest if config.teacher else None) or "none",
        **{name: winner.attributes[name] for name in _NOTED if name in winner.attributes},
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items() if name != "git"),
        "git": versions.get("git") or "unknown",
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "exported_by": f"icd {__version__}",
    }
    if winner.baseline:
        facts["baseline"] = winner.baseline
    if winner.start:
        facts["taken_from"] = winner.start
    return {name: " ".join(str(value).split()) for name, value in facts.items()}


def _text(run: _Run, weights: str) -> str:
    """Write the configuration file; numbers and origin stand in its comments."""
    header = f"# Trial {run.provenance['trial']} of sweep {run.provenance['study']}; weights in {weights}."
    parts = [header, *(f"# {name}: {value}" for name, value in run.provenance.items())]
    parts.append(yaml.safe_dump(run.config.to_data(), sort_keys=False).rstrip())
    if run.fingerprint is not None:
        parts.append(
            "# Losses of the first steps: 'icd train' compares its own with them; no part of the configuration."
        )
        noted = {"fingerprint": dict(run.fingerprint)}
        parts.append(yaml.safe_dump(noted, sort_keys=False, default_flow_style=None, width=116).rstrip())
    return "\n".join(parts) + "\n"


def _write_pair(run: _Run, config: Path, weights: Path, *, force: bool) -> Exported:
    """Write a configuration and weights, each whole or not at all."""
    from safetensors.torch import save

    from icd.trial import checkpoint

    if config == weights:
        raise UsageError(f"configuration and weights must be two files, but both are {config}")
    for path in (config, weights):
        check_free(path, force=force)
    try:
        for path in (config, weights):
            path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SetupError(f"{path.parent} cannot be made: {error.strerror}") from error
    checkpoint.write_durably(weights, save(dict(run.state), metadata=dict(run.provenance)))
    checkpoint.write_durably(config, _text(run, weights.name).encode())
    return _exported(run, config, weights)


def _write_folder(
    run: _Run, target: Path, formats: "Sequence[Format] | None", root: Path, data_root: Path | None
) -> Exported:
    """Write everything aside, compare the programs with the student, and move it into place."""
    from safetensors.torch import save

    from icd.results.card import card
    from icd.results.programs import FILES, formats_for, write_programs
    from icd.results.student import sample_of, student_of

    asked = formats_for(formats)
    sample = sample_of(run.config, root, data_root)
    student = student_of(run.config, run.state, source=f"the student of trial {run.winner.trial}")
    facts = {**run.provenance, **sample.facts}
    with staged(target, (CONFIG, WEIGHTS, CARD, *FILES.values())) as aside:
        differences = write_programs(student, sample.images_BCHW, aside, asked, facts)
        (aside / WEIGHTS).write_bytes(save(dict(run.state), metadata=dict(run.provenance)))
        (aside / CONFIG).write_text(_text(run, WEIGHTS), encoding="utf-8")
        document = {**run.config.to_data(), **({"fingerprint": run.fingerprint} if run.fingerprint else {})}
        width = student.head.out_features
        text = card(run.winner, document, run.provenance, sample, differences, num_classes=width)
        (aside / CARD).write_text(text, encoding="utf-8")
        names = sorted(path.name for path in aside.iterdir())
    made = _exported(run, target / CONFIG, target / WEIGHTS)
    files = tuple(target / name for name in names)
    return replace(made, files=files, differences=differences, compared_on=sample.source if differences else "")


def _exported(run: _Run, config: Path, weights: Path) -> Exported:
    return Exported(
        trial=run.winner.trial,
        confirmed=run.winner.confirmation is not None,
        config=config,
        weights=weights,
        provenance=run.provenance,
        files=(config, weights),
    )


def _register(ledger: Ledger, root: Path, uri: str, made: Exported, run: _Run, model: str, alias: str) -> "Registered":
    from icd.search.model_registry import Version, register
    from icd.trial.teachers import weights_digest

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
