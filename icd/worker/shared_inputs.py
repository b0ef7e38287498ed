"""What one worker process keeps for its trials, one after another and side by side: read once, shared by all."""

import json
import threading
import weakref
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
    """Images and the teacher, by their digests, on the trials' device.

    Every trial may ask from a thread of its own; nothing that was given out is changed afterwards.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()  # whoever comes second waits for what the first one reads
        self._split: tuple[str, Split] | None = None
        self._last: Network | None = None
        self._teachers: weakref.WeakValueDictionary[str, Network] = weakref.WeakValueDictionary()

    def split(self, config: TrialConfig, places: TrialFolders, device: torch.device) -> Split:
        """Give a configuration's images, read once; those to train on lie on the device."""
        wanted = json.dumps(config.to_data()["data"], sort_keys=True)
        with self._lock:
            if self._split is None or self._split[0] != wanted:
                data = config.data
                split = for_trial(read_data(config, places)[1], data.train_on, data.measure_on, "a sweep's trials")
                self._split = (wanted, replace(split, train=split.train.to(device)))
                _settle(device)
            return self._split[1]

    def teacher(self, config: TrialConfig, split: Split, places: TrialFolders, execution: Execution) -> Network | None:
        """Give a configuration's teacher, loaded once; the last one is kept, others while trials have them."""
        if config.teacher is None:
            return None
        wanted = json.dumps([config.to_data()["teacher"], config.training.channels_last], sort_keys=True)
        with self._lock:
            network = self._teachers.get(wanted)
            if network is None:
                _check_known(config, places)
                ready = prepare(config, split, places.teachers, execution)
                if ready is None:
                    raise StateError("a configuration with a teacher has one to prepare")
                network = to_device(ready.network, config, execution.device).eval().requires_grad_(False)
                self._teachers[wanted] = network
                _settle(execution.device)
            self._last = network
            return network


def _check_known(config: TrialConfig, places: TrialFolders) -> None:
    """A teacher may be trained here where the store lost it, but never on what a confirmation trains on."""
    teacher = config.teacher
    if teacher is None or teacher.weights != "train" or not config.data.parts:
        return
    if teacher.digest is None or places.teachers.with_digest(teacher.digest) is None:
        known = f"teacher {teacher.digest[:12]}" if teacher.digest else f"the teacher {teacher.arch}"
        raise StateError(f"{known} is not in the store, and no teacher is trained on what a confirmation trains on")


def _settle(device: torch.device) -> None:
    """Wait for what this thread's stream copies: the other threads have streams of their own."""
    if device.type == "cuda":
        torch.cuda.current_stream(device).synchronize()
