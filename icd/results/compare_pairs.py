"""One setting for several pairs beside the best setting of each: what the common setting costs on every pair."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from icd.config.sweep import Objective
from icd.config.trial import TrialConfig
from icd.errors import StateError, UsageError
from icd.results.searched import Searched
from icd.search.core.records import TrialRecord, best
from icd.search.session import stored_sweep
from icd.search.study.ledger import Ledger
from icd.search.study.sweep_index import find, pasted, refuse_several_pairs


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One pair.

    Attributes:
        pair: Its name.
        generalist: What the winner of the sweep over all pairs reaches on it.
        sweep: The sweep of this pair alone; None where none was named.
        trial: The best trial of that sweep.
        trials: Complete trials that it is the best of.
        specialist: What it reaches.
        difference: Generalist minus specialist.
    """

    pair: str
    generalist: float
    sweep: str | None = None
    trial: int | None = None
    trials: int = 0
    specialist: float | None = None
    difference: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A generalist beside specialists.

    Attributes:
        name: The sweep over several pairs.
        trial: Its winner, by rank.
        trials: Complete trials that it is the best of.
        metric: What is compared, after the last epoch of one seed each.
        direction: Which way is better.
        rows: In the order of the pairs.
    """

    name: str
    trial: int
    trials: int
    metric: str
    direction: str
    rows: tuple[Row, ...]

    def to_data(self) -> dict[str, Any]:
        """Write it for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class _Specialist:
    searched: Searched
    record: TrialRecord
    config: TrialConfig

    @property
    def name(self) -> str:
        return self.searched.ledger.name


def specialists(root: Path, name: str, others: Sequence[str]) -> Comparison:
    """Put the winner of a sweep over several pairs beside the best trial of a sweep for each pair.

    A sweep belongs to the pair with the networks, teacher weights and images of its best trial. Of several sweeps for
    one pair the better one is taken.

    Raises:
        UsageError: If the first is not over several pairs or another is, one belongs to no pair, or the objectives
            differ.
        StateError: If there is none of a name, or one has no complete trial.
    """
    ledger = find(root, name)
    if not ledger.ranked:
        raise UsageError(f"sweep {name!r} is not over several pairs; name such a sweep first, then one for each pair")
    sweep = stored_sweep(ledger)
    objective, searched = sweep.objectives[0], Searched.of(ledger, sweep)
    winner = _best(searched, root)
    configs = searched.configs(winner)
    found: dict[str, _Specialist] = {}
    for other in others:
        special = _specialist(find(root, other), objective, root)
        pair = _pair_of(special, configs, ledger)
        rivals = [*([found[pair].record] if pair in found else []), special.record]
        if best(rivals, maximize=objective.direction == "maximize") is special.record:
            found[pair] = special
    return Comparison(
        name=name,
        trial=winner.number,
        trials=len(searched.ordered),
        metric=objective.metric,
        direction=objective.direction,
        rows=tuple(_row(pair, winner.members[pair], found.get(pair)) for pair in configs),
    )


def _row(pair: str, value: float, special: _Specialist | None) -> Row:
    if special is None:
        return Row(pair=pair, generalist=value)
    own = special.record.values[0]
    return Row(
        pair=pair,
        generalist=value,
        sweep=special.name,
        trial=special.record.number,
        trials=len(special.searched.ordered),
        specialist=own,
        difference=value - own,
    )


def _specialist(ledger: Ledger, objective: Objective, root: Path) -> _Specialist:
    refuse_several_pairs(ledger, "it is no specialist")
    sweep = stored_sweep(ledger)
    first = sweep.objectives[0]
    if (first.metric, first.direction) != (objective.metric, objective.direction):
        raise UsageError(
            f"sweep {ledger.name!r} must have the objective {objective.metric} too, but got {first.metric}"
        )
    searched = Searched.of(ledger, sweep)
    record = _best(searched, root)
    return _Specialist(searched, record, searched.configs(record)[""])


def _pair_of(special: _Specialist, runs: Mapping[str, TrialConfig], ours: Ledger) -> str:
    """Name the pair that a specialist has: the same networks, teacher weights and images."""
    same_images = ours.attributes["data_digest"] == special.searched.ledger.attributes["data_digest"]
    for pair, config in runs.items():
        networks = config.student == special.config.student and _teacher(config) == _teacher(special.config)
        if networks and same_images:
            return pair
    why = "its networks are those of no pair" if same_images else "its images are others"
    listed = ", ".join(runs)
    raise UsageError(f"sweep {special.name!r} belongs to no pair of {ours.name!r} ({listed}): {why}")


def _teacher(config: TrialConfig) -> str:
    return json.dumps(config.to_data().get("teacher"), sort_keys=True)


def _best(searched: Searched, root: Path) -> TrialRecord:
    if not searched.ordered:
        see = pasted(root, "trials", searched.ledger.name)
        raise StateError(f"no trial of sweep {searched.ledger.name!r} has run all its epochs yet; see '{see}'")
    return searched.ordered[0]
