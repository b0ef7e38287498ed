"""Start from another sweep: which of its trials are tried here, and as what.

They are found once, when a study is made, and kept in it. So a resume needs the other sweep no more, whatever has
become of it.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from icd.config.document import WEIGHTS, Document
from icd.config.ranges import Choice, Interval
from icd.config.read_sweep import read_sweep
from icd.config.read_trial import method_name
from icd.config.space import nodes_below
from icd.config.sweep import Baseline, Source, SweepConfig
from icd.config.trial import TrialConfig
from icd.errors import ConfigError, StateError
from icd.methods import METHODS
from icd.search.core.pair_runs import key_of
from icd.search.core.records import TrialRecord, chosen, pareto_front
from icd.search.study.ledger import Ledger
from icd.search.study.sweep_index import find, refuse_several_pairs
from icd.search.suggest.params_of import holds, params_of
from icd.search.suggest.search_space import SearchSpace, Start

Say = Callable[[str], None]


def find_starts(sweep: SweepConfig, root: Path, say: Say) -> tuple[Start, ...]:
    """Find the trials that a new sweep begins with, after its baselines; configurations that are equal here once.

    Args:
        sweep: The new sweep.
        root: Folder of results, where its sources are.
        say: Told what is left out, and why.

    Raises:
        StateError: If a source is not there or has no complete trial.
        UsageError: If a source is over several pairs.
        ConfigError: If none of a source's trials is a valid configuration here.
    """
    space = SearchSpace(sweep)
    tried = {key_of(space.members(space.baseline(item))): item.label for item in sweep.enqueue}
    found: list[Start] = []
    for source in sweep.sources:
        found += _from_source(source, space, find(root, source.sweep), tried, say)
    return tuple(found)


def planned_starts(sweep: SweepConfig, root: Path, say: Say) -> tuple[Start, ...]:
    """Give the starts of a sweep that may have begun: those of its study, or those that it would find."""
    if not sweep.sources:
        return ()
    try:
        ledger = find(root, sweep.name)
    except StateError:
        return find_starts(sweep, root, say)
    same = ledger.attributes["digest"] == sweep.digest()
    return stored_starts(ledger) if same else find_starts(sweep, root, say)


def stored_starts(ledger: Ledger) -> tuple[Start, ...]:
    """Read the starts that a study was made with."""
    stored = ledger.attributes.get("starts", ())
    return tuple(Start(**{**item, "values": tuple(item["values"])}) for item in stored)


def _from_source(source: Source, space: SearchSpace, ledger: Ledger, tried: dict[str, str], say: Say) -> list[Start]:
    refuse_several_pairs(ledger, "no sweep can start from it")
    other = read_sweep(Document(json.loads(ledger.attributes["document"]), f"study {ledger.name}"))
    other_space = SearchSpace(other, stored_starts(ledger))
    records = _best(ledger, other, source.top)
    if not records:
        raise StateError(f"sweep {source.sweep!r} has no complete trial to start from; see 'icd trials {source.sweep}'")
    if len(records) < source.top:
        say(f"sweep {source.sweep!r} has {len(records)} trials to start from, fewer than {source.top}")
    found, refused = [], []
    for record in records:
        label = f"{source.sweep} trial {record.number}"
        config = other_space.read(other_space.tried(record))
        try:
            changes = _changes(space.sweep, other, record, config)
            config = space.read(space.baseline(Baseline(label=label, changes=changes)))
            params = params_of(space.sweep.template, config, record.params) or {}
            start = Start(label=label, values=tuple(record.values), changes=changes, params=params)
            key = space.read(space.baseline(start)).key()
        except ConfigError as error:
            refused.append(f"{label}: " + "; ".join(f"{item.path}: {item.rule}" for item in error.problems))
            say(f"left out, since it is no configuration of this sweep: {refused[-1]}")
            continue
        if key in tried:
            say(f"left out, since {tried[key]} is the same configuration here: {label}")
            continue
        tried[key] = label
        found.append(start)
    if len(refused) == len(records):
        raise ConfigError(f"no trial of sweep {source.sweep!r} can be tried here: " + "; ".join(refused))
    return found


def _best(ledger: Ledger, sweep: SweepConfig, top: int) -> list[TrialRecord]:
    """The best by the first objective; with several objectives the first of the Pareto front."""
    records, directions = ledger.records(), [objective.direction for objective in sweep.objectives]
    if len(directions) > 1:
        return pareto_front(records, directions)[:top]
    return chosen(records, top=top, maximize=directions[0] == "maximize")


def _changes(sweep: SweepConfig, other: SweepConfig, record: TrialRecord, config: TrialConfig) -> dict[str, Any]:
    """Say what a trial of another sweep changes in this one's fixed part.

    Of method and training that is what either sweep searches; of networks and seed what both can have. A method that
    its sweep did not put together field by field (a baseline, one of several methods) or that is of another kind than
    this sweep's is taken whole.
    """
    data, template = config.to_data(), sweep.template
    choices = isinstance(template.get("method"), Choice) or isinstance(other.template.get("method"), Choice)
    another = METHODS[method_name(template.get("method"))] is not type(config.method)
    searched = _searched(template) | _searched(other.template)
    if ("method", "scales") in searched:  # weights belong to their scales
        searched |= {("method", name) for name in WEIGHTS}
    whole = not record.params or choices or another or ("method", "row") in searched
    method = {name: value for name, value in data["method"].items() if whole or ("method", name) in searched}
    training = {name: value for name, value in data["training"].items() if ("training", name) in searched}
    training.pop("epochs", None)
    if isinstance(epochs := template.get("training", {}).get("epochs"), Interval | Choice):
        training["epochs"] = _epochs(epochs, data["training"]["epochs"])
    changes = {"method": method, "training": training, **_networks(template, data)}
    return {part: change for part, change in changes.items() if change != {}}


def _searched(template: Mapping[str, Any]) -> set[tuple[str | int, ...]]:
    """Name the fields that a sweep searches, or searches parts of."""
    return {found.path[:2] for found in nodes_below(template)}


def _networks(template: Mapping[str, Any], data: Mapping[str, Any]) -> dict[str, Any]:
    """Give networks and seed as this sweep can have them: the other trial's, or its own first."""
    found: dict[str, Any] = {}
    for part in ("pair", "teacher", "student", "seed"):
        node = template.get(part)
        if part == "pair" and isinstance(node, Choice):
            same = [item for item in node.options if all(_same(item[side], data.get(side)) for side in item)]
            found |= (same or list(node.options))[0]
        elif isinstance(node, Choice):
            same = [item for item in node.options if _same(item, data[part])]
            found[part] = (same or list(node.options))[0]
        elif isinstance(node, Interval) or (isinstance(node, Mapping) and any(nodes_below(node))):
            found[part] = data[part]
    return found


def _same(option: Any, value: Any) -> bool:
    """Whether an option names the architecture of a trial's network, or is its seed."""
    if isinstance(option, Mapping) and isinstance(value, Mapping):
        return bool(option.get("arch") == value.get("arch"))
    return bool(option == value)


def _epochs(node: Any, value: int) -> int:
    """Epochs are this sweep's: the other's where it may have them, else the most there are."""
    return value if holds(node, value) else max(node.options if isinstance(node, Choice) else node.values()[-1:])
