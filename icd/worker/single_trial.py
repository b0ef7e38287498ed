"""One trial by itself, as ``icd train`` runs it: images, teacher, training, and test images where asked for."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from icd.config.trial import TrialConfig, settled
from icd.data.split import Split, for_trial
from icd.errors import ConfigError, Interrupted, Problem
from icd.storage.folder_lock import alone_in
from icd.teacher.cache_plan import BUDGET_GB, CacheMode
from icd.teacher.store import fitted, prepare
from icd.training.evaluation import evaluate
from icd.training.kernels import kernels
from icd.training.loop import Execution, evaluation_batches, to_device
from icd.training.student_file import read_student
from icd.worker.autotune import choose, described
from icd.worker.base_losses import try_base_losses
from icd.worker.trial_folder import claim, continue_trial, write_json
from icd.worker.trial_inputs import TrialFolders, open_teacher_cache, read_data
from icd.worker.trial_metrics import append_row


def run_trial(
    config: TrialConfig,
    name: str,
    folders: TrialFolders,
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
        folders: Root and data.
        execution: Device and callbacks; its checkpoint folder and report are replaced by the trial's own.
        resume: Continue a trial that was cut off.
        open_test: Measure the last epoch on the test set, once, and say so in the folder; a configuration that is
            measured on test images throughout needs it.
        teacher_cache: What is kept of the teacher's answers.
        teacher_cache_gb: What its cache may take on disk.
        announce: Told what happens, in a line.

    Raises:
        ConfigError: If the configuration is measured on test images and ``open_test`` is off.
        StateError: If the folder holds another configuration, or an unfinished trial and ``resume`` is off.
        Interrupted: If ``execution.stop`` ended the training; it can be resumed.
    """
    folder, purpose = folders.trial(name), _purpose(config, name, open_test=open_test)
    config, read = read_data(config, folders)
    split = for_trial(read, config.data.train_on, config.data.measure_on, purpose)
    for note in read.notes:
        announce(f"note: {note}")
    announce(
        f"data {split.name}: {len(split.train)} {config.data.train_on} images to train on, "
        f"{len(split.val)} {config.data.measure_on} images to measure on, {split.num_classes} classes"
    )
    try_base_losses([config], split.num_classes, execution.device)
    config = _settle(config, folder, split, execution, announce)
    teacher = prepare(config, read, folders.teachers, execution, announce)
    if teacher is not None and config.teacher is not None:
        config = replace(config, teacher=replace(config.teacher, digest=teacher.digest))
        announce(f"teacher {teacher.summary}")
    network = teacher.network if teacher else None
    with alone_in(folder, announce, execution.stop, lambda: execution.progress(0, 0, 1)):
        claim(folder, config, resume=resume)
        if (folder / "result.json").exists():
            announce(f"{folder} is finished; nothing to train")
        elif execution.stop():
            raise Interrupted("stopped before the student's next epoch; continue with --resume")
        elif config.data.measure_on == "test":
            _note_look(folder, config, purpose)
        with open_teacher_cache(
            config, split, network, folders, teacher_cache, teacher_cache_gb, alone=True, announce=announce
        ) as answers:
            result = continue_trial(config, split, network, folder, replace(execution, cache=answers))
        if open_test and "test" not in result:
            result["test"] = _look_at_test(config, read, folder, execution, purpose)
            write_json(folder / "result.json", result, indent=1)
    return result


def _purpose(config: TrialConfig, name: str, *, open_test: bool) -> str:
    """Say what the images are for; test images are for nothing that does not ask for them."""
    if config.data.measure_on == "test" and not open_test:
        rule = "must be val without --test, because its epochs are measured on test images"
        hint = "add --test, or --set data.measure_on=val --set data.train_on=train"
        raise ConfigError(Problem(path="data.measure_on", rule=rule, value="test", hint=hint))
    return f"icd train {'--test ' if open_test else ''}{name}"


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


def _note_look(folder: Path, config: TrialConfig, purpose: str) -> None:
    append_row(folder / "test_looks.jsonl", {"purpose": purpose, "time": time.time(), "key": config.key()})


def _look_at_test(
    config: TrialConfig, split: Split, folder: Path, execution: Execution, purpose: str
) -> dict[str, float]:
    _note_look(folder, config, purpose)
    images = split.test.open(purpose)
    state = read_student(folder, config.key())
    student = fitted(state, config.student.arch, config.student.stem, split.num_classes, source=str(folder)).eval()
    with kernels(execution.device, str(config.training.precision)):  # as the validation images were
        student = to_device(student, config, execution.device)
        return evaluate(student, evaluation_batches(config, split, images, execution))
