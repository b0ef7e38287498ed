"""One run of a sweep as it is exported: what is read of it and checked, and its files as bytes and text."""

import json
import shlex
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from icd import __version__
from icd.config.yaml import yaml_text
from icd.errors import CheckpointError
from icd.results.exports.winner import Winner
from icd.results.words import rendered
from icd.search.core.attempts import trial_folder
from icd.search.study.ledger import Ledger
from icd.search.study.sweep_index import sweep_folder
from icd.training import STUDENT

if TYPE_CHECKING:
    from torch import Tensor

    from icd.config.trial import TrialConfig
    from icd.results.exports.programs import Sample

CONFIG, WEIGHTS, CARD = "best.yaml", STUDENT, "README.md"
_NOTED = ("device", "engine", "parameters", "student_sha256")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportRun:
    """Everything that is known of the run to export; ``provenance`` says where it comes from."""

    winner: Winner
    config: "TrialConfig"
    fingerprint: Mapping[str, Any] | None
    provenance: Mapping[str, str]
    state: "Mapping[str, Tensor]"


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
    noted = fingerprint_of(folder)
    return ExportRun(
        winner=winner,
        config=config,
        fingerprint=None if noted is None else plain_data(noted),
        provenance=_provenance(ledger, winner, config),
        state=read_student(folder, key),
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
    noted = {} if run.fingerprint is None else {"fingerprint": dict(run.fingerprint)}
    fingerprint = yaml_text(noted, default_flow_style=None, width=116).rstrip() if noted else ""
    config = yaml_text(run.config.to_data()).rstrip()
    return rendered("best.yaml.j2", run=run, weights=weights, config=config, fingerprint=fingerprint)


def weights_of(run: ExportRun) -> bytes:
    """Write the weights as safetensors; the same run gives the same bytes, so the hour of the export is not in them.

    What belongs to them is one entry of the metadata, as safetensors writes several in an order that changes.
    """
    from safetensors.torch import save

    from icd.training.checkpoints import weights_digest

    facts = {name: value for name, value in run.provenance.items() if name not in ("created", "exported_by")}
    belongs = json.dumps({**facts, "weights": weights_digest(run.state)}, sort_keys=True)
    return save(dict(run.state), metadata={"icd": belongs})


def card_of(run: ExportRun, sample: "Sample", differences: Mapping[str, float], num_classes: int, again: str) -> str:
    """Write the card with the front matter that model hubs read (huggingface.co/docs/hub/model-cards).

    A confirmed run has the mean over its seeds as its result, and says on how many. ``differences`` are the largest of
    a logit between each program and the student on the sample; ``again`` is the command that trains it again.
    """
    method = yaml_text(run.config.to_data()["method"]).strip()
    values = {"config": run.config, "winner": run.winner, "method": method, "sample": sample, "again": again}
    more = {"differences": differences, "num_classes": num_classes, "views": run.config.training.augmentation}
    return rendered("card.md.j2", run=run, **values, **more)


def train_command(config: Path | str, data_root: Path | None, measure_on: str) -> str:
    """Write the command that trains an exported configuration again, with the data folder that the export had."""
    options = [*(["--data-root", str(data_root)] if data_root else []), *(["--test"] if measure_on == "test" else [])]
    return shlex.join(["icd", "train", str(config), *options])
