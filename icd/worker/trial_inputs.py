"""What a trial needs before its first step: folders, images, its teacher, and the cache that stands for it.

A worker process keeps the images and the teacher for the trials that come after.
"""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from icd.config.checks import class_problems
from icd.config.trial import TrialConfig
from icd.data import DATASETS, Request, views_problem
from icd.data.images import ArrayImages, telling
from icd.data.split import Split, for_trial
from icd.errors import ConfigError, Problem, StateError
from icd.models import Network
from icd.search.core.preparation import PreflightRequest
from icd.storage.bucket import bucket_of, local_root
from icd.teacher.cache import TeacherCache, open_cache, summary
from icd.teacher.cache_plan import BUDGET_GB, CacheMode, plan_cache
from icd.teacher.store import TeacherStore, prepare
from icd.training.loop import Execution, to_device


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialFolders:
    """Where things are on this machine; no part of a configuration."""

    root: Path
    data_root: Path | None = None
    download: bool = False

    @classmethod
    def of(cls, request: PreflightRequest) -> "TrialFolders":
        """Give those of a sweep that is made ready."""
        data_root = Path(request.data_root) if request.data_root else None
        return cls(root=local_root(request.bucket or request.root), data_root=data_root, download=request.download)

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


def read_data(config: TrialConfig, folders: TrialFolders) -> tuple[TrialConfig, Split]:
    """Read the images a configuration names; their digest becomes part of it.

    Raises:
        DataError: If they are missing or broken.
        StateError: If the configuration already names another digest.
        ConfigError: If the method does not suit the number of classes, or the views the size of the images.
    """
    data = config.data
    split = DATASETS[data.name].load(_request(config, folders), **dict(data.options))
    digest = f"{split.digest}:{split.split_digest}"
    if data.digest is not None and data.digest != digest:
        raise StateError(
            f"data set {data.name} has changed: digest {digest[:16]}, but the configuration says {data.digest[:16]}"
        )
    problems = [
        Problem(rule=rule, path=".".join(map(str, path[:2])), value=value)
        for path, rule, value in class_problems(config.method, split.num_classes)
    ]
    problems += views_problems(config, split)
    if problems:
        raise ConfigError(problems)
    return replace(config, data=replace(data, digest=digest)), split


def look_for_data(config: TrialConfig, folders: TrialFolders) -> None:
    """See whether the files of a configuration's images are there, without reading them.

    Raises:
        DataError: If they are plainly not there.
    """
    DATASETS[config.data.name].look(_request(config, folders))


def _request(config: TrialConfig, folders: TrialFolders) -> Request:
    data = config.data
    return Request(
        root=folders.data_root,
        path=data.path,
        val_fraction=data.val_fraction,
        split_seed=data.split_seed,
        download=folders.download,
    )


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


@contextmanager
def open_teacher_cache(
    config: TrialConfig,
    split: Split,
    teacher: Network | None,
    folders: TrialFolders,
    mode: CacheMode,
    budget_gb: float = BUDGET_GB,
    *,
    alone: bool = False,
    announce: Callable[[str], None] = lambda text: None,
) -> Iterator[TeacherCache | None]:
    """Plan and open a trial's teacher cache, None where the teacher runs live; it is closed at the end.

    A sweep's preflight has chosen the mode of its trials and kept to the budget.
    """
    folder = folders.teacher_cache
    plan = plan_cache([config], split, mode, folder=folder, budget_gb=budget_gb, chosen=not alone)
    cache = open_cache(plan, config, teacher, folder)
    if config.teacher is not None:
        announce(summary(plan, cache))
    with closing(cache) if cache is not None else nullcontext():
        yield cache


class SharedInputs:
    """The last images and the last teacher, on the trials' device; nothing that was given out is changed afterwards."""

    def __init__(self) -> None:
        self._split: tuple[str, Split] | None = None
        self._teacher: tuple[str, Network] | None = None

    def split(self, config: TrialConfig, folders: TrialFolders, execution: Execution) -> Split:
        """Give a configuration's images; those to train on lie on the device."""
        wanted = json.dumps(config.to_data()["data"], sort_keys=True)
        if self._split is None or self._split[0] != wanted:
            data = config.data
            with telling(partial(execution.progress, 0, 0, 1)):
                read = read_data(config, folders)[1]
                split = for_trial(read, data.train_on, data.measure_on, "a sweep's trials")
            self._split = (wanted, replace(split, train=split.train.to(execution.device)))
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
