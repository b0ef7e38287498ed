"""Reads a sweep's file: a trial's file with a space, and how the space is searched."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from icd.config.coverage import dimensions, size
from icd.config.probe import Probe, for_pairs
from icd.config.read import Reader, read_whole
from icd.config.read_enqueue import NAME, NAME_RULE, read_enqueue
from icd.config.read_generalist import check_generalist, read_generalist
from icd.config.read_space import SpaceReader
from icd.config.sweep import (
    METRICS,
    Budget,
    Objective,
    PrunerConfig,
    Resources,
    SamplerConfig,
    ScaleWeights,
    SweepConfig,
)
from icd.config.trial import TrialConfig
from icd.config.yaml import Document, KeyPath, apply_overrides, read_yaml

_FIXED = ("data", "teacher", "student", "method", "protocol", "seed")
_TOP = ("name", *_FIXED, "generalist", "space", "enqueue", "objective", "sampler", "pruner", "budget", "resources")
T = TypeVar("T")


def load_sweep(path: Path, overrides: Sequence[str] = ()) -> SweepConfig:
    """Read a sweep's file with ``--set`` overrides laid over it.

    Raises:
        ConfigError: With every problem of the file.
    """
    document = read_yaml(path)
    return read_sweep(apply_overrides(document, overrides) if overrides else document)


def read_sweep(document: Document) -> SweepConfig:
    """Turn a document into a sweep; every problem is found before any is raised."""
    return read_whole(document, lambda reader, data: _SweepReader(reader, data).read())


class _SweepReader:
    def __init__(self, reader: Reader, data: dict[str, Any]) -> None:
        self.reader, self.data = reader, data

    def read(self) -> SweepConfig | None:
        reader, data = self.reader, self.data
        reader.unknown_keys(data, _TOP, ())
        name = self._name()
        fixed = {part: data[part] for part in _FIXED if data.get(part) is not None}
        self._check_data(fixed.get("data"))
        spaces = SpaceReader(reader, fixed)
        if data.get("space") is None:
            reader.problem(("space",), "required key is missing")
        else:
            spaces.read(data["space"])
        fixed, space = spaces.fixed, _ordered(spaces.space)
        baselines, sources = read_enqueue(reader, data.get("enqueue"), name)
        objectives = self._objectives()
        sampler, pruner = self._part("sampler", SamplerConfig), self._part("pruner", PrunerConfig)
        budget, resources = self._part("budget", Budget), self._part("resources", Resources)
        generalist = None
        if data.get("generalist") is not None:
            generalist = read_generalist(reader, data["generalist"])
            check_generalist(reader, data, objectives, pruner, baselines, sources)
        probe = Probe(fixed=fixed, space=space, origins=spaces.origins, failed=frozenset(spaces.failed))
        trials = []
        if generalist or data.get("generalist") is None:  # pairs that cannot be read are problem enough
            for each in for_pairs(probe, generalist):
                trials += each.trials(reader)
                each.baselines(reader, baselines)
        if trials:  # without any, what decides on the weights may be wrong
            self._check_weights(fixed, space)
        if pruner:
            self._check_pruner(pruner, objectives, trials)
        if sampler:
            self._check_sampler(sampler, objectives, fixed, space, complete=not spaces.failed)
            self._check_budget(sampler, budget, resources, len(baselines), sum(source.top for source in sources))
        seed = self._seed(fixed, space)
        if reader.problems or sampler is None or pruner is None or budget is None or resources is None:
            return None
        return SweepConfig(
            name=name,
            fixed=fixed,
            space=space,
            enqueue=tuple(baseline for _, baseline in baselines),
            sources=tuple(sources),
            generalist=generalist,
            objectives=tuple(objectives),
            sampler=sampler,
            pruner=pruner,
            budget=budget,
            resources=resources,
            seed=seed,
        )

    def _check_data(self, data: Any) -> None:
        for key in ("train_on", "measure_on"):
            if isinstance(data, dict) and key in data:
                rule = "a search trains on train and chooses on val; 'icd confirm' does the rest"
                self.reader.problem(("data", key), rule, value=data[key])

    def _name(self) -> str:
        name = self.data.get("name")
        if name is None:
            self.reader.problem(("name",), "required key is missing")
        elif not isinstance(name, str) or not NAME.fullmatch(name):
            self.reader.problem(("name",), NAME_RULE, value=name)
        return str(name)

    def _seed(self, fixed: dict[str, Any], space: Mapping[str, Any]) -> int:
        """Give the sampler's seed; it is the trials' too unless theirs is sampled."""
        seed = fixed.get("seed", 0)
        if "seed" not in space:
            return int(seed) if isinstance(seed, int) else 0  # trials have told what is wrong with it
        fixed.pop("seed", None)
        if type(seed) is not int or not 0 <= seed < 2**63:
            self.reader.problem(("seed",), "seed must be a whole number with 0 <= seed < 2**63", value=seed)
        return int(seed) if isinstance(seed, int) else 0

    def _part(self, part: str, cls: type[T]) -> T | None:
        """Read a part with defaults; its name alone will do where it has one."""
        data = self.data.get(part)
        if isinstance(data, str):
            data = {"name": data}
        return self.reader.value(cls, {} if data is None else data, (part,))

    def _objectives(self) -> list[Objective]:
        data = self.data.get("objective")
        if data is None:
            return [Objective()]
        if isinstance(data, list) and not data:
            self.reader.problem(("objective",), "must name at least one metric", value=data)
        items: list[tuple[KeyPath, Any]] = [(("objective",), data)]
        if isinstance(data, list):
            items = [(("objective", index), item) for index, item in enumerate(data)]
        found: list[Objective] = []
        for path, item in items:
            mapping = self.reader.mapping({"metric": item} if isinstance(item, str) else item, path)
            if mapping is None:
                continue
            metric = mapping.get("metric", Objective().metric)
            direction = self.reader.choice(metric, METRICS, (*path, "metric"), "metric")
            objective = self.reader.value(Objective, {"direction": direction or "maximize", **mapping}, path)
            if direction and any(other.metric == metric for other in found):
                self.reader.problem((*path, "metric"), "must differ from the other objectives", value=metric)
            if objective and direction:
                found.append(objective)
        return found

    # Rules between the parts

    def _check_pruner(self, pruner: PrunerConfig, objectives: list[Objective], trials: list[TrialConfig]) -> None:
        if not pruner.prunes:
            return
        field, instead = ("name", "none") if pruner.compares else ("dead_terms", "false")
        if len(objectives) > 1:
            rule = f"a sweep with several objectives cannot be pruned; take {instead}"
            self.reader.problem(("pruner", field), rule, value=getattr(pruner, field))
        elif objectives and objectives[0].metric.startswith("cost/"):
            metric = objectives[0].metric
            rule = f"pruning needs an objective that every epoch reports, and {metric} is none; take {instead}"
            self.reader.problem(("pruner", field), rule, value=getattr(pruner, field))
        if pruner.dead_terms and any(not trial.protocol.measure_every for trial in trials):
            rule = "dead terms are found by measuring, and protocol.measure_every is 0"
            self.reader.problem(("pruner", "dead_terms"), rule, value=True)
        epochs = min((trial.protocol.epochs for trial in trials), default=pruner.min_epochs)
        if pruner.min_epochs > epochs:
            rule = f"min_epochs <= protocol.epochs ({epochs}) must hold"
            self.reader.problem(("pruner", "min_epochs"), rule, value=pruner.min_epochs)

    def _check_weights(self, fixed: Mapping[str, Any], space: Mapping[str, Any]) -> None:
        """Weights are asked where two of them matter; a file that asks for none is mistaken."""
        names = [row.name for row in dimensions(fixed, space)]
        nodes: dict[KeyPath, Any] = {("space", path.partition(".")[2]): node for path, node in space.items()}
        if "method" in space:
            for label, fields in space["method"].fields.items():
                nodes |= {("space", "method", label, field): node for field, node in fields.items()}
        for path, node in nodes.items():
            prefix = ".".join(str(part) for part in path[1:] if part != "method")
            if isinstance(node, ScaleWeights) and not any(name.startswith(f"{prefix}.s") for name in names):
                rule = "no set of scales has two weights that matter; with gram: cells the one of scale 1 does not"
                self.reader.problem(path, rule)

    def _check_sampler(
        self,
        sampler: SamplerConfig,
        objectives: list[Objective],
        fixed: Mapping[str, Any],
        space: Mapping[str, Any],
        *,
        complete: bool,
    ) -> None:
        path = ("sampler", "name") if isinstance(self.data.get("sampler"), dict) else ("sampler",)
        if sampler.name == "cmaes" and len(objectives) > 1:
            self.reader.problem(path, "cmaes takes one objective only", value="cmaes", hint="take auto, tpe or nsga2")
        if sampler.name not in ("grid", "cmaes") or not complete:
            return
        rows = dimensions(fixed, space)
        conditional = [row.name for row in rows if row.condition]
        categorical = [row.name for row in rows if row.options is not None and row.options > 1]
        if sampler.name == "grid":
            if size(space) is None:
                endless = [row.name for row in rows if row.kind == "float" and " step " not in row.values]
                rule = f"a grid needs a step or choices for {', '.join(endless)}"
                self.reader.problem(path, rule, value="grid")
        elif conditional:
            rule = f"cmaes needs parameters that every trial has, which {', '.join(conditional)} are not"
            self.reader.problem(path, rule, value="cmaes", hint="take auto or tpe")
        elif categorical:
            rule = f"cmaes needs numbers only, which {', '.join(categorical)} are not"
            self.reader.problem(path, rule, value="cmaes", hint="take auto or tpe")

    def _check_budget(
        self, sampler: SamplerConfig, budget: Budget | None, resources: Resources | None, baselines: int, starts: int
    ) -> None:
        if budget is None:
            return
        limits = (budget.trials, budget.hours, budget.gpu_hours)
        if sampler.name != "grid" and all(limit is None for limit in limits):
            self.reader.problem(("budget",), "needs trials, hours or gpu_hours", hint="only a grid ends by itself")
        elif limits[:2] == (None, None) and resources and resources.gpus_per_trial == 0 and sampler.name != "grid":
            rule = "ends no sweep whose trials take no GPU"
            self.reader.problem(("budget", "gpu_hours"), rule, value=budget.gpu_hours, hint="give trials or hours")
        elif budget.trials is not None and budget.trials < baselines + starts:
            what = f"{baselines + starts} configurations" if starts else f"{baselines} baselines"
            rule = f"trials >= the {what} of enqueue must hold"
            self.reader.problem(("budget", "trials"), rule, value=budget.trials)


def _ordered(space: Mapping[str, Any]) -> dict[str, Any]:
    """Put networks first, whatever the order of the file: an equal space must be asked in an equal order."""
    return dict(sorted(space.items(), key=lambda item: (item[0] == "seed", item[0].startswith("protocol"))))
