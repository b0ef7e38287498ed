"""A trial and its folder: what is kept, what a second start does, and what a kill leaves behind.

NAME/config.yaml      the configuration, every default and digest spelt out
NAME/metrics.jsonl    one line per reporting epoch, written after that epoch's checkpoint
NAME/checkpoints/     the newest two
NAME/student.safetensors  weights after the last epoch
NAME/fingerprint.json losses of the first steps, for whoever trains it again
NAME/result.json      written last; its presence means finished
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from icd.config.trial import TrialConfig, differences, plain_data
from icd.config.yaml import parse_yaml, yaml_text
from icd.data.split import Split
from icd.errors import Interrupted, StateError
from icd.models import Network
from icd.storage.durable import write_durably
from icd.training import checkpoints
from icd.training.hardware import device_name, versions
from icd.training.loop import EpochMetrics, Execution, Trained, train
from icd.training.student_file import write_student
from icd.worker.trial_metrics import METRICS, append_row, stored_rows, training_seconds


def claim(folder: Path, config: TrialConfig, *, resume: bool) -> None:
    """Make the folder this configuration's.

    Raises:
        StateError: If it is another configuration's, or holds an unfinished trial and ``resume`` is off.
    """
    name, path = folder.name, folder / "config.yaml"
    if not path.exists():
        (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
        text = f"# key {config.key()}\n" + yaml_text(config.to_data())
        write_durably(path, text.encode())
        return
    text = path.read_text()
    if text.splitlines()[:1] != [f"# key {config.key()}"]:
        changed = differences(parse_yaml(text, str(path)).data, config.to_data()) or ["nothing that the file shows"]
        raise StateError(f"trial {name!r} has another configuration; use --name or undo: " + "; ".join(changed))
    begun = any((folder / "checkpoints").glob("epoch-*.ckpt"))
    if begun and not resume and not (folder / "result.json").exists():
        raise StateError(f"trial {name!r} was begun and not finished: add --resume to continue, or --name for another")


class Begun(NamedTuple):
    """What a trial's folder holds of its training."""

    rows: list[dict[str, Any]]  # metrics of the epochs up to the newest checkpoint
    # that checkpoint, as ``train`` continues from it; its content is taken out there
    newest: checkpoints.Checkpoint | None


def take_up(folder: Path) -> Begun:
    """Read the newest checkpoint and bring the metrics file in step with it, nothing lost, nothing twice.

    A finished trial has no checkpoint and stays as it is; a study that was put back from a copy may ask for it again.
    """
    path = folder / METRICS
    if (folder / "result.json").exists():
        return Begun(stored_rows(folder), None)
    checkpoints.drop_unfinished(folder / "checkpoints")
    found = checkpoints.newest(folder / "checkpoints")
    epoch = found.epoch if found else 0
    rows = [row for row in stored_rows(folder) if row["epoch"] <= epoch]
    if found and found.payload["reported"] and not any(row["epoch"] == epoch for row in rows):
        rows.append({"epoch": epoch, **found.payload["metrics"]})
    if path.exists() or rows:
        write_durably(path, "".join(json.dumps(row) + "\n" for row in rows).encode())
    return Begun(rows, found)


def continue_trial(
    config: TrialConfig,
    split: Split,
    teacher: Network | None,
    folder: Path,
    execution: Execution,
    *,
    begun: Begun | None = None,
    may_write: Callable[[], None] = lambda: None,
    finishing: Callable[[Network], None] = lambda student: None,
) -> dict[str, Any]:
    """Train what is left of a trial in its folder, which is its own (``claim``), or give the result that it has.

    ``begun`` is what the folder holds, where it was read already. ``may_write`` is called before a row is added, and
    raises what it likes where the folder is another's by now. ``finishing`` is called with the trained student before
    the result is written.
    """
    result_path = folder / "result.json"
    if result_path.exists():
        result = dict(json.loads(result_path.read_text()))
        if result["key"] != config.key():
            raise StateError(f"{result_path} is of another configuration; move the trial's folder away")
        return result
    begun = begun or take_up(folder)
    rows = list(begun.rows)

    def report(metrics: EpochMetrics) -> None:
        may_write()
        rows.append({"epoch": metrics.epoch, **metrics.values})
        append_row(folder / METRICS, rows[-1])
        execution.report(metrics)

    here = replace(execution, checkpoints=folder / "checkpoints", report=report)
    trained = train(config, split, teacher, here, begun.newest)
    if not trained.finished:
        epochs = config.training.epochs
        raise Interrupted(f"stopped after epoch {trained.epoch} of {epochs}; continue with --resume")
    finishing(trained.network)
    digest = write_student(folder, trained.network.state_dict(), config.key())
    if trained.fingerprint is not None:
        write_json(folder / "fingerprint.json", plain_data(trained.fingerprint))
    result = _result(config, trained, rows, digest, device_name(execution.device))
    write_json(result_path, result, indent=1)
    return result


def write_json(path: Path, data: Any, indent: int | None = None) -> None:
    """Write a file of JSON that a kill leaves whole or not at all."""
    write_durably(path, (json.dumps(data, indent=indent) + "\n").encode())


def _result(
    config: TrialConfig, trained: Trained, rows: Sequence[Mapping[str, Any]], student_digest: str, device: str
) -> dict[str, Any]:
    measured, last = config.data.measure_on, rows[-1]
    best = max(rows, key=lambda row: row[f"{measured}/top1"])
    prefix = f"{measured}/"
    return {
        "key": config.key(),
        "epochs": config.training.epochs,
        "seed": config.seed,
        measured: {name.removeprefix(prefix): value for name, value in last.items() if name.startswith(prefix)},
        "best_epoch": {"epoch": best["epoch"], "top1": best[f"{measured}/top1"], "note": "shown, never ranked"},
        "train_loss": last["train/loss"],
        "parameters": sum(weight.numel() for weight in trained.network.parameters()),
        "minutes": training_seconds(rows) / 60,
        "student_sha256": student_digest,
        "data_digest": config.data.digest,
        "teacher_digest": config.teacher.digest if config.teacher else None,
        "versions": versions(),
        "device": device,
        "engine": trained.engine,
    }
