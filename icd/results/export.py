"""A trial as two files that others can use: a configuration that ``icd train`` runs, and the student's weights."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from icd import __version__
from icd.errors import CheckpointError, SetupError, StateError, UsageError
from icd.search import default_root
from icd.search.pareto import pareto_front
from icd.search.reading import plain_sweep
from icd.search.record import TrialRecord, best
from icd.search.studies import find, sweep_folder
from icd.search.study import Ledger
from icd.search.task import trial_folder

_NOTED = ("device", "parameters", "student_sha256")


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """What was written.

    Attributes:
        trial: Its number.
        config: The configuration file.
        weights: The weights file.
        provenance: Where both come from; in the first as comments, in the second as metadata.
    """

    trial: int
    config: Path
    weights: Path
    provenance: Mapping[str, str]


def export(
    name: str,
    output: Path | str,
    *,
    trial: int | None = None,
    weights: Path | str | None = None,
    force: bool = False,
    root: Path | str | None = None,
) -> Exported:
    """Write a trial that ran all its epochs: the best one, or the one that is named.

    Args:
        name: Of the sweep.
        output: Configuration file to write (YAML).
        trial: Number of the trial; needed where there are several objectives.
        weights: Weights file to write; beside ``output`` by default, as ``.safetensors``.
        force: Whether existing files may be replaced.
        root: Folder of results.

    Raises:
        StateError: If the trial did not run all epochs, or a file exists and ``force`` is off.
        UsageError: If there are several objectives and no trial is named.
        CheckpointError: If the trial's files are missing or altered.
    """
    folder = Path(root) if root is not None else default_root()
    ledger = find(folder, name)
    chosen = _choose(ledger, trial)
    config_path = Path(output)
    weights_path = Path(weights) if weights is not None else config_path.with_suffix(".safetensors")
    if config_path == weights_path:
        raise UsageError(f"configuration and weights must be two files, but both are {config_path}")
    for path in (config_path, weights_path):
        if path.exists() and not force:
            raise StateError(f"{path} exists; choose another name, or add --force to replace it")
    kept = trial_folder(sweep_folder(folder, name), chosen.number)
    document = _document(kept, chosen)
    provenance = _provenance(ledger, chosen, document)
    _write(config_path, weights_path, document, provenance, kept)
    return Exported(trial=chosen.number, config=config_path, weights=weights_path, provenance=provenance)


def _choose(ledger: Ledger, number: int | None) -> TrialRecord:
    records, objectives = ledger.records(), plain_sweep(ledger)["objectives"]
    if number is not None:
        record = next((record for record in records if record.number == number), None)
        if record is None:
            raise StateError(f"sweep {ledger.name!r} has no trial {number}; it has {len(records)}, counted from 0")
        if record.state != "complete":
            why = f" ({record.reason})" if record.reason else ""
            raise StateError(f"trial {number} is {record.state}{why}; only trials that ran all epochs can be exported")
        return record
    if len(objectives) > 1:
        front = pareto_front(records, [item["direction"] for item in objectives])
        listed = ", ".join(str(record.number) for record in front) or "none yet"
        raise UsageError(
            f"sweep {ledger.name!r} has {len(objectives)} objectives, so --trial must say which one; "
            f"trials that none beats: {listed}"
        )
    found = best(records, maximize=objectives[0]["direction"] == "maximize")
    if found is None:
        raise StateError(
            f"no trial of sweep {ledger.name!r} has run all its epochs yet; see 'icd trials {ledger.name}'"
        )
    return found


def _document(folder: Path, record: TrialRecord) -> dict[str, Any]:
    """Read the configuration that the trial was trained with, digests included, and check that it is the study's."""
    from icd.config.read_trial import load_trial

    path = folder / "config.yaml"
    if not path.exists():
        raise CheckpointError(f"{path} is missing; the trial's folder was removed or is on another machine")
    config = load_trial(path)
    if config.key() != record.key:
        raise CheckpointError(f"{path} was altered: its key is {config.key()[:12]}, the study's is {record.key[:12]}")
    return config.to_data()


def _provenance(ledger: Ledger, record: TrialRecord, document: Mapping[str, Any]) -> dict[str, str]:
    attributes, objectives = ledger.attributes, plain_sweep(ledger)["objectives"]
    versions = attributes.get("versions", {})
    values = {item["metric"]: f"{value:.6g}" for item, value in zip(objectives, record.values, strict=True)}
    facts = {
        "study": ledger.name,
        "study_uid": attributes.get("uid", ""),
        "trial": record.number,
        **values,
        "epochs": record.attributes.get("epochs", max(record.curve, default=0)),
        "seed": document.get("seed", 0),
        "key": record.key,
        "data_digest": document["data"].get("digest", ""),
        "teacher_digest": document.get("teacher", {}).get("digest", "none"),
        **{name: record.attributes[name] for name in _NOTED if name in record.attributes},
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items() if name != "git"),
        "git": versions.get("git") or "unknown",
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "exported_by": f"icd {__version__}",
    }
    if record.baseline:
        facts["baseline"] = record.baseline
    if record.start:
        facts["taken_from"] = record.start
    return {name: " ".join(str(value).split()) for name, value in facts.items()}


def _write(
    config_path: Path, weights_path: Path, document: Mapping[str, Any], provenance: Mapping[str, str], kept: Path
) -> None:
    from safetensors.torch import save

    from icd.trial import checkpoint

    state = checkpoint.load(kept / "student.ckpt")
    if state.get("key") != provenance["key"]:
        raise CheckpointError(f"{kept / 'student.ckpt'} belongs to another configuration")
    tensors = {name: tensor.contiguous().clone() for name, tensor in state["weights"].items()}
    text = "\n".join((_header(provenance, weights_path), yaml.safe_dump(dict(document), sort_keys=False)))
    try:
        for path in (config_path, weights_path):
            path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SetupError(f"{path.parent} cannot be made: {error.strerror}") from error
    checkpoint.write_durably(weights_path, save(tensors, metadata=dict(provenance)))
    checkpoint.write_durably(config_path, text.encode())


def _header(provenance: Mapping[str, str], weights: Path) -> str:
    title = f"# Trial {provenance['trial']} of sweep {provenance['study']}; weights in {weights.name}."
    return "\n".join([title, *(f"# {name}: {value}" for name, value in provenance.items())])
