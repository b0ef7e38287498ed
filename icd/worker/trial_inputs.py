"""What a trial needs before its first step: folders, images, and the cache that stands for its teacher."""

import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from icd.config.checks import class_problems
from icd.config.trial import TrialConfig
from icd.data import DATASETS, Request, views_problem
from icd.data.images import ArrayImages
from icd.data.split import Split
from icd.errors import ConfigError, Problem, StateError
from icd.models import Network
from icd.search.core.preparation import PreflightRequest
from icd.storage.bucket import bucket_of, local_root
from icd.teacher.cache import TeacherCache, open_cache, summary
from icd.teacher.cache_plan import BUDGET_GB, CacheMode, plan_cache
from icd.teacher.store import TeacherStore


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
