"""A trial and its folder: what is kept, what a second start does, and what a kill leaves behind.

NAME/config.yaml      the configuration, every default and digest spelt out
NAME/metrics.jsonl    one line per reporting epoch, written after that epoch's checkpoint
NAME/checkpoints/     the newest two
NAME/student.safetensors  weights after the last epoch
NAME/fingerprint.json losses of the first steps, for whoever trains it again
NAME/result.json      written last; its presence means finished
"""

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml

from icd.config.fingerprint import Fingerprint
from icd.config.read_trial import class_problems
from icd.config.trial import TrialConfig, differences
from icd.data import load_dataset
from icd.data.dataset import views_problem
from icd.data.images import ArrayImages
from icd.data.split import Split, for_trial
from icd.errors import CheckpointError, ConfigError, Interrupted, Problem, StateError
from icd.models import Network
from icd.storage.bucket import bucket_of
from icd.teacher.cache import BUDGET_GB, CacheMode, TeacherCache, open_cache, plan_cache, summary
from icd.teacher.cache_block import OpenBlocks
from icd.teacher.store import TeacherStore, fitted, prepare
from icd.training import checkpoints
from icd.training.autotune import choose, described, settled
from icd.training.evaluation import evaluate
from icd.training.exclusive import alone_in
from icd.training.hardware import device_name, versions
from icd.training.loop import EpochMetrics, Execution, evaluation_batches, train
from icd.training.student_file import read_student, write_student


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialFolders:
    """Where things are on this machine; no part of a configuration."""

    root: Path
    data_root: Path | None = None
    download: bool = False

    @property
    def teachers(self) -> TeacherStore:
        """The teachers below the root."""
        return TeacherStore(self.root / "teachers", bucket_of(self.root))

    @property
    def teacher_cache(self) -> Path:
        """Folder of teacher caches: below the root, or where ``ICD_TEACHER_CACHE`` says, such as a fast local disk."""
        return Path(os.environ.get("ICD_TEACHER_CACHE") or self.root / "teacher_cache")

    def trial(self, name: str) -> Path:
        """Folder of a single trial."""
        return self.root / "trials" / name


def read_data(config: TrialConfig, places: TrialFolders) -> tuple[TrialConfig, Split]:
    """Read the images a configuration names; their digest becomes part of it.

    Raises:
        DataError: If they are missing or broken.
        StateError: If the configuration already names another digest.
        ConfigError: If the method does not suit the number of classes, or the views the size of the images.
    """
    data = config.data
    split = load_dataset(
        data.name,
        root=places.data_root,
        path=data.path,
        val_fraction=data.val_fraction,
        split_seed=data.split_seed,
        download=places.download,
        **dict(data.options),
    )
    digest = f"{split.digest}:{split.split_digest}"
    if data.digest is not None and data.digest != digest:
        raise StateError(
            f"data set {data.name} has changed: digest {digest[:16]}, but the configuration says {data.digest[:16]}"
        )
    problems = [
        Problem(rule=rule, path="method.base_loss", value=value, has_value=True)
        for rule, value in class_problems(config.method, split.num_classes)
    ]
    problems += views_problems(config, split)
    if problems:
        raise ConfigError(problems)
    return replace(config, data=replace(data, digest=digest)), split


def views_problems(config: TrialConfig, split: Split) -> list[Problem]:
    """Compare the views of student and teacher with the size of images held in memory, known only now for some."""
    if not isinstance(split.train, ArrayImages):
        return []
    protocols = {"training": config.training, "teacher.training": config.teacher.training if config.teacher else None}
    side = split.train.images_NCHW.shape[-1]
    found = {
        path: views_problem(split.name, training.augmentation, side) for path, training in protocols.items() if training
    }
    return [replace(problem, path=f"{path}.augmentation") for path, problem in found.items() if problem]


def run_trial(
    config: TrialConfig,
    name: str,
    places: TrialFolders,
    execution: Execution,
    *,
    resume: bool = False,
    open_test: bool = False,
    teacher_cache: CacheMode = "auto",
    teacher_cache_gb: float = BUDGET_GB,
    announce: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Train one configuration in its folder, or give the result it already has.

    Args:
        config: What to train.
        name: Folder below ``root/trials``.
        places: Root and data.
        execution: Device and callbacks; its checkpoint folder and report are replaced by the trial's own.
        resume: Continue a trial that was cut off.
        open_test: Measure the last epoch on the test set, once, and say so in the folder.
        teacher_cache: What is kept of the teacher's answers.
        teacher_cache_gb: What its cache may take on disk.
        announce: Told what happens, in a line.

    Raises:
        StateError: If the folder holds another configuration, or an unfinished trial and ``resume`` is off.
        Interrupted: If ``execution.stop`` ended the training; it can be resumed.
    """
    folder = places.trial(name)
    config, read = read_data(config, places)
    split = for_trial(read, config.data.train_on, config.data.measure_on, f"icd train {name}")
    for note in read.notes:
        announce(f"note: {note}")
    announce(
        f"data {split.name}: {len(split.train)} {config.data.train_on} images to train on, "
        f"{len(split.val)} {config.data.measure_on} images to measure on, {split.num_classes} classes"
    )
    config = _settle(config, folder, split, execution, announce)
    teacher = prepare(config, read, places.teachers, execution, announce)
    if teacher is not None and config.teacher is not None:
        config = replace(config, teacher=replace(config.teacher, digest=teacher.digest))
        announce(f"teacher {teacher.summary}")
    network = teacher.network if teacher else None
    with alone_in(folder, execution, announce):
        claim(folder, config, resume=resume)
        if (folder / "result.json").exists():
            announce(f"{folder} is finished; nothing to train")
        elif execution.stop():
            raise Interrupted("stopped before the student's next epoch; continue with --resume")
        with open_teacher_cache(
            config, split, network, places, teacher_cache, teacher_cache_gb, alone=True, announce=announce
        ) as answers:
            result = continue_trial(config, split, network, folder, replace(execution, cache=answers))
        if open_test and "test" not in result:
            result["test"] = _look_at_test(config, read, folder, execution, name)
            content = (json.dumps(result, indent=1) + "\n").encode()
            checkpoints.write_durably(folder / "result.json", content)
    return result


def _settle(
    config: TrialConfig, folder: Path, split: Split, execution: Execution, announce: Callable[[str], None]
) -> TrialConfig:
    """Choose what the training leaves open; a trial that was begun goes on as it began."""
    if config.training.is_settled:
        return config
    if (folder / "config.yaml").exists():
        training = yaml.safe_load((folder / "config.yaml").read_text())["training"]
        return settled(config, (training["precision"], training["channels_last"]))
    choice, seconds = choose(config, split, execution)
    announce(described(config, choice, seconds))
    return settled(config, choice)


@contextmanager
def open_teacher_cache(
    config: TrialConfig,
    split: Split,
    teacher: Network | None,
    places: TrialFolders,
    mode: CacheMode,
    budget_gb: float,
    *,
    alone: bool = False,
    announce: Callable[[str], None] = lambda text: None,
    shared: OpenBlocks | None = None,
) -> Iterator[TeacherCache | None]:
    """Plan and open a trial's teacher cache, None where the teacher runs live; it is closed at the end."""
    plan = plan_cache([config], split, mode, folder=places.teacher_cache, budget_gb=budget_gb, alone=alone)
    cache = open_cache(plan, config, teacher, places.teacher_cache, shared)
    if config.teacher is not None:
        announce(summary(plan, cache))
    try:
        yield cache
    finally:
        if cache is not None:
            cache.close()


def continue_trial(
    config: TrialConfig,
    split: Split,
    teacher: Network | None,
    folder: Path,
    execution: Execution,
    *,
    begun: "Begun | None" = None,
    finishing: Callable[[Network, list[dict[str, Any]]], None] = lambda student, rows: None,
) -> dict[str, Any]:
    """Train what is left of a trial in its folder and write its result, or give the result it has.

    Args:
        config: What to train, digests included; the folder is already its own (``claim``).
        split: Images.
        teacher: The teacher's network, for methods that need one.
        folder: The trial's folder.
        execution: As for ``run_trial``.
        begun: What the folder holds, where it was read already.
        finishing: Called with the trained student and all rows of metrics before the result is written.
    """
    result_path = folder / "result.json"
    if result_path.exists():
        return dict(json.loads(result_path.read_text()))
    result = _train(config, split, teacher, folder, execution, begun or take_up(folder), finishing)
    checkpoints.write_durably(result_path, (json.dumps(result, indent=1) + "\n").encode())
    return result


def claim(folder: Path, config: TrialConfig, *, resume: bool) -> None:
    """Make the folder this configuration's.

    Raises:
        StateError: If it is another configuration's, or holds an unfinished trial and ``resume`` is off.
    """
    name, path = folder.name, folder / "config.yaml"
    if not path.exists():
        (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
        text = f"# key {config.key()}\n" + yaml.safe_dump(config.to_data(), sort_keys=False)
        checkpoints.write_durably(path, text.encode())
        return
    text = path.read_text()
    if text.splitlines()[:1] != [f"# key {config.key()}"]:
        changed = differences(yaml.safe_load(text), config.to_data()) or ["nothing that the file shows"]
        raise StateError(f"trial {name!r} has another configuration; use --name or undo: " + "; ".join(changed))
    begun = any((folder / "checkpoints").glob("epoch-*.ckpt"))
    if begun and not resume and not (folder / "result.json").exists():
        raise StateError(f"trial {name!r} was begun and not finished: add --resume to continue, or --name for another")


def _train(
    config: TrialConfig,
    split: Split,
    teacher: Network | None,
    folder: Path,
    execution: Execution,
    begun: "Begun",
    finishing: Callable[[Network, list[dict[str, Any]]], None],
) -> dict[str, Any]:
    metrics_path, rows = folder / "metrics.jsonl", list(begun.rows)

    def report(metrics: EpochMetrics) -> None:
        rows.append({"epoch": metrics.epoch, **metrics.values})
        _append(metrics_path, rows[-1])
        execution.report(metrics)

    here = replace(execution, checkpoints=folder / "checkpoints", report=report)
    trained = train(config, split, teacher, here, begun.newest)
    if not trained.finished:
        epochs = config.training.epochs
        raise Interrupted(f"stopped after epoch {trained.epoch} of {epochs}; continue with --resume")
    finishing(trained.network, rows)
    digest = write_student(folder, trained.network.state_dict(), config.key())
    if trained.fingerprint is not None:
        text = json.dumps(trained.fingerprint.to_data()) + "\n"
        checkpoints.write_durably(folder / "fingerprint.json", text.encode())
    measured = config.data.measure_on
    best = max(rows, key=lambda row: row[f"{measured}/top1"])
    return {
        "key": config.key(),
        "epochs": config.training.epochs,
        "seed": config.seed,
        measured: {
            name.removeprefix(f"{measured}/"): value
            for name, value in rows[-1].items()
            if name.startswith(f"{measured}/")
        },
        "best_epoch": {"epoch": best["epoch"], "top1": best[f"{measured}/top1"], "note": "shown, never ranked"},
        "train_loss": rows[-1]["train/loss"],
        "parameters": sum(weight.numel() for weight in trained.network.parameters()),
        "minutes": training_seconds(rows) / 60,
        "student_sha256": digest,
        "data_digest": config.data.digest,
        "teacher_digest": config.teacher.digest if config.teacher else None,
        "versions": versions(),
        "device": device_name(execution.device),
        "engine": trained.engine,
    }


def fingerprint_of(folder: Path) -> Fingerprint | None:
    """Read how a finished trial began; None where it began with a version that did not note it.

    Raises:
        CheckpointError: If the file is damaged.
    """
    path = folder / "fingerprint.json"
    if not path.exists():
        return None
    try:
        data = json.loads(path.read_text())
        return Fingerprint(**{**data, "losses": tuple(data["losses"])})
    except (ValueError, TypeError, KeyError) as error:
        raise CheckpointError(f"{path} must hold the losses of the first steps, but is damaged: {error}") from error


def stored_rows(folder: Path) -> list[dict[str, Any]]:
    """Read a trial's metrics, one row per reported epoch; each epoch's checkpoint was durable first."""
    return _rows(folder / "metrics.jsonl")


def training_seconds(rows: Sequence[Mapping[str, Any]]) -> float:
    """Add up what all epochs took; those between two reports count like the later report's."""
    before = [0, *(row["epoch"] for row in rows)]
    return float(sum(row["seconds/epoch"] * (row["epoch"] - last) for last, row in zip(before, rows, strict=False)))


class Begun(NamedTuple):
    """What a trial's folder holds of its training.

    Attributes:
        rows: Metrics of the epochs up to the newest checkpoint.
        newest: That checkpoint, as ``train`` continues from it; its content is taken out there.
    """

    rows: list[dict[str, Any]]
    newest: checkpoints.Checkpoint | None


def take_up(folder: Path) -> Begun:
    """Read the newest checkpoint and bring the metrics file in step with it, nothing lost, nothing twice."""
    path = folder / "metrics.jsonl"
    found = checkpoints.newest(folder / "checkpoints")
    epoch = found.epoch if found else 0
    rows = [row for row in _rows(path) if row["epoch"] <= epoch]
    if found and found.payload["reported"] and not any(row["epoch"] == epoch for row in rows):
        rows.append({"epoch": epoch, **found.payload["metrics"]})
    if path.exists() or rows:
        checkpoints.write_durably(path, "".join(json.dumps(row) + "\n" for row in rows).encode())
    return Begun(rows, found)


def _rows(path: Path) -> list[dict[str, Any]]:
    rows = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            rows.append(json.loads(line))
        except ValueError:
            break  # a kill in the middle of the last line; its epoch comes back from the checkpoint
    return rows


def _append(path: Path, row: Mapping[str, Any]) -> None:
    with path.open("a") as file:
        file.write(json.dumps(row) + "\n")
        file.flush()
        os.fsync(file.fileno())


def _look_at_test(config: TrialConfig, split: Split, folder: Path, execution: Execution, name: str) -> dict[str, float]:
    purpose = f"icd train --test {name}"
    _append(folder / "test_looks.jsonl", {"purpose": purpose, "time": time.time(), "key": config.key()})
    images = split.test.open(purpose)
    state = read_student(folder, config.key())
    student = fitted(state, config.student.arch, config.student.stem, split.num_classes, source=str(folder)).eval()
    student.to(execution.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return evaluate(student, evaluation_batches(config, split, images, execution))
