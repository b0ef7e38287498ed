"""What must be true before a sweep starts: images read, teachers trained, every end of the space tried.

Runs in a worker, where the devices are; everything it learns goes back as plain values.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from icd.config.engine import Engine
from icd.config.read_trial import notes_of, read_trial
from icd.config.trial import TrialConfig
from icd.config.yaml import Document
from icd.data.split import Split, for_training
from icd.errors import ConfigError
from icd.methods import CrossEntropy
from icd.models import Network
from icd.storage.bucket import local_root
from icd.teacher.cache import BUDGET_GB, CacheMode, CachePlan, plan_cache, suits, summary
from icd.teacher.store import prepare
from icd.training.autotune import choose, described, settled, student_name
from icd.training.gpus import training_device
from icd.training.hardware import device_name
from icd.training.loop import EpochMetrics, Execution
from icd.training.trial_folder import TrialFolders, read_data, views_problems
from icd.training.trial_probe import Probe, measure_pace


@dataclass(frozen=True, slots=True, kw_only=True)
class PreflightRequest:
    """A request.

    Attributes:
        configs: Trial documents: baselines, and both ends of every range of the space.
        root: Folder of results.
        data_root: Folder of data sets.
        download: Whether data may be fetched.
        probe: Whether to compute every configuration's losses once.
        measure: Whether to time a few steps of each student and teacher pair.
        threads: Of torch; 0 leaves them alone.
        teacher_cache: What the user asked to be kept of teachers' answers.
        teacher_cache_gb: What they may take on disk.
        teacher_caches: What was chosen before, by teacher; it stands unless the user asks for something else.
        tuned: What was chosen before, by student, where the training leaves it open.
        bucket: URL of the root, where that is a bucket; ``root`` is then the asking machine's copy.
        engine: Asked for, for the steps.
    """

    configs: Sequence[Mapping[str, Any]]
    root: str
    data_root: str | None = None
    download: bool = False
    probe: bool = True
    measure: bool = False
    threads: int = 0
    teacher_cache: CacheMode = "auto"
    teacher_cache_gb: float = BUDGET_GB
    teacher_caches: Mapping[str, CacheMode] = field(default_factory=dict)
    tuned: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    bucket: str = ""
    engine: Engine = "auto"


@dataclass(frozen=True, slots=True, kw_only=True)
class PreflightResult:
    """What was found.

    Attributes:
        data_digest: Of the images and the split.
        data: One line about them.
        num_classes: For chance level.
        teachers: Digest by the teacher's plain document (JSON, sorted keys).
        teacher_lines: One line about each.
        probed: Configurations whose losses were computed.
        gpus: CUDA devices.
        device: Name of the device.
        paces: For each student and teacher, seconds per step and so on.
        teacher_caches: What is kept of each teacher's answers, by the same names as ``teachers``.
        tuned: Precision and layout of each student whose training leaves them open (``autotune.student_name``).
    """

    data_digest: str
    data: str
    num_classes: int
    teachers: Mapping[str, str]
    teacher_lines: Sequence[str]
    probed: int
    gpus: int
    device: str
    paces: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    teacher_caches: Mapping[str, str] = field(default_factory=dict)
    tuned: Mapping[str, Sequence[Any]] = field(default_factory=dict)

    def pin(self, config: TrialConfig) -> TrialConfig:
        """Write the digests into a configuration, and what was left open."""
        if not config.training.is_settled:
            config = settled(config, self.tuned[student_name(config)])
        data = replace(config.data, digest=self.data_digest)
        if config.teacher is None:
            return replace(config, data=data)
        teacher = replace(config.teacher, digest=self.teachers[teacher_name(config)])
        return replace(config, data=data, teacher=teacher)


def teacher_name(config: TrialConfig) -> str:
    """Write a configuration's teacher as a key, without its digest."""
    document = dict(config.to_data().get("teacher", {}))
    document.pop("digest", None)
    return json.dumps(document, sort_keys=True)


def run_preflight(
    request: PreflightRequest,
    say: Callable[[str], None],
    stop: Callable[[], bool],
    alive: Callable[[int, int, int], None],
) -> PreflightResult:
    """Read the data, train teachers that are missing, and try the configurations.

    Args:
        request: What to do.
        say: Told each step in a line.
        stop: Asked after every epoch of a teacher's training.
        alive: Called after every step.

    Raises:
        IcdError: Whatever is wrong, before a trial has started.
    """
    if request.threads:
        torch.set_num_threads(request.threads)
    device = training_device()
    places = TrialFolders(
        root=local_root(request.bucket or request.root),
        data_root=Path(request.data_root) if request.data_root else None,
        download=request.download,
    )

    def report(metrics: EpochMetrics) -> None:
        say(f"teacher epoch {metrics.epoch}: val top-1 {metrics.values['val/top1']:.2f} %")

    execution = Execution(
        device=device, num_workers=request.threads, report=report, progress=alive, stop=stop, engine=request.engine
    )
    configs = [
        read_trial(Document(dict(config), f"configuration {place}")) for place, config in enumerate(request.configs)
    ]
    first, split = read_data(configs[0], places)
    problems = {str(problem): problem for config in configs for problem in views_problems(config, split)}
    if problems:
        raise ConfigError(problems.values())
    data = (
        f"{split.name}: {len(split.train)} training and {len(split.val)} validation images, {split.num_classes} classes"
    )
    say(f"data {data}")
    for line in notes_of(configs, split.num_classes) if request.probe else ():  # said once, when a sweep begins
        say(f"note: {line}")
    for note in split.notes:
        say(f"note: {note}")
    digest = first.data.digest or ""
    networks: dict[str, Network] = {}
    digests, lines = {}, []
    for config in configs:
        name = teacher_name(config)
        if config.teacher is None or name in networks:
            continue
        pinned = replace(config, data=replace(config.data, digest=digest))
        ready = prepare(pinned, split, places.teachers, execution, say)
        if ready is not None:
            networks[name], digests[name] = ready.network.to(device), ready.digest
            lines.append(ready.summary)
            say(f"teacher {ready.summary}")
    teacher_caches = {}
    for name, teacher_digest in digests.items():
        shown = for_training(split, first.data.train_on)
        plan = _cache_plan(request, configs, name, digest, teacher_digest, shown, places)
        teacher_caches[name] = plan.mode
        say(summary(plan))
    tuned = _tune(request, configs, split, execution, say)
    configs = [settled(config, tuned.get(student_name(config), _given(config))) for config in configs]
    quiet = replace(execution, report=lambda metrics: None)
    probe = Probe(split, quiet)
    tried = list({replace(config, seed=0).key(): config for config in configs}.values()) if request.probe else []
    for config in tried:  # another seed breaks nothing
        probe(config, networks.get(teacher_name(config)))
    paces = {}
    for config in configs if request.measure else ():
        pair = f"{config.teacher.arch if config.teacher else 'none'}>{config.student.arch}"
        if pair not in paces:
            name = teacher_name(config)
            if teacher_caches.get(name, "off") != "off" and suits(config):
                # As a trial with a full cache runs: no teacher, and any loss costs about what cross entropy does.
                timed, teacher = replace(config, method=CrossEntropy(), teacher=None), None
            else:
                timed, teacher = config, networks.get(name)
            pace = measure_pace(timed, split, teacher, replace(quiet, progress=lambda *_: None))
            paces[pair] = {**pace._asdict(), "epoch_seconds": pace.epoch_seconds}
    return PreflightResult(
        data_digest=digest,
        data=data,
        num_classes=split.num_classes,
        teachers=digests,
        teacher_lines=lines,
        probed=len(tried),
        gpus=torch.cuda.device_count() if device.type == "cuda" else 0,
        device=device_name(device),
        paces=paces,
        teacher_caches=teacher_caches,
        tuned=tuned,
    )


def _tune(
    request: PreflightRequest,
    configs: Sequence[TrialConfig],
    split: Split,
    execution: Execution,
    say: Callable[[str], None],
) -> dict[str, Sequence[Any]]:
    """Choose what the students' protocols leave open, each once and for the whole sweep."""
    tuned = dict(request.tuned)
    for config in configs:
        if not config.training.is_settled and student_name(config) not in tuned:
            choice, seconds = choose(config, split, execution)
            tuned[student_name(config)] = choice
            say(described(config, choice, seconds))
    return tuned


def _given(config: TrialConfig) -> Sequence[Any]:
    return config.training.precision, config.training.channels_last


def _cache_plan(
    request: PreflightRequest,
    configs: Sequence[TrialConfig],
    name: str,
    digest: str,
    teacher_digest: str,
    split: Split,
    places: TrialFolders,
) -> CachePlan:
    """Plan the cache of one teacher for all trials that have it."""
    its_own = [
        replace(
            config,
            data=replace(config.data, digest=digest),
            teacher=replace(config.teacher, digest=teacher_digest),
        )
        for config in configs
        if config.teacher is not None and teacher_name(config) == name
    ]
    before = request.teacher_caches.get(name, "auto")
    mode = before if request.teacher_cache == "auto" and any(map(suits, its_own)) else request.teacher_cache
    return plan_cache(its_own, split, mode, folder=places.teacher_cache, budget_gb=request.teacher_cache_gb)


def to_json(prepared: PreflightResult) -> dict[str, Any]:
    """Write it for a pipe."""
    return asdict(prepared)
