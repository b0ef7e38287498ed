"""Reads a sweep's file: a trial's file with ranges and choices in it, and how to search."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar, get_args

from icd.config.document import TOP, Document, KeyPath, dotted, full_form
from icd.config.habits import meant, write
from icd.config.plugins import read_plugins
from icd.config.read_template import TemplateReader
from icd.config.read_trial import read_trial
from icd.config.reader import MAPPING, NAME, WRONG
from icd.config.space import Stored, baseline_document, trial_document
from icd.config.sweep import (
    METRICS,
    Baseline,
    Budget,
    Objective,
    Pair,
    PrunerConfig,
    RankName,
    Resources,
    SamplerConfig,
    Source,
    SweepConfig,
)
from icd.config.sweep_rules import rules
from icd.config.trial import TrialConfig
from icd.config.walk import corners
from icd.errors import ConfigError
from icd.fields import annotations
from icd.methods import PAPER_ROWS
from icd.plugins import Plugin
from icd.registry import Registry

T = TypeVar("T")

_PARTS = {"sampler": SamplerConfig, "pruner": PrunerConfig, "budget": Budget}
_OBJECTIVE = {**annotations(Objective), "metric": Registry("metric", METRICS)}
_CHANGES = ("teacher", "student", "method", "training", "seed")


def read_sweep(document: Document) -> SweepConfig:
    """Turn a document into a sweep.

    Raises:
        ConfigError: With every problem, in the order of the file.
    """
    return _SweepReader(document).whole("sweep")  # type: ignore[no-any-return]


class _SweepReader(TemplateReader):
    def read(self, data: dict[str, Any]) -> SweepConfig:
        """Give a sweep in which parts that could not be read have their defaults."""
        self.plugins = read_plugins(self.document, self.problems)
        self.used: set[Plugin] = set()
        self.fields(SweepConfig, data, (), {"name": NAME}, also=("pairs", *TOP, "search", "resources", "plugins"))
        search = {} if data.get("search") is None else data["search"]
        if not isinstance(search, dict):
            self.note(("search",), MAPPING, value=search)
            search = {}
        self.unknown_keys(search, (*_PARTS, "objective", "enqueue", "rank"), ("search",))
        template = self._template(data)
        pairs = self._pairs(data["pairs"]) if data.get("pairs") is not None else ()
        baselines, sources = self._enqueue(search.get("enqueue"))
        rank = search.get("rank", "mean")
        if rank not in get_args(RankName) or ("rank" in search and not pairs):
            rule = "is how trials of several pairs are ordered, mean or worst"
            self.note(("search", "rank"), rule, value=rank, hint="" if pairs else "drop it, or give pairs")
        sweep = SweepConfig(
            name=str(data.get("name", "")),
            template=self._with_plugins(template),
            pairs=pairs,
            rank=rank,
            enqueue=tuple(baselines.values()),
            sources=sources,
            objectives=self._objectives(search.get("objective")),
            resources=self._part(Resources, data, ("resources",)),
            **{part: self._part(cls, search, ("search", part)) for part, cls in _PARTS.items()},
        )
        rules(self, sweep, self._probe(sweep, list(baselines)), list(baselines))
        return replace(sweep, template=self._with_plugins(template, used=self.used))

    def _with_plugins(self, template: dict[str, Any], used: set[Plugin] | None = None) -> dict[str, Any]:
        """Give every trial the plugins of the sweep, as its document holds them; those that none uses are left out."""
        kept = [plugin.to_data() for plugin in self.plugins if used is None or plugin in used]
        return {**template, "plugins": kept} if kept else template

    def _template(self, data: dict[str, Any]) -> dict[str, Any]:
        images = data["data"] if isinstance(data.get("data"), dict) else {}
        for name in ("train_on", "measure_on"):
            if name in images:
                rule = "a search trains on train and chooses on val; 'icd confirm' does the rest"
                self.note(("data", name), rule, value=images[name])
        given = {part: data[part] for part in TOP if data.get(part) is not None}
        read = {part: self.template(value, (part,), (part,)) for part, value in given.items()}
        if not self.nodes and not data.get("pairs") and self.right(*((part,) for part in TOP)):
            rule = "has no range and no choices, so there is nothing to search"
            self.note((), rule, hint=write(("method", "cluster_weight"), {"low": 0.5, "high": 64, "log": True}))
        for path, place, _ in self.nodes:
            if path[0] == "data":
                rule = "data says which images a trial is trained and measured on, the same in all trials of a sweep"
                self.note(place, rule, hint="give one value, and write a sweep for each other one")
                self.wrong.add(place)
        return {part: value for part, value in read.items() if value is not WRONG}

    # Parts of the search

    def _part(self, cls: Any, data: Mapping[str, Any], path: KeyPath) -> Any:
        """Read a part with defaults; its name alone will do where it has one."""
        value = full_form(path[-1], data.get(str(path[-1])))
        values = self.fields(cls, {} if value is None else value, path)
        return (None if values is None else self.made(cls, values, path)) or cls()

    def _several(
        self, items: Mapping[KeyPath, Any], read: Callable[[Any, KeyPath], T | None], key: str, rule: str
    ) -> dict[KeyPath, T]:
        """Read each item at its place, without those that are wrong and those whose ``key`` an earlier one has.

        Names become names of folders, and some disks do not tell capitals from small letters.
        """
        found: dict[str, tuple[KeyPath, T]] = {}
        for path, item in items.items():
            made = read(item, path)
            if made is not None and found.setdefault(getattr(made, key).lower(), (path, made))[0] != path:
                self.note(path, rule, value=getattr(made, key))
        return dict(found.values())

    def _objectives(self, data: Any) -> tuple[Objective, ...]:
        path: KeyPath = ("search", "objective")
        if data == []:
            self.note(path, "must name at least one metric", value=data)
        rule = "must differ from the other objectives"
        found = self._several(_placed(data, path), self._objective, "metric", rule)
        return tuple(found.values()) or (Objective(),)

    def _objective(self, item: Any, path: KeyPath) -> Objective | None:
        values = self.fields(Objective, full_form("objective", item), path, _OBJECTIVE)
        usual = METRICS[(values or {}).get("metric", Objective().metric)]
        return None if values is None else Objective(**{"direction": usual, **values})

    def _enqueue(self, data: Any) -> tuple[dict[KeyPath, Baseline], tuple[Source, ...]]:
        """Read what is tried first: rows and changes with their places, and other sweeps; one may stand alone."""
        items = _placed(data, ("search", "enqueue"))
        others = {path: item for path, item in items.items() if isinstance(item, dict) and "from" in item}
        own = {path: item for path, item in items.items() if path not in others}
        baselines = self._several(own, self._baseline, "label", "every baseline needs a label of its own")
        sources = self._several(others, self._source, "sweep", "every sweep may be named once")
        return baselines, tuple(sources.values())

    def _source(self, item: dict[str, Any], path: KeyPath) -> Source | None:
        values = self.fields(Source, item, path, {"from": NAME, "top": annotations(Source)["top"]}) or {}
        if item["from"] == self.document.data.get("name"):
            self.refuse((*path, "from"), "must be another sweep than this one", item["from"])
        return Source(sweep=values.pop("from"), **values) if self.right(path) else None

    def _baseline(self, item: Any, path: KeyPath) -> Baseline | None:
        if not isinstance(item, dict):
            if isinstance(item, str) and item in PAPER_ROWS:
                return Baseline(label=item, changes={"method": item})
            self.note(path, "unknown recipe", value=item, hint=meant(item, list(PAPER_ROWS)))
            return None
        # A row of the paper may be called what no sweep is called.
        label = str if item.get("label") in list(PAPER_ROWS) else NAME
        self.fields(Baseline, item, path, {"label": label}, also=_CHANGES)
        changes = {name: value for name, value in item.items() if name != "label" and value is not None}
        return Baseline(label=item["label"], changes=changes) if self.right(path) else None

    def _pairs(self, data: Any) -> tuple[Pair, ...]:
        """Read the pairs that every trial is trained on."""
        if not isinstance(data, list) or len(data) < 2:
            self.note(("pairs",), "must be a list of at least two pairs of teacher and student", value=data)
            return ()
        rule = "every pair needs a name of its own, given with 'name'"
        return tuple(self._several(_placed(data, ("pairs",)), self._pair, "name", rule).values())

    def _pair(self, item: Any, path: KeyPath) -> Pair | None:
        """Read a pair; without a name it is called after its networks."""
        if not isinstance(item, dict):
            self.refuse(path, MAPPING, item)
            return None
        networks = {part: full_form(part, item[part]) for part in ("teacher", "student") if item.get(part) is not None}
        archs = [str(value.get("arch", "")) if isinstance(value, dict) else str(value) for value in networks.values()]
        own = {"name": "-".join(archs).replace(":", "-"), **item, **networks}
        self.fields(Pair, own, path, {"name": NAME, "teacher": Any, "student": Any})
        return Pair(**own) if self.right(path) else None

    # Trials of the space and baselines, read before anything is started

    def _probe(self, sweep: SweepConfig, places: Sequence[KeyPath]) -> list[TrialConfig]:
        """Read the trials at the corners of the space and those of the baselines; note their problems."""
        found = []
        for index, pair in enumerate(sweep.pairs or (None,)):
            networks = {} if pair is None else pair.networks
            own = {**sweep.template, **networks}
            moved: dict[KeyPath, KeyPath] = {(part,): ("pairs", index, part) for part in networks}
            for params in corners(own):
                where = dict(moved)
                found.append(self._try(trial_document(own, Stored(params), where), where))
            for place, baseline in zip(places, sweep.enqueue, strict=True):
                where = dict(moved)
                document = baseline_document(own, baseline.changes, where, place)
                row = baseline.changes == {"method": baseline.label}
                if row or ("method" not in baseline.changes and not isinstance(own.get("method"), Mapping)):
                    where[("method",)] = place
                self._try(document, where)
        return [config for config in found if config]

    def _try(self, data: dict[str, Any], moved: dict[KeyPath, KeyPath]) -> TrialConfig | None:
        document = replace(self.document, data=data, moved=moved, problems=(), file=self.document.data)
        try:
            config = read_trial(document)
        except ConfigError as error:
            wrong = tuple(f"{dotted(place)}{end}" for place in self.wrong for end in ".[")
            self.problems += [item for item in error.problems if not f"{item.path}.".startswith(wrong)]
            return None
        self.used |= set(config.plugins)
        return config


def _placed(data: Any, path: KeyPath) -> dict[KeyPath, Any]:
    """Give the items of a list by their places; anything else is its own only item."""
    if isinstance(data, list):
        return {(*path, index): item for index, item in enumerate(data)}
    return {} if data is None else {path: data}
