"""What must be true before a sweep starts: images read, teachers trained, every end of the space tried.

Runs in a worker, where the devices are; everything it learns goes back as plain values.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from icd.config.checks import notes_of
from icd.config.read_trial import read_trial
from icd.config.trial import TrialConfig, settled, student_name
from icd.config.yaml import Document
from icd.data.split import for_training
from icd.errors import ConfigError
from icd.methods import METHODS, CrossEntropy
from icd.models import Network, build_model
from icd.plugin_places import place_of_class
from icd.search.core.preparation import PreflightRequest, PreflightResult, teacher_name
from icd.teacher.cache import summary
from icd.teacher.cache_plan import CacheMode, plan_cache, suits
from icd.teacher.store import prepare
from icd.training.hardware import device_name
from icd.training.loop import EpochMetrics, Execution
from icd.worker.autotune import choose, described
from icd.worker.base_losses import try_base_losses
from icd.worker.gpus import training_device
from icd.worker.trial_inputs import TrialFolders, read_data, views_problems
from icd.worker.trial_probe import Probe, measure_pace


def run_preflight(request: PreflightRequest, say: Callable[[str], None], stop: Callable[[], bool]) -> PreflightResult:
    """Read the data, train teachers that are missing, and try the configurations.

    Args:
        request: What to do.
        say: Told each step in a line.
        stop: Asked after every epoch of a teacher's training.

    Raises:
        IcdError: Whatever is wrong, before a trial has started.
    """
    if request.threads:
        torch.set_num_threads(request.threads)
    return _Preflight(request, say, stop).run()


class _Preflight:
    """The steps, each with what the ones before have found."""

    def __init__(self, request: PreflightRequest, say: Callable[[str], None], stop: Callable[[], bool]) -> None:
        self.request, self.say = request, say
        self.folders = TrialFolders.of(request)
        self.device = training_device()
        self.quiet = Execution(device=self.device, num_workers=request.threads, stop=stop, engine=request.engine)
        self.talking = replace(self.quiet, report=self._report)
        self.configs = [
            read_trial(Document(dict(config), f"configuration {number}"))
            for number, config in enumerate(request.configs)
        ]
        self.networks: dict[str, Network] = {}
        self.test_digest, self.test_images = "", 0
        self.promised = 0  # bytes that planned caches will still take

    def run(self) -> PreflightResult:
        """Take all steps."""
        data = self._read_data()
        self._try_before_teachers()
        digests, lines = self._make_teachers()
        teacher_caches = {name: self._plan_cache(name, digest) for name, digest in digests.items()}
        tuned = self._tune()
        for number, config in enumerate(self.configs):
            if not config.training.is_settled:
                self.configs[number] = settled(config, tuned[student_name(config)])
        if self.request.probe:
            self._try_configurations()
        return PreflightResult(
            data_digest=self.digest,
            test_digest=self.test_digest,
            test_images=self.test_images,
            data=data,
            num_classes=self.split.num_classes,
            teachers=digests,
            teacher_lines=lines,
            gpus=torch.cuda.device_count() if self.device.type == "cuda" else 0,
            device=device_name(self.device),
            paces=self._measure_paces(teacher_caches) if self.request.measure else {},
            teacher_caches=teacher_caches,
            tuned=tuned,
        )

    def _report(self, metrics: EpochMetrics) -> None:
        self.say(f"teacher epoch {metrics.epoch}: val top-1 {metrics.values['val/top1']:.2f} %")

    def _read_data(self) -> str:
        """Read the images, and see whether they suit every configuration; gives a line on them."""
        first, split = read_data(self.configs[0], self.folders)
        self.split, self.digest = split, first.data.digest or ""
        self.shown = for_training(split, first.data.train_on)
        if first.data.measure_on == "test":
            opened = split.test.open("to see whether they are those of earlier runs")
            self.test_digest, self.test_images = opened.digest, len(opened)
        self.request.refuse_changed(self.digest, {}, self.test_digest)
        problems = {str(problem): problem for config in self.configs for problem in views_problems(config, split)}
        if problems:
            raise ConfigError(problems.values())
        counts = f"{len(split.train)} training and {len(split.val)} validation images, {split.num_classes} classes"
        self.say(f"data {split.name}: {counts}")
        # What a space cannot express is said once, when a sweep begins.
        for line in [*(notes_of(self.configs, split.num_classes) if self.request.probe else ()), *split.notes]:
            self.say(f"note: {line}")
        return f"{split.name}: {counts}"

    def _try_before_teachers(self) -> None:
        """Try every base loss on random logits, and a plugin's methods with a teacher whose weights are random."""
        try_base_losses(self.configs, self.split.num_classes, self.device)
        probe, untrained, classes = Probe(self.shown, self.quiet), dict[str, Network](), self.split.num_classes
        for config in {config.key(): config for config in self.configs}.values():
            source, line = place_of_class(METHODS, type(config.method))
            if not source:
                continue
            name, teacher = teacher_name(config), config.teacher
            if teacher is not None and name not in untrained:
                untrained[name] = build_model(teacher.arch, num_classes=classes, stem=teacher.stem, seed=0)
            try:
                probe(settled(config, ("fp32", False)), untrained.get(name))
            except ConfigError as error:
                raise ConfigError([replace(told, source=source, line=line) for told in error.problems]) from error

    def _make_teachers(self) -> tuple[dict[str, str], list[str]]:
        """Train or import each teacher that is missing; gives digests by name, and a line on each."""
        digests, lines = {}, []
        for config in self.configs:
            name = teacher_name(config)
            if config.teacher is None or name in self.networks:
                continue
            pinned = replace(config, data=replace(config.data, digest=self.digest))
            ready = prepare(pinned, self.split, self.folders.teachers, self.talking, self.say)
            if ready is not None:
                self.networks[name], digests[name] = ready.network.to(self.device), ready.digest
                self.request.refuse_changed(self.digest, digests)
                lines.append(ready.summary)
                self.say(f"teacher {ready.summary}")
        return digests, lines

    def _plan_cache(self, name: str, digest: str) -> CacheMode:
        """Choose how a teacher is answered for, for all trials that have it."""
        request = self.request
        teacher = next(config.teacher for config in self.configs if config.teacher and teacher_name(config) == name)
        # A search may put whatever one of its trials has beside any of its teachers.
        its_own = [
            replace(
                config,
                data=replace(config.data, digest=self.digest),
                teacher=replace(teacher, digest=digest),
            )
            for config in self.configs
            if config.teacher is not None and (request.trials or teacher_name(config) == name)
        ]
        mode = cache_mode(request, name, its_own)
        sharing = {teacher_name(config) for config in self.configs if suits(config)}
        budget_gb, chosen = request.teacher_cache_gb / max(1, len(sharing)), mode == request.teacher_caches.get(name)
        folder = self.folders.teacher_cache
        plan = plan_cache(
            its_own,
            self.shown,
            mode,
            folder=folder,
            budget_gb=budget_gb,
            promised=self.promised,
            trials=request.trials,
            ranges=request.ranges,
            chosen=chosen,
        )
        self.promised += plan.to_come(folder)
        self.say(summary(plan))
        return plan.mode

    def _tune(self) -> dict[str, Sequence[Any]]:
        """Choose what the students' trainings leave open, each once and for the whole sweep."""
        tuned = dict(self.request.tuned)
        for config in self.configs:
            if not config.training.is_settled and student_name(config) not in tuned:
                choice, seconds = choose(config, self.split, self.talking)
                tuned[student_name(config)] = choice
                self.say(described(config, choice, seconds))
        return tuned

    def _try_configurations(self) -> None:
        """Make a step with each; another seed breaks nothing."""
        probe = Probe(self.shown, self.quiet)
        for config in {replace(config, seed=0).key(): config for config in self.configs}.values():
            probe(config, self.networks.get(teacher_name(config)))

    def _measure_paces(self, teacher_caches: Mapping[str, str]) -> dict[str, Any]:
        """Time a few steps of each pair of networks."""
        paces: dict[str, Any] = {}
        for config in self.configs:
            name = teacher_name(config)
            pair = f"{config.teacher.arch if config.teacher else 'none'}>{config.student.arch}"
            if pair in paces:
                continue
            timed, teacher = config, self.networks.get(name)
            if teacher_caches.get(name, "off") != "off" and suits(config):
                # As a trial with a full cache runs: no teacher, and any loss costs about what cross entropy does.
                timed, teacher = replace(config, method=CrossEntropy(), teacher=None), None
            pace = measure_pace(timed, self.split, teacher, self.quiet)
            paces[pair] = {**pace._asdict(), "epoch_seconds": pace.epoch_seconds}
        return paces


def cache_mode(request: PreflightRequest, teacher: str, configs: Sequence[TrialConfig]) -> CacheMode:
    """Say how a teacher is answered for: as was chosen before, unless the user asks for something else."""
    before = request.teacher_caches.get(teacher, "auto")
    return before if request.teacher_cache == "auto" and any(map(suits, configs)) else request.teacher_cache
