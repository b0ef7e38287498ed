"""What a sweep needs before it starts, asked of a worker and answered by it; plain values that travel as JSON."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from icd.config.sweep import Engine
from icd.config.trial import TrialConfig, settled, student_name
from icd.errors import ConfigError, Problem, StateError
from icd.search.core.pair_runs import PairRun
from icd.teacher.cache_plan import BUDGET_GB, CacheMode


@dataclass(frozen=True, slots=True, kw_only=True)
class PreflightRequest:
    """A request."""

    configs: Sequence[Mapping[str, Any]]  # trial documents: baselines, and both ends of every range of the space
    root: str  # folder of results
    trials: int = 0  # how many lie between ``configs`` at most; 0 where those are all
    ranges: Mapping[str, Sequence[float]] = field(default_factory=dict)  # what they may have that a cache depends on
    data_root: str | None = None  # folder of data sets
    download: bool = False  # whether data may be fetched
    probe: bool = True  # whether to compute every configuration's losses once
    measure: bool = False  # whether to time a few steps of each student and teacher pair
    threads: int = 0  # of torch; 0 leaves them alone
    teacher_cache: CacheMode = "auto"  # what the user asked to be kept of teachers' answers
    teacher_cache_gb: float = BUDGET_GB  # what they may take on disk
    # what was chosen before, by teacher; it stands unless the user asks for something else
    teacher_caches: Mapping[str, CacheMode] = field(default_factory=dict)
    # what was chosen before, by student, where the training leaves it open
    tuned: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    bucket: str = ""  # URL of the root, where that is a bucket; ``root`` is then the asking machine's copy
    engine: Engine = "auto"  # asked for, for the steps
    sweep: str = ""  # its name
    # what the study was begun with, as in ``PreflightResult``; empty where it is not begun
    data_digest: str = ""
    test_digest: str = ""
    teachers: Mapping[str, str] = field(default_factory=dict)

    def refuse_changed(self, data_digest: str, teachers: Mapping[str, str], test_digest: str = "") -> None:
        """Refuse to go on with other images or teachers than the study was begun with; empty is not known yet.

        Raises:
            StateError: With what changed.
        """
        name, pairs = self.sweep, ((self.data_digest, data_digest), (self.test_digest, test_digest))
        changed = [
            f"{what} (digest {before[:12]}, now {now[:12]})"
            for what, (before, now) in zip(("the images or their split", "the test images"), pairs, strict=True)
            if before and now and before != now
        ]
        changed += [f"teacher {own}" for own, digest in teachers.items() if self.teachers.get(own, digest) != digest]
        if changed:
            raise StateError(
                f"sweep {name!r} cannot go on, since its trials would not be comparable: {'; '.join(changed)} changed; "
                f"put back what it was begun with, or begin another sweep: icd sweep FILE --name {name}-2, whose file "
                f"may take over the best settings with enqueue: {{from: {name}}}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class PreflightResult:
    """What was found."""

    data_digest: str  # of the images and the split
    test_digest: str = ""  # of the test images, where they are measured
    test_images: int = 0  # how many they are
    teachers: Mapping[str, str]  # digest by the teacher's plain document (JSON, sorted keys)
    data: str = ""  # one line about the images
    num_classes: int = 0  # for chance level
    teacher_lines: Sequence[str] = ()  # one line about each
    gpus: int = 0  # CUDA devices
    device: str = ""  # name of the device
    # for each student and teacher, seconds per step and so on
    paces: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    # what is kept of each teacher's answers, by the same names as ``teachers``
    teacher_caches: Mapping[str, str] = field(default_factory=dict)
    # precision and layout of each student whose training leaves them open (``student_name``)
    tuned: Mapping[str, Sequence[Any]] = field(default_factory=dict)

    def pinned(self, runs: Sequence[PairRun]) -> tuple[PairRun, ...]:
        """Give the same runs with what is ready written into their configurations.

        Raises:
            ConfigError: For a student or a teacher that was not prepared.
        """
        return tuple(replace(run, config=self.pin(run.config)) for run in runs)

    def pin(self, config: TrialConfig) -> TrialConfig:
        """Write the digests into a configuration, and what was left open."""
        if not config.training.is_settled:
            if (choice := self.tuned.get(student_name(config))) is None:
                rule = "precision and channels_last must be given where student or views are not those of the sweep"
                raise ConfigError(Problem(path="training", rule=rule))
            config = settled(config, choice)
        data = replace(config.data, digest=self.data_digest)
        if config.teacher is None:
            return replace(config, data=data)
        if (digest := self.teachers.get(teacher_name(config))) is None:
            raise ConfigError(Problem(path="teacher", rule="must be a teacher that was made ready for the sweep"))
        return replace(config, data=data, teacher=replace(config.teacher, digest=digest))


def teacher_name(config: TrialConfig) -> str:
    """Write a configuration's teacher as a key, without its digest."""
    teacher = config.to_data().get("teacher", {})
    return json.dumps({name: value for name, value in teacher.items() if name != "digest"}, sort_keys=True)
