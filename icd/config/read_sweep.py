"""Reads a sweep's file: a trial's file with ranges and choices in it, and how to search."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from icd.config.document import Document, KeyPath, dotted, in_order
from icd.config.forms import full_form
from icd.config.habits import about_file, write
from icd.config.ranges import Choice, Interval, ScaleWeights
from icd.config.read_enqueue import read_enqueue, read_name, read_pairs
from icd.config.read_plugins import read_plugins
from icd.config.read_template import TemplateReader
from icd.config.read_trial import check_trial
from icd.config.reader import MAPPING, WRONG, Reader, Row
from icd.config.space import TOP, Stored, baseline_document, replaces, trial_document
from icd.config.sweep import (
    METRICS,
    RANK_NAMES,
    Baseline,
    Budget,
    Objective,
    PrunerConfig,
    Resources,
    SamplerConfig,
    SweepConfig,
)
from icd.config.trial import TrialConfig
from icd.config.walk import asks_weights, corners, dimensions, size
from icd.config.yaml import apply_overrides, read_yaml
from icd.errors import ConfigError, Problem
from icd.fields import annotations
from icd.plugins import Plugin

_SEARCH = ("objective", "sampler", "pruner", "enqueue", "budget", "rank")
_OBJECTIVE = {**annotations(Objective), "metric": Row("metric", METRICS)}


def load_sweep(path: Path, overrides: Sequence[str] = ()) -> SweepConfig:
    """Read a sweep's file with ``--set`` overrides laid over it.

    Raises:
        ConfigError: With every problem of the file.
    """
    document = read_yaml(path)
    return read_sweep(apply_overrides(document, overrides) if overrides else document)


def read_sweep(document: Document) -> SweepConfig:
    """Turn a document into a sweep.

    Raises:
        ConfigError: With every problem, in the order of the file.
    """
    if not isinstance(document.data, dict):
        problem = document.problem((), MAPPING, value=document.data)
        raise ConfigError([*document.problems, problem])
    if (wrong := about_file(document, "sweep")) is not None:
        raise ConfigError(wrong)
    reader = _SweepReader(document)
    sweep = reader.read(document.data)
    if problems := [*document.problems, *reader.problems]:
        raise ConfigError(in_order(problems))
    return sweep


class _SweepReader(Reader):
    def read(self, data: dict[str, Any]) -> SweepConfig:
        """Give a sweep in which parts that could not be read have their defaults."""
        self.unknown_keys(data, ("name", "pairs", *TOP, "search", "resources", "plugins"), ())
        self.plugins = read_plugins(self.document, self.problems)
        self.used: set[Plugin] = set()
        name = read_name(self, data)
        search = data.get("search")
        if not isinstance(search, dict | None):
            self.note(("search",), MAPPING, value=search)
        search = search if isinstance(search, dict) else {}
        self.unknown_keys(search, _SEARCH, ("search",))
        self.ranges = TemplateReader(self)
        template = self._template(data)
        pairs = read_pairs(self, data["pairs"]) if data.get("pairs") is not None else ()
        baselines, sources = read_enqueue(self, search.get("enqueue"), name)
        rank = search.get("rank", "mean")
        if rank not in RANK_NAMES or ("rank" in search and not pairs):
            rule = "is how trials of several pairs are ordered, mean or worst"
            self.note(("search", "rank"), rule, value=rank, hint="" if pairs else "drop it, or give pairs")
        sweep = SweepConfig(
            name=name,
            template=template,
            pairs=pairs,
            rank=rank,
            enqueue=tuple(baseline for _, baseline in baselines),
            sources=tuple(sources),
            objectives=tuple(self._objectives(search.get("objective"))),
            sampler=self._part(SamplerConfig, search, ("search", "sampler")),
            pruner=self._part(PrunerConfig, search, ("search", "pruner")),
            budget=self._part(Budget, search, ("search", "budget")),
            resources=self._part(Resources, data, ("resources",)),
        )
        sweep = replace(sweep, template=self._with_plugins(template))
        trials = self._probe(sweep, [place for place, _ in baselines])
        sweep = replace(sweep, template=self._with_plugins(template, used=self.used))
        self._check_networks(sweep, data, [place for place, _ in baselines])
        if trials:  # without any, what decides on the weights may be wrong
            self._check_weights(template)
        self._check_pruner(sweep, trials)
        self._check_sampler(sweep)
        self._check_budget(sweep)
        return sweep

    def _template(self, data: dict[str, Any]) -> dict[str, Any]:
        images = data["data"] if isinstance(data.get("data"), dict) else {}
        for name in ("train_on", "measure_on"):
            if name in images:
                rule = "a search trains on train and chooses on val; 'icd confirm' does the rest"
                self.note(("data", name), rule, value=images[name])
        given = {part: data[part] for part in TOP if data.get(part) is not None}
        read = {part: self.ranges.read(value, (part,), (part,)) for part, value in given.items()}
        template = {part: value for part, value in read.items() if value is not WRONG}
        if not self.ranges.nodes and not self.ranges.failed and not data.get("pairs"):
            rule = "has no range and no choices, so there is nothing to search"
            self.note((), rule, hint=write(("method", "cluster_weight"), {"low": 0.5, "high": 64, "log": True}))
        for path, place, _ in self.ranges.nodes:
            if path[0] == "data":
                rule = "data says which images a trial is trained and measured on, the same in all trials of a sweep"
                self.note(place, rule, hint="give one value, and write a sweep for each other one")
                self.ranges.failed.append(place)
        return template

    def _with_plugins(self, template: dict[str, Any], used: set[Plugin] | None = None) -> dict[str, Any]:
        """Give every trial the plugins of the sweep, as its document holds them; those that none uses are left out."""
        kept = [plugin.to_data() for plugin in self.plugins if used is None or plugin in used]
        return {**template, "plugins": kept} if kept else template

    def _part(self, cls: Any, data: Mapping[str, Any], path: KeyPath) -> Any:
        """Read a part with defaults; its name alone will do where it has one."""
        value = full_form(path[-1], data.get(str(path[-1])))
        values = self.fields(cls, {} if value is None else value, path)
        return (None if values is None else self.made(cls, values, path)) or cls()

    def _objectives(self, data: Any) -> list[Objective]:
        path: KeyPath = ("search", "objective")
        if data is None:
            return [Objective()]
        if data == []:
            self.note(path, "must name at least one metric", value=data)
        found: list[Objective] = []
        for index, item in enumerate(data if isinstance(data, list) else [data]):
            where = (*path, index) if isinstance(data, list) else path
            values = self.fields(Objective, full_form("objective", item), where, _OBJECTIVE)
            if values is None:
                continue
            metric = values.get("metric", Objective().metric)
            if any(other.metric == metric for other in found):
                self.note((*where, "metric"), "must differ from the other objectives", value=metric)
            found.append(Objective(**{"direction": METRICS[metric], **values}))
        return found

    # Trials of the space and baselines, read before anything is started

    def _probe(self, sweep: SweepConfig, places: Sequence[KeyPath]) -> list[TrialConfig]:
        """Read the trials at the corners of the space and those of the baselines; note their problems."""
        found = []
        for index, pair in enumerate(sweep.pairs or (None,)):
            moved: dict[KeyPath, KeyPath] = {}
            own = dict(sweep.template)
            if pair is not None:
                own |= pair.networks
                moved = {(part,): ("pairs", index, part) for part in pair.networks}
            for params in corners(own):
                where = dict(moved)
                found.append(self._try(trial_document(own, Stored(params), where), where, params))
            for place, baseline in zip(places, sweep.enqueue, strict=True):
                document = baseline_document(own, baseline.changes)
                self._try(document, {**moved, **_moved(place, baseline, own)}, {})
        return [config for config in found if config]

    def _try(
        self, data: dict[str, Any], moved: dict[KeyPath, KeyPath], params: Mapping[str, Any]
    ) -> TrialConfig | None:
        document = replace(self.document, data=data, moved=moved, problems=(), file=self.document.data)
        config, problems = check_trial(document)
        self.used |= set(config.plugins) if config else set()
        failed = [dotted(place) for place in self.ranges.failed] + [dotted(place) for place in self.document.broken]
        for problem in problems:
            if not any(_below(problem.path, place) for place in failed):
                self.problems.append(self._at_its_end(problem, params))
        return config

    def _at_its_end(self, problem: Problem, params: Mapping[str, Any]) -> Problem:
        """Say which end of a range a problem is about, or that it is about all its options."""
        for path, place, node in self.ranges.nodes:
            if isinstance(node, Interval) and dotted(place) == problem.path and problem.has_value:
                end = "low" if params.get(dotted(path)) == node.low else "high"
                found = self.document.problem((*place, end), problem.rule, value=getattr(node, end), hint=problem.hint)
                value = int(getattr(node, end)) if float(getattr(node, end)).is_integer() else getattr(node, end)
                return replace(found, value=value)
            options = [dotted((*place, *option)) for option in node.places] if isinstance(node, Choice) else []
            if problem.rule == "unknown key" and problem.path in options:
                return self.document.problem(place, problem.rule, hint=problem.hint)
        return problem

    # Rules between the parts

    def _check_networks(self, sweep: SweepConfig, data: Mapping[str, Any], places: Sequence[KeyPath]) -> None:
        """Networks are named once: alone, by a pair that is searched, or by pairs that every trial has."""
        pairs = sweep.pairs
        if (value := sweep.template.get("pair")) is not None and not isinstance(value, Choice):
            rule = "must be {choices: [{teacher: ..., student: ...}, ...]}"
            self.note(("pair",), rule, value=data.get("pair"), hint="pairs trains every trial on all")
        for option, where in zip(value.options, value.places, strict=True) if isinstance(value, Choice) else ():
            if isinstance(option, dict):
                self.unknown_keys(option, ["teacher", "student"], ("pair", *where))
        by = "pairs" if pairs else "pair" if "pair" in sweep.template else ""
        for part in ("pair", "teacher", "student") if by == "pairs" else ("teacher", "student") if by else ():
            if data.get(part) is not None:
                self.note((part,), f"{by} names the networks of a trial; drop this", value=data[part])
        for place, baseline in zip(places, sweep.enqueue, strict=True) if pairs else ():
            for part in ("teacher", "student"):
                if part in baseline.changes:
                    self.note((*place, part), f"{by} names the networks of a trial; drop this")
        if pairs and sweep.sources:
            rule = "a sweep over several pairs cannot start from another sweep; drop 'from'"
            self.note(("search", "enqueue"), rule)
        if pairs and len(sweep.objectives) > 1:
            rule = "a sweep over several pairs ranks by one objective"
            self.note(("search", "objective"), rule, value=[item.metric for item in sweep.objectives])

    def _check_weights(self, template: Mapping[str, Any]) -> None:
        """Weights are asked where two of them matter; a file that asks for none is mistaken."""
        for path, place, node in self.ranges.nodes:
            if isinstance(node, ScaleWeights) and not asks_weights(template, path):
                rule = "no set of scales has two weights that matter; with gram: cells the one of scale 1 does not"
                self.note(place, rule)

    def _check_pruner(self, sweep: SweepConfig, trials: Sequence[TrialConfig]) -> None:
        pruner, objectives = sweep.pruner, sweep.objectives
        if not pruner.prunes:
            return
        field, instead = ("name", "none") if pruner.compares else ("dead_terms", "false")
        rule = ""
        if sweep.pairs:
            rule = "a trial of several pairs cannot be pruned: its epochs are those of different networks"
        elif len(objectives) > 1:
            rule = "a sweep with several objectives cannot be pruned"
        elif objectives and objectives[0].metric.startswith("cost/"):
            rule = f"pruning needs an objective that every epoch reports, and {objectives[0].metric} is none"
        if rule:
            self.note(("search", "pruner", field), f"{rule}; take {instead}", value=getattr(pruner, field))
        if pruner.dead_terms and any(not trial.training.measure_every for trial in trials):
            rule = "dead terms are found by measuring, and training.measure_every is 0"
            self.note(("search", "pruner", "dead_terms"), rule, value=True)
        epochs = min((trial.training.epochs for trial in trials), default=pruner.min_epochs)
        if pruner.min_epochs > epochs:
            rule = f"min_epochs <= training.epochs ({epochs}) must hold"
            self.note(("search", "pruner", "min_epochs"), rule, value=pruner.min_epochs)

    def _check_sampler(self, sweep: SweepConfig) -> None:
        path: KeyPath = ("search", "sampler", "name")
        name = sweep.sampler.name
        if name == "cmaes" and len(sweep.objectives) > 1:
            self.note(path, "cmaes takes one objective only", value="cmaes", hint="take auto, tpe or nsga2")
        if name not in ("grid", "cmaes") or self.ranges.failed:
            return
        rows = dimensions(sweep.template)
        conditional = [row.name for row in rows if row.condition]
        categorical = [row.name for row in rows if row.options is not None and row.options > 1]
        if name == "grid":
            if size(sweep.template) is None:
                endless = [row.name for row in rows if row.kind == "float" and " step " not in row.values]
                self.note(path, f"a grid needs a step or choices for {', '.join(endless)}", value="grid")
        elif conditional:
            rule = f"cmaes needs parameters that every trial has, which {', '.join(conditional)} are not"
            self.note(path, rule, value="cmaes", hint="take auto or tpe")
        elif categorical:
            rule = f"cmaes needs numbers only, which {', '.join(categorical)} are not"
            self.note(path, rule, value="cmaes", hint="take auto or tpe")

    def _check_budget(self, sweep: SweepConfig) -> None:
        path: KeyPath = ("search", "budget")
        budget, starts = sweep.budget, sum(source.top for source in sweep.sources)
        baselines = len(sweep.enqueue)
        if not self.right(path) or not self.right(("search", "sampler")):
            return
        endless = budget.trials is budget.hours is None and sweep.sampler.name != "grid"
        if endless and budget.gpu_hours is None:
            rule = "needs trials, hours or gpu_hours; only a grid ends by itself"
            self.note(path, rule, hint=write((*path, "trials"), 100))
        elif endless and sweep.resources.gpus_per_trial == 0:
            rule = "ends no sweep whose trials take no GPU"
            self.note((*path, "gpu_hours"), rule, value=budget.gpu_hours, hint=write((*path, "hours"), 1))
        elif budget.trials is not None and budget.trials < baselines + starts:
            what = f"{baselines + starts} configurations" if starts else f"{baselines} baselines"
            rule = f"trials >= the {what} of enqueue must hold"
            hint = write((*path, "trials"), baselines + starts)
            self.note((*path, "trials"), rule, value=budget.trials, hint=hint)


def _moved(place: KeyPath, baseline: Baseline, template: Mapping[str, Any]) -> dict[KeyPath, KeyPath]:
    """Say where the parts of a baseline's trial stand."""
    moved: dict[KeyPath, KeyPath] = {}
    if "method" not in baseline.changes and not isinstance(template.get("method"), Mapping):
        moved[("method",)] = place
    for part, value in baseline.changes.items():
        full = full_form(part, value)
        if replaces(part, full) or not isinstance(full, dict):
            moved[(part,)] = (*place, part) if len(place) > 2 and baseline.label != value else place
        else:
            moved |= {(part, name): (*place, part, name) for name in full}
    return moved


def _below(path: str, parent: str) -> bool:
    return path == parent or path.startswith((f"{parent}.", f"{parent}["))
