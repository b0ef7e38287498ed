"""One run of a sweep as it is exported: its files read and checked, and a folder filled with what others can use."""

import json
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from icd import __version__
from icd.errors import CheckpointError
from icd.results.exports.winner import Winner
from icd.search.core.attempts import trial_folder
from icd.search.study.ledger import Ledger
from icd.search.study.sweep_index import sweep_folder
from icd.training import STUDENT

if TYPE_CHECKING:
    from torch import Tensor

    from icd.config.trial import TrialConfig
    from icd.results.exports.programs import Format
    from icd.results.exports.registry import Registered

CONFIG, WEIGHTS, CARD = "best.yaml", STUDENT, "README.md"
_NOTED = ("device", "engine", "parameters", "student_sha256")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportRun:
    """Everything that is known of the run to export."""

    winner: Winner
    config: "TrialConfig"
    fingerprint: Mapping[str, Any] | None
    provenance: Mapping[str, str]
    state: "Mapping[str, Tensor]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """What was written.

    Attributes:
        trial: Number of the exported run.
        provenance: Where both come from: comments of the configuration, metadata of the weights, but for the hour.
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
    files: Sequence[Path]
    differences: Mapping[str, float] = field(default_factory=dict)
    compared_on: str = ""
    registered: "Registered | None" = None
    pairs: "Mapping[str, Exported]" = field(default_factory=dict)


def read_run(ledger: Ledger, winner: Winner, root: Path) -> ExportRun:
    """Read a run's files and check that they are the study's.

    Raises:
        CheckpointError: If they are missing, or not what the study knows.
    """
    from icd.config.read_trial import read_trial
    from icd.config.trial import plain_data
    from icd.config.yaml import read_yaml
    from icd.training.student_file import read_student
    from icd.worker.trial_metrics import fingerprint_of

    folder = trial_folder(sweep_folder(root, ledger.name), winner.record.number, winner.pair)
    path = folder / "config.yaml"
    if not path.exists():
        raise CheckpointError(f"{path} is missing; the trial's folder was removed or is on another machine")
    config = read_trial(read_yaml(path))
    key = winner.record.key or config.key()
    if config.key() != key:
        raise CheckpointError(f"{path} was altered: its key is {config.key()[:12]}, the study's is {key[:12]}")
    weights = read_student(folder, key)
    noted = fingerprint_of(folder)
    return ExportRun(
        winner=winner,
        config=config,
        fingerprint=None if noted is None else plain_data(noted),
        provenance=_provenance(ledger, winner, config),
        state=weights,
    )


def read_pairs(ledger: Ledger, winner: Winner, root: Path) -> dict[str, ExportRun]:
    """Read the runs of a trial over several pairs and check that together they are the study's.

    Raises:
        CheckpointError: If files are missing or altered.
    """
    from icd.search.core.pair_runs import key_of, pair_runs_of

    (metric,), record, runs = winner.values, winner.record, {}
    for pair, value in record.members.items():
        path = trial_folder(sweep_folder(root, ledger.name), record.number, pair) / "result.json"
        try:
            result = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{path} cannot be read; the trial's folder was removed or is elsewhere") from error
        noted = {**record.attributes, **{name: result[name] for name in ("parameters", "student_sha256")}}
        one = replace(record, key="", attributes=noted)
        runs[pair] = read_run(ledger, replace(winner, record=one, pair=pair, values={metric: value}), root)
    key = key_of(pair_runs_of({pair: run.config for pair, run in runs.items()}))
    if record.key != key:
        raise CheckpointError(f"trial {record.number} was altered: its key is {key[:12]}, the study's is {record.key}")
    return runs


def _provenance(ledger: Ledger, winner: Winner, config: "TrialConfig") -> dict[str, str]:
    attributes, record = ledger.attributes, winner.record
    versions = attributes.get("versions", {})
    facts = {
        "study": ledger.name,
        "study_uid": attributes.get("uid", ""),
        "trial": record.number,
        **{metric: f"{value:.6g}" for metric, value in winner.values.items()},
        "pair": winner.pair and f"{winner.pair}; the status is about means over all pairs",
        "status": winner.status,
        "ablation": winner.ablation.statement if winner.ablation else "",
        "epochs": config.training.epochs,
        "seed": config.seed,
        "key": config.key(),
        "data_digest": config.data.digest or "unknown",
        "teacher_digest": (config.teacher.digest if config.teacher else None) or "none",
        **{name: record.attributes[name] for name in _NOTED if name in record.attributes},
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items() if name != "git"),
        "git": versions.get("git") or "unknown",
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "exported_by": f"icd {__version__}",
        "baseline": record.baseline if winner.confirmation is winner.ablation is None else "",
        "taken_from": record.start,
    }
    return {name: " ".join(str(value).split()) for name, value in facts.items() if value not in ("", None)}


def text_of(run: ExportRun, weights: str) -> str:
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


def weights_of(run: ExportRun) -> bytes:
    """Write the weights as safetensors; the same run gives the same bytes, so the hour of the export is not in them.

    What belongs to them is one entry of the metadata, as safetensors writes several in an order that changes.
    """
    from safetensors.torch import save

    from icd.training.checkpoints import weights_digest

    facts = {name: value for name, value in run.provenance.items() if name not in ("created", "exported_by")}
    belongs = json.dumps({**facts, "weights": weights_digest(run.state)}, sort_keys=True)
    return save(dict(run.state), metadata={"icd": belongs})


def train_command(config: Path | str, data_root: Path | None) -> str:
    """Write the command that trains an exported configuration again, with the data folder that the export had."""
    return shlex.join(["icd", "train", str(config), *(["--data-root", str(data_root)] if data_root else [])])


def exported(run: ExportRun, folder: Path, files: Sequence[str], **more: Any) -> Exported:
    """Say what was written of a run: the configuration, the weights, and what else is in the folder."""
    config, weights, *_ = files
    return Exported(
        trial=run.winner.record.number,
        confirmed=run.winner.confirmation is not None,
        config=folder / config,
        weights=folder / weights,
        provenance=run.provenance,
        files=tuple(folder / name for name in files),
        **more,
    )


def fill(
    run: ExportRun,
    aside: Path,
    target: Path,
    formats: "Sequence[Format]",
    root: Path,
    data_root: Path | None,
) -> Exported:
    """Write configuration, weights, programs and card into an empty folder; compare the programs with the student.

    Args:
        run: What to write.
        aside: The folder.
        target: What it will be called.
        formats: Programs to write.
        root: Folder of results.
        data_root: Folder of data sets, for images to compare programs on.

    Raises:
        CheckpointError: If a program differs from the student.
    """
    from icd.results.exports.card import card
    from icd.results.exports.input_steps import input_steps
    from icd.results.exports.programs import write_programs
    from icd.results.exports.student import sample_of, student_of

    source = f"the student of trial {run.winner.record.number} {run.winner.pair}".rstrip()
    student, sample = student_of(run.config, run.state, source=source), sample_of(run.config, root, data_root)
    differences = write_programs(student, sample.images_BCHW, aside, formats, {**run.provenance, **sample.facts})
    (aside / WEIGHTS).write_bytes(weights_of(run))
    (aside / CONFIG).write_text(text_of(run, WEIGHTS), encoding="utf-8")
    document = {**run.config.to_data(), **({"fingerprint": run.fingerprint} if run.fingerprint else {})}
    width = student.head.out_features
    text = card(
        run.winner,
        document,
        run.provenance,
        sample,
        differences,
        num_classes=width,
        steps=input_steps(run.config.training.augmentation, sample.mean, sample.std),
        again=train_command(CONFIG, data_root),
    )
    (aside / CARD).write_text(text, encoding="utf-8")
    compared_on = sample.source if differences else ""
    return exported(
        run, target, [CONFIG, WEIGHTS, CARD, *differences], differences=differences, compared_on=compared_on
    )
