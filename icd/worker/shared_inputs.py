"""What a worker process keeps for its trials, one after another: images and the teacher, read once."""

import json
from dataclasses import replace

import torch

from icd.config.trial import TrialConfig
from icd.data.split import Split, for_trial
from icd.errors import StateError
from icd.models import Network
from icd.teacher.store import prepare
from icd.training.loop import Execution, to_device
from icd.worker.trial_inputs import TrialFolders, read_data


class SharedInputs:
    """The last images and the last teacher, on the trials' device; nothing that was given out is changed afterwards."""

    def __init__(self) -> None:
        self._split: tuple[str, Split] | None = None
        self._teacher: tuple[str, Network] | None = None

    def split(self, config: TrialConfig, folders: TrialFolders, device: torch.device) -> Split:
        """Give a configuration's images; those to train on lie on the device."""
        wanted = json.dumps(config.to_data()["data"], sort_keys=True)
        if self._split is None or self._split[0] != wanted:
            data = config.data
            split = for_trial(read_data(config, folders)[1], data.train_on, data.measure_on, "a sweep's trials")
            self._split = (wanted, replace(split, train=split.train.to(device)))
        return self._split[1]

    def teacher(self, config: TrialConfig, split: Split, folders: TrialFolders, execution: Execution) -> Network | None:
        """Give a configuration's teacher."""
        if config.teacher is None:
            return None
        wanted = json.dumps([config.to_data()["teacher"], config.training.channels_last], sort_keys=True)
        if self._teacher is None or self._teacher[0] != wanted:
            self._teacher = None  # one at a time has to fit
            _check_known(config, folders)
            ready = prepare(config, split, folders.teachers, execution)
            assert ready is not None  # the configuration has one
            network = to_device(ready.network, config, execution.device).eval().requires_grad_(False)
            self._teacher = (wanted, network)
        return self._teacher[1]


def _check_known(config: TrialConfig, folders: TrialFolders) -> None:
    """A teacher may be trained here where the store lost it, but never on what a confirmation trains on."""
    teacher = config.teacher
    if teacher is None or teacher.weights != "train" or not config.data.parts:
        return
    if teacher.digest is None or folders.teachers.known("digest", teacher.digest) is None:
        known = f"teacher {teacher.digest[:12]}" if teacher.digest else f"the teacher {teacher.arch}"
        raise StateError(f"{known} is not in the store, and no teacher is trained on what a confirmation trains on")
